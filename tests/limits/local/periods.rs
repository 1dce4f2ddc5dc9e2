//! Days and months.

use super::*;

#[tokio::test]
async fn days_and_months_begin_in_utc() {
    let (limiter, clock) = limiter(&in_memory());
    let limits = Limits {
        tokens_per_day: Some(100),
        tokens_per_month: Some(250),
        tokens_total: Some(330),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    ask(&limiter, &caller, tokens(100)).await.unwrap();
    let refused = ask(&limiter, &caller, tokens(1)).await.unwrap_err();
    assert_eq!(refused.what, What::TokensDay);
    // It is noon on the 30th of March.
    assert_eq!(refused.retry_after, Some(Duration::from_secs(12 * 3_600)));
    clock.advance(refused.retry_after.unwrap());
    ask(&limiter, &caller, tokens(90)).await.unwrap();
    // A reservation over midnight belongs to the day, and the month, that it was made in.
    let late = reserve(&limiter, &caller, tokens(10)).await.unwrap();
    clock.advance(Duration::from_secs(86_400));
    late.settle(0);
    ask(&limiter, &caller, tokens(100)).await.unwrap();
    clock.advance(Duration::from_secs(86_400));
    let refused = ask(&limiter, &caller, tokens(41)).await.unwrap_err();
    assert_eq!(
        (refused.what, refused.retry_after),
        (What::TokensTotal, None)
    );
    ask(&limiter, &caller, tokens(40)).await.unwrap();
}

#[tokio::test]
async fn a_month_that_is_used_up_gives_no_time() {
    let (limiter, clock) = limiter(&in_memory());
    let limits = Limits {
        tokens_per_month: Some(100),
        ..Limits::default()
    };
    let caller = caller("key:a", limits);
    ask(&limiter, &caller, tokens(100)).await.unwrap();
    clock.advance(Duration::from_secs(86_400 + 43_199));
    let refused = ask(&limiter, &caller, tokens(1)).await.unwrap_err();
    assert_eq!(
        (refused.what, refused.retry_after),
        (What::TokensMonth, None)
    );
    clock.advance(Duration::from_secs(1));
    ask(&limiter, &caller, tokens(100)).await.unwrap();
}
