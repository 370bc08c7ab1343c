//! On which line of its file every row stands.

/// Lines of rows, kept where they do not simply count up.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Row and line with which a run of neighbouring lines begins.
    runs: Vec<(u32, u64)>,
    len: u32,
}

impl Lines {
    /// Notes the line of the next row.
    pub(super) fn push(&mut self, line: u64) {
        let expected = self.runs.last().map(|&(row, first)| first + u64::from(self.len - row));
        if expected != Some(line) {
            self.runs.push((self.len, line));
        }
        self.len += 1;
    }

    /// The line of a row.
    pub(super) fn of(&self, row: u32) -> u64 {
        let run = self.runs.partition_point(|&(first_row, _)| first_row <= row);
        let (first_row, line) = self.runs[run - 1];
        line + u64::from(row - first_row)
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_come_back_across_gaps() {
        let lines = [2, 3, 4, 7, 8, 12, 14, 15, 16];
        let mut kept = Lines::default();
        lines.iter().for_each(|&line| kept.push(line));
        assert!((0..).zip(lines).all(|(row, line)| kept.of(row) == line), "{kept:?}");
        assert_eq!(kept.runs.len(), 4);
    }
}
