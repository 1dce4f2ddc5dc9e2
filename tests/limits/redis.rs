//! Counting in Redis, as replicas do.

#[path = "redis/alike.rs"]
mod alike;

use std::{sync::Arc, time::Duration};

use porthole::{
    caller::{Caller, Limits},
    config::{ModelLimits, OnRedisError},
    limits::{Cost, Entry, Limiter, Reservation, What},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::helpers::{
    ManualClock, RedisServer, ask, caller, in_memory, on_clock, plain, reserve, tokens,
};

fn replicas(server: &RedisServer) -> (Arc<Limiter>, Arc<Limiter>, Arc<ManualClock>) {
    let clock = ManualClock::new();
    let config = server.config(OnRedisError::Deny);
    (on_clock(&config, &clock), on_clock(&config, &clock), clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_share_a_quota_exactly() {
    let server = RedisServer::start();
    for (limits, expected) in [
        (
            Limits {
                requests_per_minute: Some(150),
                ..Limits::default()
            },
            150,
        ),
        (
            Limits {
                tokens_per_minute: Some(12_000),
                ..Limits::default()
            },
            120,
        ),
        (
            Limits {
                tokens_per_month: Some(9_950),
                ..Limits::default()
            },
            99,
        ),
    ] {
        // A machine so busy that an answer takes too long spoils a round, not the count.
        let exact = async |round: u32| {
            let (one, two, _clock) = replicas(&server);
            let caller = caller(&format!("key:{expected}-{round}"), limits);
            let tasks: Vec<_> = (0..64)
                .map(|task| {
                    let limiter = if task % 2 == 0 {
                        one.clone()
                    } else {
                        two.clone()
                    };
                    let caller = caller.clone();
                    tokio::spawn(async move {
                        let (mut passed, mut away) = (0, false);
                        for _ in 0..5 {
                            match ask(&limiter, &caller, tokens(100)).await {
                                Ok(()) => passed += 1,
                                Err(refused) => away |= refused.what == What::Unavailable,
                            }
                        }
                        (passed, away)
                    })
                })
                .collect();
            let (mut passed, mut away) = (0, false);
            for task in tasks {
                let (some, missed) = task.await.unwrap();
                passed += some;
                away |= missed;
            }
            assert!(passed <= expected, "{passed} of {expected}");
            assert!(away || passed == expected, "{passed} of {expected}");
            !away
        };
        let mut told = false;
        for round in 0..10 {
            told = told || exact(round).await;
        }
        assert!(told, "no round without a late answer");
    }
}

#[tokio::test]
async fn what_one_replica_gives_back_another_may_use() {
    let server = RedisServer::start();
    let (one, two, clock) = replicas(&server);
    let limits = Limits {
        tokens_per_minute: Some(1_000),
        tokens_per_day: Some(1_500),
        image_pixels_per_minute: Some(100),
        concurrent_requests: Some(1),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    let cost = Cost {
        tokens: 1_000,
        pixels: 100,
    };
    let entry = one.enter(&caller).await.unwrap();
    let reservation = entry.reserve("demo", cost).await.unwrap();
    // The place is taken everywhere.
    let refused = ask(&two, &caller, tokens(1)).await.unwrap_err();
    assert_eq!(refused.what, What::Concurrency);
    drop(entry);
    one.flush().await;
    let refused = ask(&two, &caller, tokens(1)).await.unwrap_err();
    assert_eq!((refused.what, refused.limit), (What::Tokens, 1_000));
    assert_eq!(refused.retry_after, Some(Duration::from_millis(60)));
    // The engine never ran.
    drop(reservation);
    one.flush().await;
    two.flush().await;
    reserve(&two, &caller, cost).await.unwrap().settle(250);
    two.flush().await;
    ask(&one, &caller, tokens(750)).await.unwrap();
    clock.advance(Duration::from_secs(60));
    one.flush().await;
    let refused = ask(&one, &caller, tokens(501)).await.unwrap_err();
    assert_eq!(refused.what, What::TokensDay);
    assert_eq!(
        refused.retry_after,
        Some(Duration::from_secs(12 * 3_600 - 60))
    );
    ask(&one, &caller, tokens(500)).await.unwrap();
}

#[tokio::test]
async fn requests_that_never_reserve_count_for_all_replicas() {
    let server = RedisServer::start();
    let (one, two, clock) = replicas(&server);
    let limits = Limits {
        requests_per_minute: Some(6),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    for _ in 0..6 {
        drop(one.enter(&caller).await.unwrap());
    }
    one.flush().await;
    // The second replica hears of it when it asks, and then refuses at its door.
    let refused = ask(&two, &caller, tokens(1)).await.unwrap_err();
    assert_eq!(refused.what, What::Requests);
    let refused = two.enter(&caller).await.err().unwrap();
    let wait = refused.retry_after.unwrap();
    clock.advance(wait - Duration::from_millis(1));
    assert!(ask(&two, &caller, tokens(1)).await.is_err());
    clock.advance(Duration::from_millis(1));
    ask(&two, &caller, tokens(1)).await.unwrap();
}

#[tokio::test]
async fn one_request_after_another_always_finds_its_place() {
    let server = RedisServer::start();
    let (one, _two, _clock) = replicas(&server);
    let limits = Limits {
        concurrent_requests: Some(1),
        ..Limits::default()
    };
    let mut caller = plain("key:a", limits);
    caller.rights.model_limits.insert("demo".into(), limits);
    let caller = Arc::new(caller);
    for _ in 0..200 {
        ask(&one, &caller, tokens(1)).await.unwrap();
    }
    // Nor do scripts matter that somebody made the server forget.
    server.query::<()>(redis::cmd("SCRIPT").arg("FLUSH"));
    for _ in 0..20 {
        ask(&one, &caller, tokens(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_place_taken_elsewhere_does_not_cost_a_request() {
    let server = RedisServer::start();
    let (one, two, _clock) = replicas(&server);
    let limits = Limits {
        requests_per_minute: Some(3),
        concurrent_requests: Some(1),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    let entry = one.enter(&caller).await.unwrap();
    let _reservation = entry.reserve("demo", tokens(1)).await.unwrap();
    for _ in 0..10 {
        let refused = ask(&two, &caller, tokens(1)).await.unwrap_err();
        assert_eq!(refused.what, What::Concurrency);
    }
    drop(entry);
    one.flush().await;
    for _ in 0..2 {
        ask(&two, &caller, tokens(1)).await.unwrap();
        two.flush().await;
    }
    assert!(ask(&two, &caller, tokens(1)).await.is_err());
}

#[tokio::test]
async fn a_request_that_asks_while_places_are_renewed_gets_none() {
    let server = RedisServer::start();
    let (one, two, _clock) = replicas(&server);
    let limits = Limits {
        concurrent_requests: Some(1),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    let entry = one.enter(&caller).await.unwrap();
    let _reservation = entry.reserve("demo", tokens(1)).await.unwrap();
    for _ in 0..300 {
        let (asked, ()) = tokio::join!(ask(&two, &caller, tokens(1)), two.flush());
        assert_eq!(asked.unwrap_err().what, What::Concurrency);
        let ((), asked) = tokio::join!(two.flush(), ask(&two, &caller, tokens(1)));
        assert_eq!(asked.unwrap_err().what, What::Concurrency);
    }
}

#[tokio::test]
async fn a_dead_replica_s_places_are_free_again() {
    let server = RedisServer::start();
    let (one, two, clock) = replicas(&server);
    let limits = Limits {
        concurrent_requests: Some(1),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    let entry = one.enter(&caller).await.unwrap();
    let _reservation = entry.reserve("demo", tokens(1)).await.unwrap();
    one.flush().await;
    // Its renewals stop here: it hears nothing of the clock any more.
    std::mem::forget(entry);
    clock.advance(Duration::from_secs(29));
    assert!(ask(&two, &caller, tokens(1)).await.is_err());
    clock.advance(Duration::from_secs(2));
    ask(&two, &caller, tokens(1)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_dropped_while_it_asks_is_charged_nothing() {
    let server = RedisServer::start();
    let (one, two, _clock) = replicas(&server);
    let limits = Limits {
        tokens_per_minute: Some(1_000),
        tokens_total: Some(1_000),
        concurrent_requests: Some(1),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    for _ in 0..20 {
        let entry = one.enter(&caller).await.unwrap();
        let mut ask = Box::pin(entry.reserve("demo", tokens(1_000)));
        // Sent, and no longer waited for.
        assert!(futures::poll!(&mut ask).is_pending());
        drop(ask);
        drop(entry);
    }
    // Each charge goes back when its answer is there.
    let started = std::time::Instant::now();
    while let Err(refused) = ask(&two, &caller, tokens(1_000)).await {
        assert!(started.elapsed() < Duration::from_secs(10), "{refused:?}");
        one.flush().await;
    }
}

#[tokio::test]
async fn every_key_runs_out_and_shares_the_slot_of_its_root() {
    let server = RedisServer::start();
    let (one, _two, _clock) = replicas(&server);
    let all = Limits {
        requests_per_minute: Some(10),
        tokens_per_minute: Some(100),
        concurrent_requests: Some(10),
        image_pixels_per_minute: Some(10),
        tokens_per_day: Some(100),
        tokens_per_month: Some(100),
        tokens_total: Some(100),
    };
    let mut minted = plain("jwt:porthole#x", all);
    minted.parent = Some(caller("key:a", all));
    minted.rights.model_limits.insert("demo".into(), all);
    let minted = Arc::new(minted);
    let entry = one.enter(&minted).await.unwrap();
    let reservation = entry.reserve("demo", tokens(10)).await.unwrap();
    let keys: Vec<String> = server.query(redis::cmd("KEYS").arg("*"));
    let mut of_root = 0;
    for key in &keys {
        let left: i64 = server.query(redis::cmd("TTL").arg(key));
        assert!(left >= 0, "{key} stays for ever");
        of_root += u32::from(key.contains("{porthole:key:a}"));
    }
    // Three shares with a hash and a set each.
    assert_eq!(of_root, 6, "{keys:?}");
    reservation.settle(10);
    drop(entry);
    one.flush().await;
    let keys: Vec<String> = server.query(redis::cmd("KEYS").arg("inside:*"));
    assert!(keys.is_empty(), "{keys:?}");
}
