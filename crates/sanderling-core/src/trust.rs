//! Whom a host trusts: which keys may have signed a bundle, until when it is good, and how old it may be.

use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use sanderling_types::{Code, Error, Manifest, Result, Sha256Hash};

/// An Ed25519 public key, `[32]` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The first eight bytes of the SHA-256 of the key: what signatures name it by.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&Sha256Hash::of(&self.0).as_bytes()[..8]);
        KeyId(id)
    }
}

/// The name of a public key, see [`PublicKey::id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// What a bundle must be to be opened; the default asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Keys of which one must have signed the manifest: several while a new key takes the place of an old one. Without any,
    /// signatures are not looked at.
    pub keys: Vec<PublicKey>,
    /// The present time in Unix seconds: a bundle that expired before is refused. Without it none is.
    pub now: Option<i64>,
    /// The least `rollback_index` of the manifest: the largest that the host has seen of this bundle, so that nobody can give it an
    /// older one that was taken back.
    pub least_rollback_index: u64,
}

impl Trust {
    /// One of `keys` must have signed.
    #[must_use]
    pub fn in_keys(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().collect(), ..Self::default() }
    }

    /// Checks the signatures of the bytes of a manifest.
    pub(crate) fn check_signature(&self, manifest: &[u8], signatures: Option<&[u8]>) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let signatures = signatures.ok_or_else(|| {
            Error::new(Code::SignatureMissing, "the bundle carries no signature")
                .expected(format!("a file {}", Manifest::SIGNATURE_FILE_NAME))
                .hint("sign the bundle, or open it without a key")
        })?;
        let signatures = Signatures::decode(signatures)?;
        let known: Vec<(&PublicKey, &[u8; 64])> = self
            .keys
            .iter()
            .filter_map(|key| signatures.of(key.id()).map(|signature| (key, signature)))
            .collect();
        if known.is_empty() {
            return Err(invalid("no trusted key has signed the manifest")
                .expected(listed(self.keys.iter().map(PublicKey::id)))
                .found(listed(signatures.0.iter().map(|(id, _)| *id)))
                .hint("it was signed with another key"));
        }
        // A key that was given away by mistake must not spoil what another one has signed.
        if known.into_iter().any(|(key, signature)| verifies(key, manifest, signature)) {
            return Ok(());
        }
        Err(invalid("the manifest's signature does not verify")
            .hint("the manifest was changed, or its signature was damaged"))
    }

    /// Checks what the manifest says of its time.
    pub(crate) fn check_age(&self, manifest: &Manifest) -> Result<()> {
        if let (Some(now), Some(expires_at)) = (self.now, manifest.expires_at)
            && now > expires_at
        {
            return Err(Error::new(Code::BundleExpired, "the bundle has expired")
                .expected(format!("a time up to {expires_at}"))
                .found(now)
                .hint("publish it again with a later expires_at, or set this machine's clock"));
        }
        let rollback_index = manifest.rollback_index.unwrap_or(0);
        if rollback_index < self.least_rollback_index {
            return Err(Error::new(Code::BundleRolledBack, "the bundle was taken back")
                .expected(format!("a rollback_index of at least {}", self.least_rollback_index))
                .found(rollback_index)
                .hint("somebody serves an old bundle; publish the present one"));
        }
        Ok(())
    }
}

/// The content of `manifest.sig`: signatures of the manifest's bytes, by the keys that made them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures(Vec<(KeyId, [u8; 64])>);

impl Signatures {
    /// Most signatures of a manifest.
    pub const MAX: usize = 8;
    const ENTRY_BYTES: usize = 72;

    /// Decodes `manifest.sig`.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`] for another length, or a key that is there twice.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (entries, rest) = bytes.as_chunks::<{ Self::ENTRY_BYTES }>();
        if entries.is_empty() || !rest.is_empty() || entries.len() > Self::MAX {
            return Err(invalid("manifest.sig has the wrong length")
                .expected(format!("1 to {} times {} bytes", Self::MAX, Self::ENTRY_BYTES))
                .found(format!("{} bytes", bytes.len())));
        }
        let mut out = Self::default();
        for entry in entries {
            let (mut id, mut signature) = ([0; 8], [0; 64]);
            id.copy_from_slice(&entry[..8]);
            signature.copy_from_slice(&entry[8..]);
            if out.of(KeyId(id)).is_some() {
                return Err(invalid("manifest.sig has two signatures of one key").found(KeyId(id)));
            }
            out.0.push((KeyId(id), signature));
        }
        Ok(out)
    }

    /// The bytes of `manifest.sig`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(id, signature)| id.0.iter().chain(signature)).copied().collect()
    }

    /// Adds the signature of a key, or puts it in the place of that key's other one.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] for more than [`Signatures::MAX`] keys.
    pub fn insert(&mut self, key: &PublicKey, signature: [u8; 64]) -> Result<()> {
        self.0.retain(|(id, _)| *id != key.id());
        if self.0.len() >= Self::MAX {
            return Err(Error::new(Code::LimitExceeded, "the manifest has too many signatures")
                .expected(format!("at most {}", Self::MAX)));
        }
        self.0.push((key.id(), signature));
        Ok(())
    }

    /// Names of the keys.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|(id, _)| *id)
    }

    fn of(&self, key: KeyId) -> Option<&[u8; 64]> {
        self.0.iter().find(|(id, _)| *id == key).map(|(_, signature)| signature)
    }
}

fn verifies(key: &PublicKey, manifest: &[u8], signature: &[u8; 64]) -> bool {
    let signature = Signature::from_bytes(signature);
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| key.verify_strict(manifest, &signature).is_ok())
}

fn listed(ids: impl Iterator<Item = KeyId>) -> String {
    let mut out = String::from("signed by");
    for id in ids {
        out.push(' ');
        out.push_str(&id.to_string());
    }
    out
}

fn invalid(message: &str) -> Error {
    Error::new(Code::SignatureInvalid, message)
}
