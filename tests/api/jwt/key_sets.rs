//! Which of the keys in a fetched set may have signed a token.

use jsonwebtoken::Algorithm::{ES256, RS256};
use porthole::{auth::jwt::JwtError, config::IssuerConfig};
use serde_json::{Value, json};

use super::{
    jwks::{NAME, bench, keys, token},
    support::*,
};

#[tokio::test]
async fn a_token_without_a_kid_needs_exactly_one_key_that_fits() {
    let [first, second] = keys();
    let other = jwk("rsa_other", RS256, "third");
    let unnamed = with_kid("rsa", RS256, "", &claims(NAME));
    let (_, rest) = unnamed.split_once('.').unwrap();
    let payload = rest.split_once('.').unwrap().0.to_owned();
    let payload = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    let unnamed = signed_text(r#"{"alg":"RS256"}"#, &payload, &private("rsa"), RS256);
    for (set, refusal) in [
        (vec![first.clone(), second.clone()], None),
        (vec![first.clone(), other], Some(JwtError::AmbiguousKey)),
        (vec![second], Some(JwtError::Algorithm)),
        (vec![], Some(JwtError::UnknownKey)),
    ] {
        let bench = bench(&Site::with_keys(&set));
        assert_eq!(bench.refusal(&unnamed).await, refusal, "{set:?}");
    }
}

#[tokio::test]
async fn keys_of_one_name_are_told_apart_by_kind_or_refused() {
    let [first, second] = keys();
    let named = |key: &Value| merged(key.clone(), json!({"kid": "first"}));
    let other = bench(&Site::with_keys(&[first.clone(), named(&second)]));
    assert!(other.verify(&token("first", "ada")).await.is_ok());
    let twice = named(&jwk("rsa_other", RS256, "third"));
    let same = bench(&Site::with_keys(&[first, twice]));
    let refusal = same.refusal(&token("first", "ada")).await;
    assert_eq!(refusal, Some(JwtError::AmbiguousKey));
}

#[tokio::test]
async fn unusable_keys_are_left_out_and_the_others_serve() {
    let [first, second] = keys();
    let secret = encode(SECRET);
    let p521 = json!({"kty": "EC", "crv": "P-521", "x": "AAAA", "y": "AAAA", "kid": "p521"});
    let bad = |patch: Value| merged(first.clone(), merged(json!({"kid": "bad"}), patch));
    let left_out = [
        json!({"kty": "oct", "k": secret, "kid": "bad", "alg": "HS256"}),
        json!({"kty": "oct", "k": secret, "kid": "bad"}),
        json!({"kty": "AKP", "kid": "bad", "pub": "AAAA"}),
        json!({"kid": "bad"}),
        json!("a text"),
        p521,
        bad(json!({"use": "enc"})),
        bad(json!({"use": null})),
        bad(json!({"key_ops": ["encrypt"]})),
        bad(json!({"key_ops": "verify"})),
        bad(json!({"alg": "none"})),
        bad(json!({"alg": "HS256"})),
        bad(json!({"alg": "RSA-OAEP"})),
        bad(json!({"alg": "ES256"})),
        bad(json!({"alg": 5})),
        bad(json!({"d": "AAAA"})),
        bad(json!({"n": encode([0xff; 128])})),
        bad(json!({"n": encode([0xff; 1025])})),
        bad(json!({"n": "not base64!"})),
        bad(json!({"e": "AQ"})),
        bad(json!({"e": "AAAA"})),
        bad(json!({"kty": "EC"})),
        bad(json!({"kid": 7})),
        merged(second.clone(), json!({"kid": "bad", "crv": "P-384"})),
        merged(second.clone(), json!({"kid": "bad", "x": "AAAA"})),
        merged(second.clone(), json!({"kid": "bad", "crv": "secp256k1"})),
        json!({"kty": "OKP", "crv": "X25519", "x": encode([1; 32]), "kid": "bad"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": encode([1; 31]), "kid": "bad"}),
    ];
    let mut set = left_out.to_vec();
    set.push(first);
    let bench = bench(&Site::with_keys(&set));
    assert!(bench.verify(&token("first", "ada")).await.is_ok());
    for algorithm in [RS256, ES256] {
        let name = if algorithm == RS256 { "rsa" } else { "p256" };
        let refusal = bench
            .refusal(&with_kid(name, algorithm, "bad", &claims(NAME)))
            .await;
        assert_eq!(refusal, Some(JwtError::UnknownKey));
    }
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let header = json!({"alg": "HS256", "kid": "bad"});
    let mac = signed(&header, &claims(NAME), &key, jsonwebtoken::Algorithm::HS256);
    assert_eq!(bench.refusal(&mac).await, Some(JwtError::UnknownKey));
    let (keys, reasons) =
        porthole::auth::jwt::KeySet::jwks(json!({"keys": set}).to_string().as_bytes(), &[])
            .unwrap();
    assert_eq!(
        (keys.len(), reasons.len()),
        (1, left_out.len()),
        "{reasons:#?}"
    );
}

#[tokio::test]
async fn a_key_serves_its_algorithms_alone_and_the_configured_ones() {
    let [first, _] = keys();
    let plain = {
        let mut key = first.clone();
        key.as_object_mut().unwrap().remove("alg");
        key
    };
    let token_of = |algorithm| with_kid("rsa", algorithm, "first", &claims(NAME));
    use jsonwebtoken::Algorithm::PS256;
    let fixed = bench(&Site::with_keys(&[merged(first, json!({"alg": "RS256"}))]));
    assert!(fixed.verify(&token_of(RS256)).await.is_ok());
    assert_eq!(
        fixed.refusal(&token_of(PS256)).await,
        Some(JwtError::Algorithm)
    );
    let site = Site::with_keys(&[plain]);
    let open = bench(&site);
    assert!(open.verify(&token_of(RS256)).await.is_ok());
    assert!(open.verify(&token_of(PS256)).await.is_ok());
    let narrow = Bench::new(&config(vec![IssuerConfig {
        algorithms: vec!["PS256".into()],
        ..site.issuer(NAME)
    }]));
    assert_eq!(
        narrow.refusal(&token_of(RS256)).await,
        Some(JwtError::Algorithm)
    );
    assert!(narrow.verify(&token_of(PS256)).await.is_ok());
}
