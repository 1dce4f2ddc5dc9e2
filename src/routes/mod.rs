//! The handlers, one file a subject.

pub mod body;
pub mod chat_completions;
pub mod completions;
mod dry_run;
pub mod generation;
pub mod health;
pub mod intake;
pub mod models;
pub mod openapi;
pub mod predict;
pub mod responses;
pub mod tokens;
