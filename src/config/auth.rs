//! `[auth]`: who may ask.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Secret;

/// `[auth]`: who may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Ask for a credential at all. Without, everybody who reaches the port may do everything.
    pub enabled: bool,
    /// The file with the API keys, written by `porthole key` and read anew when it changes. It need
    /// not be there.
    pub keys_file: PathBuf,
    /// Keys the hashes in the keys file (HMAC-SHA-256), so that the file alone tells nothing; empty
    /// for plain SHA-256. At least 32 bytes.
    pub key_pepper: Secret,
    /// Where a key is made for the process if there is no credential.
    pub start_up_key: StartUpKey,
    /// Issuers whose tokens (JWT) are accepted.
    pub issuers: Vec<IssuerConfig>,
    /// Seconds after which a key set fetched from an issuer is fetched again.
    pub jwks_refresh: u64,
    /// Signs the tokens minted at `/v1/tokens` (HS256), at least 32 bytes; empty for a random one,
    /// which dies with the process. Replicas must share it.
    pub token_secret: Secret,
    /// Longest life of a minted token, in minutes.
    pub token_max_minutes: u64,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            keys_file: "keys.toml".into(),
            key_pepper: Secret::default(),
            start_up_key: StartUpKey::Loopback,
            issuers: Vec::new(),
            jwks_refresh: 300,
            token_secret: Secret::default(),
            token_max_minutes: 60,
        }
    }
}

/// Where a key is made for the process, and told on stderr, if there is no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartUpKey {
    /// Only where `server.bind` is a loopback address; a server that others reach does not start.
    Loopback,
    /// Everywhere: for a container, whose own address says nothing of who reaches it.
    Always,
}

/// One issuer of tokens. Exactly one of `secret`, `public_key_file`, `jwks_url` and `discovery` says
/// where its keys are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerConfig {
    /// The `iss` claim, compared exactly.
    pub issuer: String,
    /// `aud` must hold one of these.
    pub audiences: Vec<String>,
    /// Algorithms accepted (`RS256`, ...); each must fit the kind of key. Empty for those of the
    /// key's kind.
    pub algorithms: Vec<String>,
    /// HMAC secret, at least as long as the hash of its algorithm and never under 32 bytes.
    pub secret: Secret,
    /// PEM file with a public key.
    pub public_key_file: PathBuf,
    /// URL of a JWK set.
    pub jwks_url: String,
    /// Find the JWK set through `ISSUER/.well-known/openid-configuration`.
    pub discovery: bool,
    /// Seconds of clock difference allowed in `exp`, `nbf` and `iat`.
    pub leeway: u64,
    /// A word that the `scope` claim must hold; empty for none.
    pub required_scope: String,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            secret: Secret::default(),
            public_key_file: PathBuf::new(),
            jwks_url: String::new(),
            discovery: false,
            leeway: 30,
            required_scope: String::new(),
        }
    }
}
