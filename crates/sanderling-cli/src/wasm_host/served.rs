//! A bundle that a pool serves, and the instances that have it open.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sanderling_core::Trust;
use sanderling_types::{Code, Error, Manifest, Result};

use super::instance::{Budget, Instance, Prepared};
use super::pool::PoolLimits;
use super::{PackedBundle, bundle_hash};

/// A bundle, and its instances that are not at work; they go with it.
pub struct ServedBundle {
    packed: PackedBundle,
    sha256: String,
    version: u64,
    expires_at: Option<i64>,
    rollback_index: u64,
    free: Mutex<Vec<Instance>>,
}

impl std::fmt::Debug for ServedBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedBundle").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

impl ServedBundle {
    /// Opens it in as many instances as `limits` says.
    ///
    /// # Errors
    /// [`Code::BundleRolledBack`]; [`Code::LimitExceeded`] when it takes more than the limits allow; the codes of `Bundle::open`.
    pub(super) async fn open(
        prepared: &Prepared,
        files: &BTreeMap<String, Vec<u8>>,
        trust: &Trust,
        limits: PoolLimits,
    ) -> Result<Self> {
        let manifest = manifest_of(files);
        let rollback_index = checked_rollback_index(files, trust.least_rollback_index)?;
        let mut served = Self {
            packed: PackedBundle::new(files, &trust.keys)?,
            sha256: String::new(),
            version: manifest.as_ref().map_or(0, |manifest| manifest.version),
            expires_at: manifest.as_ref().and_then(|manifest| manifest.expires_at),
            rollback_index,
            free: Mutex::default(),
        };
        for _ in 0..limits.instances {
            let (instance, sha256) = served.start(prepared, limits).await?;
            served.sha256 = sha256;
            served.give_back(instance);
        }
        Ok(served)
    }

    /// Its hash.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it expires, in Unix seconds. It is served on then, as its instances open it as of the time at which it was given to the pool.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        self.expires_at
    }

    /// What the bundle that takes its place must satisfy. What nobody has signed says nothing of later bundles.
    pub(super) fn trust_in_next(&self, trust: &Trust) -> Trust {
        let signed = if trust.keys.is_empty() { 0 } else { self.rollback_index };
        Trust { least_rollback_index: trust.least_rollback_index.max(signed), ..trust.clone() }
    }

    /// An instance that nobody uses, or another one.
    pub(super) async fn take(&self, prepared: &Prepared, limits: PoolLimits) -> Result<Instance> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match free {
            Some(instance) => Ok(instance),
            None => self.start(prepared, limits).await.map(|(instance, _)| instance),
        }
    }

    pub(super) fn give_back(&self, instance: Instance) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
    }

    /// Starts an instance and opens the bundle in it.
    async fn start(&self, prepared: &Prepared, limits: PoolLimits) -> Result<(Instance, String)> {
        let budget = Budget::Time(limits.load_time);
        let mut instance = Instance::start(prepared, limits.memory_bytes, budget).await?;
        let hash = bundle_hash(&self.packed.send_to(&mut instance, budget).await?)?;
        Ok((instance, hash))
    }
}

/// The component says what is wrong with one that cannot be read.
fn manifest_of(files: &BTreeMap<String, Vec<u8>>) -> Option<Manifest> {
    Manifest::read(files.get(Manifest::FILE_NAME)?).ok()
}

/// The rollback index of a bundle. The component cannot know the least one of a bundle that is its first.
pub(super) fn checked_rollback_index(files: &BTreeMap<String, Vec<u8>>, least: u64) -> Result<u64> {
    let found = manifest_of(files).and_then(|manifest| manifest.rollback_index).unwrap_or(0);
    if found >= least {
        return Ok(found);
    }
    Err(Error::new(Code::BundleRolledBack, "the bundle was taken back")
        .expected(format!("a rollback_index of at least {least}"))
        .found(found))
}
