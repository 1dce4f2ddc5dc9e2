//! Who asks: API keys and tokens, both become a [`Caller`]. Nothing here knows HTTP.

pub mod api_key;
pub mod jwt;
pub mod key_ring;
pub mod keys_edit;
pub mod keys_file;

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use crate::{
    caller::Caller,
    config::{AuthConfig, Secret, StartUpKey},
    metrics::Metrics,
};
use jwt::{JwtError, MintError, Minted, TokenWish, Verifier};
use key_ring::{Holder, KeyRing, Lease};
use keys_file::Key;

/// Why a request is not let in. Unknown, revoked and expired look alike outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no credential.
    #[error("no credential was sent")]
    Missing,
    /// There is one, but it is not good; the reason is for the log.
    #[error("{0}")]
    Invalid(&'static str),
    /// It is good, but not from this network or origin.
    #[error("{0}")]
    NotFromHere(&'static str),
    /// It is good, but lacks a scope or a role.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// It cannot be judged now, since the issuer's keys are not known.
    #[error("the issuer's keys are not known")]
    KeysUnavailable,
}

impl AuthError {
    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid(reason) | Self::NotFromHere(reason) | Self::NotAllowed(reason) => reason,
            Self::KeysUnavailable => "keys_unavailable",
        }
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The client's address, seen through trusted proxies.
    pub address: IpAddr,
    /// What a browser says of the page that asks.
    pub origin: Option<&'a str>,
}

/// A caller who was let in.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who.
    pub caller: Arc<Caller>,
    /// When its credential ends: no token minted with it lives longer.
    pub expires: Option<SystemTime>,
    lease: Option<Lease>,
}

