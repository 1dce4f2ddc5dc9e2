//! Image references to pixels: fetched or decoded from base64, judged by their header, then
//! decoded, turned upright and resized to what the model takes.
//!
//! Two steps, so that a request can be refused by what its headers say before a pixel is decoded.
//! Decoding runs on blocking threads, as many at once as there are cores, within a budget of memory
//! for the process; images of one request load in parallel and keep their order.

pub mod address;
mod blocking;
pub mod budget;
mod cache;
pub mod data_url;
pub mod fetch;
mod freshness;
pub mod image;
pub mod memory;
pub mod policy;
mod remote;
pub mod resolver;
mod structure;
mod vp8l;

use std::{fmt::Write, sync::Arc, time::Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    config::ImagesConfig,
    metrics::Metrics,
    openai::message::{Detail, ImageUrl},
};
use blocking::BlockingPool;
use budget::ImageGeometry;
use fetch::{FetchError, Fetcher};
use image::{Header, ImageError};
pub use memory::DecodedPermit;
use memory::{Decoded, DecodedBudget, DecodingShare, Need};
use remote::RemoteImages;

/// The configuration cannot be worked with.
#[derive(Debug, thiserror::Error)]
#[error("images cannot be fetched: {0}")]
pub struct SetupError(pub String);

/// Why an image was refused.
#[derive(Debug, Clone, thiserror::Error)]
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
        /// `images.max_count`, or the caller's own limit.
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

/// What one caller may ask for, below the configuration's limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageCeiling {
    /// Pixels that the model sees of one image, whatever its `detail` asks for.
    pub max_pixels: Option<u64>,
    /// Images in one request.
    pub max_images: Option<usize>,
}

/// Encoded bytes that were recognised, judged and hashed.
#[derive(Debug, Clone)]
struct Inspected {
    bytes: Bytes,
    header: Header,
    sha256: [u8; 32],
}

impl Inspected {
    /// Inspects and hashes; to be called away from the async threads.
    fn of(bytes: Bytes, limits: &ImagesConfig) -> Result<Self, MediaError> {
        let header = image::inspect(&bytes, limits)?;
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Self {
            bytes,
            header,
            sha256,
        })
    }
}

/// An image whose header was read and judged, and which is not yet decoded.
#[derive(Debug)]
pub struct Encoded {
    image: Inspected,
    /// Width and height that the model will see.
    pub target: (u32, u32),
    param: String,
}

impl Encoded {
    /// SHA-256 of the encoded bytes.
    pub fn sha256(&self) -> [u8; 32] {
        self.image.sha256
    }

