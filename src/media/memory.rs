//! The bytes of decoded pixels in the process, bounded: `images.max_decoded_bytes`.
//!
//! A request takes what all its images need at once, in the order in which requests came, so that no
//! two can wait for each other. It gives back what decoding needed when that is done, and what its
//! pixels take when they are dropped.

use std::sync::Arc;

use image::RgbImage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

/// Bytes of one permit: a semaphore hands out at most 2^32 - 1 at a time.
const UNIT: u64 = 1 << 10;

/// Images ready for the model, and the memory they hold.
#[derive(Debug)]
pub struct Decoded {
    /// In the order of the request.
    pub images: Vec<RgbImage>,
    /// To be kept as long as the pixels are.
    pub hold: DecodedPermit,
}

impl Decoded {
    /// No images.
    pub(super) fn none() -> Self {
        Self {
            images: Vec::new(),
            hold: DecodedPermit::empty(),
        }
    }
}

/// Memory for pixels, given back when dropped.
#[derive(Debug)]
pub struct DecodedPermit(Option<Grant>);

/// The whole budget.
#[derive(Debug)]
pub(super) struct DecodedBudget {
    semaphore: Arc<Semaphore>,
    units: u32,
    metrics: Arc<Metrics>,
}

/// What one image needs, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// While it is decoded.
    pub(super) working: u64,
    /// Of the pixels that come out.
    pub(super) result: u64,
}

/// A share of the budget.
#[derive(Debug)]
struct Grant {
    permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

/// A request's share while its images are decoded.
#[derive(Debug)]
pub(super) struct DecodingShare {
    grant: Grant,
    /// The part for decoding, which images take turns with where it is too small for all at once.
    working: Arc<Semaphore>,
    working_units: u32,
    result_units: u32,
}

impl DecodedBudget {
    pub(super) fn new(bytes: usize, metrics: Arc<Metrics>) -> Self {
        let units = u32::try_from(bytes as u64 / UNIT)
            .unwrap_or(u32::MAX)
            .max(1);
        Self {
            semaphore: Arc::new(Semaphore::new(units as usize)),
            units,
            metrics,
        }
    }

    /// Waits for the memory of all images of a request. One that needs more than the whole budget
    /// gets the whole, and its images are decoded one after the other.
    pub(super) async fn acquire(&self, needs: &[Need]) -> Option<DecodingShare> {
        let sum = |of: fn(&Need) -> u64| needs.iter().map(|need| units(of(need))).sum::<u64>();
        let (working, result) = (sum(|need| need.working), sum(|need| need.result));
        let capped = |units: u64| u32::try_from(units).unwrap_or(u32::MAX).min(self.units);
        let wanted = capped(working + result);
        let permit = self.semaphore.clone().acquire_many_owned(wanted).await;
        // The semaphore is never closed.
        let permit = permit.ok()?;
        self.metrics
            .image_decoded_bytes
            .inc_by(i64::from(wanted) * UNIT as i64);
        let result_units = capped(result);
        let working_units = (wanted - result_units).max(1);
        Some(DecodingShare {
            grant: Grant {
                permit,
                metrics: self.metrics.clone(),
            },
            working: Arc::new(Semaphore::new(working_units as usize)),
            working_units,
            result_units,
        })
    }
}

impl DecodingShare {
    /// An image's turn.
    pub(super) async fn turn(&self, need: Need) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(units(need.working)).unwrap_or(u32::MAX);
        let wanted = wanted.min(self.working_units);
        self.working.clone().acquire_many_owned(wanted).await.ok()
    }

    /// Decoding is over: what it needed goes back.
    pub(super) fn into_permit(self) -> DecodedPermit {
        let Self {
            mut grant,
            result_units,
            ..
        } = self;
        let surplus = grant.permit.num_permits() - result_units as usize;
        if let Some(permit) = grant.permit.split(surplus) {
            drop(Grant {
                permit,
                metrics: grant.metrics.clone(),
            });
        }
        DecodedPermit(Some(grant))
    }
}

impl DecodedPermit {
    /// The permit of a request without images.
    pub(super) fn empty() -> Self {
        Self(None)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let permits = self
            .0
            .as_ref()
            .map_or(0, |grant| grant.permit.num_permits());
        permits as u64 * UNIT
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let bytes = self.permit.num_permits() as i64 * UNIT as i64;
        self.metrics.image_decoded_bytes.dec_by(bytes);
    }
}

fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const MIB: u64 = 1 << 20;

    fn need(working: u64, result: u64) -> Need {
        Need {
            working: working * MIB,
            result: result * MIB,
        }
    }

    #[tokio::test]
    async fn a_request_holds_its_pixels_and_no_more_once_they_are_decoded() {
        let metrics = Arc::new(Metrics::default());
        let budget = DecodedBudget::new(10 << 20, metrics.clone());
        let share = budget.acquire(&[need(5, 1), need(2, 1)]).await.unwrap();
        assert_eq!(metrics.image_decoded_bytes.get(), 9 << 20);
        assert!(budget.acquire(&[need(1, 1)]).now_or_never().is_none());
        let permit = share.into_permit();
        assert_eq!(permit.bytes(), 2 * MIB);
        assert_eq!(metrics.image_decoded_bytes.get(), 2 << 20);
        let other = budget.acquire(&[need(7, 1)]).now_or_never();
        assert!(other.is_some());
        drop((permit, other));
        assert_eq!(metrics.image_decoded_bytes.get(), 0);
    }

    #[tokio::test]
    async fn one_larger_than_the_budget_takes_the_whole_and_decodes_in_turns() {
        let budget = DecodedBudget::new(10 << 20, Arc::default());
        let needs = [need(6, 1), need(6, 1), need(600, 1)];
        let share = budget.acquire(&needs).await.unwrap();
        assert!(budget.acquire(&[need(0, 1)]).now_or_never().is_none());
        let first = share.turn(needs[0]).now_or_never().flatten().unwrap();
        assert!(share.turn(needs[1]).now_or_never().is_none());
        drop(first);
        // What can never fit is let through alone.
        let all = share.turn(needs[2]).now_or_never().flatten().unwrap();
        assert!(share.turn(needs[1]).now_or_never().is_none());
        drop(all);
        assert_eq!(share.into_permit().bytes(), 3 * MIB);
    }

    #[tokio::test]
    async fn a_large_request_is_not_overtaken_by_small_ones_for_ever() {
        let budget = Arc::new(DecodedBudget::new(10 << 20, Arc::default()));
        let small = budget.acquire(&[need(1, 1)]).await.unwrap();
        let mut large = Box::pin(budget.acquire(std::slice::from_ref(&ALL)));
        assert!(large.as_mut().now_or_never().is_none());
        // There would be room for it, but the large one came first.
        let mut later = Box::pin(budget.acquire(std::slice::from_ref(&ONE)));
        assert!(later.as_mut().now_or_never().is_none());
        drop(small);
        let large = large.now_or_never().flatten();
        assert!(large.is_some());
        assert!(later.as_mut().now_or_never().is_none());
        drop(large);
        assert!(later.now_or_never().is_some());
    }

    const ALL: Need = Need {
        working: 10 << 20,
        result: 0,
    };
    const ONE: Need = Need {
        working: 1 << 20,
        result: 0,
    };
}
