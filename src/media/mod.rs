//! Image references to pixels: fetched or decoded from base64, judged by their header, then
//! decoded, turned upright and resized to what the model takes.
//!
//! Two steps, so that a request can be refused by what its headers say before a pixel is decoded.
//! Decoding runs on blocking threads, as many at once as there are cores; images of one request
//! load in parallel and keep their order.

pub mod address;
pub mod budget;
pub mod data_url;
pub mod fetch;
pub mod image;

use std::{sync::Arc, time::Instant};

use ::image::RgbImage;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    config::ImagesConfig,
    metrics::Metrics,
    openai::message::{Detail, ImageUrl},
};
use budget::ImageGeometry;
use fetch::{FetchError, Fetcher};
use image::{Header, ImageError};

/// Why an image was refused.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The URL cannot be used.
    #[error("{0}")]
    Url(String),
    /// The base64 of a `data:` URL is not base64.
    #[error("the data is not valid base64")]
    Base64,
    /// More bytes than allowed.
    #[error("the image has more than {0} bytes")]
    TooLarge(usize),
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not an image, or one the limits refuse.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// More images than allowed.
    #[error("the request has {got} images; at most {max} are allowed")]
    TooMany {
        /// Images in the request.
        got: usize,
        /// `images.max_count`.
        max: usize,
    },
}

/// A refused image and where it stands in the request.
#[derive(Debug, thiserror::Error)]
#[error("{param}: {error}")]
pub struct Refused {
    /// The field, such as `messages[0].content[1].image_url.url`.
    pub param: String,
    /// Why.
    pub error: MediaError,
}

/// An image whose header was read and judged, and which is not yet decoded.
#[derive(Debug)]
pub struct Encoded {
    bytes: Bytes,
    header: Header,
    /// Width and height that the model will see.
    pub target: (u32, u32),
    param: String,
}

/// Loads images within the limits of the configuration.
#[derive(Debug)]
pub struct MediaLoader {
    limits: ImagesConfig,
    fetcher: Fetcher,
    decoders: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl MediaLoader {
    /// A loader with its own connections.
    ///
    /// # Errors
    /// The TLS backend could not be set up.
    pub fn new(limits: ImagesConfig, metrics: Arc<Metrics>) -> Result<Self, FetchError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            fetcher: Fetcher::new(&limits)?,
            limits,
            decoders: Arc::new(Semaphore::new(cores)),
            metrics,
        })
    }

    /// Brings the bytes of every image, and judges each by its header.
    ///
    /// # Errors
    /// The first image refused, with its place in the request.
    pub async fn fetch(
        &self,
        images: Vec<ImageUrl>,
        geometry: ImageGeometry,
    ) -> Result<Vec<Encoded>, Refused> {
        if images.len() > self.limits.max_count {
            let error = MediaError::TooMany {
                got: images.len(),
                max: self.limits.max_count,
            };
            return Err(Refused {
                param: "messages".into(),
                error,
            });
        }
        let jobs = images.into_iter().map(|image| async move {
            let param = image.param.clone();
            self.fetch_one(image, geometry).await.map_err(|error| {
                self.metrics.refused_image(&error);
                Refused { param, error }
            })
        });
        futures::future::try_join_all(jobs).await
    }

    async fn fetch_one(
        &self,
        image: ImageUrl,
        geometry: ImageGeometry,
    ) -> Result<Encoded, MediaError> {
        let is_data = data_url::is_data_url(&image.url);
        let bytes = if is_data {
            let max_bytes = self.limits.max_bytes;
            let url = image.url.clone();
            self.blocking(move || data_url::decode(&url, max_bytes))
                .await?
        } else {
            self.fetcher.get(&image.url).await?
        };
        let limits = self.limits.clone();
        let head = bytes.clone();
        let header = if bytes.len() < 1 << 16 {
            image::inspect(&head, &limits)?
        } else {
            self.blocking(move || image::inspect(&head, &limits).map_err(MediaError::from))
                .await?
        };
        let budget = match image.detail {
            Detail::Low => self.limits.low_max_pixels,
            Detail::Auto => self.limits.auto_max_pixels,
            Detail::High => self.limits.max_pixels,
        };
        let (width, height) = header.upright();
        let target = geometry.target(width, height, budget);
        Ok(Encoded {
            bytes,
            header,
            target,
            param: image.param,
        })
    }

    /// Decodes, turns and resizes; the result has exactly each image's `target` size.
    ///
    /// # Errors
    /// The first image that cannot be decoded, with its place in the request.
    pub async fn decode(&self, images: Vec<Encoded>) -> Result<Vec<RgbImage>, Refused> {
        let jobs = images.into_iter().map(
            |Encoded {
                 bytes,
                 header,
                 target,
                 param,
             }| async move {
                let started = Instant::now();
                let pixels = self
                    .blocking(move || {
                        image::decode(&bytes, header, target).map_err(MediaError::from)
                    })
                    .await
                    .map_err(|error| {
                        self.metrics.refused_image(&error);
                        Refused { param, error }
                    })?;
                self.metrics
                    .image_decode_seconds
                    .observe(started.elapsed().as_secs_f64());
                Ok(pixels)
            },
        );
        futures::future::try_join_all(jobs).await
    }

    /// Runs `work` on a blocking thread, no more at once than there are cores. A decoder that
    /// panics has met a broken image.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
    ) -> Result<T, MediaError> {
        let permit = self.decoders.clone().acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .unwrap_or(Err(MediaError::Image(ImageError::Broken)))
    }
}
