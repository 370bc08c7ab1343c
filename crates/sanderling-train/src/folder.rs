//! Folders (data, bundles) and files that appear complete or not at all.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use sanderling_types::{Code, Error, Result};

/// An error of the file system, with the path.
pub(crate) fn io_error(action: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("cannot {action} {}", path.display())).found(&error).source_error(error)
}

/// Removes what was written when the work ends early.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The error is already on its way to the caller; a second one would hide it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a folder: `fill` writes the files into a temporary sibling, which then takes the place of
/// `folder` by renaming. An older one at the same place is replaced; a folder that holds anything but
/// `known_names` is refused.
pub(crate) fn write_folder(
    folder: &Path,
    known_names: &[&str],
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let folder = absolute(folder)?;
    recover(&folder)?;
    refuse_foreign(&folder, known_names)?;
    let parent = folder.parent().unwrap_or(&folder).to_owned();
    fs::create_dir_all(&parent).map_err(|error| io_error("create", &parent, error))?;
    let unfinished = Unfinished(sibling(&folder, "unfinished"));
    // Left over from a process that was killed; it carries our process id, so nobody uses it now.
    let _ = fs::remove_dir_all(&unfinished.0);
    fs::create_dir(&unfinished.0).map_err(|error| io_error("create", &unfinished.0, error))?;
    fill(&unfinished.0)?;
    sync_folder(&unfinished.0)?;
    if folder.exists() {
        let old = sibling(&folder, "old");
        fs::rename(&folder, &old).map_err(|error| io_error("replace", &folder, error))?;
        if let Err(error) = fs::rename(&unfinished.0, &folder) {
            let _ = fs::rename(&old, &folder);
            return Err(io_error("write", &folder, error));
        }
        fs::remove_dir_all(&old).map_err(|error| io_error("remove", &old, error))?;
    } else {
        fs::rename(&unfinished.0, &folder).map_err(|error| io_error("write", &folder, error))?;
    }
    sync_folder(&parent)
}

/// Puts back the folder that a killed process had moved away and not yet replaced, if there is one.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn recover(folder: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    if folder.exists() || !parent.is_dir() {
        return Ok(());
    }
    let prefix = format!(".{}.old-", name.to_string_lossy());
    let entries = fs::read_dir(parent).map_err(|error| io_error("look into", parent, error))?;
    let old = entries.filter_map(std::result::Result::ok).find(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(&prefix) && entry.path().is_dir()
    });
    match old {
        Some(old) => fs::rename(old.path(), folder).map_err(|error| io_error("recover", folder, error)),
        None => Ok(()),
    }
}

fn absolute(folder: &Path) -> Result<PathBuf> {
    let absolute = match folder.canonicalize() {
        Ok(existing) => existing,
        Err(_) => std::path::absolute(folder).map_err(|error| io_error("find", folder, error))?,
    };
    Ok(absolute)
}

/// An error unless `folder` is missing, empty, or holds nothing but files of `known_names`.
fn refuse_foreign(folder: &Path, known_names: &[&str]) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(|error| io_error("look into", folder, error))?;
    for entry in entries {
        let name = entry.map_err(|error| io_error("look into", folder, error))?.file_name();
        if !known_names.iter().any(|known| name == *known) {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("{} holds something else", folder.display()),
            )
            .expected("a new folder, an empty one, or an older one of the same kind")
            .found(name.to_string_lossy())
            .hint("choose another folder, nothing was changed"));
        }
    }
    Ok(())
}

fn sibling(folder: &Path, what: &str) -> PathBuf {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    folder.with_file_name(format!(".{name}.{what}-{}", std::process::id()))
}

fn sync_folder(folder: &Path) -> Result<()> {
    let handle = File::open(folder).map_err(|error| io_error("open", folder, error))?;
    handle.sync_all().map_err(|error| io_error("flush", folder, error))
}

/// Writes one file of the folder and flushes it to the disk.
pub(crate) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let file = File::create(path).map_err(|error| io_error("create", path, error))?;
    let mut writer = BufWriter::with_capacity(1 << 17, file);
    fill(&mut writer)
        .and_then(|()| writer.flush())
        .and_then(|()| writer.get_ref().sync_all())
        .map_err(|error| io_error("write", path, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_a_killed_process_moved_away_comes_back() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("shop");
        let old = parent.path().join(".shop.old-4711");
        fs::create_dir(&old).unwrap();
        fs::write(old.join("a"), "before").unwrap();
        recover(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "before");
        // One that is in its place is left alone.
        fs::create_dir(&old).unwrap();
        recover(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "before");
        // A write that fails after the kill still leaves the old folder.
        fs::remove_dir(&old).unwrap();
        fs::rename(&folder, &old).unwrap();
        let failed = write_folder(&folder, &["a"], |_| Err(Error::new(Code::Internal, "no")));
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "before");
    }
}
