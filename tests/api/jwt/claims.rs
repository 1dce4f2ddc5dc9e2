//! Good tokens: whose they are, what they may do, and for how long.

use jsonwebtoken::Algorithm;
use porthole::{
    auth::jwt::JwtError,
    caller::{Limits, Role},
    config::IssuerConfig,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::*;

const NAME: &str = "https://id.example/tenant";

fn bench() -> Bench {
    Bench::new(&config(vec![secret_issuer(NAME)]))
}

fn with(patch: Value) -> String {
    hs256(&merged(claims(NAME), patch))
}

#[tokio::test]
async fn every_algorithm_is_verified() {
    let cases = [
        ("rsa", "rsa.public", Algorithm::RS256),
        ("rsa", "rsa_pkcs1.public", Algorithm::RS384),
        ("rsa", "rsa.certificate", Algorithm::RS512),
        ("rsa", "rsa.public", Algorithm::PS256),
        ("rsa", "rsa.public", Algorithm::PS384),
        ("rsa", "rsa.public", Algorithm::PS512),
        ("p256", "p256.public", Algorithm::ES256),
        ("p256", "p256.certificate", Algorithm::ES256),
        ("p384", "p384.public", Algorithm::ES384),
        ("ed25519", "ed25519.public", Algorithm::EdDSA),
        ("ed25519", "ed25519.certificate", Algorithm::EdDSA),
    ];
    for (key, file, algorithm) in cases {
        let bench = Bench::new(&config(vec![pem_issuer(NAME, file)]));
        let token = with_kid(key, algorithm, "any", &claims(NAME));
        let verified = bench.verify(&token).await;
        assert!(verified.is_ok(), "{file} {algorithm:?}: {verified:?}");
    }
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let header = json!({"alg": format!("{algorithm:?}")});
        let token = signed(&header, &claims(NAME), &key, algorithm);
        assert!(bench().verify(&token).await.is_ok(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_token_becomes_a_caller_named_by_issuer_and_subject() {
    let verified = bench().verify(&with(json!({}))).await.unwrap();
    let caller = &verified.caller;
    assert_eq!(caller.id, "jwt:https://id.example/tenant#ada");
    assert_eq!(caller.label, "id.example");
    assert_eq!(caller.key, None);
    assert_eq!(caller.rights, Default::default());
    let exp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW + 600);
    assert_eq!(verified.expires, exp);
}

#[tokio::test]
async fn harmless_headers_and_claims_are_taken() {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    for header in [
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "typ": "jwt"}),
        json!({"alg": "HS256", "typ": "at+jwt"}),
        json!({"alg": "HS256", "typ": "application/at+JWT"}),
        json!({"alg": "HS256", "typ": "Application/JWT", "kid": "unused"}),
        json!({"alg": "HS256", "b64": true, "x5t": "AAAA", "custom": [1, null]}),
    ] {
        let token = signed(&header, &claims(NAME), &key, Algorithm::HS256);
        assert!(bench().verify(&token).await.is_ok(), "{header}");
    }
    for patch in [
        json!({"aud": ["other", AUDIENCE]}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"email": null, "groups": [{"a": 1}], "jti": 5}),
        json!({"sub": "é".repeat(128)}),
    ] {
        assert!(
            bench().verify(&with(patch.clone())).await.is_ok(),
            "{patch}"
        );
    }
}

