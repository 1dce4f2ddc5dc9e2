//! How long a fetched image may be used again: the part of HTTP caching (RFC 9111) that GET
//! responses without credentials need.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName, PRAGMA, VARY};

/// Longest that anything is used without asking again, whatever its server allows.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What a response says about its reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Whether it may be kept at all.
    pub store: bool,
    /// For how long it may be used without asking; `None` where the response does not say.
    pub lifetime: Option<Duration>,
}

impl Freshness {
    /// Reads the headers of a response that arrived at `now`. The smaller of `max-age` and
    /// `s-maxage` counts; a value that cannot be read is no permission.
    pub fn of(headers: &HeaderMap, now: Timestamp) -> Self {
        let mut store = !headers.get_all(VARY).iter().any(|value| value == "*");
        let mut no_cache = false;
        let mut lifetime: Option<Duration> = None;
        let mut has_cache_control = false;
        for value in headers.get_all(CACHE_CONTROL) {
            has_cache_control = true;
            let Ok(value) = value.to_str() else {
                store = false;
                continue;
            };
            for directive in value.split(',') {
                let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
                let name = name.trim().to_ascii_lowercase();
                match name.as_str() {
                    "no-store" => store = false,
                    "no-cache" => no_cache = true,
                    "max-age" | "s-maxage" => {
                        let seconds = argument.trim().trim_matches('"').parse().unwrap_or(0);
                        let given = Duration::from_secs(seconds);
                        lifetime = Some(lifetime.map_or(given, |other| other.min(given)));
                    }
                    // `private` too: what is kept is kept for the one caller alone.
                    _ => {}
                }
            }
        }
        no_cache |= !has_cache_control && headers.get(PRAGMA).is_some_and(|p| p == "no-cache");
        if no_cache {
            lifetime = Some(Duration::ZERO);
        }
        let lifetime = lifetime.or_else(|| expires(headers, now)).map(|lifetime| {
            let age = headers.get(AGE).and_then(|age| age.to_str().ok());
            let age = Duration::from_secs(age.and_then(|age| age.trim().parse().ok()).unwrap_or(0));
            lifetime.saturating_sub(age).min(MAX_LIFETIME)
        });
        Self { store, lifetime }
    }

    /// Reads the headers of a redirect. One that is not permanent is good for this time only,
    /// unless it says otherwise.
    pub fn of_redirect(headers: &HeaderMap, is_permanent: bool, now: Timestamp) -> Self {
        let mut found = Self::of(headers, now);
        if !is_permanent {
            found.lifetime = found.lifetime.or(Some(Duration::ZERO));
        }
        found
    }

    /// This response at the end of a redirect.
    #[must_use]
    pub fn behind(self, redirect: Self) -> Self {
        let shorter = match (self.lifetime, redirect.lifetime) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, None) => own,
            // Nothing said of the response itself: not fresh, whatever the redirect says.
            (None, Some(_)) => Some(Duration::ZERO),
        };
        Self {
            store: self.store && redirect.store,
            lifetime: shorter,
        }
    }
}

fn expires(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !headers.contains_key(EXPIRES) {
        return None;
    }
    let until = http_date(headers, EXPIRES);
    let from = http_date(headers, DATE).unwrap_or(now);
    let seconds = until.map_or(0, |until| until.as_second() - from.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// A date in the one format that may be sent today (RFC 9110, section 5.6.7).
fn http_date(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    let text = headers.get(name)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn of(headers: &[(&'static str, &'static str)]) -> Freshness {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Freshness::of(&map, "2026-01-02T03:04:05Z".parse().unwrap())
    }

    #[test]
    fn cache_control_decides() {
        for (value, store, seconds) in [
            ("max-age=60", true, Some(60)),
            ("public, max-age=60, s-maxage=30", true, Some(30)),
            ("s-maxage=60,max-age=0", true, Some(0)),
            ("private, Max-Age=\"60\"", true, Some(60)),
            ("no-cache, max-age=60", true, Some(0)),
            ("no-cache=\"set-cookie, x\"", true, Some(0)),
            ("NO-STORE, max-age=60", false, Some(60)),
            ("max-age=-1", true, Some(0)),
            ("max-age=soon", true, Some(0)),
            ("max-age=99999999999999999999", true, Some(0)),
            ("max-age=31536000, immutable", true, Some(24 * 3600)),
            ("must-revalidate", true, None),
        ] {
            let expected = Freshness {
                store,
                lifetime: seconds.map(Duration::from_secs),
            };
            assert_eq!(of(&[("cache-control", value)]), expected, "{value}");
        }
        let twice = of(&[
            ("cache-control", "max-age=60"),
            ("cache-control", "no-store"),
        ]);
        assert!(!twice.store);
        assert_eq!(of(&[]).lifetime, None);
        assert!(!of(&[("vary", "*"), ("cache-control", "max-age=60")]).store);
        assert_eq!(of(&[("pragma", "no-cache")]).lifetime, Some(Duration::ZERO));
    }

    #[test]
    fn age_and_expires_are_counted() {
        let seconds = |headers: &[(&'static str, &'static str)]| {
            of(headers).lifetime.map(|lifetime| lifetime.as_secs())
        };
        let max_age = ("cache-control", "max-age=60");
        assert_eq!(seconds(&[max_age, ("age", "50")]), Some(10));
        assert_eq!(seconds(&[max_age, ("age", "500")]), Some(0));
        let expires = ("expires", "Fri, 02 Jan 2026 03:05:05 GMT");
        assert_eq!(seconds(&[expires]), Some(60));
        let date = ("date", "Fri, 02 Jan 2026 03:04:45 GMT");
        assert_eq!(seconds(&[expires, date]), Some(20));
        assert_eq!(seconds(&[expires, ("cache-control", "max-age=5")]), Some(5));
        assert_eq!(seconds(&[("expires", "0")]), Some(0));
        assert_eq!(
            seconds(&[("expires", "Thu, 01 Jan 1970 00:00:00 GMT")]),
            Some(0)
        );
    }

    #[test]
    fn a_redirect_limits_what_is_behind_it() {
        let minute = of(&[("cache-control", "max-age=60")]);
        let none = HeaderMap::new();
        let now = Timestamp::UNIX_EPOCH;
        let temporary = Freshness::of_redirect(&none, false, now);
        let permanent = Freshness::of_redirect(&none, true, now);
        assert_eq!(minute.behind(temporary).lifetime, Some(Duration::ZERO));
        assert_eq!(minute.behind(permanent), minute);
        assert_eq!(of(&[]).behind(minute).lifetime, Some(Duration::ZERO));
        assert!(!minute.behind(of(&[("cache-control", "no-store")])).store);
    }
}
