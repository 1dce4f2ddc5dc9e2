//! What the claims of a token with a good signature say (RFC 7519 4.1), and the caller they make.
//!
//! Rights stand under one claim, `porthole`, an object in which every name must be known:
//! `models`, `origins`, `networks`, `roles`, `max_images`, `max_image_pixels`, `limits` and
//! `model_limits`, as in the keys file. A token without that claim may have the same names at its
//! top level, among claims of others. Where the object is, the top level is not looked at for
//! rights. A value of the wrong type, `null` included, refuses the token: a restriction that
//! cannot be read is not none.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{JwtError, issuer::Issuer};
use crate::caller::{Caller, Limits, Rights, Role};

/// The claim that holds rights.
const RIGHTS: &str = "porthole";
/// Names in it.
const NAMES: [&str; 8] = [
    "models",
    "origins",
    "networks",
    "roles",
    "max_image_pixels",
    "max_images",
    "limits",
    "model_limits",
];
/// Longest `sub`, in bytes.
pub(super) const MAX_SUBJECT_BYTES: usize = 256;
/// The end of the year 9999: a later time is a mistake, or an overflow sought.
const LAST_SECOND: f64 = 253_402_300_799.0;

type Claims = Map<String, Value>;

/// The caller, when the token expires, and until when it is good with the leeway.
pub(super) fn read(
    claims: &Claims,
    issuer: &Issuer,
    now: SystemTime,
) -> Result<(Arc<Caller>, SystemTime, SystemTime), JwtError> {
    check_audience(claims, issuer)?;
    let expires = time(claims, "exp")?.ok_or(JwtError::MissingClaim("exp"))?;
    let leeway = Duration::from_secs(issuer.leeway);
    let good_until = expires + leeway;
    // "on or after which the JWT MUST NOT be accepted" (RFC 7519 4.1.4).
    if now >= good_until {
        return Err(JwtError::Expired);
    }
    if time(claims, "nbf")?.is_some_and(|begins| now + leeway < begins) {
        return Err(JwtError::NotYetValid);
    }
    if time(claims, "iat")?.is_some_and(|issued| now + leeway < issued) {
        return Err(JwtError::IssuedInFuture);
    }
    let subject = required(claims, "sub")?;
    if subject.len() > MAX_SUBJECT_BYTES || subject.chars().any(char::is_control) {
        return Err(JwtError::ClaimType("sub"));
    }
    let rights = rights(claims)?;
    check_scope(claims, issuer)?;
    let caller = if issuer.own {
        minted(claims, issuer, rights)?
    } else {
        Caller {
            parent: None,
            id: format!("jwt:{}#{subject}", issuer.name),
            label: issuer.label.clone(),
            key: None,
            rights,
        }
    };
    Ok((Arc::new(caller), expires, good_until))
}

/// The caller of a token that was minted here.
fn minted(claims: &Claims, issuer: &Issuer, rights: Rights) -> Result<Caller, JwtError> {
    let key = text(claims, "key")?;
    // A key's tokens have limits of their own beside the key's. Behind others there is no key to
    // count under, so they share the limits of whoever minted them.
    let id = match (key, text(claims, "minter")?) {
        (None, Some(minter)) => minter.to_owned(),
        (Some(_), _) | (None, None) => format!("token:{}", required(claims, "jti")?),
    };
    Ok(Caller {
        parent: None,
        id,
        label: key.unwrap_or(&issuer.label).to_owned(),
        key: key.map(str::to_owned),
        rights: Rights {
            roles: Vec::new(),
            ..rights
        },
    })
}

/// A claim that is a string, if it is there.
pub(super) fn text<'a>(
    claims: &'a Claims,
    name: &'static str,
) -> Result<Option<&'a str>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(JwtError::ClaimType(name)),
    }
}

/// A claim that is a string and not empty.
pub(super) fn required<'a>(claims: &'a Claims, name: &'static str) -> Result<&'a str, JwtError> {
    match text(claims, name)? {
        None => Err(JwtError::MissingClaim(name)),
        Some("") => Err(JwtError::ClaimType(name)),
        Some(text) => Ok(text),
    }
}

