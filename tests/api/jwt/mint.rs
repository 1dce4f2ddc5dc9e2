//! Tokens minted here.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey};
use porthole::{
    auth::jwt::{JwtError, MintError, TokenWish, Verifier},
    caller::{Caller, Limits, Rights, Role},
    config::AuthConfig,
    metrics::Metrics,
};
use serde_json::json;

use super::support::*;

fn bench() -> Bench {
    Bench::new(&AuthConfig {
        token_secret: SECRET.into(),
        ..Default::default()
    })
}

fn minter(rights: Rights) -> Caller {
    Caller {
        id: "key:web".into(),
        label: "web".into(),
        key: Some("web".into()),
        parent: None,
        rights: Rights {
            roles: vec![Role::MintTokens, Role::Priority],
            ..rights
        },
    }
}

fn bounded() -> Caller {
    minter(Rights {
        models: Some(vec!["demo".into(), "large".into()]),
        origins: vec!["https://a.example".into(), "https://b.example".into()],
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        max_images: Some(4),
        max_image_pixels: Some(1000),
        limits: Limits {
            requests_per_minute: Some(60),
            tokens_total: Some(0),
            ..Default::default()
        },
        model_limits: [
            (
                "demo".into(),
                Limits {
                    tokens_per_day: Some(9),
                    ..Default::default()
                },
            ),
            (
                "large".into(),
                Limits {
                    tokens_per_day: Some(3),
                    ..Default::default()
                },
            ),
        ]
        .into(),
        ..Default::default()
    })
}

fn wish(json: serde_json::Value) -> TokenWish {
    serde_json::from_value(json).unwrap()
}

#[tokio::test]
async fn a_minted_token_is_verified_with_the_rights_of_its_key() {
    let bench = bench();
    let minted = bench
        .verifier
        .mint(&bounded(), &TokenWish::default(), None)
        .unwrap();
    assert_eq!(minted.expires_at, NOW + 3600);
    assert_eq!(minted.expires, UNIX_EPOCH + Duration::from_secs(NOW + 3600));
    let verified = bench.verify(&minted.token).await.unwrap();
    assert_eq!(verified.expires, minted.expires);
    let caller = &verified.caller;
    assert!(caller.id.starts_with("token:"), "{}", caller.id);
    assert_eq!(caller.label, "web");
    assert_eq!(caller.key.as_deref(), Some("web"));
    assert_eq!(caller.rights, minted.rights);
    let expected = Rights {
        roles: Vec::new(),
        ..bounded().rights
    };
    assert_eq!(caller.rights, expected);
    let other = bench
        .verifier
        .mint(&bounded(), &TokenWish::default(), None)
        .unwrap();
    assert_ne!(
        bench.verify(&other.token).await.unwrap().caller.id,
        caller.id
    );
    assert!(!format!("{minted:?}").contains(&minted.token));
}

#[tokio::test]
async fn a_wish_narrows_the_rights() {
    let bench = bench();
    let wish = wish(json!({
        "minutes": 5, "models": ["demo"], "max_images": 1, "max_image_pixels": 10, "subject": "visitor 7",
        "origin": "https://b.example", "limits": {"requests_per_minute": 6, "tokens_total": 500, "tokens_per_day": 50},
    }));
    let minted = bench.verifier.mint(&bounded(), &wish, None).unwrap();
    assert_eq!(minted.expires_at, NOW + 300);
    let rights = bench
        .verify(&minted.token)
        .await
        .unwrap()
        .caller
        .rights
        .clone();
    assert_eq!(rights, minted.rights);
    assert_eq!(rights.models, Some(vec!["demo".into()]));
    assert_eq!(rights.origins, ["https://b.example"]);
    assert_eq!(rights.networks, bounded().rights.networks);
    assert_eq!(
        (rights.max_images, rights.max_image_pixels),
        (Some(1), Some(10))
    );
    assert_eq!(rights.limits.requests_per_minute, Some(6));
    assert_eq!(rights.limits.tokens_total, Some(500));
    assert_eq!(rights.limits.tokens_per_day, Some(50));
    assert_eq!(rights.model_limits.keys().collect::<Vec<_>>(), ["demo"]);
    let free = bench
        .verifier
        .mint(&minter(Rights::default()), &wish, None)
        .unwrap();
    assert_eq!(free.rights.models, Some(vec!["demo".into()]));
}

#[test]
fn a_wish_for_more_is_refused_by_name() {
    let bench = bench();
    for (field, json) in [
        ("models", json!({"models": ["demo", "other"]})),
        ("max_images", json!({"max_images": 5})),
        ("max_image_pixels", json!({"max_image_pixels": 1001})),
        ("origin", json!({"origin": "https://c.example"})),
        ("minutes", json!({"minutes": 61})),
        ("minutes", json!({"minutes": u64::MAX})),
        (
            "limits.requests_per_minute",
            json!({"limits": {"requests_per_minute": 61}}),
        ),
        (
            "limits.requests_per_minute",
            json!({"limits": {"requests_per_minute": 0}}),
        ),
        (
            "limits.tokens_per_day",
            json!({"limits": {"tokens_per_day": 0}}),
        ),
    ] {
        let refusal = bench
            .verifier
            .mint(&bounded(), &wish(json.clone()), None)
            .unwrap_err();
        assert_eq!(refusal, MintError::Exceeds(field), "{json}");
    }
    for (field, json) in [
        ("minutes", json!({"minutes": 0})),
        ("origin", json!({"origin": "https://a.example/"})),
        ("origin", json!({"origin": "null"})),
        ("origin", json!({"origin": "*"})),
        ("subject", json!({"subject": ""})),
        ("subject", json!({"subject": "a\nb"})),
        ("subject", json!({"subject": "a".repeat(257)})),
    ] {
        let refusal = bench
            .verifier
            .mint(&bounded(), &wish(json.clone()), None)
            .unwrap_err();
        assert_eq!(refusal, MintError::Invalid(field), "{json}");
    }
    assert!(serde_json::from_value::<TokenWish>(json!({"roles": ["mint_tokens"]})).is_err());
    assert!(serde_json::from_value::<TokenWish>(json!({"limits": {"nope": 1}})).is_err());
}

