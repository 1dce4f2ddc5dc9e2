//! Fetched images, kept for the caller that fetched them: a chat that sends its history again does
//! not fetch again what the image's server lets be used again.
//!
//! Nothing is shared between callers, so no caller can tell by the clock what another has fetched.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use url::Url;

use super::{Inspected, fetch::Validators, freshness::Freshness};

/// Memory of an entry beside its URL and its bytes.
const ENTRY_OVERHEAD: usize = 1 << 10;

/// Whose image, and which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    owner: Arc<str>,
    url: Arc<str>,
}

impl Key {
    pub(super) fn new(owner: &str, url: &Url) -> Self {
        Self {
            owner: owner.into(),
            url: url.as_str().into(),
        }
    }
}

/// An image that may be used again.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) image: Inspected,
    pub(super) validators: Validators,
    /// Bytes of memory that the image takes.
    allocated: usize,
    lifetime: Duration,
    since: Instant,
}

impl Kept {
    /// Whether it may be used without asking.
    pub(super) fn is_fresh(&self) -> bool {
        self.since.elapsed() < self.lifetime
    }
}

/// Bounded by bytes; what was used longest ago goes first.
#[derive(Debug)]
pub(super) struct ImageCache(Option<Cache<Key, Arc<Kept>>>);

impl ImageCache {
    /// A cache of so many bytes; 0 for none.
    pub(super) fn new(bytes: usize) -> Self {
        if bytes == 0 {
            return Self(None);
        }
        let cache = Cache::builder()
            .max_capacity(bytes as u64)
            .weigher(|key: &Key, kept: &Arc<Kept>| {
                let names = key.owner.len() + 2 * key.url.len();
                let weight = ENTRY_OVERHEAD + names + kept.allocated;
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self(Some(cache))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Kept>> {
        self.0.as_ref()?.get(key)
    }

    /// Keeps an image as far as its response allows.
    pub(super) fn keep(
        &self,
        key: Key,
        image: Inspected,
        allocated: usize,
        freshness: Freshness,
        validators: Validators,
    ) {
        let Some(cache) = &self.0 else { return };
        let lifetime = freshness.lifetime.unwrap_or(Duration::ZERO);
        if !freshness.store || (lifetime.is_zero() && validators.is_empty()) {
            cache.invalidate(&key);
            return;
        }
        let kept = Kept {
            image,
            validators,
            allocated,
            lifetime,
            since: Instant::now(),
        };
        cache.insert(key, Arc::new(kept));
        // Evictions wait for housekeeping otherwise, and the bound would be passed meanwhile.
        cache.run_pending_tasks();
    }

    /// Keeps an image that its server says is still the same. What the answer leaves open stays as
    /// it was (RFC 9111, section 4.3.4).
    pub(super) fn renew(&self, key: Key, kept: &Kept, freshness: Freshness) {
        let freshness = Freshness {
            store: freshness.store,
            lifetime: freshness.lifetime.or(Some(kept.lifetime)),
        };
        let (image, validators) = (kept.image.clone(), kept.validators.clone());
        self.keep(key, image, kept.allocated, freshness, validators);
    }

    /// Bytes kept now.
    pub(super) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, Cache::weighted_size)
    }
}
