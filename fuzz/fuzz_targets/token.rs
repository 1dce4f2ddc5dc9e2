//! No bytes are a good token: whoever knows no secret gets in nowhere.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use porthole::{
    auth::jwt::Verifier,
    config::{AuthConfig, IssuerConfig, Secret},
    metrics::Metrics,
};
use tokio::runtime::{Builder, Runtime};

static VERIFIER: LazyLock<(Runtime, Verifier)> = LazyLock::new(|| {
    let issuer = IssuerConfig {
        issuer: "https://id.example.com".into(),
        audiences: vec!["porthole".into()],
        secret: Secret::from("a secret of more than 32 bytes, for tests"),
        ..IssuerConfig::default()
    };
    let config = AuthConfig {
        issuers: vec![issuer],
        token_secret: Secret::from("another secret of more than 32 bytes"),
        ..AuthConfig::default()
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let verifier = Verifier::new(&config, Arc::new(Metrics::default()));
    (runtime.unwrap(), verifier.unwrap())
});

fuzz_target!(|token: &str| {
    let (runtime, verifier) = &*VERIFIER;
    assert!(runtime.block_on(verifier.verify(token)).is_err());
});
