//! A checkpoint on disk: complete or not there.

use std::fs;
use std::io::Write;
use std::path::Path;

use sanderling_types::Result;

use crate::folder::{io_error, write_file};
use crate::sequence::FitState;

/// Reads the state of an interrupted training; `None` where there is no file.
///
/// # Errors
/// [`Code::Io`](sanderling_types::Code::Io), or as [`FitState::decode`].
pub fn read(path: &Path) -> Result<Option<FitState>> {
    match fs::read(path) {
        Ok(bytes) => FitState::decode(&bytes).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// Puts the state in place of an older one.
///
/// # Errors
/// [`Code::Io`](sanderling_types::Code::Io); the older file is then still there.
pub fn write(path: &Path, state: &FitState) -> Result<()> {
    let new = path.with_added_extension("new");
    let bytes = state.encode();
    let written = write_file(&new, |file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&new, path).map_err(|error| io_error("replace", path, error)));
    if written.is_err() {
        // The error is already on its way to the caller; a second one would hide it.
        let _ = fs::remove_file(&new);
    }
    written
}

/// Removes a checkpoint that is no longer needed.
///
/// # Errors
/// [`Code::Io`](sanderling_types::Code::Io).
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}
