//! Key sets fetched from an issuer that rotates, fails and lies.

use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm::{ES256, RS256};
use porthole::{auth::jwt::JwtError, config::IssuerConfig};
use serde_json::{Value, json};

use super::support::*;

pub const NAME: &str = "https://id.example";
const REFRESH: u64 = 300;

pub fn keys() -> [Value; 2] {
    [jwk("rsa", RS256, "first"), jwk("p256", ES256, "second")]
}

/// A new token of each key, good for a day and more.
pub fn token(kid: &str, subject: &str) -> String {
    let patch = json!({"sub": subject, "exp": NOW + 1_000_000});
    let claims = merged(claims(NAME), patch);
    match kid {
        "first" => with_kid("rsa", RS256, kid, &claims),
        _ => with_kid("p256", ES256, kid, &claims),
    }
}

pub fn bench(site: &Site) -> Bench {
    Bench::new(&config(vec![site.issuer(NAME)]))
}

#[tokio::test]
async fn keys_are_fetched_when_first_needed_and_then_kept() {
    let site = Site::with_keys(&keys());
    let bench = bench(&site);
    assert_eq!(site.asked(), 0);
    for i in 0..50 {
        assert!(bench.verify(&token("first", &i.to_string())).await.is_ok());
    }
    assert_eq!(site.asked(), 1);
    assert_eq!(bench.fetches("ok"), 1);
}

#[tokio::test]
async fn keys_can_be_fetched_ahead() {
    let site = Site::with_keys(&keys());
    let bench = bench(&site);
    bench.verifier.prefetch();
    bench.fetches_become("ok", 1).await;
    assert!(bench.verify(&token("first", "ada")).await.is_ok());
    assert_eq!(site.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_first_tokens_at_once_cause_one_fetch() {
    let site = Site::with_keys(&keys());
    let bench = std::sync::Arc::new(bench(&site));
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.refusal(&token("second", &i.to_string())).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), None);
    }
    assert_eq!(site.asked(), 1);
}

#[tokio::test]
async fn a_key_is_good_from_its_first_use_to_its_removal() {
    let [first, second] = keys();
    let site = Site::with_keys(std::slice::from_ref(&first));
    let bench = bench(&site);
    let old = token("first", "old");
    assert!(bench.verify(&old).await.is_ok());

    site.keys(&[first, second.clone()]);
    assert!(bench.verify(&token("second", "new")).await.is_ok());
    assert_eq!(site.asked(), 2);
    assert!(bench.verify(&old).await.is_ok());
    assert!(bench.verify(&token("first", "late")).await.is_ok());
    assert_eq!(site.asked(), 2);

    site.keys(&[second]);
    bench.advance(REFRESH + 1);
    // Served by what is known, and by that alone a fetch begins.
    assert!(bench.verify(&old).await.is_ok());
    bench.fetches_become("ok", 3).await;
    assert_eq!(bench.refusal(&old).await, Some(JwtError::UnknownKey));
    assert!(bench.verify(&token("second", "new")).await.is_ok());
}

#[tokio::test]
async fn a_removed_key_is_found_out_after_a_quiet_night_at_the_first_token() {
    let [first, second] = keys();
    let site = Site::with_keys(&[first, second.clone()]);
    let bench = bench(&site);
    let old = token("first", "old");
    assert!(bench.verify(&old).await.is_ok());
    site.keys(&[second]);
    bench.advance(10 * 3600);
    assert_eq!(bench.refusal(&old).await, Some(JwtError::UnknownKey));
}

