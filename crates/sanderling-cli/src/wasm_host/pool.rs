//! Instances of one component that share its compiled code and answer requests side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sanderling_core::Trust;
use sanderling_types::{Code, Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::instance::{Answer, Budget, Metering, Prepared};
use super::served::{ServedBundle, checked_rollback_index};
use super::{post, prepare, read_component};
use crate::bundle_source::BundleSource;

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

/// Answers requests with instances of one component that have the same bundle open. An instance that traps or runs out of
/// time or memory is replaced; the request that it had fails.
pub struct Pool {
    prepared: Prepared,
    trust: Trust,
    limits: PoolLimits,
    served: RwLock<Arc<ServedBundle>>,
    instances: Arc<Semaphore>,
    places: Arc<Semaphore>,
    num_lost: AtomicU64,
    refreshing: tokio::sync::Mutex<()>,
    refreshes: Mutex<Refreshes>,
}

/// How often a pool found no bundle that it could serve, and when it last did: the one that it serves, or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refreshes {
    /// Failures.
    pub num_failures: u64,
    /// At first the time of its start.
    pub last_success: SystemTime,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Pool {
    /// Compiles the component at `path`, or takes what an earlier start compiled, and opens a bundle, given its files by name, in
    /// every instance. This bundle, and each that takes its place, must satisfy `trust`, as of the time at which it is given.
    ///
    /// # Errors
    /// [`Code::Io`] when the component cannot be read, [`Code::InvalidArgument`] when it is not a `wasi:http/proxy` component or
    /// there would be no instance; [`Code::BundleRolledBack`]; [`Code::LimitExceeded`] when opening the bundle takes more than the
    /// limits allow; the codes of `Bundle::open`.
    pub async fn start(
        path: &Path,
        files: &BTreeMap<String, Vec<u8>>,
        trust: Trust,
        limits: PoolLimits,
    ) -> Result<Self> {
        // Before what takes seconds.
        checked_rollback_index(files, trust.least_rollback_index)?;
        let component = read_component(path)?;
        Self::from_bytes(&component, files, trust, limits).await
    }

    /// As [`Pool::start`], with the component's bytes.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub async fn from_bytes(
        component: &[u8],
        files: &BTreeMap<String, Vec<u8>>,
        trust: Trust,
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
        let prepared = blocking(move || prepare(&component, Metering::Time)).await?;
        let served = ServedBundle::open(&prepared, files, &trust, limits).await?;
        Ok(Self {
            prepared,
            trust,
            limits,
            served: RwLock::new(Arc::new(served)),
            instances: Arc::new(Semaphore::new(limits.instances)),
            places: Arc::new(Semaphore::new(limits.instances + limits.waiting)),
            num_lost: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::default(),
            refreshes: Mutex::new(Refreshes { num_failures: 0, last_success: SystemTime::now() }),
        })
    }

    /// The bundle that requests are answered with from now on.
    #[must_use]
    pub fn served(&self) -> Arc<ServedBundle> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves the bundle that is at `source` now, where that is another one than what is served, and says whether it was. Requests go on
    /// with the one before until all instances have the other open, and what is at work then finishes with it: until that, there is memory
    /// of both, and of the files of the other. Of a signed bundle none with a smaller `rollback_index` takes the place.
    ///
    /// # Errors
    /// As [`BundleSource::read`] and [`Pool::start`]. The one before is served on.
    pub async fn refresh(&self, source: &BundleSource) -> Result<bool> {
        // One at a time: what is judged by the bundle before must take its place and no other's.
        let _alone = self.refreshing.lock().await;
        let refreshed = self.serve_other(source.clone()).await;
        let mut refreshes = self.refreshes.lock().unwrap_or_else(PoisonError::into_inner);
        match &refreshed {
            Ok(_) => refreshes.last_success = SystemTime::now(),
            Err(_) => refreshes.num_failures += 1,
        }
        refreshed
    }

    async fn serve_other(&self, source: BundleSource) -> Result<bool> {
        let before = self.served();
        let sha256 = before.sha256().to_owned();
        let other =
            move || if source.sha256()?.to_string() == sha256 { Ok(None) } else { source.read().map(Some) };
        let Some(files) = blocking(other).await? else { return Ok(false) };
        let trust = before.trust_in_next(&self.trust);
        let next = ServedBundle::open(&self.prepared, &files, &trust, self.limits).await?;
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(true)
    }

    /// How calls of [`Pool::refresh`] ended.
    #[must_use]
    pub fn refreshes(&self) -> Refreshes {
        *self.refreshes.lock().unwrap_or_else(PoisonError::into_inner)
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
        let served = self.served();
        let taken = served.take(&self.prepared, self.limits).await;
        let mut instance =
            taken.inspect_err(|error| tracing::error!(%error, "an instance cannot be started"))?;
        instance.set_memory_limit(self.limits.memory_bytes);
        let request = post("/recommend", body, since.elapsed())?;
        let answer = instance.send(request, Budget::Time(self.limits.call_time)).await;
        match &answer {
            Ok(_) => served.give_back(instance),
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
}

/// Runs what takes long where requests do not wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(Code::Internal, "a thread stopped").found(&error).source_error(error))?
}
