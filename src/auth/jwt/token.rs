//! The compact serialization of a JWS (RFC 7515 7.1), read strictly and without trusting it.

use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::JwtError;
use crate::openai::json::Json;

/// Longest token, in bytes; a longer one is refused unread.
pub const MAX_TOKEN_BYTES: usize = 8192;
/// Longest `kid` that is looked for.
const MAX_KID_BYTES: usize = 256;

/// A token, taken apart. Nothing in it is verified.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    /// What the signature is over.
    pub(super) signed: &'a str,
    /// The signature, in base64url.
    pub(super) signature: &'a str,
}

/// What of a header is used. `jku`, `x5u`, `jwk`, `x5c` and `x5t` are ignored: keys and the places
/// they come from are configured, and a token names neither.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong);
        }
        match token.bytes().filter(|byte| *byte == b'.').count() {
            2 => {}
            4 => return Err(JwtError::Encrypted),
            _ => return Err(JwtError::Malformed),
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header = Header::parse(&base64url(header)?)?;
        let payload = base64url(payload)?;
        base64url(signature)?;
        Ok(Self {
            header,
            payload,
            signed,
            signature,
        })
    }
}

impl Header {
    fn parse(json: &[u8]) -> Result<Self, JwtError> {
        let header = object(json).ok_or(JwtError::Malformed)?;
        if header.contains_key("crit") || header.get("b64").is_some_and(|b64| *b64 != true) {
            return Err(JwtError::Critical);
        }
        if header.contains_key("zip") {
            return Err(JwtError::Compressed);
        }
        if header.contains_key("enc") {
            return Err(JwtError::Encrypted);
        }
        if let Some(typ) = header.get("typ") {
            let media_type = typ.as_str().map(media_type).ok_or(JwtError::Type)?;
            if media_type != "jwt" && media_type != "at+jwt" {
                return Err(JwtError::Type);
            }
        }
        if let Some(cty) = header.get("cty")
            && cty.as_str().map(media_type).as_deref() != Some("json")
        {
            return Err(JwtError::Nested);
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.and_then(|name| name.parse().ok());
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.is_empty() || kid.len() > MAX_KID_BYTES => {
                return Err(JwtError::UnknownKey);
            }
            Some(kid) => Some(kid.as_str().ok_or(JwtError::Malformed)?.to_owned()),
        };
        Ok(Self {
            algorithm: algorithm.ok_or(JwtError::Algorithm)?,
            kid,
        })
    }
}

/// A media type as headers abbreviate it: without `application/`, in lower case (RFC 7515 4.1.9).
fn media_type(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("application/")
        .map(str::to_owned)
        .unwrap_or(name)
}

/// Without padding, white space, foreign characters and stray bits at the end: there is one
/// spelling of every value, so that nobody can change a token and have it pass for another.
fn base64url(text: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode_to_vec(text)
        .map_err(|_| JwtError::Malformed)
}

/// A JSON object in which no name appears twice, at any depth.
pub(super) fn object(json: &[u8]) -> Option<Map<String, Value>> {
    // The borrowing tree refuses duplicates, where serde_json's own keeps the last.
    serde_json::from_slice::<Json<'_>>(json).ok()?;
    serde_json::from_slice(json).ok()
}
