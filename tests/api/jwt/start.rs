//! What is refused at start.

use std::sync::Arc;

use porthole::{
    auth::jwt::Verifier,
    config::{AuthConfig, IssuerConfig},
    metrics::Metrics,
};

use super::support::*;

fn problems(config: &AuthConfig) -> Vec<String> {
    let verifier = Verifier::new(config, Arc::new(Metrics::default()));
    verifier.err().unwrap_or_default()
}

fn problem(issuer: IssuerConfig) -> String {
    problems(&config(vec![issuer])).join("\n")
}

const NAME: &str = "https://id.example";

fn algorithms(issuer: IssuerConfig, names: &[&str]) -> IssuerConfig {
    IssuerConfig {
        algorithms: names.iter().map(|name| (*name).to_owned()).collect(),
        ..issuer
    }
}

#[test]
fn secrets_shorter_than_their_hash_are_refused() {
    let with = |secret: &str, names: &[&str]| {
        let issuer = IssuerConfig {
            secret: secret.into(),
            ..issuer(NAME)
        };
        problem(algorithms(issuer, names))
    };
    let bytes = |n: usize| "s".repeat(n);
    assert!(with(&bytes(31), &[]).contains("auth.issuers[0].secret: is under 32 bytes"));
    assert_eq!(with(&bytes(32), &[]), "");
    assert_eq!(with(&bytes(32), &["HS256"]), "");
    assert!(with(&bytes(47), &["HS384"]).contains("auth.issuers[0].secret: is under the 48"));
    assert_eq!(with(&bytes(48), &["HS384"]), "");
    assert!(
        with(&bytes(63), &["HS256", "HS512"]).contains("auth.issuers[0].secret: is under the 64")
    );
    assert_eq!(with(&bytes(64), &["HS512"]), "");
    for bad in ["RS256", "none", "hs256", "EdDSA"] {
        assert!(
            with(&bytes(64), &[bad]).contains("auth.issuers[0].algorithms: "),
            "{bad}"
        );
    }
}

#[test]
fn a_short_secret_for_minted_tokens_is_refused() {
    let config = |secret: &str| AuthConfig {
        token_secret: secret.into(),
        ..Default::default()
    };
    assert_eq!(
        problems(&config(&"s".repeat(31))),
        ["auth.token_secret: is under 32 bytes"]
    );
    assert!(problems(&config(&"s".repeat(32))).is_empty());
    assert!(problems(&config("")).is_empty());
}

#[test]
fn public_keys_are_read_from_pem_files() {
    for key in [
        "rsa.public",
        "rsa_pkcs1.public",
        "rsa.certificate",
        "p256.public",
        "p256.certificate",
        "p384.public",
        "ed25519.public",
        "ed25519.certificate",
    ] {
        assert_eq!(problem(pem_issuer(NAME, key)), "", "{key}");
    }
}

