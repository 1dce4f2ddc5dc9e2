//! Images by URL: from the cache, from a fetch that is under way already, or from the network.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use url::Url;

use super::{
    Inspected, MediaError,
    blocking::BlockingPool,
    cache::{ImageCache, Key},
    fetch::{Answer, Fetcher},
};
use crate::{
    config::ImagesConfig,
    metrics::{ImageSource, Metrics},
};

type Outcome = Result<Inspected, MediaError>;
type Job = BoxFuture<'static, Outcome>;

/// Fetches under way, each with its number.
#[derive(Debug, Default)]
struct Jobs {
    begun: u64,
    running: HashMap<Key, (u64, WeakShared<Job>)>,
}

/// Images by URL.
#[derive(Debug)]
pub(super) struct RemoteImages {
    fetcher: Fetcher,
    cache: ImageCache,
    /// Fetches under way. A fetch lives as long as somebody waits for it.
    jobs: Mutex<Jobs>,
    pool: BlockingPool,
    limits: Arc<ImagesConfig>,
    metrics: Arc<Metrics>,
}

impl RemoteImages {
    pub(super) fn new(
        fetcher: Fetcher,
        pool: BlockingPool,
        limits: Arc<ImagesConfig>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            fetcher,
            cache: ImageCache::new(limits.cache_bytes),
            jobs: Mutex::default(),
            pool,
            limits,
            metrics,
        }
    }

    /// The image behind a URL, for one caller.
    pub(super) async fn get(self: &Arc<Self>, owner: &str, text: &[u8]) -> Outcome {
        let url = self.fetcher.parse(text)?;
        let key = Key::new(owner, &url);
        if let Some(kept) = self.cache.get(&key)
            && kept.is_fresh()
        {
            self.metrics.image_from(ImageSource::Cache);
            return Ok(kept.image.clone());
        }
        self.join(key, url).await
    }

    /// The fetch of this image, begun now or before.
    fn join(self: &Arc<Self>, key: Key, url: Url) -> Shared<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let running = jobs.running.get(&key);
        if let Some(job) = running.and_then(|(_, job)| job.upgrade()) {
            return job;
        }
        jobs.begun += 1;
        let entry = Entry {
            remote: Arc::clone(self),
            key: key.clone(),
            number: jobs.begun,
        };
        let job = async move { entry.remote.load(&entry.key, url).await };
        let job = job.boxed().shared();
        if let Some(weak) = job.downgrade() {
            let number = jobs.begun;
            jobs.running.insert(key, (number, weak));
        }
        job
    }

    async fn load(&self, key: &Key, url: Url) -> Outcome {
        let kept = self.cache.get(key);
        let known = kept.as_ref().map(|kept| &kept.validators);
        let since = Instant::now();
        let answer = self
            .fetcher
            .get(url, known.filter(|known| !known.is_empty()))
            .await?;
        let seconds = since.elapsed().as_secs_f64();
        self.metrics.image_fetch_seconds.observe(seconds);
        match (answer, kept) {
            (Answer::NotModified(freshness), Some(kept)) => {
                self.metrics.image_from(ImageSource::Revalidated);
                self.cache.renew(key.clone(), &kept, freshness);
                Ok(kept.image.clone())
            }
            // Only sent when something is known; a server that claims it anyway has no image.
            (Answer::NotModified(_), None) => {
                Err(MediaError::Fetch(super::fetch::FetchError::Status(304)))
            }
            (
                Answer::Fetched {
                    bytes,
                    allocated,
                    freshness,
                    validators,
                },
                _,
            ) => {
                self.metrics.image_from(ImageSource::Network);
                let limits = self.limits.clone();
                let image = self.pool.run(move || Inspected::of(bytes, &limits)).await?;
                self.cache.keep(
                    key.clone(),
                    image.clone(),
                    allocated,
                    freshness,
                    *validators,
                );
                self.metrics
                    .image_cache_bytes
                    .set(self.cache.bytes() as i64);
                Ok(image)
            }
        }
    }
}

/// Takes a fetch off the list when it ends, or when everybody who waited for it has gone.
struct Entry {
    remote: Arc<RemoteImages>,
    key: Key,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let jobs = self.remote.jobs.lock();
        let mut jobs = jobs.unwrap_or_else(PoisonError::into_inner);
        // A new fetch may have taken the place of one that nobody waits for.
        let running = jobs.running.get(&self.key);
        if running.is_some_and(|(number, _)| *number == self.number) {
            jobs.running.remove(&self.key);
        }
    }
}
