//! The handlers, one file a subject.

pub mod body;
pub mod chat_completions;
mod dry_run;
pub mod generation;
pub mod health;
pub mod models;
pub mod tokens;
pub mod wire;
