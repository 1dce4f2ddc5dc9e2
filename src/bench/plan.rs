//! What to measure.

use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use super::{
    arrival::Arrival,
    mix::{ImageMix, ImageSize},
};
use crate::config::Secret;

/// A whole measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whom to ask.
    pub target: Target,
    /// What to ask.
    pub ask: Ask,
    /// The points of the sweep, in their order; one where there is no sweep.
    pub loads: Vec<Load>,
    /// When a point ends.
    pub until: Until,
    /// What is sent before each point and not measured.
    pub warmup: Until,
    /// Times that a good answer keeps.
    pub slo: Slo,
    /// Requests of an open loop that may be under way at once; further ones wait, and their wait
    /// is measured.
    pub max_in_flight: usize,
    /// Go on where no request of a warm-up is answered.
    pub allow_errors: bool,
}

/// Whom to ask.
#[derive(Debug, Clone)]
pub struct Target {
    /// The API's base, such as `http://127.0.0.1:8080/v1`.
    pub url: Url,
    /// The model; the first that the server lists where none is named.
    pub model: Option<String>,
    /// The credential, if any.
    pub key: Option<Secret>,
    /// Believe any certificate.
    pub insecure: bool,
    /// A whole request may take so long.
    pub timeout: Duration,
}

/// What requests hold. The same seed gives the same requests.
#[derive(Debug, Clone)]
pub struct Ask {
    /// How many images.
    pub images: ImageMix,
    /// Sizes to choose from.
    pub sizes: Vec<ImageSize>,
    /// How images are encoded.
    pub format: ImageFormat,
    /// The same images again in every request.
    pub same_image: bool,
    /// Words of the prompt; with most tokenizers a token each.
    pub prompt_tokens: usize,
    /// Longest answer, tokens.
    pub max_tokens: u64,
    /// Ask for a stream of events.
    pub stream: bool,
    /// Ask for the usage at a stream's end (`stream_options.include_usage`).
    pub usage: bool,
    /// Further fields of the body.
    pub extra: Map<String, Value>,
    /// What all chance comes from.
    pub seed: u64,
}

/// How images are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ImageFormat {
    /// As photographs mostly are.
    Jpeg,
    /// Without loss; larger, and slower to make.
    Png,
}

impl ImageFormat {
    /// As the command line and media types name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
        }
    }
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// So many at once; the next is sent when one is answered.
    Closed {
        /// Requests at once.
        concurrency: usize,
    },
    /// At their times, whatever becomes of those before.
    Open {
        /// Requests a second.
        rate: f64,
        /// The time between two.
        arrival: Arrival,
    },
}

impl Load {
    /// The number that a sweep varies.
    pub fn level(&self) -> f64 {
        match self {
            Self::Closed { concurrency } => *concurrency as f64,
            Self::Open { rate, .. } => *rate,
        }
    }
}

/// An end: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// Requests sent.
    pub requests: Option<u64>,
    /// Time passed. What is under way by then is waited for.
    pub duration: Option<Duration>,
}

impl Until {
    /// Nothing is to be sent at all.
    pub fn is_nothing(&self) -> bool {
        self.requests == Some(0) || self.duration == Some(Duration::ZERO)
    }
}

/// Service level objectives: what a good answer keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Slo {
    /// Time to the first token.
    pub ttft: Option<Duration>,
    /// Mean time per output token after the first.
    pub tpot: Option<Duration>,
}

impl Slo {
    /// Whether there is any.
    pub fn is_set(&self) -> bool {
        self.ttft.is_some() || self.tpot.is_some()
    }
}
