//! TLS at the listener, and certificates that change under it.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use porthole::{config::Config, state::EngineState};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs, pki_types::CertificateDer,
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, build, config, start, user},
};

struct Pair {
    certificate: String,
    der: CertificateDer<'static>,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    Pair {
        certificate: made.cert.pem(),
        der: made.cert.der().clone(),
        key: made.signing_key.serialize_pem(),
    }
}

fn write(folder: &Path, pair: &Pair) {
    fs::write(folder.join("tls.crt"), &pair.certificate).unwrap();
    fs::write(folder.join("tls.key"), &pair.key).unwrap();
}

fn tls_config(folder: &Path) -> Config {
    let mut config = config();
    config.server.tls_certificate = folder.join("tls.crt");
    config.server.tls_key = folder.join("tls.key");
    config.server.header_timeout = 1;
    config
}

fn client(pair: &Pair) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(pair.certificate.as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([root])
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

fn tls_server(pair: &Pair) -> (TestServer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), pair);
    let engine = EngineState::Loaded(FakeEngine::new());
    (start(tls_config(folder.path()), engine), folder)
}

fn url(server: &TestServer, path: &str) -> String {
    let (_, port) = server.address().rsplit_once(':').unwrap();
    format!("https://localhost:{port}{path}")
}

/// Whether the server shows this certificate now.
async fn shows(server: &TestServer, pair: &Pair) -> bool {
    let response = client(pair).get(url(server, "/health")).send().await;
    response.is_ok_and(|response| response.status() == 200)
}

