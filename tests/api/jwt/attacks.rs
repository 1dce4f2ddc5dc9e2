//! Tokens made to deceive, each refused for its own reason.

mod headers;
mod payloads;
mod shapes;

use jsonwebtoken::{Algorithm, EncodingKey};
use porthole::{
    auth::jwt::{JwtError, MAX_TOKEN_BYTES},
    config::IssuerConfig,
};
use serde_json::{Value, json};

use super::support::*;

const RSA: &str = "https://rsa.example";
const RSA_OTHER: &str = "https://rsa-other.example";
const ONLY_RS256: &str = "https://rs256.example";
const EC: &str = "https://ec.example";
const HS: &str = "https://hs.example";
const SET: &str = "https://set.example";
const SCOPED: &str = "https://scoped.example";

type Attack = (&'static str, String, JwtError);

fn bench(site: &Site) -> Bench {
    Bench::new(&config(vec![
        pem_issuer(RSA, "rsa.public"),
        pem_issuer(RSA_OTHER, "rsa_other.public"),
        IssuerConfig {
            algorithms: vec!["RS256".into()],
            ..pem_issuer(ONLY_RS256, "rsa.public")
        },
        pem_issuer(EC, "p256.public"),
        secret_issuer(HS),
        site.issuer(SET),
        IssuerConfig {
            required_scope: "chat".into(),
            ..secret_issuer(SCOPED)
        },
    ]))
}

/// Signed by the right key, with another header.
fn header(patch: Value) -> String {
    let header = merged(json!({"alg": "RS256", "typ": "JWT"}), patch);
    signed(&header, &claims(RSA), &private("rsa"), Algorithm::RS256)
}

/// Signed by the right key, with other claims.
fn claim(patch: Value) -> String {
    hs256(&merged(claims(HS), patch))
}

fn without(name: &str) -> String {
    let mut claims = claims(HS);
    claims.as_object_mut().unwrap().remove(name);
    hs256(&claims)
}

/// Signed by the right key, with a payload of any text.
fn payload(text: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signed_text(r#"{"alg":"HS256"}"#, text, &key, Algorithm::HS256)
}

/// A claim spelled as JSON that no `Value` can hold.
fn spelled(name: &str, text: &str) -> String {
    let mut claims = claims(HS);
    claims[name] = "PLACE".into();
    payload(&claims.to_string().replace("\"PLACE\"", text))
}

fn good() -> String {
    header(json!({}))
}

fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

/// Says one algorithm and is signed as another, with a key of the attacker's choice.
fn says(name: &str, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    signed(&json!({"alg": name}), claims, key, algorithm)
}

fn unsigned(algorithm: &str, signature: &str) -> String {
    let header = json!({"alg": algorithm}).to_string();
    format!(
        "{}.{}.{signature}",
        encode(header),
        encode(claims(RSA).to_string())
    )
}

async fn refused(attacks: Vec<Attack>, at_least: usize) {
    let site = Site::with_keys(&[jwk("rsa", Algorithm::RS256, "known")]);
    let bench = bench(&site);
    assert!(attacks.len() >= at_least, "{} attacks", attacks.len());
    // Twice: nothing that was refused may have been remembered as good.
    for _ in 0..2 {
        for (name, token, expected) in &attacks {
            let refusal = bench.refusal(token).await;
            let shown: String = token.chars().take(300).collect();
            assert_eq!(refusal, Some(*expected), "{name}: {shown}");
        }
    }
    eprintln!("{} attacks refused", attacks.len());
}

#[tokio::test]
async fn the_tokens_that_attacks_are_made_from_are_good() {
    let site = Site::with_keys(&[jwk("rsa", Algorithm::RS256, "known")]);
    let bench = bench(&site);
    let scoped = hs256(&merged(claims(SCOPED), json!({"scope": "chat"})));
    let set = with_kid("rsa", Algorithm::RS256, "known", &claims(SET));
    let ec = with_kid("p256", Algorithm::ES256, "k", &claims(EC));
    let only = with_kid("rsa", Algorithm::RS256, "k", &claims(ONLY_RS256));
    let other = with_kid("rsa_other", Algorithm::RS256, "k", &claims(RSA_OTHER));
    for token in [
        good(),
        claim(json!({})),
        payload(&claims(HS).to_string()),
        scoped,
        set,
        ec,
        only,
        other,
    ] {
        assert!(bench.verify(&token).await.is_ok(), "{token}");
    }
}

#[tokio::test]
async fn a_token_does_not_choose_its_algorithm() {
    refused(headers::algorithms(), 30).await;
}

#[tokio::test]
async fn a_header_names_no_key_and_no_extension() {
    refused(headers::headers(), 40).await;
}

#[tokio::test]
async fn a_token_has_one_spelling() {
    refused(shapes::structures(), 45).await;
}

#[tokio::test]
async fn a_signature_is_of_this_token_and_the_issuers_key() {
    refused(shapes::signatures(), 12).await;
}

#[tokio::test]
async fn registered_claims_are_there_and_say_what_they_must() {
    refused(payloads::registered_claims(), 70).await;
}

#[tokio::test]
async fn a_restriction_that_cannot_be_read_refuses_the_token() {
    refused(payloads::rights(), 70).await;
}

#[test]
fn every_refusal_has_a_word_of_its_own() {
    let reasons = [
        JwtError::TooLong,
        JwtError::Malformed,
        JwtError::Encrypted,
        JwtError::Critical,
        JwtError::Compressed,
        JwtError::Nested,
        JwtError::Type,
        JwtError::Algorithm,
        JwtError::UnknownKey,
        JwtError::AmbiguousKey,
        JwtError::Signature,
        JwtError::Issuer,
        JwtError::Audience,
        JwtError::Expired,
        JwtError::NotYetValid,
        JwtError::IssuedInFuture,
        JwtError::MissingClaim("sub"),
        JwtError::ClaimType("sub"),
        JwtError::Scope,
        JwtError::KeysUnavailable,
    ]
    .map(JwtError::reason);
    let unique: std::collections::BTreeSet<_> = reasons.iter().collect();
    assert_eq!(unique.len(), reasons.len());
    let metrics = porthole::metrics::Metrics::default();
    metrics.refused_auth(reasons[0]);
    metrics.refused_auth(reasons[0]);
    let line = "porthole_auth_refusals_total{reason=\"token_too_long\"} 2";
    assert!(metrics.encode().contains(line), "{}", metrics.encode());
}
