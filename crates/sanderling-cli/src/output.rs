//! Printing: results on standard output, everything else on standard error.

use std::io::{self, Write};
use std::path::Path;

use sanderling_types::{Code, Error};
use serde::Serialize;

/// How a command ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exit code 0.
    Done,
    /// Exit code 1: checked and found wanting.
    Wanting,
}

impl Verdict {
    pub(crate) fn wanting_if(wanting: bool) -> Self {
        if wanting { Verdict::Wanting } else { Verdict::Done }
    }
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a result: `json` as one line, or `text` for people.
    pub(crate) fn result(&self, json: &impl Serialize, text: &str) -> Result<(), Error> {
        let line = if self.json {
            serde_json::to_string(json).map_err(|error| {
                Error::new(Code::Internal, "the result cannot be printed").source_error(error)
            })?
        } else {
            text.trim_end().to_owned()
        };
        write_line(&mut io::stdout().lock(), &line)
    }

    /// Says something to the person who is waiting.
    pub(crate) fn note(&self, text: &str) {
        // Nobody is left to tell when standard error is closed.
        let _ = write_line(&mut io::stderr().lock(), text);
    }

    /// Prints an error: a JSON object on standard output with `--json`, and always a line for people
    /// with its causes.
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            let _ = self.result(&serde_json::json!({ "error": error }), "");
        }
        self.note(&format!("error: {error}"));
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            self.note(&format!("  caused by: {cause}"));
            source = cause.source();
        }
    }
}

/// Refuses a path that nothing can be written to, before the work whose result it is for.
pub(crate) fn check_path(path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(Error::new(Code::Io, format!("{} cannot be written", path.display()))
            .expected("a file in a folder that exists"));
    }
    Ok(())
}

/// Writes a line; a closed pipe ends quietly.
fn write_line(to: &mut impl Write, line: &str) -> Result<(), Error> {
    match writeln!(to, "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Code::Io, "the result cannot be written").source_error(error))
        }
        _ => Ok(()),
    }
}
