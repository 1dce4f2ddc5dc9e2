//! Tokens that were verified, until they expire.
//!
//! They are found by a hash of the whole token: tokens of one issuer begin alike. An entry is good
//! only with the version of the issuer's keys that it was verified with, so that a token signed
//! with a key that is gone does not live on.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use moka::{Expiry, sync::Cache};
use sha2::{Digest, Sha256};

use crate::caller::Caller;

/// Tokens kept.
const ENTRIES: u64 = 10_000;

/// SHA-256 of a whole token.
pub(super) type TokenHash = [u8; 32];

/// A token that was verified.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) caller: Arc<Caller>,
    /// The `exp` claim.
    pub(super) expires: SystemTime,
    /// The end of the issuer's leeway after it.
    pub(super) good_until: SystemTime,
    /// The `iss` claim.
    pub(super) issuer: String,
    /// The version of the issuer's keys.
    pub(super) version: u64,
    /// How long that was when the entry was made, so that its room comes free by itself.
    pub(super) life: Duration,
}

#[derive(Debug)]
struct Life;

impl Expiry<TokenHash, Arc<Entry>> for Life {
    fn expire_after_create(
        &self,
        _: &TokenHash,
        entry: &Arc<Entry>,
        _: Instant,
    ) -> Option<Duration> {
        Some(entry.life)
    }

    fn expire_after_update(
        &self,
        _: &TokenHash,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Verifications(Cache<TokenHash, Arc<Entry>>);

impl Verifications {
    pub(super) fn new() -> Self {
        let cache = Cache::builder().max_capacity(ENTRIES);
        Self(cache.expire_after(Life).build())
    }

    pub(super) fn hash(token: &str) -> TokenHash {
        Sha256::digest(token).into()
    }

    /// A token verified before and still good, as far as time goes.
    pub(super) fn get(&self, token: &TokenHash, now: SystemTime) -> Option<Arc<Entry>> {
        self.0.get(token).filter(|entry| now < entry.good_until)
    }

    pub(super) fn insert(&self, token: TokenHash, entry: Entry) {
        self.0.insert(token, Arc::new(entry));
    }
}
