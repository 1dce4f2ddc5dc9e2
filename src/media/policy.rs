//! Which URLs are fetched at all, by their text alone. What names resolve to is judged in
//! [`super::resolver`], at the connection.
//!
//! A URL that two parsers could read as two hosts is refused rather than repaired: the WHATWG parser
//! turns backslashes into slashes, drops tabs and line ends and forgives missing slashes, and other
//! parsers do not.

use std::net::IpAddr;

use reqwest::header::HeaderValue;
use url::{Host, Url};

use super::{SetupError, address::is_public, fetch::FetchError};
use crate::config::ImagesConfig;

/// Longest URL that is read; browsers and servers agree on about this much.
const MAX_LENGTH: usize = 8 << 10;

/// Domains that mean something inside: RFC 6761 (localhost), RFC 6762 (local), RFC 7686 (onion),
/// RFC 8375 (home.arpa), ICANN's `internal`, and the names of Kubernetes' services. The metadata
/// services of clouds answer to `metadata.google.internal`, `instance-data.ec2.internal`,
/// `metadata.goog` and `metadata.tencentyun.com`.
const INNER_DOMAINS: [&str; 9] = [
    "localhost",
    "local",
    "onion",
    "home.arpa",
    "internal",
    "svc",
    "cluster.local",
    "metadata.goog",
    "metadata.tencentyun.com",
];

/// What the configuration says about URLs.
#[derive(Debug)]
pub struct UrlPolicy {
    enabled: bool,
    https_only: bool,
    allow_private: bool,
    ports: Vec<u16>,
    allow: Vec<String>,
    deny: Vec<String>,
}

impl UrlPolicy {
    /// The configuration's policy.
    ///
    /// # Errors
    /// An entry of the lists of domains is not a domain.
    pub fn new(limits: &ImagesConfig) -> Result<Self, SetupError> {
        Ok(Self {
            enabled: limits.allow_urls,
            https_only: limits.https_only,
            allow_private: limits.allow_private_addresses,
            ports: limits.allowed_ports.clone(),
            allow: domains("images.allow_domains", &limits.allow_domains)?,
            deny: domains("images.deny_domains", &limits.deny_domains)?,
        })
    }

    /// A client's text as a URL, without its fragment.
    ///
    /// # Errors
    /// [`FetchError::Url`]: the text alone refuses it.
    pub fn parse(&self, text: &[u8]) -> Result<Url, FetchError> {
        const INVALID: FetchError = FetchError::Url("is not a valid http(s) or data: URL");
        if text.len() > MAX_LENGTH {
            return Err(FetchError::Url("is longer than 8192 bytes"));
        }
        let text = std::str::from_utf8(text).map_err(|_| INVALID)?;
        let mut url = match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                return Err(FetchError::Url("must be an http, https or data: URL"));
            }
            Ok(url) => url,
            Err(_) => return Err(INVALID),
        };
        check_text(text)?;
        if !is_strictly_absolute(text) {
            return Err(INVALID);
        }
        if !self.enabled {
            return Err(FetchError::Url(
                "is not fetched: this server takes data: URLs only",
            ));
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// Where a redirect leads.
    ///
    /// # Errors
    /// [`FetchError::Url`]: the text alone refuses it.
    pub fn redirected(&self, from: &Url, location: &HeaderValue) -> Result<Url, FetchError> {
        const INVALID: FetchError = FetchError::Url("redirects to something that is not a URL");
        let text = location.to_str().map_err(|_| INVALID)?;
        if text.len() > MAX_LENGTH {
            return Err(INVALID);
        }
        let mut url = from.join(text).map_err(|_| INVALID)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Url(
                "redirects to something else than an http or https URL",
            ));
        }
        check_text(text)?;
        let has_scheme = Url::parse(text).is_ok();
        if text.starts_with("///") || (has_scheme && !is_strictly_absolute(text)) {
            return Err(INVALID);
        }
        if from.scheme() == "https" && url.scheme() == "http" {
            return Err(FetchError::Url("redirects from https to http"));
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// Judges one hop before anything is resolved or connected.
    ///
    /// # Errors
    /// [`FetchError::Url`] where the text alone refuses it and tells nothing of the inside;
    /// [`FetchError::Unreachable`] for hosts that are inside.
    pub fn judge(&self, url: &Url) -> Result<(), FetchError> {
        if self.https_only && url.scheme() != "https" {
            return Err(FetchError::Url("must be an https URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Url("must not carry credentials"));
        }
        let port = url.port_or_known_default();
        if !port.is_some_and(|port| self.ports.contains(&port)) {
            return Err(FetchError::Url("names a port that is not fetched from"));
        }
        let host = url.host().ok_or(FetchError::Url("has no host"))?;
        let name = normal(&host);
        let listed = |list: &[String]| list.iter().any(|domain| is_within(&name, domain));
        if listed(&self.deny) || (!self.allow.is_empty() && !listed(&self.allow)) {
            return Err(FetchError::Url("names a domain that is not fetched from"));
        }
        let is_open = self.allow_private
            || match host {
                Host::Ipv4(address) => is_public(IpAddr::V4(address)),
                Host::Ipv6(address) => is_public(IpAddr::V6(address)),
                Host::Domain(_) => !is_inner_name(&name),
            };
        if is_open {
            Ok(())
        } else {
            Err(FetchError::Unreachable)
        }
    }
}

/// Refuses what parsers disagree about.
fn check_text(text: &str) -> Result<(), FetchError> {
    if text
        .chars()
        .any(|c| c == '\\' || c.is_whitespace() || c.is_control())
    {
        return Err(FetchError::Url(
            "must not hold backslashes, white space or control characters",
        ));
    }
    let after_scheme = text.find("://").map(|at| &text[at + 3..]);
    let authority = after_scheme.or_else(|| text.strip_prefix("//"));
    let authority = authority.and_then(|rest| rest.split(['/', '?', '#']).next());
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(FetchError::Url("must not carry credentials"));
    }
    Ok(())
}

/// Whether the text is `scheme://host...` with exactly two slashes.
fn is_strictly_absolute(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        ["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
            && !rest.is_empty()
            && !rest.starts_with(['/', '?', '#'])
    })
}

