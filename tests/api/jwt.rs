//! JSON Web Tokens, below HTTP.

mod attacks;
mod claims;
mod jwks;
mod key_sets;
mod mint;
mod start;
mod support;
mod vectors;
