//! The folder of a channel: `channel.json` for devices, the folders of its bundles, and a log of every decision.
//!
//! The log comes first: a decision is a line of `decisions.jsonl` with the channel that it leads to, and `channel.json` is made again
//! from the last whole line when the folder is opened. A kill between the two, or within a line, loses nothing and doubles nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sanderling_core::BundleFiles;
use sanderling_train::bundle;
use sanderling_types::{Channel, Code, Error, FORMAT_VERSION, Manifest, Release, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DecisionKind {
    /// A bundle became the champion by hand.
    Champion,
    /// A challenger passed the gate and is on trial.
    Canary,
    /// The gate refused a challenger.
    Refuse,
    /// The canary became the champion.
    Promote,
    /// The canary was taken back, or the champion gave way to the one before.
    RollBack,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub(crate) format_version: u32,
    /// Unix seconds.
    pub(crate) at: i64,
    pub(crate) decision: DecisionKind,
    /// Why, for people.
    pub(crate) reason: String,
    /// What it rests on: a gate, a comparison, a drift report; null by hand.
    pub(crate) evidence: Value,
    /// The channel from then on.
    pub(crate) channel: Channel,
}

/// A channel that only this process changes.
#[derive(Debug)]
pub(crate) struct ChannelFolder {
    path: PathBuf,
    decisions: Vec<Decision>,
    /// Held locked while the folder is open; the lock falls with the process, however it ends.
    _lock: File,
}

impl ChannelFolder {
    const LOG: &'static str = "decisions.jsonl";

    /// Makes the folder of a channel where there is none, and opens it.
    ///
    /// # Errors
    /// As [`ChannelFolder::open`].
    pub(crate) fn make(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| io_error("created", path, error))?;
        Self::open(path)
    }

    /// Opens a channel's folder and finishes what a killed process had begun.
    ///
    /// # Errors
    /// [`Code::NotFound`] where there is no folder, [`Code::Io`]; [`Code::Overloaded`] while another process holds it;
    /// [`Code::InvalidArgument`] for a log that is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::new(Code::NotFound, format!("{} is no channel", path.display()))
                .hint("make one with `sanderling promote BUNDLE --channel FOLDER`"));
        }
        let lock = lock(&path.join(".lock"))?;
        let (decisions, whole_bytes) = read_log(path)?;
        let log = path.join(Self::LOG);
        if fs::metadata(&log).is_ok_and(|found| found.len() > whole_bytes) {
            let file = OpenOptions::new().write(true).open(&log);
            file.and_then(|file| file.set_len(whole_bytes))
                .map_err(|error| io_error("mended", &log, error))?;
        }
        let folder = Self { path: path.to_owned(), decisions, _lock: lock };
        if let Some(channel) = folder.channel() {
            folder.publish(channel)?;
        }
        Ok(folder)
    }

    /// What the channel serves; `None` before the first decision.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        self.decisions.last().map(|decision| &decision.channel)
    }

    /// Every decision, the oldest first.
    pub(crate) fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The folder of a bundle.
    pub(crate) fn bundle(&self, release: &Release) -> PathBuf {
        self.path.join(&release.path)
    }

    /// Copies a bundle into a folder of its own; `since` is when the channel serves it from. Signatures that the folder has of the same bundle
    /// stay where it comes without: servers and devices ask for them.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub(crate) fn add(&self, files: &BundleFiles, manifest: &Manifest, since: i64) -> Result<Release> {
        let hash = manifest.bundle_hash();
        let path = format!("{}-{}/", manifest.version, &hash.to_string()[..12]);
        let folder = self.path.join(&path);
        let mut files = files.clone();
        if files.get(Manifest::SIGNATURE_FILE_NAME).is_none()
            && fs::read(folder.join(Manifest::FILE_NAME)).ok().as_deref() == files.get(Manifest::FILE_NAME)
            && let Ok(signatures) = fs::read(folder.join(Manifest::SIGNATURE_FILE_NAME))
        {
            files.insert(Manifest::SIGNATURE_FILE_NAME, signatures);
        }
        bundle::write(&files, &folder)?;
        Ok(Release { bundle_sha256: hash, path, since, version: manifest.version })
    }

    /// Writes a decision down, then does it.
    ///
    /// # Errors
    /// [`Code::Io`], and what [`Channel::check`] says.
    pub(crate) fn decide(
        &mut self,
        at: i64,
        decision: DecisionKind,
        reason: String,
        evidence: Value,
        channel: Channel,
    ) -> Result<&Decision> {
        channel.check()?;
        let line = Decision { format_version: FORMAT_VERSION, at, decision, reason, evidence, channel };
        let text = serde_json::to_string(&line).map_err(|error| {
            Error::new(Code::Internal, "a decision cannot be written").source_error(error)
        })?;
        let log = self.path.join(Self::LOG);
        let append = || {
            let mut file = OpenOptions::new().create(true).append(true).open(&log)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            file.sync_all()?;
            // The first line makes the file, and its name has to last, too.
            File::open(&self.path)?.sync_all()
        };
        append().map_err(|error| io_error("written", &log, error))?;
        self.publish(&line.channel)?;
        self.decisions.push(line);
        // It was pushed just now.
        Ok(&self.decisions[self.decisions.len() - 1])
    }

    fn publish(&self, channel: &Channel) -> Result<()> {
        let path = self.path.join(Channel::FILE_NAME);
        let bytes = channel.encode();
        if fs::read(&path).is_ok_and(|found| found == bytes) {
            return Ok(());
        }
        let fresh = self.path.join(format!(".{}.new", Channel::FILE_NAME));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| io_error("written", &path, error))
    }
}

