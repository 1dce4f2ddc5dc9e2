//! The handlers, one file a subject.

pub mod body;
pub mod chat_completions;
pub mod health;
pub mod models;
