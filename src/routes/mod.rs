//! The handlers, one file a subject.

pub mod body;
pub mod chat_completions;
pub mod generation;
pub mod health;
pub mod models;
pub mod tokens;
