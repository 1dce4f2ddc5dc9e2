//! One JSON Web Key (RFC 7517): which it is, and whether it may be relied on.

use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

use super::keys::Key;

/// Bits of an RSA modulus (RFC 7518 3.3, and what the cryptography takes).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key, with those of `allowed` that are its own, or all of its own where `allowed` is empty.
/// The reason otherwise, as words after "key 3".
pub(super) fn read(jwk: &Map<String, Value>, allowed: &[Algorithm]) -> Result<Key, &'static str> {
    if jwk.contains_key("d") {
        return Err("is private");
    }
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return Err("is not for signatures");
    }
    if let Some(operations) = jwk.get("key_ops") {
        let operations = operations.as_array().ok_or("has malformed key_ops")?;
        if !operations.iter().any(|operation| operation == "verify") {
            return Err("is not for verifying");
        }
    }
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().ok_or("has a malformed kid")?.to_owned()),
    };
    let (own, key, material) = match jwk.get("kty").and_then(Value::as_str) {
        Some("RSA") => rsa(jwk)?,
        Some("EC") => elliptic(jwk)?,
        Some("OKP") => edwards(jwk)?,
        // A secret that everybody can fetch is none.
        Some("oct") => return Err("is symmetric"),
        Some(_) | None => return Err("is of an unknown kind"),
    };
    let mut algorithms = match jwk.get("alg") {
        None => own,
        Some(name) => {
            let algorithm = name.as_str().and_then(|name| name.parse().ok());
            let algorithm = algorithm.ok_or("has an unknown algorithm")?;
            if !own.contains(&algorithm) {
                return Err("has an algorithm of another kind of key");
            }
            vec![algorithm]
        }
    };
    algorithms.retain(|algorithm| allowed.is_empty() || allowed.contains(algorithm));
    if algorithms.is_empty() {
        return Err("has no allowed algorithm");
    }
    Ok(Key {
        kid,
        algorithms,
        key,
        material,
    })
}

type Read = Result<(Vec<Algorithm>, DecodingKey, String), &'static str>;

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = jwk.get(name).and_then(Value::as_str);
    let decoded = text.and_then(|text| URL_SAFE_NO_PAD.decode_to_vec(text).ok());
    decoded.ok_or("is malformed")
}

fn rsa(jwk: &Map<String, Value>) -> Read {
    let (modulus, exponent) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let (modulus, exponent) = (significant(&modulus), significant(&exponent));
    let bits = modulus.first().map_or(0, |first| {
        modulus.len() * 8 - first.leading_zeros() as usize
    });
    if !RSA_BITS.contains(&bits) {
        return Err("is an RSA key of under 2048 or over 8192 bits");
    }
    // FIPS 186-5 A.1.1 asks for an odd exponent over 2^16; over 33 bits nothing takes.
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !odd(modulus) || !odd(exponent) || !(3..=4).contains(&exponent.len()) {
        return Err("has a weak RSA exponent or modulus");
    }
    if is_roca(modulus) {
        return Err("is weak (CVE-2017-15361)");
    }
    let material = format!("{modulus:02x?} {exponent:02x?}");
    let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
    Ok((AlgorithmFamily::Rsa.algorithms().to_vec(), key, material))
}

fn elliptic(jwk: &Map<String, Value>) -> Read {
    let (algorithm, length) = match jwk.get("crv").and_then(Value::as_str) {
        Some("P-256") => (Algorithm::ES256, 32),
        Some("P-384") => (Algorithm::ES384, 48),
        Some(_) | None => return Err("is on an unsupported curve"),
    };
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != length || y.len() != length {
        return Err("is malformed");
    }
    let material = format!("{algorithm:?} {x:02x?} {y:02x?}");
    // SEC 1 2.3.3, uncompressed. That the point lies on the curve is checked with each signature.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    Ok((vec![algorithm], DecodingKey::from_ec_der(&point), material))
}

fn edwards(jwk: &Map<String, Value>) -> Read {
    if jwk.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err("is on an unsupported curve");
    }
    let x = bytes(jwk, "x")?;
    if x.len() != 32 {
        return Err("is malformed");
    }
    let material = format!("Ed25519 {x:02x?}");
    Ok((
        vec![Algorithm::EdDSA],
        DecodingKey::from_ed_der(&x),
        material,
    ))
}

/// Without leading zeros, which some writers add (RFC 7518 2).
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Whether a modulus carries the mark of the generator of CVE-2017-15361, whose keys can be
/// factored: it is a power of 65537 modulo every small prime (Nemec et al., 2017).
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65537 % prime;
            power == rest
        })
    })
}
