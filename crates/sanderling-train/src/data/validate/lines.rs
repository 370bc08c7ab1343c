//! In which file and on which line every row stands.

use std::path::{Path, PathBuf};

/// Places of rows, kept where lines do not simply count up.
#[derive(Debug, Default)]
pub(super) struct Lines {
    files: Vec<PathBuf>,
    runs: Vec<Run>,
    len: u32,
}

/// Rows on neighbouring lines of one file.
#[derive(Debug)]
struct Run {
    first_row: u32,
    file: u32,
    line: u64,
}

impl Lines {
    /// Notes the place of the next row.
    pub(super) fn push(&mut self, file: &Path, line: u64) {
        let is_new_file = self.files.last().is_none_or(|last| last != file);
        if is_new_file {
            self.files.push(file.to_owned());
        }
        let expected = self.runs.last().map(|run| run.line + u64::from(self.len - run.first_row));
        if is_new_file || expected != Some(line) {
            self.runs.push(Run { first_row: self.len, file: self.files.len() as u32 - 1, line });
        }
        self.len += 1;
    }

    /// File and line of a row.
    pub(super) fn of(&self, row: u32) -> (&Path, u64) {
        let at = self.runs.partition_point(|run| run.first_row <= row);
        let run = &self.runs[at - 1];
        (&self.files[run.file as usize], run.line + u64::from(row - run.first_row))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Lines;

    #[test]
    fn places_come_back_across_gaps_and_files() {
        let lines =
            [("a", 2), ("a", 3), ("a", 4), ("a", 7), ("a", 8), ("b", 9), ("b", 2), ("b", 3), ("c", 4)];
        let mut kept = Lines::default();
        lines.iter().for_each(|&(file, line)| kept.push(Path::new(file), line));
        let is_right = |(row, (file, line))| kept.of(row) == (Path::new(file), line);
        assert!((0..).zip(lines).all(is_right), "{kept:?}");
        assert_eq!((kept.runs.len(), kept.files.len()), (5, 3));
    }
}
