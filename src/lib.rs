//! Porthole: an OpenAI-compatible gateway with a vision-language model in its own process.
//!
//! # Layout
//!
//! Dependencies point one way, from the top of this list to its bottom:
//!
//! - [`serve`] is what the binary does with [`startup`], which builds the application and holds every URL on
//!   one screen;
//! - [`routes`] and [`middleware`] speak HTTP, with [`sse`], [`state`] and [`error`] below them;
//! - [`engine`], [`media`], [`admission`], [`lifecycle`], [`limits`] and [`metrics`] do the work and know nothing of HTTP;
//! - [`mod@bench`] is a client, and needs no more than [`config`];
//! - [`openai`] (the wire vocabulary), [`caller`] and [`config`] are leaves.
//!
//! # Invariants
//!
//! `actix_web` and `actix_http` appear only in startup, routes, middleware, sse and error; `mistralrs` only in
//! `engine/mistral` and `engine/convert.rs`; an error's status code only in error.rs; `std::env`
//! only in config and the binary. `tests/api/layers.rs` holds them.
#![forbid(unsafe_code)]
#![warn(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::dbg_macro,
    clippy::todo,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm
)]

pub mod bench;
pub mod check;
pub mod cli;
pub mod serve;
pub mod startup;

pub mod middleware;
pub mod routes;

pub mod error;
pub mod sse;
pub mod state;

pub mod admission;
pub mod audit;
pub mod auth;
pub mod client_address;
pub mod connections;
pub mod engine;
pub mod lifecycle;
pub mod limits;
pub mod media;
pub mod metrics;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod wire;

pub mod caller;
pub mod config;
pub mod openai;
