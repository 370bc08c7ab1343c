//! Where a server's bundle lies: a bundle's folder, or that of a channel, whose champion it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use sanderling_types::{Channel, Code, Error, Manifest, Result, Sha256Hash};

/// A folder in which there may be another bundle at any time.
#[derive(Debug, Clone)]
pub struct BundleSource(PathBuf);

/// Most bytes of the files of a bundle; the component takes no more.
const MAX_BUNDLE_BYTES: u64 = 256 << 20;

/// The bundle that is there now.
struct Present {
    folder: PathBuf,
    manifest: Vec<u8>,
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
    /// As [`BundleSource::sha256`] and [`sanderling_train::bundle::read`]; [`Code::LimitExceeded`] for more than a component takes, before they
    /// are read.
    pub fn read(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let present = self.present()?;
        let total = Manifest::read(&present.manifest)?
            .files
            .values()
            .map(|entry| entry.bytes)
            .fold(0, u64::saturating_add);
        if total > MAX_BUNDLE_BYTES {
            return Err(Error::new(Code::LimitExceeded, "the bundle is too large")
                .expected(format!("at most {MAX_BUNDLE_BYTES} bytes"))
                .found(format!("{total} bytes")));
        }
        let files: BTreeMap<_, _> = sanderling_train::bundle::read(&present.folder)?.into();
        if files.get(Manifest::FILE_NAME) == Some(&present.manifest) {
            return Ok(files);
        }
        Err(Error::new(Code::HashMismatch, "another bundle took the place of this one while it was read")
            .hint("try again"))
    }

    fn present(&self) -> Result<Present> {
        let Some(channel) = read_file(&self.0.join(Channel::FILE_NAME), Channel::MAX_BYTES)? else {
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
        let manifest = read_file(&path, Manifest::MAX_BYTES)?
            .ok_or_else(|| Error::new(Code::FileMissing, format!("{} is missing", path.display())))?;
        Ok(Self { folder, sha256: Sha256Hash::of(&manifest), manifest })
    }
}

/// The bytes of a file, no more than one beyond `max_bytes`, which whoever decodes it finds; `None` where there is no such file.
fn read_file(path: &Path, max_bytes: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(Code::Io, format!("{} cannot be read", path.display()))
            .found(&error)
            .source_error(error)),
    }
}
