//! HTTP behaviour over a real socket, on a deterministic engine that is not a model.

mod bad_input;
mod chat;
mod cli;
mod fake_engine;
mod helpers;
mod images;
mod layers;
mod readiness;
