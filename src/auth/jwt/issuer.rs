//! Whose tokens are accepted, as configured.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jsonwebtoken::Algorithm;
use reqwest::Client;
use url::Url;

use super::{
    Clock, JwtError, OWN_ISSUER,
    jwks::{self, Place, RemoteKeys, State},
    keys::{KeyProblem, KeySet, is_asymmetric},
    token::Compact,
};
use crate::{
    config::{AuthConfig, IssuerConfig},
    metrics::Metrics,
};

/// Most seconds of `leeway`: "usually no more than a few minutes" (RFC 7519 4.1.4).
const MAX_LEEWAY: u64 = 300;

/// Whose tokens are accepted.
pub(super) struct Issuer {
    /// The `iss` claim.
    pub(super) name: String,
    /// For logs and metrics.
    pub(super) label: String,
    pub(super) audiences: Vec<String>,
    /// In seconds.
    pub(super) leeway: u64,
    /// Empty for none.
    pub(super) required_scope: String,
    /// This server, whose claims say which key minted the token.
    pub(super) own: bool,
    pub(super) keys: Keys,
}

/// Where an issuer's keys are.
pub(super) enum Keys {
    /// Here.
    Fixed(KeySet),
    /// With the issuer.
    Remote(Arc<RemoteKeys>),
}

impl Issuer {
    /// This server, as the issuer of tokens that it minted.
    pub(super) fn own(keys: KeySet) -> Self {
        Self {
            name: OWN_ISSUER.into(),
            label: OWN_ISSUER.into(),
            audiences: vec![OWN_ISSUER.into()],
            leeway: 0,
            required_scope: String::new(),
            own: true,
            keys: Keys::Fixed(keys),
        }
    }

    /// Checks a signature; the version of the keys that did.
    pub(super) async fn check(&self, token: &Compact<'_>) -> Result<u64, JwtError> {
        let remote = match &self.keys {
            Keys::Fixed(keys) => return keys.check(token).map(|()| 0),
            Keys::Remote(remote) => remote,
        };
        let known = remote.current().await?;
        let outcome = known.set.check(token);
        if outcome == Err(JwtError::UnknownKey)
            && token.header.kid.is_some()
            && let Some(known) = remote.after_unknown_key(known.version).await
        {
            return known.set.check(token).map(|()| known.version);
        }
        outcome.map(|()| known.version)
    }

    /// The version of the keys, if a token verified with it can be believed without a wait.
    pub(super) fn version(&self) -> Option<u64> {
        match &self.keys {
            Keys::Fixed(_) => Some(0),
            Keys::Remote(remote) => remote.ready().map(|known| known.version),
        }
    }
}

/// What issuers share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

/// The configured issuers by their `iss`; every problem is added to `problems`.
pub(super) fn configured(
    config: &AuthConfig,
    shared: &Shared,
    problems: &mut Vec<String>,
) -> HashMap<String, Issuer> {
    let mut issuers = HashMap::new();
    for (i, issuer) in config.issuers.iter().enumerate() {
        let mut found = problems_of(issuer);
        if issuers.contains_key(&issuer.issuer) {
            found.push(format!("issuer: {:?} is named twice", issuer.issuer));
        }
        match keys(issuer, config.jwks_refresh, shared) {
            Ok(keys) => {
                issuers.insert(issuer.issuer.clone(), built(issuer, keys));
            }
            Err(problem) => found.push(problem),
        }
        problems.extend(found.iter().map(|p| format!("auth.issuers[{i}].{p}")));
    }
    issuers
}

fn built(config: &IssuerConfig, keys: Keys) -> Issuer {
    let host = Url::parse(&config.issuer)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    Issuer {
        name: config.issuer.clone(),
        label: host.unwrap_or_else(|| config.issuer.clone()),
        audiences: config.audiences.clone(),
        leeway: config.leeway,
        required_scope: config.required_scope.clone(),
        own: false,
        keys,
    }
}

fn problems_of(config: &IssuerConfig) -> Vec<String> {
    let rules = [
        (config.issuer.is_empty(), "issuer: is empty"),
        (
            config.issuer == OWN_ISSUER,
            "issuer: is the name of this server's own tokens",
        ),
        (
            config.audiences.is_empty() || config.audiences.iter().any(String::is_empty),
            "audiences: is empty, or one of them is",
        ),
        (config.leeway > MAX_LEEWAY, "leeway: is over 300"),
        (
            config.required_scope.contains(char::is_whitespace),
            "required_scope: is more than one word",
        ),
    ];
    let broken = rules.iter().filter(|(broken, _)| *broken);
    broken.map(|(_, text)| (*text).to_owned()).collect()
}

fn keys(config: &IssuerConfig, refresh: u64, shared: &Shared) -> Result<Keys, String> {
    let algorithms = algorithms(config)?;
    let file = &config.public_key_file;
    let places = (
        !config.secret.is_empty(),
        !file.as_os_str().is_empty(),
        !config.jwks_url.is_empty(),
        config.discovery,
    );
    let named = |key: &str, problem| match problem {
        KeyProblem::Key(text) => format!("{key}: {text}"),
        KeyProblem::Algorithms(text) => format!("algorithms: {text}"),
    };
    let place = match places {
        (true, false, false, false) => {
            let secret = config.secret.expose().as_bytes();
            let keys = KeySet::secret(secret, &algorithms);
            return keys.map(Keys::Fixed).map_err(|p| named("secret", p));
        }
        (false, true, false, false) => {
            let pem = std::fs::read(file)
                .map_err(|e| format!("public_key_file: {}: {e}", file.display()))?;
            let keys = KeySet::pem(&pem, &algorithms);
            return keys
                .map(Keys::Fixed)
                .map_err(|p| named("public_key_file", p));
        }
        (false, false, true, false) => Place::Jwks(
            jwks::trusted_url(&config.jwks_url)
                .map_err(|problem| format!("jwks_url: {problem}"))?,
        ),
        (false, false, false, true) => Place::Discovery(discovery_url(&config.issuer)?),
        _ => {
            return Err(
                "secret, public_key_file, jwks_url, discovery: not exactly one is set".into(),
            );
        }
    };
    if let Some(mac) = algorithms.iter().find(|a| !is_asymmetric(**a)) {
        return Err(format!("algorithms: {mac:?} does not fit public keys"));
    }
    Ok(Keys::Remote(Arc::new(RemoteKeys {
        issuer: config.issuer.clone(),
        place,
        algorithms,
        refresh: Duration::from_secs(refresh),
        client: shared.client.clone(),
        clock: shared.clock.clone(),
        metrics: shared.metrics.clone(),
        state: State::default(),
    })))
}

fn algorithms(config: &IssuerConfig) -> Result<Vec<Algorithm>, String> {
    let parsed = config.algorithms.iter().map(|name| {
        name.parse()
            .map_err(|_| format!("algorithms: {name:?} is not supported"))
    });
    parsed.collect()
}

/// OpenID Connect Discovery 1.0, 4.1.
fn discovery_url(issuer: &str) -> Result<Url, String> {
    let checked = jwks::trusted_url(issuer).map_err(|problem| format!("issuer: {problem}"))?;
    if checked.query().is_some() || checked.fragment().is_some() {
        return Err("issuer: must have no query and no fragment".into());
    }
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    Url::parse(&format!("{base}/.well-known/openid-configuration"))
        .map_err(|_| "issuer: is not a URL".into())
}