impl Session {
    /// Waits until the credential is revoked; for ever where it cannot be.
    pub async fn revoked(&mut self) {
        match &mut self.lease {
            Some(lease) => lease.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// Tells callers from strangers.
pub struct Authenticator {
    keys: Arc<KeyRing>,
    tokens: Verifier,
    enabled: bool,
    anonymous: Arc<Caller>,
    metrics: Arc<Metrics>,
}

impl Authenticator {
    /// Reads the keys and what is configured of issuers. Where there is no credential at all, a key
    /// for this process is made and returned, if strangers cannot reach it (`is_loopback`) or the
    /// configuration wants one even so.
    ///
    /// # Errors
    /// Everything that is wrong, a line each.
    pub fn new(
        config: &AuthConfig,
        is_loopback: bool,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Option<Secret>), Vec<String>> {
        let pepper = &config.key_pepper;
        let mut problems = Vec::new();
        if !pepper.is_empty() && pepper.expose().len() < 32 {
            problems.push("auth.key_pepper: is shorter than 32 bytes".to_string());
        }
        let keys = KeyRing::new(config.keys_file.clone(), pepper.clone(), metrics.clone());
        let keys = keys.map_err(|found| {
            let file = config.keys_file.display();
            problems.extend(found.iter().map(|p| format!("auth.keys_file: {file}: {p}")));
        });
        let tokens = Verifier::new(config, metrics.clone()).map_err(|found| problems.extend(found));
        let (Ok(mut keys), Ok(tokens), true) = (keys, tokens, problems.is_empty()) else {
            return Err(problems);
        };
        let mut start_up = None;
        if config.enabled && keys.is_empty() && tokens.issuers() == 0 {
            if !is_loopback && config.start_up_key == StartUpKey::Loopback {
                return Err(vec![format!(
                    "auth: there are no credentials, and server.bind is reached from other machines. Create a key with \
                     `porthole key create NAME` (it is written to {}), or configure auth.issuers; or, if everybody may \
                     do everything, set auth.enabled = false",
                    config.keys_file.display()
                )]);
            }
            start_up = Some(
                keys.make_start_up_key()
                    .map_err(|e| vec![format!("auth: {e}")])?,
            );
        }
        let authenticator = Self {
            keys: Arc::new(keys),
            tokens,
            enabled: config.enabled,
            anonymous: Arc::new(Caller::anonymous()),
            metrics,
        };
        Ok((authenticator, start_up))
    }

    /// Keeps the keys as their file is. Called once, on the runtime.
    pub fn keep_up(&self) -> impl Future<Output = ()> + use<> {
        self.tokens.prefetch();
        self.keys.clone().keep_up()
    }

    /// Lets a request in by its `Authorization` header, or says why not.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn authenticate(
        &self,
        authorization: Option<&str>,
        source: Source<'_>,
    ) -> Result<Session, AuthError> {
        if !self.enabled {
            return Ok(Session {
                caller: self.anonymous.clone(),
                expires: None,
                lease: None,
            });
        }
        let session = self.judge(authorization, source).await;
        if let Err(error) = &session {
            self.metrics.refused_auth(error.reason());
        }
        session
    }

    async fn judge(
        &self,
        authorization: Option<&str>,
        source: Source<'_>,
    ) -> Result<Session, AuthError> {
        let credential = bearer(authorization.ok_or(AuthError::Missing)?)?;
        let session = if credential.starts_with(api_key::PREFIX) {
            let key = self.keys.find(credential);
            let key = key.ok_or(AuthError::Invalid("unknown_key"))?;
            self.session_of_key(&key)
        } else {
            self.session_of_token(credential).await?
        };
        session.caller.check_source(source.address, source.origin)?;
        Ok(session)
    }

    fn session_of_key(&self, key: &Key) -> Session {
        Session {
            caller: key.caller.clone(),
            expires: key.expires,
            lease: Some(Lease::new(&self.keys, Holder::Key(key.hash))),
        }
    }

    async fn session_of_token(&self, token: &str) -> Result<Session, AuthError> {
        let verified = self.tokens.verify(token).await.map_err(|error| {
            if error == JwtError::KeysUnavailable {
                AuthError::KeysUnavailable
            } else if error == JwtError::Scope {
                AuthError::NotAllowed(error.reason())
            } else {
                AuthError::Invalid(error.reason())
            }
        })?;
        let Some(name) = &verified.caller.key else {
            return Ok(Session {
                caller: verified.caller,
                expires: Some(verified.expires),
                lease: None,
            });
        };
        // Minted with a key: good for as long as the key is, and never for more than it.
        let key = self.keys.named(name);
        let key = key.ok_or(AuthError::Invalid("key_of_token_revoked"))?;
        let lease = Lease::new(&self.keys, Holder::Name(name.clone()));
        let caller = Caller {
            parent: Some(key.caller.clone()),
            ..Caller::clone(&verified.caller)
        };
        Ok(Session {
            caller: Arc::new(caller),
            expires: Some(verified.expires),
            lease: Some(lease),
        })
    }

    /// Mints a token for a frontend.
    ///
    /// # Errors
    /// The caller may not, or wishes for more than it has.
    pub fn mint(&self, session: &Session, wish: &TokenWish) -> Result<Minted, MintError> {
        self.tokens.mint(&session.caller, wish, session.expires)
    }
}

fn bearer(header: &str) -> Result<&str, AuthError> {
    let (scheme, credential) = header.split_once(' ').unwrap_or((header, ""));
    let credential = credential.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Invalid("scheme"));
    }
    if credential.is_empty() {
        return Err(AuthError::Missing);
    }
    Ok(credential)
}

impl Caller {
    fn check_source(&self, address: IpAddr, origin: Option<&str>) -> Result<(), AuthError> {
        for rights in self.and_parent().map(|caller| &caller.rights) {
            let networks = &rights.networks;
            if !networks.is_empty() && !networks.iter().any(|n| n.contains(&address)) {
                return Err(AuthError::NotFromHere("network"));
            }
            let origins = &rights.origins;
            if !origins.is_empty() && !origins.iter().any(|o| Some(o.as_str()) == origin) {
                return Err(AuthError::NotFromHere("origin"));
            }
        }
        Ok(())
    }
}
