//! Where a server's bundle lies: a bundle's folder, or that of a channel, whose champion it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sanderling_types::{Channel, Code, Error, Manifest, Result, Sha256Hash};

/// A folder in which there may be another bundle at any time.
#[derive(Debug, Clone)]
pub struct BundleSource(PathBuf);

/// The bundle that is there now.
struct Present {
    folder: PathBuf,
    sha256: Sha256Hash,
}

impl BundleSource {
    /// `folder` holds a manifest or a `channel.json`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The hash of the bundle that is there now; reads its manifest and no more.
    ///
    /// # Errors
    /// [`Code::FileMissing`] or [`Code::Io`]; what [`Channel::decode`] says; [`Code::HashMismatch`] where a channel names another bundle
    /// than its folder has.
    pub fn sha256(&self) -> Result<Sha256Hash> {
        self.present().map(|present| present.sha256)
    }

    /// The files of the bundle that is there now. Whoever opens them finds out whether they are of one bundle: a copy may be on its way.
    ///
    /// # Errors
    /// As [`BundleSource::sha256`] and [`sanderling_train::bundle::read`].
    pub fn read(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let files = sanderling_train::bundle::read(&self.present()?.folder)?;
        Ok(files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect())
    }

    fn present(&self) -> Result<Present> {
        let Some(channel) = read_file(&self.0.join(Channel::FILE_NAME))? else {
            return Present::of(self.0.clone());
        };
        let champion = Channel::decode(&channel)?.champion;
        let present = Present::of(self.0.join(&champion.path))?;
        if present.sha256 == champion.bundle_sha256 {
            return Ok(present);
        }
        Err(Error::new(
            Code::HashMismatch,
            format!("{} holds another bundle than the channel names", champion.path),
        )
        .expected(champion.bundle_sha256)
        .found(present.sha256)
        .hint("copy the folder of a bundle before the channel.json that names it"))
    }
}

impl Present {
    fn of(folder: PathBuf) -> Result<Self> {
        let path = folder.join(Manifest::FILE_NAME);
        let manifest = read_file(&path)?
            .ok_or_else(|| Error::new(Code::FileMissing, format!("{} is missing", path.display())))?;
        Ok(Self { folder, sha256: Sha256Hash::of(&manifest) })
    }
}

/// `None` where there is no such file.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(Code::Io, format!("{} cannot be read", path.display()))
            .found(&error)
            .source_error(error)),
    }
}
