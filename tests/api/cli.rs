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
    for expected in [
        "none yet",
        "demo, a, b",
        "models/demo",
        "4096 tokens",
        "memory",
    ] {
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

#[test]
fn without_credentials_only_loopback_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml");
    let keys = keys.to_str().unwrap();
    let environment = |bind: &'static str| {
        [
            ("PORTHOLE__AUTH__KEYS_FILE", keys.to_string()),
            ("PORTHOLE__SERVER__BIND", bind.to_string()),
        ]
    };
    let serve = |bind| {
        Command::new(env!("CARGO_BIN_EXE_porthole"))
            .envs(environment(bind))
            .output()
            .unwrap()
    };
    let refused = serve("0.0.0.0:0");
    assert!(!refused.status.success());
    let text = stderr(&refused);
    for expected in [
        "porthole key create",
        "auth.enabled = false",
        "auth.issuers",
    ] {
        assert!(
            text.contains(expected),
            "{expected} is missing from:\n{text}"
        );
    }
    let check = |bind| {
        Command::new(env!("CARGO_BIN_EXE_porthole"))
            .arg("check")
            .envs(environment(bind))
            .output()
            .unwrap()
    };
    assert!(!check("[::]:0").status.success());
    let output = check("127.0.0.1:0");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("none yet"));
}

#[test]
fn a_key_made_for_the_process_opens_the_door_and_is_on_no_disk() {
    a_key_is_made("127.0.0.1:0", "loopback");
}

#[test]
fn a_key_is_made_wherever_the_server_listens_if_the_configuration_says_so() {
    a_key_is_made("0.0.0.0:0", "always");
}

fn a_key_is_made(bind: &str, start_up_key: &str) {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_porthole"))
        .env("PORTHOLE__AUTH__KEYS_FILE", folder.path().join("keys.toml"))
        .env("PORTHOLE__AUTH__START_UP_KEY", start_up_key)
        .env("PORTHOLE__SERVER__BIND", bind)
        .env("PORTHOLE__SERVER__ADMIN_BIND", "127.0.0.1:0")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let (mut key, mut address) = (None, None);
    for line in lines.map_while(Result::ok) {
        let word = |prefix: &str| {
            let mut words = line.split_whitespace().map(|w| w.trim_end_matches(';'));
            words
                .find(|word| word.starts_with(prefix))
                .map(str::to_string)
        };
        key = key.or_else(|| word("pk-"));
        address = address.or_else(|| word("http://"));
        if key.is_some() && address.is_some() {
            break;
        }
    }
    let (key, address) = (key.unwrap(), address.unwrap());
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let status = |key: &str| {
        let url = format!("{address}/v1/models");
        let request = reqwest::Client::new().get(url).bearer_auth(key).send();
        runtime.block_on(request).unwrap().status()
    };
    let (good, bad) = (status(&key), status("pk-other"));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!((good.as_u16(), bad.as_u16()), (200, 401));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn keys_are_made_listed_rotated_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let environment = [("PORTHOLE__AUTH__KEYS_FILE", file.to_str().unwrap())];
    let run = |args: &[&str]| porthole(args, &environment);
    let made = run(&[
        "key",
        "create",
        "partner",
        "--rpm",
        "60",
        "--models",
        "a,b",
        "--expires",
        "90d",
        "--roles",
        "priority",
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let key = String::from_utf8(made.stdout).unwrap();
    assert!(
        key.starts_with("pk-") && key.trim().len() == 46 && key.ends_with('\n'),
        "{key}"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    for expected in [
        "name = \"partner\"",
        "sha256:",
        "requests_per_minute = 60",
        "\"priority\"",
        "expires",
    ] {
        assert!(
            text.contains(expected),
            "{expected} is missing from:\n{text}"
        );
    }
    assert!(!text.contains(key.trim()));
    assert!(!run(&["key", "create", "partner"]).status.success());
    assert!(
        run(&["key", "rotate", "partner", "--overlap", "2h"])
            .status
            .success()
    );
    let list = String::from_utf8(run(&["key", "list"]).stdout).unwrap();
    assert_eq!(
        list.lines()
            .filter(|line| line.starts_with("partner\t"))
            .count(),
        2,
        "{list}"
    );
    assert!(run(&["key", "revoke", "partner"]).status.success());
    let list = String::from_utf8(run(&["key", "list"]).stdout).unwrap();
    assert_eq!(list.matches("revoked").count(), 2, "{list}");
    for bad in [
        &["key", "revoke", "nobody"][..],
        &["key", "create", "a b"],
        &["key", "create", "x", "--expires", "-1d"],
        &["key", "create", "x", "--expires", "soon"],
        &["key", "create", "x", "--roles", "root"],
        &["key", "create", "x", "--networks", "10.0.0.0/99"],
        &["key", "create", "x", "--rpm", "-1"],
    ] {
        assert!(!run(bad).status.success(), "{bad:?}");
    }
}
