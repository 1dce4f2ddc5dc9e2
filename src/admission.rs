//! How many requests may be inside at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded number of places for requests, waiting ones included.
#[derive(Debug, Clone)]
pub struct Admission {
    places: Arc<Semaphore>,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    _place: OwnedSemaphorePermit,
}

impl Admission {
    /// Room for `places` requests.
    pub fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// A place, or `None` when all are taken.
    pub fn admit(&self) -> Option<Permit> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(Permit { _place: place })
    }
}
