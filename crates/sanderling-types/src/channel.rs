//! The channel: which bundles of a name devices load now.

use serde::Serialize;

use crate::json::{quoted, to_text};
use crate::{Code, Error, Result, Sha256Hash, decode_json, json_object};

/// A bundle that a channel serves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Release {
    /// The bundle hash, SHA-256 of its manifest.
    pub bundle_sha256: Sha256Hash,
    /// The bundle's folder, relative to the channel's; ends with a slash.
    pub path: String,
    /// When the channel began to serve it, Unix seconds.
    pub since: i64,
    /// The bundle's version.
    pub version: u64,
}
json_object!(Release { bundle_sha256, path, since, version });

/// A challenger that some devices load in place of the champion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Canary {
    /// The challenger.
    pub release: Release,
    /// Probability that a device loads it, over 0, at most 0.5. Each device draws once.
    pub share: f64,
}
json_object!(Canary { release, share });

/// `channel.json`, beside the folders of its bundles. It is not signed: bundles are, and a device takes none that is older than what it
/// has seen ([`crate::Manifest::rollback_index`]), so whoever changes this file can only choose among bundles that were released.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Channel {
    /// A challenger on trial, if there is one.
    pub canary: Option<Canary>,
    /// What all other devices load.
    pub champion: Release,
    /// [`crate::FORMAT_VERSION`].
    pub format_version: u32,
    /// The name of its bundles.
    pub name: String,
}
json_object!(Channel { canary, champion, format_version, name });

impl Channel {
    /// Name of the file.
    pub const FILE_NAME: &'static str = "channel.json";
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 16 * 1024;
    /// Most of the devices that may load a canary.
    pub const MAX_SHARE: f64 = 0.5;

    /// Decodes and checks `channel.json`.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`]; [`Code::InvalidArgument`] for a path that leaves the channel's folder, a share out of range, or
    /// a canary that is the champion.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let channel: Self = decode_json(bytes, Self::MAX_BYTES, Self::FILE_NAME, Code::InvalidArgument)?;
        channel.check()?;
        Ok(channel)
    }

    /// Canonical bytes.
    ///
    /// # Panics
    /// Never: a channel holds only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_text(self).into_bytes()
    }

    /// Checks what [`Channel::decode`] checks.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(Code::InvalidArgument, message));
        let canary = self.canary.as_ref();
        for release in std::iter::once(&self.champion).chain(canary.map(|canary| &canary.release)) {
            if !is_inside(&release.path) {
                return invalid(format!(
                    "the path {} of a channel is not a folder inside it",
                    quoted(&release.path)
                ));
            }
        }
        let Some(canary) = canary else { return Ok(()) };
        if canary.release.bundle_sha256 == self.champion.bundle_sha256 {
            return invalid("the canary of a channel is its champion".to_owned());
        }
        if !(canary.share > 0.0 && canary.share <= Self::MAX_SHARE) {
            return invalid("the share of a canary is not over 0 and at most 0.5".to_owned());
        }
        Ok(())
    }
}

/// Whether a path names a folder below the one that it is relative to, without escapes.
fn is_inside(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part_ok = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
    path.strip_suffix('/').is_some_and(|folder| folder.split('/').all(part_ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: u64, path: &str) -> Release {
        let bundle_sha256 = Sha256Hash::of(&version.to_le_bytes());
        Release { bundle_sha256, path: path.to_owned(), since: 5, version }
    }

    fn channel(canary: Option<(u64, &str, f64)>) -> Channel {
        let canary = canary.map(|(version, path, share)| Canary { release: release(version, path), share });
        Channel { canary, champion: release(1, "shop-1/"), format_version: 1, name: "shop".to_owned() }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for channel in [channel(None), channel(Some((2, "bundles/shop-2/", 0.05)))] {
            assert_eq!(Channel::decode(&channel.encode()).ok(), Some(channel));
        }
    }

    #[test]
    fn a_channel_that_would_mislead_devices_is_refused() {
        for (version, path, share) in [
            (1, "shop-2/", 0.1),
            (2, "shop-2", 0.1),
            (2, "../shop-2/", 0.1),
            (2, "/shop-2/", 0.1),
            (2, "https://elsewhere/", 0.1),
            (2, "a//b/", 0.1),
            (2, "a%2f../", 0.1),
            (2, "shop-2/", 0.0),
            (2, "shop-2/", 0.51),
        ] {
            let bytes = channel(Some((version, path, share))).encode();
            let code = Channel::decode(&bytes).err().map(|error| error.code());
            assert_eq!(code, Some(Code::InvalidArgument), "{version} {path} {share}");
        }
    }
}