/// The decisions of a channel's folder, without changing it.
///
/// # Errors
/// [`Code::Io`], [`Code::InvalidArgument`].
pub(crate) fn decisions(path: &Path) -> Result<Vec<Decision>> {
    read_log(path).map(|(decisions, _)| decisions)
}

/// The decisions, and how many bytes of the log are whole lines.
fn read_log(path: &Path) -> Result<(Vec<Decision>, u64)> {
    let log = path.join(ChannelFolder::LOG);
    let text = match fs::read(&log) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(io_error("read", &log, error)),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let decisions = lines.enumerate().map(|(at, line)| {
        let decision: Decision = serde_json::from_slice(line).map_err(|error| {
            Error::new(Code::InvalidArgument, format!("line {} of {} is no decision", at + 1, log.display()))
                .found(&error)
                .source_error(error)
        })?;
        decision.channel.check().map(|()| decision)
    });
    Ok((decisions.collect::<Result<_>>()?, whole as u64))
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| io_error("locked", path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Code::Overloaded, "another process changes this channel")
                .found(path.display())
                .hint("try again when it is done"))
        }
        Err(TryLockError::Error(error)) => Err(io_error("locked", path, error)),
    }
}

fn io_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("{} cannot be {what}", path.display())).found(&error).source_error(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sanderling_types::{Canary, Sha256Hash};

    use super::*;

    fn channel(version: u64, canary: Option<u64>) -> Channel {
        let release = |version: u64| Release {
            bundle_sha256: Sha256Hash::of(&version.to_le_bytes()),
            path: format!("shop-{version}/"),
            since: 1,
            version,
        };
        let canary = canary.map(|version| Canary { release: release(version), share: 0.1 });
        Channel {
            canary,
            champion: release(version),
            format_version: FORMAT_VERSION,
            name: "shop".to_owned(),
        }
    }

    #[test]
    fn what_was_decided_is_there_whenever_the_process_ends() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("live");
        let file = path.join(Channel::FILE_NAME);
        assert_eq!(ChannelFolder::open(&path).unwrap_err().code(), Code::NotFound);
        let mut folder = ChannelFolder::make(&path).unwrap();
        assert_eq!(folder.channel(), None);
        folder.decide(1, DecisionKind::Champion, String::new(), Value::Null, channel(1, None)).unwrap();
        folder.decide(2, DecisionKind::Canary, String::new(), Value::Null, channel(1, Some(2))).unwrap();
        assert_eq!(ChannelFolder::open(&path).unwrap_err().code(), Code::Overloaded, "one process at a time");
        drop(folder);
        // Killed between the log and the file.
        fs::write(&file, channel(1, None).encode()).unwrap();
        assert_eq!(ChannelFolder::open(&path).unwrap().channel(), Some(&channel(1, Some(2))));
        assert_eq!(fs::read(&file).unwrap(), channel(1, Some(2)).encode());
        // Killed within a line.
        let log = path.join(ChannelFolder::LOG);
        let mut text = fs::read(&log).unwrap();
        let whole = text.len();
        text.extend(b"{\"format_version\":1,\"at\":3,\"deci");
        fs::write(&log, &text).unwrap();
        let mut folder = ChannelFolder::open(&path).unwrap();
        assert_eq!((folder.decisions().len(), fs::metadata(&log).unwrap().len()), (2, whole as u64));
        folder.decide(3, DecisionKind::Promote, String::new(), Value::Null, channel(2, None)).unwrap();
        assert_eq!(decisions(&path).unwrap().len(), 3);
    }

    #[test]
    fn a_log_of_something_else_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join(ChannelFolder::LOG);
        fs::write(&log, "shopping list\n").unwrap();
        assert_eq!(ChannelFolder::open(folder.path()).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(fs::read_to_string(&log).unwrap(), "shopping list\n");
    }
}
