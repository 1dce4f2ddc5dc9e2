//! Counting in memory.

#[path = "local/periods.rs"]
mod periods;

use std::{sync::Arc, time::Duration};

use porthole::{
    caller::{Caller, Limits},
    config::ModelLimits,
    limits::{Cost, What},
};

use crate::helpers::{ask, caller, in_memory, limiter, plain, reserve, tokens};

const MINUTE: Duration = Duration::from_secs(60);

fn per_minute(requests: u64, tokens: u64) -> Limits {
    Limits {
        requests_per_minute: Some(requests),
        tokens_per_minute: Some(tokens),
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_callers_at_ten_times_their_share_get_exactly_it() {
    let (limiter, clock) = limiter(&in_memory());
    let callers: Vec<Arc<Caller>> = (0..20)
        .map(|i| caller(&format!("key:{i}"), per_minute(60, 6_000)))
        .collect();
    let callers = Arc::new(callers);
    let mut passed = vec![0u32; 20];
    // Ten minutes; each second 64 tasks send ten requests of every caller.
    for _ in 0..600 {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let (limiter, callers) = (limiter.clone(), callers.clone());
                tokio::spawn(async move {
                    let mut passed = Vec::new();
                    for request in (task..200).step_by(64) {
                        let caller = request % 20;
                        if ask(&limiter, &callers[caller], tokens(100)).await.is_ok() {
                            passed.push(caller);
                        }
                    }
                    passed
                })
            })
            .collect();
        for task in tasks {
            for caller in task.await.unwrap() {
                passed[caller] += 1;
            }
        }
        clock.advance(Duration::from_secs(1));
    }
    // The burst, and ten minutes but for their last second.
    let quota = 60.0 + 599.0;
    let (sum, squares) = passed.iter().fold((0.0, 0.0), |(sum, squares), n| {
        let n = f64::from(*n);
        (sum + n, squares + n * n)
    });
    for n in &passed {
        assert!((f64::from(*n) - quota).abs() <= quota * 0.02, "{passed:?}");
    }
    assert!(sum * sum / (20.0 * squares) >= 0.98, "{passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_at_once_get_the_limit_and_not_one_more() {
    for (limits, expected) in [
        (per_minute(100, 1_000_000), 100),
        (per_minute(1_000_000, 7_000), 70),
        (
            Limits {
                tokens_per_day: Some(12_300),
                ..Limits::default()
            },
            123,
        ),
    ] {
        let (limiter, _clock) = limiter(&in_memory());
        let caller = caller("key:a", limits);
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (limiter, caller) = (limiter.clone(), caller.clone());
                tokio::spawn(async move {
                    let mut passed = 0;
                    for _ in 0..50 {
                        passed += u32::from(ask(&limiter, &caller, tokens(100)).await.is_ok());
                    }
                    passed
                })
            })
            .collect();
        let mut passed = 0;
        for task in tasks {
            passed += task.await.unwrap();
        }
        assert_eq!(passed, expected, "{limits:?}");
    }
}

