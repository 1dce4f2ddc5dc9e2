//! `[limits]`: how much each caller may ask for, and how long anybody waits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::caller::Limits;

/// `[limits]`: how much each caller may ask for, and how long anybody waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// The share of each caller, where the credential says nothing else.
    pub default: Limits,
    /// The share of each caller of one model, counted beside `default`.
    pub models: Vec<ModelLimits>,
    /// File that keeps the counts of a day, a month and a credential's life through a restart. It
    /// is made when the first caller with such a limit comes; empty to keep them in memory alone.
    pub store: PathBuf,
    /// Redis or Valkey that replicas share their counts through; empty for none.
    pub redis_url: Secret,
    /// What happens while Redis is away.
    pub on_redis_error: OnRedisError,
    /// Requests that may wait for the engine; one more is answered 503. A caller may have no more
    /// of them than it leaves free, so one alone gets half.
    pub max_queue_length: usize,
    /// Bytes of encoded images and text that waiting requests may hold together.
    pub max_queue_bytes: usize,
    /// Seconds that a request may be expected to wait for the engine; longer is answered 503 at
    /// once.
    pub max_queue_time: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            default: Limits::default(),
            models: Vec::new(),
            store: "usage.redb".into(),
            redis_url: Secret::default(),
            on_redis_error: OnRedisError::Local,
            max_queue_length: 1024,
            max_queue_bytes: 1 << 30,
            max_queue_time: 120,
        }
    }
}

/// The share of each caller of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelLimits {
    /// The model's name.
    pub model: String,
    /// The share.
    pub limits: Limits,
}

/// What happens while Redis is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRedisError {
    /// Each replica counts for itself.
    Local,
    /// Callers with limits are answered 503.
    Deny,
}