#[test]
fn other_pem_files_are_refused_with_the_reason() {
    for (key, reason) in [
        ("rsa.private", "holds a private key"),
        ("rsa_pkcs1.private", "holds a private key"),
        ("p256.private", "holds a private key"),
        ("ed25519.private", "holds a private key"),
        ("rsa_1024.public", "under 2048"),
        ("secp256k1.public", "not on the curve"),
        ("p521.public", "is not an RSA, P-256, P-384 or Ed25519"),
        ("missing", "No such file"),
    ] {
        let found = problem(pem_issuer(NAME, key));
        assert!(
            found.starts_with("auth.issuers[0].public_key_file: "),
            "{key}: {found}"
        );
        assert!(found.contains(reason), "{key}: {found}");
    }
    let folder = tempfile::tempdir().unwrap();
    let two = [pem("rsa.public"), pem("p256.public")].concat();
    let both = [pem("rsa.public"), pem("rsa.private")].concat();
    for (text, reason) in [
        (two, "exactly one"),
        (both, "holds a private key"),
        (b"nothing".to_vec(), "exactly one"),
        (vec![0xff, 0xfe], "is not a PEM file"),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec(),
            "is not an RSA",
        ),
    ] {
        let path = folder.path().join("key.pem");
        std::fs::write(&path, text).unwrap();
        let found = problem(IssuerConfig {
            public_key_file: path,
            ..issuer(NAME)
        });
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn algorithms_must_fit_the_kind_of_key() {
    for (key, bad) in [
        ("rsa.public", "HS256"),
        ("rsa.public", "ES256"),
        ("p256.public", "ES384"),
        ("p256.public", "RS256"),
        ("ed25519.public", "ES256"),
    ] {
        let found = problem(algorithms(pem_issuer(NAME, key), &[bad]));
        assert!(
            found.contains("auth.issuers[0].algorithms: "),
            "{key} {bad}: {found}"
        );
    }
    let remote = IssuerConfig {
        jwks_url: "https://id.example/jwks".into(),
        ..issuer(NAME)
    };
    assert_eq!(problem(algorithms(remote.clone(), &["RS256", "ES256"])), "");
    assert!(problem(algorithms(remote, &["RS256", "HS256"])).contains("HS256 does not fit"));
}

#[test]
fn keys_come_from_exactly_one_place_that_can_be_trusted() {
    let remote = |url: &str| IssuerConfig {
        jwks_url: url.into(),
        ..issuer(NAME)
    };
    for good in [
        "https://id.example/jwks",
        "http://127.0.0.1:8080/jwks",
        "http://[::1]/jwks",
        "http://localhost/jwks",
    ] {
        assert_eq!(problem(remote(good)), "", "{good}");
    }
    for bad in [
        "http://id.example/jwks",
        "http://localhost.example/jwks",
        "http://10.0.0.1/jwks",
        "https://user:password@id.example/jwks",
        "file:///etc/passwd",
        "ftp://id.example/jwks",
        "jwks",
    ] {
        let found = problem(remote(bad));
        assert!(
            found.starts_with("auth.issuers[0].jwks_url: "),
            "{bad}: {found}"
        );
        assert!(!found.contains("password"), "{found}");
    }
    let discovered = |name: &str| {
        problem(IssuerConfig {
            discovery: true,
            ..issuer(name)
        })
    };
    assert_eq!(discovered("https://id.example/tenant/"), "");
    for bad in [
        "http://id.example",
        "id.example",
        "https://id.example/?a=b",
        "https://id.example/#a",
    ] {
        assert!(
            discovered(bad).starts_with("auth.issuers[0].issuer: "),
            "{bad}"
        );
    }
    assert!(problem(issuer(NAME)).contains("not exactly one"));
    let two = IssuerConfig {
        discovery: true,
        ..secret_issuer(NAME)
    };
    assert!(problem(two).contains("not exactly one"));
}

#[test]
fn every_problem_of_every_issuer_is_named_at_once() {
    let config = AuthConfig {
        token_secret: "short".into(),
        ..config(vec![
            secret_issuer(NAME),
            secret_issuer(NAME),
            secret_issuer("porthole"),
            IssuerConfig {
                audiences: Vec::new(),
                leeway: 301,
                required_scope: "two words".into(),
                ..secret_issuer("")
            },
        ])
    };
    let found = problems(&config);
    let expected = [
        "auth.issuers[1].issuer: \"https://id.example\" is named twice",
        "auth.issuers[2].issuer: is the name of this server's own tokens",
        "auth.issuers[3].issuer: is empty",
        "auth.issuers[3].audiences: is empty, or one of them is",
        "auth.issuers[3].leeway: is over 300",
        "auth.issuers[3].required_scope: is more than one word",
        "auth.token_secret: is under 32 bytes",
    ];
    assert_eq!(found, expected);
}

#[test]
fn issuers_are_counted_without_this_server() {
    let metrics = Arc::new(Metrics::default());
    let two = config(vec![secret_issuer("a"), pem_issuer("b", "rsa.public")]);
    assert_eq!(
        Verifier::new(&two, metrics.clone()).ok().unwrap().issuers(),
        2
    );
    let none = AuthConfig::default();
    assert_eq!(Verifier::new(&none, metrics).ok().unwrap().issuers(), 0);
}
