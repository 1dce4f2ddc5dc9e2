//! Fetching images over the network: the one place that opens connections for a client.
//!
//! Every hop is judged by its text ([`UrlPolicy`]) and every address by `Judging`, which hands only
//! judged ones to the connection, so what was checked is what is connected to. Redirects are not
//! followed by the HTTP client but here, each hop judged anew.
//!
//! Whatever depends on what resolving or connecting found ends as one error,
//! [`FetchError::Unreachable`], after one of two times (`settle`): nothing is told about the network
//! inside, neither in words nor by the clock.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::{
    Client, Proxy, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    },
    redirect::Policy,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use url::Url;

use super::{
    SetupError,
    freshness::Freshness,
    policy::UrlPolicy,
    resolver::{Judging, Lookup, SystemLookup},
};
use crate::config::ImagesConfig;

/// When a failure that depends on the network is told at the earliest, counted from the beginning
/// of the hop that failed. Long enough for a resolver and a handshake to have answered.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Why an image could not be fetched, in words for the client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// Not a URL that is fetched, by its text alone.
    #[error("the URL {0}")]
    Url(&'static str),
    /// The host is refused, unknown, unreachable or does not speak HTTP.
    #[error("the image could not be fetched from this URL")]
    Unreachable,
    /// It answered something else than 200.
    #[error("the image could not be fetched: the server answered {0}")]
    Status(u16),
    /// It answered in a content coding, such as gzip, although none was asked for.
    #[error("the image could not be fetched: the server answered in a content coding")]
    Encoding,
    /// It answered, and then broke off.
    #[error("the image could not be fetched: its transfer broke off")]
    Interrupted,
    /// It answered, and then took too long.
    #[error("the image could not be fetched within {0} seconds")]
    Timeout(u64),
    /// It kept redirecting.
    #[error("the image could not be fetched: more than {0} redirects")]
    Redirects(usize),
    /// It kept sending.
    #[error("the image has more than {0} bytes")]
    TooLarge(usize),
}

/// What came of asking for an image.
#[derive(Debug)]
pub enum Answer {
    /// The image, and what may be done with it.
    Fetched {
        /// The body.
        bytes: Bytes,
        /// Bytes of memory that the body takes.
        allocated: usize,
        /// For how long it may be used again.
        freshness: Freshness,
        /// What to ask the server with later.
        validators: Box<Validators>,
    },
    /// What is known already is still right.
    NotModified(Freshness),
}

/// What a server gave to ask later whether an image is still the same (RFC 9110, section 8.8).
#[derive(Debug, Clone)]
pub struct Validators {
    /// The last URL of the redirects, which they belong to.
    url: Url,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Validators {
    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// An HTTP client for images on the public internet.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    policy: UrlPolicy,
    proxied: bool,
    timeout: u64,
    max_redirects: usize,
    max_bytes: usize,
}

/// How far a fetch has come.
struct Progress {
    /// When the present hop began.
    hop: Instant,
    /// Whether a judged server has begun to send the image.
    answered: bool,
}

impl Fetcher {
    /// A client within the limits of the configuration, on the system's resolver.
    ///
    /// # Errors
    /// The TLS backend could not be set up, or the configuration names a proxy or a domain that is
    /// none.
    pub fn new(limits: &ImagesConfig) -> Result<Self, SetupError> {
        Self::with_resolver(limits, Arc::new(SystemLookup::default()))
    }

    /// A client on another resolver; its answers are judged as the system's are.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_resolver(
        limits: &ImagesConfig,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, SetupError> {
        let proxied = !limits.proxy.is_empty();
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT,
            HeaderValue::from_static(
                "image/webp,image/png,image/jpeg,image/gif,image/bmp,*/*;q=0.1",
            ),
        );
        // A body in a content coding could inflate to anything; see `Self::read`.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut client = Client::builder()
            .dns_resolver(Arc::new(Judging {
                lookup,
                // With a proxy, its own name is the only one that is asked for.
                allow_private: limits.allow_private_addresses || proxied,
            }))
            .redirect(Policy::none())
            // The environment's proxy would resolve names by itself.
            .no_proxy()
            .referer(false)
            .default_headers(headers)
            .user_agent(concat!("porthole/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(limits.fetch_timeout));
        if proxied {
            let proxy = Proxy::all(&limits.proxy)
                .map_err(|error| SetupError(format!("images.proxy: {error}")))?;
            client = client.proxy(proxy);
        }
        Ok(Self {
            client: client
                .build()
                .map_err(|error| SetupError(error.to_string()))?,
            policy: UrlPolicy::new(limits)?,
            proxied,
            timeout: limits.fetch_timeout,
            max_redirects: limits.max_redirects,
            max_bytes: limits.max_bytes,
        })
    }

    /// A client's text as a URL that [`Self::get`] takes.
    ///
    /// # Errors
    /// [`FetchError::Url`].
    pub fn parse(&self, text: &[u8]) -> Result<Url, FetchError> {
        self.policy.parse(text)
    }

    /// The body behind a URL, or that what is `known` is still the same.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, url: Url, known: Option<&Validators>) -> Result<Answer, FetchError> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        let mut progress = Progress {
            hop: Instant::now(),
            answered: false,
        };
        let result = timeout_at(deadline, self.follow(url, known, &mut progress)).await;
        match result {
            Ok(Err(FetchError::Unreachable)) => {}
            Ok(result) => return result,
            Err(_) if progress.answered => return Err(FetchError::Timeout(self.timeout)),
            Err(_) => {}
        }
        sleep_until(settle(progress.hop, Instant::now(), deadline)).await;
        Err(FetchError::Unreachable)
    }

