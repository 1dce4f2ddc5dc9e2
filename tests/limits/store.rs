//! The file of days, months and lives.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use porthole::{
    caller::Limits,
    config::LimitsConfig,
    limits::{Limiter, What},
};
use redb::{ReadableDatabase, ReadableTableMetadata, TableDefinition};

use crate::helpers::{ManualClock, ask, caller, in_memory, limiter, on_clock, tokens};

const CHILD: &str = "PORTHOLE_TEST_STORE";

fn at(path: &Path) -> LimitsConfig {
    LimitsConfig {
        store: path.into(),
        ..LimitsConfig::default()
    }
}

fn counted() -> Limits {
    Limits {
        tokens_per_day: Some(1_000),
        tokens_per_month: Some(5_000),
        tokens_total: Some(9_000),
        ..Limits::default()
    }
}

#[tokio::test]
async fn counts_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = at(&folder.path().join("usage.redb"));
    let caller = caller("key:a", counted());
    let clock = ManualClock::new();
    for _ in 0..3 {
        let limiter = on_clock(&config, &clock);
        ask(&limiter, &caller, tokens(300)).await.unwrap();
    }
    let limiter = on_clock(&config, &clock);
    let refused = ask(&limiter, &caller, tokens(101)).await.unwrap_err();
    assert_eq!(refused.what, What::TokensDay);
    ask(&limiter, &caller, tokens(100)).await.unwrap();
}

#[tokio::test]
async fn the_file_is_made_when_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usage.redb");
    let (limiter, _clock) = limiter(&at(&path));
    let requests = Limits {
        requests_per_minute: Some(10),
        ..Limits::default()
    };
    ask(&limiter, &caller("key:a", requests), tokens(1))
        .await
        .unwrap();
    assert!(!path.exists());
    ask(&limiter, &caller("key:b", counted()), tokens(1))
        .await
        .unwrap();
    assert!(path.exists());
}

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
#[ignore = "run by a_kill_loses_at_most_a_second"]
async fn child_that_is_killed() {
    let path = std::env::var(CHILD).unwrap();
    let limiter = Limiter::new(&at(Path::new(&path)), Arc::default()).unwrap();
    ask(&limiter, &caller("key:a", counted()), tokens(600))
        .await
        .unwrap();
    println!("charged");
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test]
async fn a_kill_loses_at_most_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usage.redb");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::child_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let charged = lines
        .map_while(Result::ok)
        .any(|line| line.contains("charged"));
    assert!(charged);
    // The second that may be lost.
    std::thread::sleep(Duration::from_secs(1));
    child.kill().unwrap();
    child.wait().unwrap();

    let limiter = Limiter::new(&at(&path), Arc::default()).unwrap();
    let caller = caller("key:a", counted());
    assert!(ask(&limiter, &caller, tokens(401)).await.is_err());
    ask(&limiter, &caller, tokens(400)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_stops_those_who_need_it() {
    let mut config = at(Path::new("/nonexistent/usage.redb"));
    let (limiter, _clock) = limiter(&config);
    let refused = limiter
        .enter(&caller("key:a", counted()))
        .await
        .err()
        .unwrap();
    assert_eq!((refused.what, refused.limit), (What::Unavailable, 0));
    let requests = Limits {
        requests_per_minute: Some(10),
        ..Limits::default()
    };
    ask(&limiter, &caller("key:b", requests), tokens(1))
        .await
        .unwrap();
    // Where everybody needs it, the server does not start.
    config.default = counted();
    let error = Limiter::new(&config, Arc::default()).err().unwrap();
    assert!(error.contains("/nonexistent/usage.redb"), "{error}");
    // In memory it always opens.
    config.store = in_memory().store;
    Limiter::new(&config, Arc::default()).unwrap();
}

#[tokio::test]
async fn a_file_in_use_by_another_process_is_refused_and_taken_when_free() {
    let folder = tempfile::tempdir().unwrap();
    let config = at(&folder.path().join("usage.redb"));
    let (first, _clock) = limiter(&config);
    let caller = caller("key:a", counted());
    ask(&first, &caller, tokens(1)).await.unwrap();
    let (second, _clock) = limiter(&config);
    let refused = ask(&second, &caller, tokens(1)).await.unwrap_err();
    assert_eq!(refused.what, What::Unavailable);
}

#[tokio::test]
async fn days_and_months_that_are_over_leave_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usage.redb");
    let config = at(&path);
    let clock = ManualClock::new();
    let daily = Limits {
        tokens_per_day: Some(1_000),
        ..Limits::default()
    };
    let limiter = on_clock(&config, &clock);
    for i in 0..100 {
        let passing = caller(&format!("jwt:issuer#{i}"), daily);
        ask(&limiter, &passing, tokens(1)).await.unwrap();
    }
    ask(&limiter, &caller("key:a", counted()), tokens(999))
        .await
        .unwrap();
    drop(limiter);
    clock.advance(Duration::from_secs(86_400));
    let limiter = on_clock(&config, &clock);
    ask(&limiter, &caller("key:b", counted()), tokens(1))
        .await
        .unwrap();
    drop(limiter);

    let file = redb::Database::open(&path).unwrap();
    let read = file.begin_read().unwrap();
    let usage: TableDefinition<'_, &str, (i64, u64, i64, u64, u64)> = TableDefinition::new("usage");
    assert_eq!(read.open_table(usage).unwrap().len().unwrap(), 2);
}