#[tokio::test]
async fn ten_thousand_unknown_keys_cause_at_most_two_fetches() {
    let site = Site::with_keys(&keys());
    let bench = bench(&site);
    let claims = encode(claims(NAME).to_string());
    let unknown = |i: usize| {
        let header = encode(format!(r#"{{"alg":"RS256","kid":"unknown {i}"}}"#));
        format!("{header}.{claims}.AAAA")
    };
    for chunk in 0..100 {
        let tokens: Vec<String> = (0..100).map(|i| unknown(100 * chunk + i)).collect();
        let refusals = futures::future::join_all(tokens.iter().map(|t| bench.refusal(t))).await;
        assert!(refusals.iter().all(|r| *r == Some(JwtError::UnknownKey)));
    }
    assert_eq!(site.asked(), 2);
    bench.advance(31);
    for i in 0..10 {
        bench.refusal(&unknown(i)).await;
    }
    assert_eq!(site.asked(), 3);
    assert!(bench.verify(&token("first", "ada")).await.is_ok());
}

#[tokio::test]
async fn an_outage_is_survived() {
    let site = Site::with_keys(&keys());
    let bench = bench(&site);
    assert!(bench.verify(&token("first", "before")).await.is_ok());
    site.answer("/jwks", Answer::Status(503));
    for hour in 0..23 {
        bench.advance(if hour == 0 { 600 } else { 3600 });
        let token = token("first", &hour.to_string());
        assert!(bench.verify(&token).await.is_ok(), "after {hour} hours");
        bench.fetches_become("status", hour + 1).await;
    }
    bench.advance(2 * 3600);
    let late = token("first", "late");
    assert_eq!(bench.refusal(&late).await, Some(JwtError::KeysUnavailable));
    site.keys(&keys());
    bench.advance(6);
    assert!(bench.verify(&late).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_away_is_asked_again_after_a_while_only() {
    let site = Site::start();
    let bench = bench(&site);
    for i in 0..100 {
        let refusal = bench.refusal(&token("first", &i.to_string())).await;
        assert_eq!(refusal, Some(JwtError::KeysUnavailable));
    }
    assert_eq!(site.asked(), 1);
    site.keys(&keys());
    bench.advance(5);
    assert!(bench.verify(&token("first", "ada")).await.is_ok());
    assert_eq!(site.asked(), 2);
}

#[tokio::test]
async fn bad_answers_are_refused_and_leave_the_last_good_keys() {
    let good = json!({"keys": keys()}).to_string();
    let twice = good.replacen("\"kid\"", "\"kid\":\"a\",\"kid\"", 1);
    let padded = format!("{good}{}", " ".repeat(5 << 20));
    for (answer, outcome) in [
        (Answer::Ok(b"no JSON".to_vec()), "malformed"),
        (Answer::Ok(Vec::new()), "malformed"),
        (Answer::Ok(b"[]".to_vec()), "malformed"),
        (Answer::Ok(b"{}".to_vec()), "malformed"),
        (Answer::Ok(br#"{"keys": 5}"#.to_vec()), "malformed"),
        (
            Answer::Ok(br#"{"keys": [], "keys": []}"#.to_vec()),
            "malformed",
        ),
        (Answer::Ok(twice.into()), "malformed"),
        (Answer::Ok(vec![0xff; 100]), "malformed"),
        (
            Answer::Ok(good.as_bytes()[..good.len() - 1].to_vec()),
            "malformed",
        ),
        (Answer::Ok(padded.into()), "too_large"),
        (Answer::Unbounded(5 << 20), "too_large"),
        (Answer::Status(302), "status"),
        (Answer::Status(404), "status"),
        (Answer::Status(500), "status"),
    ] {
        let site = Site::start();
        site.answer("/jwks-elsewhere", Answer::Ok(good.clone().into()));
        site.answer("/jwks", answer.clone());
        let bench = bench(&site);
        let refusal = bench.refusal(&token("first", "ada")).await;
        assert_eq!(refusal, Some(JwtError::KeysUnavailable), "{outcome}");
        assert_eq!(bench.fetches(outcome), 1, "{outcome}");
        assert_eq!(site.asked(), 1);

        site.keys(&keys());
        bench.advance(5);
        assert!(bench.verify(&token("first", "ada")).await.is_ok());
        site.answer("/jwks", answer);
        bench.advance(REFRESH);
        assert!(bench.verify(&token("first", "bob")).await.is_ok());
        bench.fetches_become(outcome, 2).await;
        assert!(
            bench.verify(&token("first", "eve")).await.is_ok(),
            "{outcome}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_issuer_holds_up_nobody_who_has_keys_and_others_for_seconds() {
    let site = Site::with_keys(&keys());
    let bench = bench(&site);
    assert!(bench.verify(&token("first", "ada")).await.is_ok());
    site.answer("/jwks", Answer::Silence);
    bench.advance(REFRESH);
    let asked = Instant::now();
    for i in 0..20 {
        assert!(bench.verify(&token("first", &i.to_string())).await.is_ok());
    }
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "waited for the issuer"
    );
    bench.fetches_become("timeout", 1).await;

    let new = Bench::new(&config(vec![site.issuer(NAME)]));
    let refusal = new.refusal(&token("first", "ada")).await;
    assert_eq!(refusal, Some(JwtError::KeysUnavailable));
    assert!(asked.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_fetch_for_others() {
    let site = Site::with_keys(&keys());
    let bench = bench(&site);
    let first = token("first", "ada");
    {
        let leaving = bench.verify(&first);
        tokio::pin!(leaving);
        assert!(futures::poll!(leaving.as_mut()).is_pending());
    }
    bench.fetches_become("ok", 1).await;
    assert!(bench.verify(&first).await.is_ok());
    assert_eq!(site.asked(), 1);
}

/// A site whose own name is the issuer.
fn discovered(document: impl Fn(&str) -> Value) -> (Site, Bench, String) {
    let site = Site::with_keys(&keys());
    let name = format!("{}/tenant", site.url);
    let document = document(&site.url).to_string();
    site.answer(
        "/tenant/.well-known/openid-configuration",
        Answer::Ok(document.into()),
    );
    let bench = Bench::new(&config(vec![IssuerConfig {
        discovery: true,
        ..issuer(&name)
    }]));
    (site, bench, name)
}

#[tokio::test]
async fn the_key_set_is_discovered() {
    let (site, bench, name) = discovered(
        |url| json!({"issuer": format!("{url}/tenant"), "jwks_uri": format!("{url}/jwks"), "more": []}),
    );
    let token = with_kid("rsa", RS256, "first", &claims(&name));
    let verified = bench.verify(&token).await.unwrap();
    assert_eq!(verified.caller.label, "127.0.0.1");
    assert_eq!(site.asked(), 2);
}

#[tokio::test]
async fn a_document_that_cannot_be_believed_is_refused() {
    type Document = fn(&str) -> Value;
    let documents: [(Document, &str); 7] = [
        (
            |url| json!({"issuer": format!("{url}/tenant/"), "jwks_uri": format!("{url}/jwks")}),
            "issuer",
        ),
        (
            |url| json!({"issuer": url, "jwks_uri": format!("{url}/jwks")}),
            "issuer",
        ),
        (|url| json!({"jwks_uri": format!("{url}/jwks")}), "issuer"),
        (
            |url| json!({"issuer": format!("{url}/tenant")}),
            "malformed",
        ),
        (|_| json!([]), "malformed"),
        (
            |url| json!({"issuer": format!("{url}/tenant"), "jwks_uri": "http://192.0.2.1/jwks"}),
            "place",
        ),
        (
            |url| json!({"issuer": format!("{url}/tenant"), "jwks_uri": "file:///etc/passwd"}),
            "place",
        ),
    ];
    for (document, outcome) in documents {
        let (site, bench, name) = discovered(document);
        let token = with_kid("rsa", RS256, "first", &claims(&name));
        assert_eq!(bench.refusal(&token).await, Some(JwtError::KeysUnavailable));
        assert_eq!(bench.fetches(outcome), 1, "{outcome}");
        assert_eq!(site.asked(), 1);
    }
}

#[tokio::test]
async fn what_was_refused_is_not_remembered() {
    let site = Site::start();
    let bench = bench(&site);
    let token = token("first", "ada");
    assert_eq!(bench.refusal(&token).await, Some(JwtError::KeysUnavailable));
    site.keys(&keys()[1..]);
    bench.advance(5);
    assert_eq!(bench.refusal(&token).await, Some(JwtError::UnknownKey));
    site.keys(&keys());
    bench.advance(31);
    assert!(bench.verify(&token).await.is_ok());
}
