//! An issuer's keys, fetched from where the operator said and kept fresh.
//!
//! Keys are fetched when first needed, and again in the background once they are older than
//! `auth.jwks_refresh`; meanwhile, and while the issuer is away, the last ones serve. One fetch runs
//! at a time, and whoever needs its outcome waits for it. A token that names an unknown key may
//! cause one more in [`UNKNOWN_KEY_GAP`], so that a new key is known at once and nobody can make
//! this server hammer the issuer.
//!
//! The address comes from the configuration, not from a client, so it may be a private one. It
//! must be https, or on this host; redirects are not followed, and the environment's proxy is not
//! used.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use reqwest::{Client, redirect::Policy};
use tokio::sync::watch;
use url::{Host, Url};

use super::{Clock, JwtError, keys::KeySet, token};
use crate::metrics::Metrics;

/// Between two fetches for the sake of an unknown `kid`.
const UNKNOWN_KEY_GAP: Duration = Duration::from_secs(30);
/// Between a fetch that failed and the next.
const RETRY_GAP: Duration = Duration::from_secs(5);
/// For one fetch, discovery included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last keys serve while the issuer is away.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
/// Steps of the clock backwards that are taken for its correction.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// Largest answer, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Where a key set is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// There.
    Jwks(Url),
    /// Where this document says (OpenID Connect Discovery 1.0, 4).
    Discovery(Url),
}

/// Why a key set could not be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum FetchProblem {
    #[error("no connection")]
    Unreachable,
    #[error("the answer is not 200 but {0}")]
    Status(u16),
    #[error("it took too long")]
    Timeout,
    #[error("the answer has over {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the answer is malformed")]
    Malformed,
    #[error("the document names another issuer")]
    Issuer,
    #[error("the document's jwks_uri is neither https nor on this host")]
    Place,
}

impl FetchProblem {
    fn outcome(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Status(_) => "status",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Issuer => "issuer",
            Self::Place => "place",
        }
    }
}

/// A key set that was fetched.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) set: KeySet,
    /// Rises when the keys change.
    pub(super) version: u64,
    fingerprint: [u8; 32],
    fetched: SystemTime,
}

#[derive(Debug, Default)]
struct Attempts {
    running: bool,
    /// Since the last success.
    failed: Option<SystemTime>,
    unknown_key: Option<SystemTime>,
    /// Told in the log already.
    left_out: Vec<String>,
}

/// What a fetch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Fresh,
    UnknownKey,
}

/// See the module.
pub(super) struct RemoteKeys {
    pub(super) issuer: String,
    pub(super) place: Place,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) refresh: Duration,
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) state: State,
}

/// What is known so far.
#[derive(Debug)]
pub(super) struct State {
    known: ArcSwapOption<Known>,
    attempts: Mutex<Attempts>,
    done: watch::Sender<()>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            known: ArcSwapOption::empty(),
            attempts: Mutex::default(),
            done: watch::Sender::new(()),
        }
    }
}

impl RemoteKeys {
    /// The keys, if nobody has to wait for them. Starts a fetch where they have grown stale.
    pub(super) fn ready(self: &Arc<Self>) -> Option<Arc<Known>> {
        let known = self.state.known.load_full()?;
        let age = self.age(known.fetched);
        if age < self.refresh {
            return Some(known);
        }
        // After a quiet night the keys may be long gone: better to wait for a fetch, once.
        let forgotten = age >= 2 * self.refresh && self.attempts().failed.is_none();
        if forgotten || age > MAX_STALE {
            return None;
        }
        self.begin(Need::Fresh);
        Some(known)
    }