#[tokio::test]
async fn only_who_may_mint_does_and_a_minted_token_may_not() {
    let bench = bench();
    let mut plain = bounded();
    plain.rights.roles = vec![Role::Priority];
    let refusal = bench.verifier.mint(&plain, &TokenWish::default(), None);
    assert_eq!(refusal.unwrap_err(), MintError::NotAllowed);
    let minted = bench
        .verifier
        .mint(&bounded(), &TokenWish::default(), None)
        .unwrap();
    let child = bench.verify(&minted.token).await.unwrap().caller;
    let refusal = bench.verifier.mint(&child, &TokenWish::default(), None);
    assert_eq!(refusal.unwrap_err(), MintError::NotAllowed);
}

#[tokio::test]
async fn a_token_does_not_outlive_the_credential_behind_it() {
    let bench = bench();
    let ends = Some(bench.now() + Duration::from_secs(120));
    let short = bench
        .verifier
        .mint(&bounded(), &TokenWish::default(), ends)
        .unwrap();
    assert_eq!(short.expires_at, NOW + 120);
    let minutes = |minutes| wish(json!({"minutes": minutes}));
    assert!(bench.verifier.mint(&bounded(), &minutes(2), ends).is_ok());
    let refusal = bench
        .verifier
        .mint(&bounded(), &minutes(3), ends)
        .unwrap_err();
    assert_eq!(refusal, MintError::Exceeds("minutes"));
    let refusal = bench
        .verifier
        .mint(&bounded(), &TokenWish::default(), Some(bench.now()));
    assert_eq!(refusal.unwrap_err(), MintError::Expired);
    assert!(bench.verify(&short.token).await.is_ok());
    bench.advance(119);
    assert!(bench.verify(&short.token).await.is_ok());
    bench.advance(1);
    assert_eq!(bench.refusal(&short.token).await, Some(JwtError::Expired));
}

#[tokio::test]
async fn rights_too_many_for_a_token_are_an_error() {
    let models = (0..1000).map(|i| format!("model-{i}")).collect();
    let many = minter(Rights {
        models: Some(models),
        ..Default::default()
    });
    let refusal = bench().verifier.mint(&many, &TokenWish::default(), None);
    assert_eq!(refusal.unwrap_err(), MintError::TooLong);
}

#[tokio::test]
async fn replicas_share_the_secret_and_processes_without_one_share_nothing() {
    let minted = bench()
        .verifier
        .mint(&bounded(), &TokenWish::default(), None)
        .unwrap();
    assert!(bench().verify(&minted.token).await.is_ok());
    let alone = Bench::new(&AuthConfig::default());
    assert_eq!(
        alone.refusal(&minted.token).await,
        Some(JwtError::Signature)
    );
    let own = alone
        .verifier
        .mint(&bounded(), &TokenWish::default(), None)
        .unwrap();
    assert!(alone.verify(&own.token).await.is_ok());
    let restarted = Bench::new(&AuthConfig::default());
    assert_eq!(
        restarted.refusal(&own.token).await,
        Some(JwtError::Signature)
    );
}

#[tokio::test]
async fn the_token_of_another_issuer_who_may_mint_counts_as_that_caller() {
    let bench = bench();
    let by = Caller {
        id: "jwt:https://id.example#ada".into(),
        label: "id.example".into(),
        key: None,
        ..bounded()
    };
    let minted = bench
        .verifier
        .mint(&by, &TokenWish::default(), None)
        .unwrap();
    let caller = bench.verify(&minted.token).await.unwrap().caller;
    assert_eq!(caller.id, by.id);
    assert_eq!(caller.key, None);
    assert_eq!(caller.label, "porthole");
}

#[tokio::test]
async fn other_claims_signed_with_the_own_secret_are_held_to_the_same_rules() {
    let bench = bench();
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let base =
        json!({"iss": "porthole", "aud": "porthole", "sub": "a", "jti": "j", "exp": NOW + 60});
    let sign = |patch| {
        let claims = merged(base.clone(), patch);
        signed(&json!({"alg": "HS256"}), &claims, &key, Algorithm::HS256)
    };
    assert!(bench.verify(&sign(json!({}))).await.is_ok());
    let roles = sign(json!({"porthole": {"roles": ["mint_tokens", "priority"]}}));
    assert!(
        bench
            .verify(&roles)
            .await
            .unwrap()
            .caller
            .rights
            .roles
            .is_empty()
    );
    let refusal = bench.refusal(&sign(json!({"aud": AUDIENCE}))).await;
    assert_eq!(refusal, Some(JwtError::Audience));
    let refusal = bench.refusal(&sign(json!({"key": 1}))).await;
    assert_eq!(refusal, Some(JwtError::ClaimType("key")));
    let refusal = bench.refusal(&sign(json!({"jti": ""}))).await;
    assert_eq!(refusal, Some(JwtError::ClaimType("jti")));
}

#[tokio::test]
async fn a_minted_token_is_good_by_the_clock_of_the_machine_too() {
    let verifier = Verifier::new(&AuthConfig::default(), Arc::new(Metrics::default()))
        .ok()
        .unwrap();
    let minted = verifier
        .mint(&bounded(), &TokenWish::default(), None)
        .unwrap();
    assert!(verifier.verify(&minted.token).await.is_ok());
}
