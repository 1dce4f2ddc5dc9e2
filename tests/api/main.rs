//! HTTP behaviour over a real socket, on a deterministic engine that is not a model.

mod admission;
mod audit;
mod auth;
mod bad_input;
mod bombs;
mod chat;
mod choices;
mod cli;
mod connections;
mod cors;
mod dry_run;
mod fake_engine;
mod fields;
mod helpers;
mod image_cache;
mod images;
mod jwt;
mod layers;
mod limits;
mod minting;
mod readiness;
mod smuggling;
mod ssrf;
mod tls;
mod tools;
