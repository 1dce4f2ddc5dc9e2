//! The binary's commands, as an operator types them.

use std::process::{Command, Output};

fn porthole(args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_porthole"))
        .args(args)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_says_what_would_be_loaded() {
    let output = porthole(&["check"], &[("PORTHOLE__MODEL__ALIASES", "[a, b]")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["demo, a, b", "models/demo", "4096 tokens", "memory"] {
        assert!(
            text.contains(expected),
            "{expected} is missing from:\n{text}"
        );
    }
}

#[test]
fn every_problem_is_named_with_its_source() {
    let environment = [
        ("PORTHOLE__SERVER__BNID", "x"),
        ("PORTHOLE__IMAGES__MAX_COUNT", "many"),
    ];
    let output = porthole(&["check", "--bind", "nowhere"], &environment);
    assert!(!output.status.success());
    let text = stderr(&output);
    for expected in [
        "3 problem",
        "server.bnid",
        "images.max_count",
        "server.bind",
        "PORTHOLE__",
    ] {
        assert!(
            text.contains(expected),
            "{expected} is missing from:\n{text}"
        );
    }
}

#[test]
fn a_model_that_is_not_there_is_a_problem() {
    let output = porthole(&["check", "--model", "./nowhere"], &[]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("./nowhere"));
}

#[test]
fn healthcheck_fails_where_nothing_listens() {
    let output = porthole(&["healthcheck", "--bind", "127.0.0.1:1"], &[]);
    assert!(!output.status.success());
}