#[tokio::test]
async fn a_wait_is_true_to_the_millisecond() {
    let pixels = Limits {
        image_pixels_per_minute: Some(2_000_000),
        ..Limits::default()
    };
    let day = Limits {
        tokens_per_day: Some(1_000),
        ..Limits::default()
    };
    let image = Cost {
        tokens: 10,
        pixels: 700_000,
    };
    for (limits, cost, what) in [
        (per_minute(7, 1_000_000), tokens(1), What::Requests),
        (per_minute(1_000, 10_000), tokens(3_333), What::Tokens),
        (pixels, image, What::Pixels),
        (day, tokens(300), What::TokensDay),
    ] {
        let (limiter, clock) = limiter(&in_memory());
        let caller = caller("key:a", limits);
        let refused = loop {
            clock.advance(Duration::from_millis(3));
            if let Err(refused) = ask(&limiter, &caller, cost).await {
                break refused;
            }
        };
        assert_eq!(refused.what, what);
        let wait = refused.retry_after.unwrap();
        clock.advance(wait - Duration::from_millis(1));
        assert_eq!(ask(&limiter, &caller, cost).await.unwrap_err().what, what);
        clock.advance(Duration::from_millis(1));
        ask(&limiter, &caller, cost).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_waits_the_longer_is_told() {
    let (limiter, clock) = limiter(&in_memory());
    let limits = Limits {
        image_pixels_per_minute: Some(1_000),
        ..per_minute(100, 1_000)
    };
    let caller = caller("key:a", limits);
    let cost = Cost {
        tokens: 200,
        pixels: 900,
    };
    ask(&limiter, &caller, cost).await.unwrap();
    let cost = Cost {
        tokens: 900,
        pixels: 900,
    };
    let refused = ask(&limiter, &caller, cost).await.unwrap_err();
    assert_eq!(refused.what, What::Pixels);
    clock.advance(refused.retry_after.unwrap());
    ask(&limiter, &caller, cost).await.unwrap();
}

#[tokio::test]
async fn what_can_never_fit_has_no_wait() {
    let (limiter, _clock) = limiter(&in_memory());
    let caller = caller("key:a", per_minute(10, 1_000));
    let refused = ask(&limiter, &caller, tokens(1_001)).await.unwrap_err();
    assert_eq!((refused.what, refused.limit), (What::Tokens, 1_000));
    assert_eq!(refused.retry_after, None);
    assert_eq!(refused.snapshot.tokens.unwrap().remaining, 1_000);
}

#[tokio::test]
async fn a_place_is_given_back_when_the_last_holder_is_gone() {
    let (limiter, _clock) = limiter(&in_memory());
    let limits = Limits {
        concurrent_requests: Some(2),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    let first = Arc::new(limiter.enter(&caller).await.unwrap());
    let second = limiter.enter(&caller).await.unwrap();
    let refused = limiter.enter(&caller).await.err().unwrap();
    assert_eq!(refused.what, What::Concurrency);
    assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
    let stream = first.clone();
    drop(first);
    assert!(limiter.enter(&caller).await.is_err());
    drop(stream);
    let third = limiter.enter(&caller).await.unwrap();
    assert!(limiter.enter(&caller).await.is_err());
    drop((second, third));
    limiter.enter(&caller).await.unwrap();
}

#[tokio::test]
async fn what_was_not_used_goes_back_and_the_request_stays_counted() {
    let (limiter, _clock) = limiter(&in_memory());
    let limits = Limits {
        tokens_per_day: Some(5_000),
        image_pixels_per_minute: Some(100),
        ..per_minute(10, 1_000)
    };
    let caller = caller("key:a", limits);
    let cost = Cost {
        tokens: 1_000,
        pixels: 100,
    };
    // The engine never ran.
    drop(reserve(&limiter, &caller, cost).await.unwrap());
    // It ran, and used a part.
    let reservation = reserve(&limiter, &caller, cost).await.unwrap();
    assert_eq!(
        ask(&limiter, &caller, tokens(1)).await.unwrap_err().what,
        What::Tokens
    );
    reservation.settle(250);
    let entry = limiter.enter(&caller).await.unwrap();
    let snapshot = entry.snapshot();
    assert_eq!(snapshot.tokens.unwrap().remaining, 750);
    assert_eq!(snapshot.tokens.unwrap().reset, Duration::from_secs(15));
    assert_eq!(snapshot.requests.unwrap().remaining, 6);
    assert_eq!(
        entry
            .reserve("demo", tokens(1_000))
            .await
            .err()
            .unwrap()
            .what,
        What::Tokens
    );
    // Pixels were seen, whatever came of it.
    let seen = Cost {
        tokens: 1,
        pixels: 1,
    };
    assert_eq!(
        entry.reserve("demo", seen).await.err().unwrap().what,
        What::Pixels
    );
    // More than was reserved is charged, too.
    reserve(&limiter, &caller, tokens(100))
        .await
        .unwrap()
        .settle(750);
    let refused = ask(&limiter, &caller, tokens(1)).await.unwrap_err();
    assert_eq!(refused.snapshot.tokens.unwrap().remaining, 0);
}

#[tokio::test]
async fn tokens_of_a_key_share_what_the_key_has() {
    let (limiter, _clock) = limiter(&in_memory());
    let key = caller("key:a", per_minute(5, 1_000));
    let minted = |sub: &str| {
        let mut minted = plain(&format!("jwt:porthole#{sub}"), per_minute(3, 600));
        minted.key = Some("a".into());
        minted.parent = Some(key.clone());
        Arc::new(minted)
    };
    let (one, two) = (minted("1"), minted("2"));
    ask(&limiter, &one, tokens(600)).await.unwrap();
    assert_eq!(ask(&limiter, &one, tokens(1)).await.unwrap_err().limit, 600);
    // The key's share stops the second token, and costs that one nothing.
    let refused = ask(&limiter, &two, tokens(500)).await.unwrap_err();
    assert_eq!((refused.what, refused.limit), (What::Tokens, 1_000));
    ask(&limiter, &two, tokens(400)).await.unwrap();
    assert_eq!(
        ask(&limiter, &key, tokens(1)).await.unwrap_err().limit,
        1_000
    );
    // Five requests so far: the key's share is used up for everybody.
    let refused = limiter.enter(&minted("3")).await.err().unwrap();
    assert_eq!((refused.what, refused.limit), (What::Requests, 5));
    assert!(limiter.enter(&key).await.is_err());
    // One that names the same subject under another key has its own.
    let mut other = plain("jwt:porthole#1", per_minute(3, 600));
    other.parent = Some(caller("key:b", per_minute(5, 1_000)));
    ask(&limiter, &Arc::new(other), tokens(600)).await.unwrap();
}

#[tokio::test]
async fn a_model_has_a_share_beside_that_of_all_models() {
    let mut config = in_memory();
    config.default = per_minute(100, 1_000);
    config.models = vec![ModelLimits {
        model: "demo".into(),
        limits: per_minute(2, 400),
    }];
    let (limiter, clock) = limiter(&config);
    let caller = caller("key:a", Limits::default());
    let refused = ask(&limiter, &caller, tokens(401)).await.unwrap_err();
    assert_eq!(
        (refused.limit, refused.model.as_deref()),
        (400, Some("demo"))
    );
    ask(&limiter, &caller, tokens(200)).await.unwrap();
    ask(&limiter, &caller, tokens(100)).await.unwrap();
    let refused = ask(&limiter, &caller, tokens(1)).await.unwrap_err();
    assert_eq!(
        (refused.what, refused.model.as_deref()),
        (What::Requests, Some("demo"))
    );
    // Another model has only the share of all.
    let entry = limiter.enter(&caller).await.unwrap();
    entry
        .reserve("other", tokens(700))
        .await
        .unwrap()
        .settle(700);
    let refused = entry.reserve("other", tokens(1)).await.err().unwrap();
    assert_eq!((refused.limit, refused.model), (1_000, None));
    drop(entry);
    clock.advance(MINUTE);
    // A place in the model's share is given back, too.
    for _ in 0..2 {
        ask(&limiter, &caller, tokens(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_limit_keeps_the_part_that_is_used() {
    let (limiter, _clock) = limiter(&in_memory());
    let before = caller("key:a", per_minute(100, 1_000));
    ask(&limiter, &before, tokens(500)).await.unwrap();
    let after = caller("key:a", per_minute(100, 4_000));
    let left = limiter.enter(&after).await.unwrap().snapshot();
    assert_eq!(left.tokens.unwrap().remaining, 2_000);
    let fewer = caller("key:a", per_minute(100, 100));
    assert!(ask(&limiter, &fewer, tokens(51)).await.is_err());
    ask(&limiter, &fewer, tokens(50)).await.unwrap();
}

#[tokio::test]
async fn idle_callers_are_forgotten_and_their_lives_are_not() {
    let (limiter, clock) = limiter(&in_memory());
    let limits = Limits {
        tokens_total: Some(100),
        concurrent_requests: Some(1),
        ..per_minute(10, 1_000)
    };
    let lasting = caller("key:lasting", limits);
    ask(&limiter, &lasting, tokens(60)).await.unwrap();
    let inside = caller("key:inside", limits);
    let entry = limiter.enter(&inside).await.unwrap();
    for i in 0..50_000 {
        let passing = caller(&format!("jwt:issuer#{i}"), per_minute(10, 1_000));
        ask(&limiter, &passing, tokens(10)).await.unwrap();
    }
    assert!(limiter.shares() >= 50_002);
    // Traffic of one other caller is enough to sweep.
    let other = caller("key:other", per_minute(1_000, 1_000));
    for _ in 0..200 {
        clock.advance(Duration::from_secs(1));
        let _ = limiter.enter(&other).await;
    }
    assert!(limiter.shares() <= 3, "{} shares", limiter.shares());
    assert_eq!(
        limiter.enter(&inside).await.err().unwrap().what,
        What::Concurrency
    );
    drop(entry);
    let refused = ask(&limiter, &lasting, tokens(41)).await.unwrap_err();
    assert_eq!(refused.what, What::TokensTotal);
    ask(&limiter, &lasting, tokens(40)).await.unwrap();
}

#[tokio::test]
async fn who_has_no_limits_is_not_counted() {
    let (limiter, _clock) = limiter(&in_memory());
    let caller = caller("key:a", Limits::default());
    for _ in 0..1_000 {
        ask(&limiter, &caller, tokens(1_000_000)).await.unwrap();
    }
    assert_eq!(limiter.shares(), 0);
    let snapshot = limiter.enter(&caller).await.unwrap().snapshot();
    assert_eq!((snapshot.requests, snapshot.tokens), (None, None));
}
