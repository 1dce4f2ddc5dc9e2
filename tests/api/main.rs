//! HTTP behaviour over a real socket, on a deterministic engine that is not a model.

mod admission;
mod audit;
mod auth;
mod bad_input;
mod bombs;
mod chat;
mod cli;
mod completions;
mod connections;
mod cors;
mod fake_engine;
mod helpers;
mod image_cache;
mod images;
mod jwt;
mod layers;
mod limits;
mod minting;
mod openapi;
mod predict;
mod readiness;
mod responses;
mod smuggling;
mod ssrf;
mod tls;
