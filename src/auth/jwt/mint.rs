//! Short-lived tokens for frontends: minted by a credential, with at most its rights.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::{MAX_TOKEN_BYTES, MintError, OWN_ISSUER, Verifier, claims::MAX_SUBJECT_BYTES};
use crate::caller::{Caller, Limits, Rights, Role};

/// What a token shall be. What is left out is as with the credential that mints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenWish {
    /// Life in minutes; `auth.token_max_minutes` at most.
    pub minutes: Option<u64>,
    /// Models that may be asked.
    pub models: Option<Vec<String>>,
    /// The token's share.
    pub limits: Limits,
    /// Images in one request.
    pub max_images: Option<usize>,
    /// Pixels that the model sees of one image.
    pub max_image_pixels: Option<u64>,
    /// The origin that a browser may send it from (`https://app.example.com`).
    pub origin: Option<String>,
    /// The `sub` claim; a random one where it is left out.
    pub subject: Option<String>,
}

/// A token that was minted.
#[derive(Clone, PartialEq)]
pub struct Minted {
    /// The token.
    pub token: String,
    /// When it expires, a whole second.
    pub expires: SystemTime,
    /// The same in seconds since 1970.
    pub expires_at: u64,
    /// What it may do.
    pub rights: Rights,
}

/// Without the token.
impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted")
            .field("expires_at", &self.expires_at)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    jti: &'a str,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minter: Option<&'a str>,
    #[serde(rename = "porthole")]
    rights: &'a Rights,
}

impl Verifier {
    /// Mints a token with at most the rights of `by`, without roles, that expires no later than
    /// `not_after`. A token of a key counts under `token:` and its `jti` beside the key; behind
    /// another caller it counts as that caller.
    ///
    /// An absent limit of `by` bounds nothing here. Where the configuration has a default, give
    /// `by` with its limits resolved ([`Limits::or`]), so that the default bounds the token too.
    ///
    /// # Errors
    /// `by` may not mint, or the wish asks for more than `by` has. See [`MintError`].
    pub fn mint(
        &self,
        by: &Caller,
        wish: &TokenWish,
        not_after: Option<SystemTime>,
    ) -> Result<Minted, MintError> {
        if !by.has(Role::MintTokens) {
            return Err(MintError::NotAllowed);
        }
        let rights = rights(&by.rights, wish)?;
        let exp = expiry((self.clock)(), wish.minutes, self.max_minutes, not_after)?;
        let id = Uuid::new_v4().to_string();
        let subject = wish.subject.as_deref().unwrap_or(&id);
        if subject.is_empty()
            || subject.len() > MAX_SUBJECT_BYTES
            || subject.chars().any(char::is_control)
        {
            return Err(MintError::Invalid("subject"));
        }
        let claims = MintedClaims {
            iss: OWN_ISSUER,
            aud: OWN_ISSUER,
            sub: subject,
            jti: &id,
            exp,
            key: by.key.as_deref(),
            minter: by.key.is_none().then_some(by.id.as_str()),
            rights: &rights,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|_| MintError::Failed)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(MintError::TooLong);
        }
        Ok(Minted {
            token,
            expires: UNIX_EPOCH + Duration::from_secs(exp),
            expires_at: exp,
            rights,
        })
    }
}

/// The key that minted tokens are signed with.
pub(super) fn signing_key(secret: &[u8]) -> EncodingKey {
    EncodingKey::from_secret(secret)
}

fn expiry(
    now: SystemTime,
    minutes: Option<u64>,
    max_minutes: u64,
    not_after: Option<SystemTime>,
) -> Result<u64, MintError> {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let now = seconds(now);
    let last = not_after.map_or(u64::MAX, seconds);
    if last <= now {
        return Err(MintError::Expired);
    }
    match minutes {
        None => Ok(now.saturating_add(max_minutes.saturating_mul(60)).min(last)),
        Some(0) => Err(MintError::Invalid("minutes")),
        Some(minutes) if minutes > max_minutes => Err(MintError::Exceeds("minutes")),
        Some(minutes) => {
            let expires = now.saturating_add(minutes.saturating_mul(60));
            if expires > last {
                return Err(MintError::Exceeds("minutes"));
            }
            Ok(expires)
        }
    }
}

fn rights(own: &Rights, wish: &TokenWish) -> Result<Rights, MintError> {
    let models = match (&wish.models, &own.models) {
        (None, own) => own.clone(),
        (Some(wish), Some(own)) if wish.iter().any(|name| !own.contains(name)) => {
            return Err(MintError::Exceeds("models"));
        }
        (Some(wish), _) => Some(wish.clone()),
    };
    let origins = match &wish.origin {
        None => own.origins.clone(),
        Some(origin) if !is_origin(origin) => return Err(MintError::Invalid("origin")),
        Some(origin) if !own.origins.is_empty() && !own.origins.contains(origin) => {
            return Err(MintError::Exceeds("origin"));
        }
        Some(origin) => vec![origin.clone()],
    };
    let listed = |name: &String| models.as_ref().is_none_or(|models| models.contains(name));
    let mut model_limits = own.model_limits.clone();
    model_limits.retain(|name, _| listed(name));
    Ok(Rights {
        origins,
        networks: own.networks.clone(),
        roles: Vec::new(),
        max_image_pixels: at_most(
            own.max_image_pixels,
            wish.max_image_pixels,
            "max_image_pixels",
        )?,
        max_images: at_most(own.max_images, wish.max_images, "max_images")?,
        limits: limits(&own.limits, &wish.limits)?,
        model_limits,
        models,
    })
}

fn at_most<T: PartialOrd>(
    own: Option<T>,
    wish: Option<T>,
    name: &'static str,
) -> Result<Option<T>, MintError> {
    match (own, wish) {
        (Some(own), Some(wish)) if wish > own => Err(MintError::Exceeds(name)),
        (own, wish) => Ok(wish.or(own)),
    }
}

fn limits(own: &Limits, wish: &Limits) -> Result<Limits, MintError> {
    // 0 lifts a limit: only who has none may wish for it, and any number is under it.
    let share = |own: Option<u64>, wish: Option<u64>, name| match (own, wish) {
        (own, None) => Ok(own),
        (Some(0), wish) => Ok(wish),
        (_, Some(0)) => Err(MintError::Exceeds(name)),
        (own, wish) => at_most(own, wish, name),
    };
    Ok(Limits {
        requests_per_minute: share(
            own.requests_per_minute,
            wish.requests_per_minute,
            "limits.requests_per_minute",
        )?,
        tokens_per_minute: share(
            own.tokens_per_minute,
            wish.tokens_per_minute,
            "limits.tokens_per_minute",
        )?,
        concurrent_requests: share(
            own.concurrent_requests,
            wish.concurrent_requests,
            "limits.concurrent_requests",
        )?,
        image_pixels_per_minute: share(
            own.image_pixels_per_minute,
            wish.image_pixels_per_minute,
            "limits.image_pixels_per_minute",
        )?,
        tokens_per_day: share(
            own.tokens_per_day,
            wish.tokens_per_day,
            "limits.tokens_per_day",
        )?,
        tokens_per_month: share(
            own.tokens_per_month,
            wish.tokens_per_month,
            "limits.tokens_per_month",
        )?,
        tokens_total: share(own.tokens_total, wish.tokens_total, "limits.tokens_total")?,
    })
}

/// As a browser spells it (RFC 6454 6.2).
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}
