//! Fetching images over the network: the one place that opens connections for a client.
//!
//! Names are resolved by a resolver that judges every address and hands only judged ones to the
//! connection, so what was checked is what is connected to. A host that is an address already is
//! judged before the request. Redirects are not followed by the HTTP client but here, each hop
//! judged anew. What is refused for its address and what cannot be reached look the same to the
//! client: nothing is told about the network inside.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::LOCATION,
    redirect::Policy,
};
use url::{Host, Url};

use super::address::is_public;
use crate::config::ImagesConfig;

/// Why an image could not be fetched, in words for the client.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an http(s) URL that may be fetched.
    #[error("the URL {0}")]
    Url(&'static str),
    /// The host is refused, unknown, unreachable or does not speak HTTP.
    #[error("the image could not be fetched from this URL")]
    Unreachable,
    /// It answered something else than 200.
    #[error("the image could not be fetched: the server answered {0}")]
    Status(u16),
    /// It took too long.
    #[error("the image could not be fetched within {0} seconds")]
    Timeout(u64),
    /// It kept redirecting.
    #[error("the image could not be fetched: more than {0} redirects")]
    Redirects(usize),
    /// It kept sending.
    #[error("the image has more than {0} bytes")]
    TooLarge(usize),
}

/// An HTTP client for images on the public internet.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    enabled: bool,
    allow_private: bool,
    timeout: u64,
    max_redirects: usize,
    max_bytes: usize,
}

impl Fetcher {
    /// A client within the limits of the configuration.
    ///
    /// # Errors
    /// The TLS backend could not be set up.
    pub fn new(limits: &ImagesConfig) -> Result<Self, FetchError> {
        let client = Client::builder()
            .dns_resolver(Arc::new(JudgingResolver {
                allow_private: limits.allow_private_addresses,
            }))
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("porthole/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(limits.fetch_timeout))
            .build()
            .map_err(|_| FetchError::Unreachable)?;
        Ok(Self {
            client,
            enabled: limits.allow_urls,
            allow_private: limits.allow_private_addresses,
            timeout: limits.fetch_timeout,
            max_redirects: limits.max_redirects,
            max_bytes: limits.max_bytes,
        })
    }

    /// The body behind a URL.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, url: &[u8]) -> Result<Bytes, FetchError> {
        let url = std::str::from_utf8(url)
            .ok()
            .and_then(|url| Url::parse(url).ok());
        let url = url.ok_or(FetchError::Url("is not a valid http(s) or data: URL"))?;
        tokio::time::timeout(Duration::from_secs(self.timeout), self.follow(url))
            .await
            .unwrap_or(Err(FetchError::Timeout(self.timeout)))
    }

    async fn follow(&self, mut url: Url) -> Result<Bytes, FetchError> {
        for _ in 0..=self.max_redirects {
            self.judge(&url)?;
            let response = self
                .client
                .get(url.clone())
                .send()
                .await
                .map_err(|_| FetchError::Unreachable)?;
            let status = response.status();
            if status.is_redirection()
                && let Some(location) = response.headers().get(LOCATION)
            {
                let next = location
                    .to_str()
                    .ok()
                    .and_then(|location| url.join(location).ok());
                url = next.ok_or(FetchError::Unreachable)?;
            } else if status == reqwest::StatusCode::OK {
                return self.read(response).await;
            } else {
                return Err(FetchError::Status(status.as_u16()));
            }
        }
        Err(FetchError::Redirects(self.max_redirects))
    }

    fn judge(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Url("must be an http, https or data: URL"));
        }
        if !self.enabled {
            return Err(FetchError::Url(
                "is not fetched: this server takes data: URLs only",
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Url("must not carry credentials"));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(FetchError::Url("has no host")),
        };
        if self.allow_private || is_public(address) {
            Ok(())
        } else {
            Err(FetchError::Unreachable)
        }
    }

    async fn read(&self, mut response: Response) -> Result<Bytes, FetchError> {
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_bytes as u64 {
            return Err(FetchError::TooLarge(self.max_bytes));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|_| FetchError::Unreachable)?
        {
            if body.len() + chunk.len() > self.max_bytes {
                return Err(FetchError::TooLarge(self.max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// The system's resolver, less the addresses that are not public. A name with one inner address
/// among its addresses is refused whole: honest names have none.
#[derive(Debug)]
struct JudgingResolver {
    allow_private: bool,
}

impl Resolve for JudgingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if allow_private || found.iter().all(|address| is_public(address.ip())) {
                Ok(Box::new(found.into_iter()) as Addrs)
            } else {
                Err("the name resolves to an address that is not public".into())
            }
        })
    }
}
