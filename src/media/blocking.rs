//! Work that would hold up the async threads.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{MediaError, image::ImageError};

/// Blocking threads, no more busy at once than there are cores.
#[derive(Debug, Clone)]
pub(super) struct BlockingPool(Arc<Semaphore>);

impl BlockingPool {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Runs `work` on a blocking thread. A decoder that panics has met a broken image.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
    ) -> Result<T, MediaError> {
        let permit = self.0.clone().acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .unwrap_or(Err(MediaError::Image(ImageError::Broken)))
    }
}