/// A NumericDate (RFC 7519 2): seconds since 1970, whole or not.
fn time(claims: &Claims, name: &'static str) -> Result<Option<SystemTime>, JwtError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64();
    let seconds = seconds.filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    since
        .map(|since| Some(UNIX_EPOCH + since))
        .ok_or(JwtError::ClaimType(name))
}

/// One string, or several in an array.
fn texts<'a>(value: &'a Value, name: &'static str) -> Result<Vec<&'a str>, JwtError> {
    if let Some(text) = value.as_str() {
        return Ok(vec![text]);
    }
    let texts = value
        .as_array()
        .map(|items| items.iter().map(Value::as_str));
    texts
        .and_then(Iterator::collect)
        .ok_or(JwtError::ClaimType(name))
}

fn check_audience(claims: &Claims, issuer: &Issuer) -> Result<(), JwtError> {
    let audience = claims.get("aud").ok_or(JwtError::MissingClaim("aud"))?;
    let ours = |name: &&str| issuer.audiences.iter().any(|ours| ours == name);
    if texts(audience, "aud")?.iter().any(ours) {
        return Ok(());
    }
    Err(JwtError::Audience)
}

/// `scope` is a list of words with spaces between them (RFC 8693 4.2), or an array of words.
fn check_scope(claims: &Claims, issuer: &Issuer) -> Result<(), JwtError> {
    let words = match claims.get("scope") {
        None => Vec::new(),
        Some(Value::String(words)) => words.split(' ').collect(),
        Some(words) => texts(words, "scope")?,
    };
    if issuer.required_scope.is_empty() || words.contains(&issuer.required_scope.as_str()) {
        return Ok(());
    }
    Err(JwtError::Scope)
}

fn rights(claims: &Claims) -> Result<Rights, JwtError> {
    let claims = match claims.get(RIGHTS) {
        None => claims,
        Some(object) => {
            let object = object.as_object().ok_or(JwtError::ClaimType(RIGHTS))?;
            if object.keys().any(|name| !NAMES.contains(&name.as_str())) {
                return Err(JwtError::ClaimType(RIGHTS));
            }
            object
        }
    };
    let [
        models,
        origins,
        networks,
        roles,
        pixels,
        images,
        limits,
        model_limits,
    ] = NAMES;
    let named: Vec<String> = typed(claims, roles)?.unwrap_or_default();
    Ok(Rights {
        models: typed(claims, models)?,
        origins: typed(claims, origins)?.unwrap_or_default(),
        networks: typed(claims, networks)?.unwrap_or_default(),
        // Issuers have roles for others too.
        roles: named
            .iter()
            .filter_map(|role| serde_json::from_value::<Role>(role.as_str().into()).ok())
            .collect(),
        max_image_pixels: typed(claims, pixels)?,
        max_images: typed(claims, images)?,
        limits: share(claims, limits)?,
        model_limits: typed::<BTreeMap<String, Share>>(claims, model_limits)?
            .unwrap_or_default()
            .into_iter()
            .map(|(model, share)| Ok((model, share_of(share, model_limits)?)))
            .collect::<Result<_, _>>()?,
    })
}

fn typed<T: DeserializeOwned>(claims: &Claims, name: &'static str) -> Result<Option<T>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) if holds_null(value) => Err(JwtError::ClaimType(name)),
        Some(value) => T::deserialize(value)
            .map(Some)
            .map_err(|_| JwtError::ClaimType(name)),
    }
}

/// An object: serde would take an array for a struct too, by position.
type Share = Map<String, Value>;

fn share(claims: &Claims, name: &'static str) -> Result<Limits, JwtError> {
    share_of(typed(claims, name)?.unwrap_or_default(), name)
}

fn share_of(share: Share, name: &'static str) -> Result<Limits, JwtError> {
    serde_json::from_value(Value::Object(share)).map_err(|_| JwtError::ClaimType(name))
}

/// Whether there is a `null` in it, which would read as an absent restriction.
fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(entries) => entries.values().any(holds_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