async fn shows_soon(server: &TestServer, pair: &Pair) {
    let started = Instant::now();
    while !shows(server, pair).await {
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "the old one stays"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn chat_and_streams_work_over_tls_and_browsers_are_told_to_stay_there() {
    let pair = pair();
    let (server, _folder) = tls_server(&pair);
    let client = client(&pair);
    for stream in [false, true] {
        let mut body = user("over tls");
        body["stream"] = stream.into();
        let request = client.post(url(&server, "/v1/chat/completions"));
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.version(), reqwest::Version::HTTP_11);
        let sts = &response.headers()["strict-transport-security"];
        assert_eq!(sts, "max-age=31536000");
        assert!(response.text().await.unwrap().contains("over"));
    }
    // Who speaks plain HTTP gets no HTTP.
    let plain = server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
}

fn handshake(
    server: &TestServer,
    pair: &Pair,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> std::io::Result<(rustls::ProtocolVersion, Option<Vec<u8>>)> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.der.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = "localhost".try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = std::net::TcpStream::connect(server.address()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    let stream = StreamOwned::new(tls, tcp);
    let alpn = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
    Ok((stream.conn.protocol_version().unwrap(), alpn))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_speak_http_1_1_only() {
    use rustls::version::{TLS12, TLS13};
    let pair = pair();
    let (server, _folder) = tls_server(&pair);
    for (version, expected) in [
        (&TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let (got, alpn) = handshake(&server, &pair, &[version], &[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(got, expected);
        assert_eq!(alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert!(handshake(&server, &pair, &[version], &[b"h2"]).is_err());
        assert!(handshake(&server, &pair, &[version], &[]).is_ok());
    }
    // A ClientHello of TLS 1.1: record and handshake headers, version 3.2, no extensions.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut tcp = TcpStream::connect(server.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut tcp, &hello)
        .await
        .unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert_eq!(
        answer.first(),
        Some(&21),
        "an alert and the end: {answer:?}"
    );
}

#[tokio::test]
async fn a_changed_certificate_is_used_and_a_broken_one_is_not() {
    let (old, new, third) = (pair(), pair(), pair());
    let (server, folder) = tls_server(&old);
    assert!(shows(&server, &old).await);

    write(folder.path(), &new);
    shows_soon(&server, &new).await;
    assert!(!shows(&server, &old).await);
    let ok = "porthole_tls_reloads_total{outcome=\"ok\"}";
    let broken = "porthole_tls_reloads_total{outcome=\"error\"}";
    assert_eq!(server.metric(ok).await, 1.0);

    // Not PEM; a key of another certificate; a file that has gone.
    fs::write(folder.path().join("tls.crt"), "nonsense").unwrap();
    server.metric_becomes(broken, 1.0).await;
    assert!(shows(&server, &new).await);
    fs::write(folder.path().join("tls.crt"), &third.certificate).unwrap();
    server.metric_becomes(broken, 2.0).await;
    assert!(shows(&server, &new).await);
    fs::remove_file(folder.path().join("tls.key")).unwrap();
    server.metric_becomes(broken, 3.0).await;
    assert!(shows(&server, &new).await);

    write(folder.path(), &third);
    shows_soon(&server, &third).await;
    assert_eq!(server.metric(ok).await, 2.0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_symbolic_link_swapped_as_kubernetes_does_is_followed() {
    use std::os::unix::fs::symlink;
    let (old, new) = (pair(), pair());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, pair) in [("..1", &old), ("..2", &new)] {
        fs::create_dir(at(name)).unwrap();
        write(&at(name), pair);
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/tls.crt", at("tls.crt")).unwrap();
    symlink("..data/tls.key", at("tls.key")).unwrap();
    let engine = EngineState::Loaded(FakeEngine::new());
    let server = start(tls_config(folder.path()), engine);
    assert!(shows(&server, &old).await);
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    shows_soon(&server, &new).await;
}

#[actix_web::test]
async fn a_certificate_that_cannot_be_used_is_told_at_start() {
    let (one, other) = (pair(), pair());
    let folder = tempfile::tempdir().unwrap();
    let try_pair = |certificate: &str, key: &str| {
        fs::write(folder.path().join("tls.crt"), certificate).unwrap();
        fs::write(folder.path().join("tls.key"), key).unwrap();
        let built = build(tls_config(folder.path()));
        built.map(|_| ()).map_err(|error| error.to_string())
    };
    try_pair(&one.certificate, &one.key).unwrap();
    for (certificate, key, words) in [
        (&*one.certificate, &*other.key, "cannot be used together"),
        ("", &*one.key, "tls.crt holds no certificate"),
        ("nonsense", &*one.key, "tls.crt holds no certificate"),
        (&*one.key, &*one.key, "tls.crt holds no certificate"),
        (&*one.certificate, "", "tls.key holds no private key"),
        (
            &*one.certificate,
            &*one.certificate,
            "tls.key holds no private key",
        ),
    ] {
        let error = try_pair(certificate, key).unwrap_err();
        assert!(error.contains("server.tls_certificate"), "{error}");
        assert!(error.contains(words), "{error} does not say {words}");
        assert!(!error.contains(&one.key[40..80]), "{error}");
    }
    fs::remove_file(folder.path().join("tls.key")).unwrap();
    let error = build(tls_config(folder.path())).err().unwrap().to_string();
    assert!(error.contains("tls.key cannot be read"), "{error}");
}

#[tokio::test]
async fn who_never_finishes_the_handshake_is_counted_and_cut() {
    let pair = pair();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &pair);
    let mut config = tls_config(folder.path());
    config.server.max_connections_per_address = 3;
    let server = start(config, EngineState::Loaded(FakeEngine::new()));
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    server.metric_becomes("porthole_connections", 3.0).await;
    assert!(
        !shows(&server, &pair).await,
        "a fourth from the same address"
    );
    for mut socket in silent {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).await.unwrap_or(0), 0);
    }
    server.metric_becomes("porthole_connections", 0.0).await;
    assert!(shows(&server, &pair).await);
}

#[tokio::test]
async fn the_healthcheck_asks_over_tls_where_the_server_speaks_it() {
    let (server, folder) = tls_server(&pair());
    let mut config = tls_config(folder.path());
    config.server.bind = server.address().parse().unwrap();
    porthole::cli::healthcheck(&config).await.unwrap();
}