    async fn follow(
        &self,
        mut url: Url,
        known: Option<&Validators>,
        progress: &mut Progress,
    ) -> Result<Answer, FetchError> {
        let mut redirects: Option<Freshness> = None;
        let behind = |freshness: Freshness, redirects: Option<Freshness>| {
            redirects.map_or(freshness, |redirects| freshness.behind(redirects))
        };
        for _ in 0..=self.max_redirects {
            progress.hop = Instant::now();
            self.policy.judge(&url)?;
            let known = known.filter(|known| known.url == url);
            let response = self.send(&url, known).await?;
            let now = Timestamp::now();
            let status = response.status();
            let headers = response.headers();
            let location = headers.get(LOCATION);
            match (status, location) {
                (
                    StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::SEE_OTHER
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT,
                    Some(location),
                ) => {
                    let is_permanent = matches!(status.as_u16(), 301 | 308);
                    let hop = Freshness::of_redirect(headers, is_permanent, now);
                    redirects = Some(behind(hop, redirects));
                    url = self.policy.redirected(&url, location)?;
                }
                (StatusCode::OK, _) => {
                    progress.answered = true;
                    let freshness = behind(Freshness::of(headers, now), redirects);
                    return self.read(response, url, freshness).await;
                }
                (StatusCode::NOT_MODIFIED, _) if known.is_some() => {
                    let freshness = behind(Freshness::of(headers, now), redirects);
                    return Ok(Answer::NotModified(freshness));
                }
                // The proxy's own answer may tell what it found.
                _ if self.proxied => return Err(FetchError::Unreachable),
                _ => return Err(FetchError::Status(status.as_u16())),
            }
        }
        Err(FetchError::Redirects(self.max_redirects))
    }

    async fn send(&self, url: &Url, known: Option<&Validators>) -> Result<Response, FetchError> {
        let mut request = self.client.get(url.clone());
        if let Some(known) = known {
            let conditions = [
                (IF_NONE_MATCH, &known.etag),
                (IF_MODIFIED_SINCE, &known.last_modified),
            ];
            for (name, value) in conditions {
                if let Some(value) = value {
                    request = request.header(name, value.clone());
                }
            }
        }
        request.send().await.map_err(|_| FetchError::Unreachable)
    }

    async fn read(
        &self,
        mut response: Response,
        url: Url,
        freshness: Freshness,
    ) -> Result<Answer, FetchError> {
        let headers = response.headers();
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(FetchError::Encoding);
        }
        let take = |name: HeaderName| headers.get(name).cloned();
        let validators = Validators {
            url,
            etag: take(ETAG),
            last_modified: take(LAST_MODIFIED),
        };
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_bytes as u64 {
            return Err(FetchError::TooLarge(self.max_bytes));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|_| FetchError::Interrupted)?
        {
            if body.len() + chunk.len() > self.max_bytes {
                return Err(FetchError::TooLarge(self.max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer::Fetched {
            allocated: body.capacity(),
            bytes: body.freeze(),
            freshness,
            validators: Box::new(validators),
        })
    }
}

/// When a failure found at `now` may be told: [`SETTLE`] after the hop began, or where that is past,
/// at the end of the fetch's whole time. A refused address, a name that does not resolve, a closed
/// port and a silent host so take the same times. The hop's beginning is known to whoever redirected
/// to it, so that a server which delays its redirect learns nothing more.
fn settle(hop: Instant, now: Instant, deadline: Instant) -> Instant {
    let first = (hop + SETTLE).min(deadline);
    if now <= first { first } else { deadline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_at_one_of_two_times() {
        let hop = Instant::now();
        let after = |ms| hop + Duration::from_millis(ms);
        for (found, told) in [
            (0, 1_000),
            (999, 1_000),
            (1_000, 1_000),
            (1_001, 10_000),
            (9_999, 10_000),
        ] {
            assert_eq!(settle(hop, after(found), after(10_000)), after(told));
        }
        // A hop begun in the last second ends with the fetch.
        assert_eq!(settle(hop, after(3), after(300)), after(300));
    }
}