    /// [`Self::sha256`] in lower-case hexadecimal.
    pub fn sha256_hex(&self) -> String {
        let mut hex = String::with_capacity(64);
        for byte in self.image.sha256 {
            // Writing into a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    /// Encoded bytes.
    pub fn len(&self) -> usize {
        self.image.bytes.len()
    }

    /// Whether there are none; never so for what is an image.
    pub fn is_empty(&self) -> bool {
        self.image.bytes.is_empty()
    }
}

/// Loads images within the limits of the configuration.
#[derive(Debug)]
pub struct MediaLoader {
    limits: Arc<ImagesConfig>,
    remote: Arc<RemoteImages>,
    pool: BlockingPool,
    memory: DecodedBudget,
    metrics: Arc<Metrics>,
}

impl MediaLoader {
    /// A loader with its own connections.
    ///
    /// # Errors
    /// The TLS backend could not be set up, or the configuration names a proxy or a domain that is
    /// none.
    pub fn new(limits: ImagesConfig, metrics: Arc<Metrics>) -> Result<Self, SetupError> {
        let fetcher = Fetcher::new(&limits)?;
        Ok(Self::with_fetcher(limits, fetcher, metrics))
    }

    /// A loader that fetches through `fetcher`.
    pub fn with_fetcher(limits: ImagesConfig, fetcher: Fetcher, metrics: Arc<Metrics>) -> Self {
        let limits = Arc::new(limits);
        let pool = BlockingPool::new();
        let remote = RemoteImages::new(fetcher, pool.clone(), limits.clone(), metrics.clone());
        Self {
            remote: Arc::new(remote),
            memory: DecodedBudget::new(limits.max_decoded_bytes, metrics.clone()),
            limits,
            pool,
            metrics,
        }
    }

    /// Brings the bytes of every image for the caller `owner`, and judges each by its header. Fetched
    /// images that may be used again are kept for the same owner alone.
    ///
    /// # Errors
    /// The first image refused, with its place in the request.
    pub async fn fetch(
        &self,
        owner: &str,
        images: Vec<ImageUrl>,
        geometry: ImageGeometry,
        ceiling: ImageCeiling,
    ) -> Result<Vec<Encoded>, Refused> {
        let own = ceiling.max_images.unwrap_or(usize::MAX);
        let max = self.limits.max_count.min(own);
        if images.len() > max {
            let error = MediaError::TooMany {
                got: images.len(),
                max,
            };
            self.metrics.refused_image(&error);
            return Err(Refused {
                param: "messages".into(),
                error,
            });
        }
        let jobs = images.into_iter().map(|image| async move {
            let param = image.param.clone();
            self.fetch_one(owner, image, geometry, ceiling)
                .await
                .map_err(|error| {
                    self.metrics.refused_image(&error);
                    Refused { param, error }
                })
        });
        futures::future::try_join_all(jobs).await
    }

    async fn fetch_one(
        &self,
        owner: &str,
        image: ImageUrl,
        geometry: ImageGeometry,
        ceiling: ImageCeiling,
    ) -> Result<Encoded, MediaError> {
        let budget = match image.detail {
            Detail::Low => self.limits.low_max_pixels,
            Detail::Auto => self.limits.auto_max_pixels,
            Detail::High => self.limits.max_pixels,
        };
        let budget = budget.min(ceiling.max_pixels.unwrap_or(u64::MAX));
        let inspected = if data_url::is_data_url(&image.url) {
            let limits = self.limits.clone();
            let url = image.url;
            let work = move || Inspected::of(data_url::decode(&url, limits.max_bytes)?, &limits);
            self.pool.run(work).await?
        } else {
            self.remote.get(owner, &image.url).await?
        };
        let (width, height) = inspected.header.upright();
        let pixels = f64::from(width) * f64::from(height);
        self.metrics.image_pixels.observe(pixels);
        self.metrics
            .image_bytes
            .observe(inspected.bytes.len() as f64);
        Ok(Encoded {
            target: geometry.target(width, height, budget),
            image: inspected,
            param: image.param,
        })
    }

    /// Decodes, turns and resizes; the result has exactly each image's `target` size. Waits until
    /// the process has the memory for all of them.
    ///
    /// # Errors
    /// The first image that cannot be decoded, with its place in the request.
    pub async fn decode(&self, images: Vec<Encoded>) -> Result<Decoded, Refused> {
        let needs: Vec<Need> = images
            .iter()
            .map(|image| image.image.header.need(image.target))
            .collect();
        let share = match self.memory.acquire(&needs).await {
            Some(share) if !needs.is_empty() => Arc::new(share),
            _ => return Ok(Decoded::none()),
        };
        let jobs = images.into_iter().zip(needs).map(|(image, need)| {
            let share = share.clone();
            async move {
                let param = image.param.clone();
                self.decode_one(image, need, share).await.map_err(|error| {
                    self.metrics.refused_image(&error);
                    Refused { param, error }
                })
            }
        });
        let images = futures::future::try_join_all(jobs).await?;
        // The jobs are over, and with them all other holders.
        let hold =
            Arc::into_inner(share).map_or_else(DecodedPermit::empty, DecodingShare::into_permit);
        Ok(Decoded { images, hold })
    }

    async fn decode_one(
        &self,
        image: Encoded,
        need: Need,
        share: Arc<DecodingShare>,
    ) -> Result<::image::RgbImage, MediaError> {
        let started = Instant::now();
        let turn = share.turn(need).await;
        let Encoded { image, target, .. } = image;
        let pixels = self
            .pool
            .run(move || {
                let decoded = image::decode(&image.bytes, image.header, target);
                // Held by the thread too, which goes on where the request is given up.
                drop((turn, share));
                decoded.map_err(MediaError::from)
            })
            .await?;
        let elapsed = started.elapsed().as_secs_f64();
        self.metrics.image_decode_seconds.observe(elapsed);
        Ok(pixels)
    }
}