/// A host in the one spelling that is compared: lower case, IDNA's ASCII form (both by the parser),
/// no dot at the end.
fn normal(host: &Host<&str>) -> String {
    let name = host.to_string();
    name.strip_suffix('.').unwrap_or(&name).to_string()
}

fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a name is one of the inside whatever it resolves to: a reserved one, or one without a
/// dot, which a resolver's search list completes.
fn is_inner_name(name: &str) -> bool {
    !name.contains('.') || INNER_DOMAINS.iter().any(|domain| is_within(name, domain))
}

/// Domains of a list in the compared spelling; `*.` and `.` before them are forgiven, since
/// subdomains are included anyway.
fn domains(key: &str, list: &[String]) -> Result<Vec<String>, SetupError> {
    let parse = |domain: &String| {
        let bare = domain.trim_start_matches("*.").trim_start_matches('.');
        let host = Host::parse(bare).map_err(|_| SetupError(format!("{key}: {domain:?}")))?;
        let name = host.to_string();
        Ok(name.strip_suffix('.').unwrap_or(&name).to_string())
    };
    list.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut ImagesConfig)) -> UrlPolicy {
        let mut limits = ImagesConfig::default();
        change(&mut limits);
        UrlPolicy::new(&limits).unwrap()
    }

    fn check(policy: &UrlPolicy, text: &str) -> Result<(), FetchError> {
        policy.judge(&policy.parse(text.as_bytes())?)
    }

    #[test]
    fn lists_of_domains_hold_in_every_spelling() {
        let policy = policy(|limits| {
            limits.allow_domains = vec!["Example.COM.".into(), "*.bücher.example".into()];
            limits.deny_domains = vec!["private.example.com".into()];
        });
        for url in [
            "http://example.com/a",
            "https://EXAMPLE.com./a",
            "https://img.example.com/a",
            "https://xn--bcher-kva.example/a",
            "https://BÜCHER.example/a",
            "https://a.bücher.example./a",
        ] {
            assert!(check(&policy, url).is_ok(), "{url}");
        }
        for url in [
            "https://example.org/a",
            "https://notexample.com/a",
            "https://example.com.evil.org/a",
            "https://private.example.com/a",
            "https://PRIVATE.example.com./a",
            "https://x.private.example.com/a",
            "https://1.1.1.1/a",
        ] {
            assert!(
                matches!(check(&policy, url), Err(FetchError::Url(_))),
                "{url}"
            );
        }
        let wrong = UrlPolicy::new(&ImagesConfig {
            deny_domains: vec!["a b".into()],
            ..ImagesConfig::default()
        });
        assert!(wrong.is_err());
    }

    #[test]
    fn a_redirect_is_read_as_strictly_as_a_url() {
        let policy = policy(|_| {});
        let from = Url::parse("https://example.com/a/b?c").unwrap();
        let to =
            |location: &[u8]| policy.redirected(&from, &HeaderValue::from_bytes(location).unwrap());
        for (location, expected) in [
            ("/x", "https://example.com/x"),
            ("y?z=1#f", "https://example.com/a/y?z=1"),
            ("//cdn.example.com/x", "https://cdn.example.com/x"),
            ("https://example.org/", "https://example.org/"),
            ("/a//b@c", "https://example.com/a//b@c"),
        ] {
            assert_eq!(to(location.as_bytes()).unwrap().as_str(), expected);
        }
        for location in [
            &b"http://example.com/"[..],
            b"file:///etc/passwd",
            b"gopher://example.com/",
            b"data:image/png;base64,AA==",
            b"javascript:alert(1)",
            b"///evil.example/",
            b"https:/evil.example/",
            b"https:evil.example",
            b"https:///evil.example/",
            b"\\\\evil.example\\",
            b"/x y",
            b"/\tx",
            b"https://user@evil.example/",
            b"//user:secret@evil.example/",
            b"https://[::1",
            b"/\xff",
        ] {
            assert!(
                matches!(to(location), Err(FetchError::Url(_))),
                "{:?}",
                String::from_utf8_lossy(location)
            );
        }
    }
}
