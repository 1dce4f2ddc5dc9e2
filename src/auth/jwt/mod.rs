//! JSON Web Tokens: those of configured issuers, and those minted here for frontends.
//!
//! RFC 8725 decides what is believed. The key decides the algorithm, never the token. The `iss`
//! claim only chooses an issuer, whose keys alone then verify the token. Everything is parsed
//! strictly, and a claim that cannot be read refuses the token.

mod cache;
mod claims;
mod error;
mod issuer;
mod jwk;
mod jwks;
mod keys;
mod mint;
mod token;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{Algorithm, EncodingKey};

pub use error::{JwtError, MintError};
pub use keys::{KeyProblem, KeySet, check_signature};
pub use mint::{Minted, TokenWish};
pub use token::MAX_TOKEN_BYTES;

use crate::{caller::Caller, config::AuthConfig, metrics::Metrics};
use cache::{Entry, Verifications};
use issuer::{Issuer, Keys, Shared};
use token::Compact;

/// `iss` and `aud` of tokens minted here.
pub const OWN_ISSUER: &str = "porthole";

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A token that was verified.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Who sent it.
    pub caller: Arc<Caller>,
    /// Its `exp`; the issuer's leeway comes on top.
    pub expires: SystemTime,
}

/// Verifies tokens and mints them.
pub struct Verifier {
    issuers: HashMap<String, Issuer>,
    verified: Verifications,
    signing: EncodingKey,
    max_minutes: u64,
    clock: Clock,
}

impl Verifier {
    /// Reads secrets and PEM files; key sets are fetched when first needed.
    ///
    /// # Errors
    /// Every problem of the configuration, one line each, named by its key.
    pub fn new(config: &AuthConfig, metrics: Arc<Metrics>) -> Result<Self, Vec<String>> {
        Self::with_clock(config, metrics, Arc::new(SystemTime::now))
    }

    /// The same with another clock.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn with_clock(
        config: &AuthConfig,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, Vec<String>> {
        let client = jwks::client()
            .map_err(|e| vec![format!("auth.issuers: no HTTP client for key sets: {e}")])?;
        let shared = Shared {
            client,
            clock: clock.clone(),
            metrics,
        };
        let mut problems = Vec::new();
        let mut issuers = issuer::configured(config, &shared, &mut problems);
        let mut random = [0; 32];
        let secret = if config.token_secret.is_empty() {
            getrandom::fill(&mut random)
                .map_err(|e| vec![format!("auth.token_secret: no random one: {e}")])?;
            random.as_slice()
        } else {
            config.token_secret.expose().as_bytes()
        };
        match KeySet::secret(secret, &[Algorithm::HS256]) {
            Ok(keys) => {
                issuers.insert(OWN_ISSUER.into(), Issuer::own(keys));
            }
            Err(KeyProblem::Key(problem) | KeyProblem::Algorithms(problem)) => {
                problems.push(format!("auth.token_secret: {problem}"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            issuers,
            verified: Verifications::new(),
            signing: mint::signing_key(secret),
            max_minutes: config.token_max_minutes,
            clock,
        })
    }

    /// Issuers configured, this server not counted.
    pub fn issuers(&self) -> usize {
        self.issuers.values().filter(|issuer| !issuer.own).count()
    }

    /// Starts to fetch key sets, so that the first token need not wait. Within a tokio runtime.
    pub fn prefetch(&self) {
        for issuer in self.issuers.values() {
            match &issuer.keys {
                Keys::Fixed(_) => {}
                Keys::Remote(remote) => remote.prefetch(),
            }
        }
    }

    /// The caller that a token stands for.
    ///
    /// # Errors
    /// See [`JwtError`].
    pub async fn verify(&self, token: &str) -> Result<Verified, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong);
        }
        let hash = Verifications::hash(token);
        if let Some(entry) = self.verified.get(&hash, (self.clock)()) {
            let issuer = self.issuers.get(&entry.issuer);
            if issuer.and_then(Issuer::version) == Some(entry.version) {
                return Ok(Verified {
                    caller: entry.caller.clone(),
                    expires: entry.expires,
                });
            }
        }
        let token = Compact::parse(token)?;
        let unverified = token::object(&token.payload).ok_or(JwtError::Malformed)?;
        let name = claims::required(&unverified, "iss")?;
        let issuer = self.issuers.get(name).ok_or(JwtError::Issuer)?;
        let version = issuer.check(&token).await?;
        let claims = unverified;
        let now = (self.clock)();
        let (caller, expires, good_until) = claims::read(&claims, issuer, now)?;
        let entry = Entry {
            caller: caller.clone(),
            expires,
            good_until,
            issuer: issuer.name.clone(),
            version,
            life: good_until.duration_since(now).unwrap_or(Duration::ZERO),
        };
        self.verified.insert(hash, entry);
        Ok(Verified { caller, expires })
    }
}
