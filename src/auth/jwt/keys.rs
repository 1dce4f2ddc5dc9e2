//! Keys that signatures are checked with, each bound to its algorithms (RFC 8725 3.1).

use base64_simd::STANDARD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto, jwk::Jwk};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    JwtError, jwk,
    token::{self, Compact},
};

/// The MACs, with the bytes of their hashes: no key may be shorter (RFC 7518 3.2).
const HMAC: [(Algorithm, usize); 3] = [
    (Algorithm::HS256, 32),
    (Algorithm::HS384, 48),
    (Algorithm::HS512, 64),
];

/// Why no keys came of what was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyProblem {
    /// The key.
    Key(String),
    /// The algorithms that were asked for.
    Algorithms(String),
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    /// Those that a token may name; never empty.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
    /// What makes it another key, for the fingerprint; empty for a secret.
    pub(super) material: String,
}

/// The keys of one issuer.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// A token chooses by `kid`; a single configured key has none, and the token's is ignored.
    by_kid: bool,
}

impl KeySet {
    /// A shared secret, for `algorithms` or, where there are none, for those that it is long
    /// enough for.
    ///
    /// # Errors
    /// The secret is too short (RFC 7518 3.2), or an algorithm is not a MAC.
    pub fn secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyProblem> {
        if secret.len() < 32 {
            return Err(KeyProblem::Key("is under 32 bytes".into()));
        }
        let mut chosen: Vec<Algorithm> = Vec::new();
        for algorithm in algorithms {
            let Some((_, bytes)) = HMAC.iter().find(|(mac, _)| mac == algorithm) else {
                return Err(KeyProblem::Algorithms(format!(
                    "{algorithm:?} does not fit a secret"
                )));
            };
            if secret.len() < *bytes {
                return Err(KeyProblem::Key(format!(
                    "is under the {bytes} bytes that {algorithm:?} needs"
                )));
            }
            chosen.push(*algorithm);
        }
        if chosen.is_empty() {
            let long_enough = HMAC.iter().filter(|(_, bytes)| secret.len() >= *bytes);
            chosen = long_enough.map(|(mac, _)| *mac).collect();
        }
        Ok(Self::single(Key {
            kid: None,
            algorithms: chosen,
            key: DecodingKey::from_secret(secret),
            material: String::new(),
        }))
    }