#[tokio::test]
async fn rights_are_read_from_the_object_or_else_from_the_top() {
    let rights = json!({
        "models": ["demo"],
        "origins": ["https://app.example"],
        "networks": ["10.0.0.0/8"],
        "roles": ["priority", "something_else", "mint_tokens"],
        "max_images": 2,
        "max_image_pixels": 1000,
        "limits": {"requests_per_minute": 5, "tokens_total": 100},
        "model_limits": {"demo": {"tokens_per_minute": 7}},
    });
    for patch in [json!({"porthole": rights}), rights.clone()] {
        let verified = bench().verify(&with(patch)).await.unwrap();
        let rights = &verified.caller.rights;
        assert_eq!(rights.models.as_deref(), Some(&["demo".to_owned()][..]));
        assert_eq!(rights.origins, ["https://app.example"]);
        assert_eq!(rights.networks, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(rights.roles, [Role::Priority, Role::MintTokens]);
        assert_eq!(rights.max_images, Some(2));
        assert_eq!(rights.max_image_pixels, Some(1000));
        assert_eq!(rights.limits.requests_per_minute, Some(5));
        assert_eq!(rights.limits.tokens_total, Some(100));
        let demo = Limits {
            tokens_per_minute: Some(7),
            ..Default::default()
        };
        assert_eq!(rights.model_limits["demo"], demo);
    }
    let both =
        json!({"porthole": {"models": []}, "models": "of another kind", "roles": ["priority"]});
    let rights = bench()
        .verify(&with(both))
        .await
        .unwrap()
        .caller
        .rights
        .clone();
    assert_eq!(rights.models, Some(Vec::new()));
    assert!(rights.roles.is_empty());
}

#[tokio::test]
async fn a_required_scope_is_one_of_the_words() {
    let bench = Bench::new(&config(vec![IssuerConfig {
        required_scope: "chat".into(),
        ..secret_issuer(NAME)
    }]));
    for good in [
        json!("chat"),
        json!("openid chat profile"),
        json!(["openid", "chat"]),
    ] {
        assert!(
            bench.verify(&with(json!({"scope": good}))).await.is_ok(),
            "{good}"
        );
    }
    for bad in [
        json!(""),
        json!("chats chat2 CHAT"),
        json!(["a chat"]),
        json!([]),
        json!("a\tchat"),
    ] {
        let refusal = bench.refusal(&with(json!({"scope": bad}))).await;
        assert_eq!(refusal, Some(JwtError::Scope), "{bad}");
    }
    assert_eq!(bench.refusal(&with(json!({}))).await, Some(JwtError::Scope));
}

#[tokio::test]
async fn times_are_exact_to_the_second_of_the_leeway() {
    let at = |time: u64, patch: Value| async move {
        let bench = bench();
        bench.set_time(time);
        bench.refusal(&with(patch)).await
    };
    assert_eq!(at(NOW + 600 + 29, json!({})).await, None);
    assert_eq!(at(NOW + 600 + 30, json!({})).await, Some(JwtError::Expired));
    assert_eq!(at(NOW + 600 + 31, json!({})).await, Some(JwtError::Expired));
    let nbf = json!({"nbf": NOW + 100});
    assert_eq!(at(NOW + 69, nbf.clone()).await, Some(JwtError::NotYetValid));
    assert_eq!(at(NOW + 70, nbf.clone()).await, None);
    assert_eq!(at(NOW + 71, nbf).await, None);
    let iat = json!({"iat": NOW + 100});
    assert_eq!(
        at(NOW + 69, iat.clone()).await,
        Some(JwtError::IssuedInFuture)
    );
    assert_eq!(at(NOW + 70, iat.clone()).await, None);
    assert_eq!(at(NOW + 71, iat).await, None);
}

#[tokio::test]
async fn a_token_verified_before_expires_all_the_same() {
    let bench = bench();
    let token = with(json!({}));
    let first = bench.verify(&token).await.unwrap();
    bench.set_time(NOW + 629);
    let again = bench.verify(&token).await.unwrap();
    assert!(
        std::sync::Arc::ptr_eq(&first.caller, &again.caller),
        "not remembered"
    );
    bench.set_time(NOW + 630);
    assert_eq!(bench.refusal(&token).await, Some(JwtError::Expired));
}

#[tokio::test]
async fn tokens_that_begin_or_end_alike_are_not_taken_for_each_other() {
    let bench = bench();
    let tokens: Vec<String> = (0..200)
        .map(|i| with(json!({"sub": format!("user {i}"), "models": [format!("m{i}")]})))
        .collect();
    assert!(tokens.iter().all(|token| token[..20] == tokens[0][..20]));
    for _ in 0..2 {
        for (i, token) in tokens.iter().enumerate() {
            let caller = bench.verify(token).await.unwrap().caller;
            assert_eq!(caller.id, format!("jwt:{NAME}#user {i}"));
            assert!(caller.may_use(&format!("m{i}")));
        }
    }
    let (head, signature) = tokens[0].rsplit_once('.').unwrap();
    let other = tokens[1].rsplit_once('.').unwrap().0;
    assert!(bench.verify(&format!("{head}.{signature}")).await.is_ok());
    let swapped = bench.refusal(&format!("{other}.{signature}")).await;
    assert_eq!(swapped, Some(JwtError::Signature));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_token_with_any_one_byte_changed_is_refused(place in any::<prop::sample::Index>(), byte in 1u8..128) {
        let issuers = vec![
            secret_issuer("hs"),
            pem_issuer("rsa", "rsa.public"),
            pem_issuer("ec", "p256.public"),
            pem_issuer("ed", "ed25519.public"),
        ];
        let bench = Bench::new(&config(issuers));
        let tokens = [
            hs256(&claims("hs")),
            with_kid("rsa", Algorithm::RS256, "k", &claims("rsa")),
            with_kid("p256", Algorithm::ES256, "k", &claims("ec")),
            with_kid("ed25519", Algorithm::EdDSA, "k", &claims("ed")),
        ];
        for token in tokens {
            let verified = futures::executor::block_on(bench.verify(&token));
            prop_assert!(verified.is_ok());
            let mut changed = token.clone().into_bytes();
            let place = place.index(changed.len());
            if changed[place] == byte {
                continue;
            }
            changed[place] = byte;
            let changed = String::from_utf8(changed).unwrap();
            let verified = futures::executor::block_on(bench.verify(&changed));
            prop_assert!(verified.is_err(), "{token}\n{changed}");
        }
    }
}

#[tokio::test]
async fn a_token_cut_or_lengthened_anywhere_is_refused() {
    let bench = bench();
    let token = with(json!({}));
    for end in 0..token.len() {
        assert!(bench.verify(&token[..end]).await.is_err(), "{end}");
        let longer = format!("{}A{}", &token[..end], &token[end..]);
        assert!(bench.verify(&longer).await.is_err(), "{end}");
    }
}
