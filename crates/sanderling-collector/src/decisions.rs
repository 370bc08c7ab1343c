//! The journal of what was decided about bundles: written by others, shown as it is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::path::Path;

use sanderling_types::{Code, Error, Result};
use serde_json::Value;

/// Most decisions that are shown: the newest ones.
const MAX_SHOWN: usize = 1_000;
/// Longest line of the journal.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The newest lines of an append-only JSONL file, oldest first; none where it does not exist. A last line without its end
/// is one that is being written, and left out.
///
/// # Errors
/// [`Code::Io`]; [`Code::DataInvalid`] for a line that is not JSON.
pub(crate) fn read(path: &Path) -> Result<Vec<Value>> {
    let failed = |error: std::io::Error| {
        Error::new(Code::Io, "the decisions cannot be read").found(&error).source_error(error)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut reader = BufReader::new(file);
    let mut lines = VecDeque::new();
    for number in 1.. {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        if line.len() as u64 == MAX_LINE_BYTES {
            return Err(Error::new(Code::DataInvalid, format!("line {number} of the decisions is too long")));
        }
        if line.pop() != Some(b'\n') {
            break;
        }
        if lines.len() == MAX_SHOWN {
            lines.pop_front();
        }
        if !line.trim_ascii().is_empty() {
            lines.push_back((number, line));
        }
    }
    let decode = |(number, line): (usize, Vec<u8>)| {
        serde_json::from_slice(&line).map_err(|error| {
            Error::new(Code::DataInvalid, format!("line {number} of the decisions is not JSON"))
                .found(&error)
                .source_error(error)
        })
    };
    lines.into_iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MAX_SHOWN, read};

    #[test]
    fn whole_lines_are_passed_through_and_the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        assert!(read(&path).unwrap().is_empty());
        std::fs::write(&path, "{\"what\":\"promoted\"}\n\n[1,null]\r\n{\"what\":\"half wri").unwrap();
        assert_eq!(read(&path).unwrap(), [json!({"what": "promoted"}), json!([1, null])]);
        let many: String = (0..MAX_SHOWN + 5).map(|number| format!("{number}\n")).collect();
        std::fs::write(&path, many).unwrap();
        assert_eq!(read(&path).unwrap()[0], json!(5));
        std::fs::write(&path, "{}\nnonsense\n").unwrap();
        assert!(read(&path).unwrap_err().message().contains("line 2"));
        std::fs::write(&path, vec![b'1'; 2 << 20]).unwrap();
        assert!(read(&path).unwrap_err().message().contains("too long"));
    }
}