    /// The public key or certificate in a PEM file. Of a certificate only the key counts.
    ///
    /// # Errors
    /// It is not exactly one public key of a supported kind, or an algorithm does not fit it.
    pub fn pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyProblem> {
        let problem = |text: &str| KeyProblem::Key(text.to_owned());
        let text = std::str::from_utf8(pem).map_err(|_| problem("is not a PEM file"))?;
        let labels: Vec<&str> = text.lines().filter_map(pem_label).collect();
        if labels.iter().any(|label| label.contains("PRIVATE KEY")) {
            return Err(problem(
                "holds a private key; only the public half belongs here",
            ));
        }
        if labels.len() != 1 {
            return Err(problem("must hold exactly one PEM block"));
        }
        if !["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"].contains(&labels[0]) {
            return Err(problem("holds neither a public key nor a certificate"));
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem));
        let jwk = key
            .ok()
            .and_then(|key| Jwk::from_decoding_key(&key, None).ok())
            .and_then(|jwk| serde_json::to_value(jwk).ok());
        let mut jwk: Map<String, Value> = match jwk {
            Some(Value::Object(jwk)) => jwk,
            None
            | Some(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_),
            ) => {
                return Err(problem("is not an RSA, P-256, P-384 or Ed25519 public key"));
            }
        };
        jwk.retain(|_, value| !value.is_null());
        if !names_its_curve(text, &jwk) {
            return Err(problem("is not on the curve P-256 or P-384"));
        }
        let key = jwk::read(&jwk, &[]).map_err(problem)?;
        if let Some(other) = algorithms.iter().find(|a| !key.algorithms.contains(a)) {
            return Err(KeyProblem::Algorithms(format!(
                "{other:?} does not fit the key"
            )));
        }
        let algorithms = match algorithms {
            [] => key.algorithms,
            some => some.to_vec(),
        };
        Ok(Self::single(Key { algorithms, ..key }))
    }

    /// A JWK set (RFC 7517 5) of public keys, and why each of the others in it is left out.
    ///
    /// # Errors
    /// It is not a JWK set.
    pub fn jwks(json: &[u8], algorithms: &[Algorithm]) -> Result<(Self, Vec<String>), KeyProblem> {
        let set = token::object(json);
        let keys = set.as_ref().and_then(|set| set.get("keys")?.as_array());
        let keys = keys.ok_or_else(|| KeyProblem::Key("is not a JWK set".into()))?;
        let mut usable = Vec::new();
        let mut left_out = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let read = key.as_object().ok_or("is not an object");
            match read.and_then(|jwk| jwk::read(jwk, algorithms)) {
                Ok(key) => usable.push(key),
                Err(reason) => left_out.push(format!("key {i} {reason}")),
            }
        }
        let set = Self {
            keys: usable,
            by_kid: true,
        };
        Ok((set, left_out))
    }

    fn single(key: Key) -> Self {
        Self {
            keys: vec![key],
            by_kid: false,
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Differs where a key, its name or its algorithms do.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for key in &self.keys {
            let key = format!("{:?} {:?} {}\n", key.kid, key.algorithms, key.material);
            hash.update(key.as_bytes());
        }
        hash.finalize().into()
    }

    /// The one key that may have signed a token.
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, JwtError> {
        let named = |key: &&Key| !self.by_kid || kid.is_none() || key.kid.as_deref() == kid;
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        let mut fitting = self.keys.iter().filter(named).filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(JwtError::AmbiguousKey),
            (None, _) if self.keys.iter().any(|key| named(&key)) => Err(JwtError::Algorithm),
            (None, _) => Err(JwtError::UnknownKey),
        }
    }

    pub(super) fn check(&self, token: &Compact<'_>) -> Result<(), JwtError> {
        let algorithm = token.header.algorithm;
        let key = self.find(token.header.kid.as_deref(), algorithm)?;
        match crypto::verify(
            token.signature,
            token.signed.as_bytes(),
            &key.key,
            algorithm,
        ) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(JwtError::Signature),
        }
    }
}

/// The payload of a token whose signature is that of a key in the set. Its claims are not looked
/// at.
///
/// # Errors
/// It is not a signed token, or none of the keys signed it.
pub fn check_signature(token: &str, keys: &KeySet) -> Result<Vec<u8>, JwtError> {
    let token = Compact::parse(token)?;
    keys.check(&token)?;
    Ok(token.payload)
}

/// Algorithms for keys that everybody may know.
pub(super) fn is_asymmetric(algorithm: Algorithm) -> bool {
    algorithm.family() != AlgorithmFamily::Hmac
}

fn pem_label(line: &str) -> Option<&str> {
    line.trim()
        .strip_prefix("-----BEGIN ")?
        .strip_suffix("-----")
}

/// Whether an elliptic key names its curve by the identifier (RFC 5480 2.1.1.1) of the one that its
/// length suggests: other curves have points of the same length.
fn names_its_curve(pem: &str, jwk: &Map<String, Value>) -> bool {
    let identifier: &[u8] = match jwk.get("crv").and_then(Value::as_str) {
        Some("P-256") => &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        Some("P-384") => &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22],
        Some(_) | None => return true,
    };
    let body = pem
        .split("-----")
        .nth(2)
        .unwrap_or_default()
        .split_ascii_whitespace();
    let der = STANDARD.decode_to_vec(body.collect::<String>());
    der.is_ok_and(|der| der.windows(identifier.len()).any(|part| part == identifier))
}
