//! Instances of one component that share its compiled code and answer requests side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sanderling_core::PublicKey;
use sanderling_types::{Code, Error, Manifest, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::instance::{Answer, Budget, Instance, Metering, Prepared};
use super::{PackedBundle, bundle_hash, post, prepare, read_component};

/// What a pool may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Instances, of which each holds the bundle and answers one request at a time.
    pub instances: usize,
    /// Requests that may wait for an instance; more are refused.
    pub waiting: usize,
    /// Most time of one request in an instance.
    pub call_time: Duration,
    /// Most time of starting an instance and of opening a bundle in it.
    pub load_time: Duration,
    /// Most bytes of linear memory of an instance.
    pub memory_bytes: usize,
}

/// Answers requests with instances of one component that all have the same bundle open. An instance that traps or runs out of
/// time or memory is replaced; the request that it had fails.
pub struct Pool {
    prepared: Prepared,
    bundle: PackedBundle,
    bundle_sha256: String,
    expires_at: Option<i64>,
    limits: PoolLimits,
    free: Mutex<Vec<Instance>>,
    instances: Arc<Semaphore>,
    places: Arc<Semaphore>,
    num_lost: AtomicU64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Pool {
    /// Compiles the component at `path`, or takes what an earlier start compiled, and opens a bundle, given its files by name, in
    /// every instance; one of `public_keys`, where there are any, must have signed it.
    ///
    /// # Errors
    /// [`Code::Io`] when the component cannot be read, [`Code::InvalidArgument`] when it is not a `wasi:http/proxy` component or
    /// there would be no instance; [`Code::LimitExceeded`] when opening the bundle takes more than the limits allow; the codes of
    /// `Bundle::open`.
    pub async fn start(
        path: &Path,
        files: &BTreeMap<String, Vec<u8>>,
        public_keys: &[PublicKey],
        limits: PoolLimits,
    ) -> Result<Self> {
        let component = read_component(path)?;
        Self::from_bytes(&component, files, public_keys, limits).await
    }

    /// As [`Pool::start`], with the component's bytes.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub async fn from_bytes(
        component: &[u8],
        files: &BTreeMap<String, Vec<u8>>,
        public_keys: &[PublicKey],
        limits: PoolLimits,
    ) -> Result<Self> {
        let most = Semaphore::MAX_PERMITS - limits.waiting.min(Semaphore::MAX_PERMITS);
        if limits.instances == 0 || limits.instances > most {
            return Err(Error::new(Code::InvalidArgument, "a pool cannot have this many instances")
                .expected("at least 1")
                .found(limits.instances));
        }
        // Compiling takes seconds, in which a signal to stop is heard.
        let component = component.to_vec();
        let prepared = tokio::task::spawn_blocking(move || prepare(&component, Metering::Time)).await;
        let prepared = prepared.map_err(|error| {
            Error::new(Code::Internal, "the compiler stopped").found(&error).source_error(error)
        })??;
        let manifest = files.get(Manifest::FILE_NAME).and_then(|bytes| Manifest::read(bytes).ok());
        let mut pool = Self {
            expires_at: manifest.and_then(|manifest| manifest.expires_at),
            prepared,
            bundle: PackedBundle::new(files, public_keys)?,
            bundle_sha256: String::new(),
            limits,
            free: Mutex::default(),
            instances: Arc::new(Semaphore::new(limits.instances)),
            places: Arc::new(Semaphore::new(limits.instances + limits.waiting)),
            num_lost: AtomicU64::new(0),
        };
        for _ in 0..limits.instances {
            let (instance, hash) = pool.open().await?;
            pool.bundle_sha256 = hash;
            pool.give_back(instance);
        }
        Ok(pool)
    }

    /// Hash of the bundle that every instance has open.
    #[must_use]
    pub fn bundle_sha256(&self) -> &str {
        &self.bundle_sha256
    }

    /// When the bundle expires, in Unix seconds. It is served on then, as a pool opens it as of the time at which it was started.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        self.expires_at
    }

    /// Instances that had to be given up; the next request starts another in the place of one.
    #[must_use]
    pub fn num_replaced(&self) -> u64 {
        self.num_lost.load(Ordering::Relaxed)
    }

    /// Sends the body of a `POST /recommend` to an instance and gives its whole answer.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when as many requests wait already as may, or this one did for as long as a call may take; [`Code::LimitExceeded`] when the time or the memory of
    /// a call is used up; [`Code::Internal`] when the component traps.
    pub async fn recommend(self: &Arc<Self>, body: Bytes) -> Result<Answer> {
        let failed = |error| Error::new(Code::Internal, "the call was given up").found(error);
        let since = Instant::now();
        let place = self.place()?;
        let free = Arc::clone(&self.instances).acquire_owned();
        let instance = tokio::time::timeout(self.limits.call_time, free).await.map_err(|_| {
            Error::new(Code::Overloaded, "no instance came free in time")
                .expected(format!("within {:?}", self.limits.call_time))
        })?;
        let instance = instance.map_err(|error| failed(error.to_string()))?;
        // A task of its own: whoever asked may go away in the middle, and the instance must come back from the call.
        let pool = Arc::clone(self);
        let call = tokio::spawn(async move {
            let _held = (place, instance);
            pool.call(body, since).await
        });
        call.await.map_err(|error| failed(error.to_string()))?
    }

    /// `since` is when the request came.
    async fn call(&self, body: Bytes, since: Instant) -> Result<Answer> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut instance = match free {
            Some(instance) => instance,
            None => {
                let opened = self.open().await;
                opened.inspect_err(|error| tracing::error!(%error, "an instance cannot be started"))?.0
            }
        };
        instance.set_memory_limit(self.limits.memory_bytes);
        let request = post("/recommend", body, since.elapsed())?;
        let answer = instance.send(request, Budget::Time(self.limits.call_time)).await;
        match &answer {
            Ok(_) => self.give_back(instance),
            Err(error) => {
                self.num_lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "an instance was given up");
            }
        }
        answer
    }

    fn place(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Error::new(Code::Overloaded, "every instance is at work and the queue is full")
                .expected(format!("at most {} waiting", self.limits.waiting))
                .hint("try again after the time in Retry-After, or give the server more instances")
        })
    }

    /// Starts an instance and opens the bundle in it.
    async fn open(&self) -> Result<(Instance, String)> {
        let budget = Budget::Time(self.limits.load_time);
        let mut instance = Instance::start(&self.prepared, self.limits.memory_bytes, budget).await?;
        let hash = bundle_hash(&self.bundle.send_to(&mut instance, budget).await?)?;
        Ok((instance, hash))
    }

    fn give_back(&self, instance: Instance) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
    }
}