    /// The keys, after a fetch where there are none or only very old ones.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Known>, JwtError> {
        if let Some(known) = self.ready() {
            return Ok(known);
        }
        self.fetched(Need::Fresh).await;
        let known = self.state.known.load_full();
        known
            .filter(|known| self.age(known.fetched) <= MAX_STALE)
            .ok_or(JwtError::KeysUnavailable)
    }

    /// Other keys than those of `version`, after a token named one that is not among them.
    pub(super) async fn after_unknown_key(self: &Arc<Self>, version: u64) -> Option<Arc<Known>> {
        let newer = || {
            let known = self.state.known.load_full();
            known.filter(|known| known.version != version)
        };
        if let Some(known) = newer() {
            return Some(known);
        }
        self.fetched(Need::UnknownKey).await;
        newer()
    }

    /// Starts the first fetch.
    pub(super) fn prefetch(self: &Arc<Self>) {
        self.begin(Need::Fresh);
    }

    async fn fetched(self: &Arc<Self>, need: Need) {
        if let Some(mut done) = self.begin(need) {
            // An error says that the sender is gone, which this holds.
            let _ = done.changed().await;
        }
    }

    /// A fetch that runs, begun now if none does and one may.
    fn begin(self: &Arc<Self>, need: Need) -> Option<watch::Receiver<()>> {
        let mut attempts = self.attempts();
        let within = |gap, then: Option<SystemTime>| then.is_some_and(|t| self.age(t) < gap);
        if !attempts.running {
            match need {
                Need::Fresh => {
                    let known = self.state.known.load();
                    let fresh = within(self.refresh, known.as_ref().map(|known| known.fetched));
                    if fresh || within(RETRY_GAP, attempts.failed) {
                        return None;
                    }
                }
                Need::UnknownKey => {
                    if within(UNKNOWN_KEY_GAP, attempts.unknown_key) {
                        return None;
                    }
                    attempts.unknown_key = Some((self.clock)());
                }
            }
            attempts.running = true;
            // In a task of its own: a client that leaves must not end it for the others.
            tokio::spawn(Running(self.clone()).run());
        }
        Some(self.state.done.subscribe())
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        let attempts = self.state.attempts.lock();
        attempts.unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self, then: SystemTime) -> Duration {
        match (self.clock)().duration_since(then) {
            Ok(age) => age,
            Err(ahead) if ahead.duration() < CLOCK_STEP => Duration::ZERO,
            Err(_) => self.refresh.max(UNKNOWN_KEY_GAP),
        }
    }

    async fn fetch(&self) -> Result<(KeySet, Vec<String>), FetchProblem> {
        let url = match &self.place {
            Place::Jwks(url) => url.clone(),
            Place::Discovery(url) => {
                let document = self.get(url.clone()).await?;
                let document = token::object(&document).ok_or(FetchProblem::Malformed)?;
                let text = |name| document.get(name).and_then(|value| value.as_str());
                // Exactly, so that no issuer can speak for another (RFC 8414 3.3).
                if text("issuer") != Some(&self.issuer) {
                    return Err(FetchProblem::Issuer);
                }
                let url = text("jwks_uri").ok_or(FetchProblem::Malformed)?;
                trusted_url(url).map_err(|_| FetchProblem::Place)?
            }
        };
        let set = self.get(url).await?;
        KeySet::jwks(&set, &self.algorithms).map_err(|_| FetchProblem::Malformed)
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, FetchProblem> {
        let response = self.client.get(url).send().await;
        let mut response = response.map_err(|_| FetchProblem::Unreachable)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(FetchProblem::Status(status));
        }
        if response.content_length() > Some(MAX_BYTES as u64) {
            return Err(FetchProblem::TooLarge);
        }
        let mut body = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|_| FetchProblem::Unreachable)?
        {
            if body.len() + part.len() > MAX_BYTES {
                return Err(FetchProblem::TooLarge);
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    fn settle(&self, outcome: Result<(KeySet, Vec<String>), FetchProblem>) {
        let issuer = self.issuer.as_str();
        match outcome {
            Ok((set, left_out)) => {
                self.metrics.fetched_jwks("ok");
                let fingerprint = set.fingerprint();
                let before = self.state.known.load_full();
                let version = before.as_ref().map_or(1, |before| {
                    before.version + u64::from(before.fingerprint != fingerprint)
                });
                if before.is_none_or(|before| before.version != version) {
                    tracing::info!(issuer, keys = set.len(), "an issuer's keys have changed");
                }
                let mut attempts = self.attempts();
                if attempts.failed.take().is_some() {
                    tracing::info!(issuer, "an issuer's keys can be fetched again");
                }
                if attempts.left_out != left_out {
                    for key in &left_out {
                        tracing::warn!(issuer, "an issuer's key is not used: {key}");
                    }
                    attempts.left_out = left_out;
                }
                self.state.known.store(Some(Arc::new(Known {
                    set,
                    version,
                    fingerprint,
                    fetched: (self.clock)(),
                })));
            }
            Err(problem) => {
                self.metrics.fetched_jwks(problem.outcome());
                if self.attempts().failed.replace((self.clock)()).is_none() {
                    tracing::warn!(issuer, "an issuer's keys could not be fetched: {problem}");
                }
            }
        }
    }
}

/// A fetch that runs; whatever ends it lets the waiting go on.
struct Running(Arc<RemoteKeys>);

impl Running {
    async fn run(self) {
        let outcome = tokio::time::timeout(FETCH_TIMEOUT, self.0.fetch()).await;
        self.0.settle(outcome.unwrap_or(Err(FetchProblem::Timeout)));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.attempts().running = false;
        self.0.state.done.send_replace(());
    }
}

/// A client for key sets.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("porthole/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A URL that keys may come from: whoever can change them on the way is the issuer.
pub(super) fn trusted_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    let on_this_host = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry credentials");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if on_this_host => Ok(url),
        _ => Err("must be https, or http on this host"),
    }
}
