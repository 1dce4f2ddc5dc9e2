//! Keys, tokens, a clock that stands still and an issuer that answers as it is told.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use porthole::{
    auth::jwt::{Clock, JwtError, Verified, Verifier},
    config::{AuthConfig, IssuerConfig},
    metrics::{Metrics, OutcomeLabels},
};
use serde_json::{Value, json};

pub const SECRET: &str = "an HMAC secret for tests, sixty-four bytes long as SHA-512 needs";
pub const AUDIENCE: &str = "porthole-api";
/// Seconds since 1970 at which the tests begin.
pub const NOW: u64 = 1_800_000_000;

pub fn key_file(name: &str) -> String {
    format!("tests/api/jwt/keys/{name}.pem")
}

pub fn pem(name: &str) -> Vec<u8> {
    std::fs::read(key_file(name)).unwrap()
}

pub fn private(name: &str) -> EncodingKey {
    let pem = pem(&format!("{name}.private"));
    match name {
        "rsa" | "rsa_other" => EncodingKey::from_rsa_pem(&pem).unwrap(),
        "ed25519" => EncodingKey::from_ed_pem(&pem).unwrap(),
        _ => EncodingKey::from_ec_pem(&pem).unwrap(),
    }
}

/// The public half as a JWK.
pub fn jwk(name: &str, algorithm: Algorithm, kid: &str) -> Value {
    let jwk = Jwk::from_encoding_key(&private(name), algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = kid.into();
    jwk["use"] = "sig".into();
    jwk
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode_to_string(bytes.as_ref())
}

/// `base` with the entries of `patch` in their places.
pub fn merged(mut base: Value, patch: Value) -> Value {
    for (name, value) in patch.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

pub fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 600, "nbf": NOW - 60, "iat": NOW - 60})
}

/// A token of two texts, whatever they say.
pub fn signed_text(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

pub fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    signed_text(&header.to_string(), &claims.to_string(), key, algorithm)
}

pub fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signed(
        &json!({"alg": "HS256", "typ": "JWT"}),
        claims,
        &key,
        Algorithm::HS256,
    )
}

/// A token that names its key.
pub fn with_kid(name: &str, algorithm: Algorithm, kid: &str, claims: &Value) -> String {
    let header = json!({"alg": format!("{algorithm:?}"), "typ": "JWT", "kid": kid});
    signed(&header, claims, &private(name), algorithm)
}

pub fn issuer(name: &str) -> IssuerConfig {
    IssuerConfig {
        issuer: name.into(),
        audiences: vec![AUDIENCE.into()],
        ..Default::default()
    }
}

pub fn secret_issuer(name: &str) -> IssuerConfig {
    IssuerConfig {
        secret: SECRET.into(),
        ..issuer(name)
    }
}

pub fn pem_issuer(name: &str, key: &str) -> IssuerConfig {
    IssuerConfig {
        public_key_file: key_file(key).into(),
        ..issuer(name)
    }
}

pub fn config(issuers: Vec<IssuerConfig>) -> AuthConfig {
    AuthConfig {
        issuers,
        ..Default::default()
    }
}

/// A verifier at a time that only the test moves.
pub struct Bench {
    pub verifier: Verifier,
    pub metrics: Arc<Metrics>,
    millis: Arc<AtomicU64>,
}

impl Bench {
    pub fn new(config: &AuthConfig) -> Self {
        let metrics = Arc::new(Metrics::default());
        let millis = Arc::new(AtomicU64::new(NOW * 1000));
        let time = millis.clone();
        let clock: Clock =
            Arc::new(move || UNIX_EPOCH + Duration::from_millis(time.load(Ordering::SeqCst)));
        Self {
            verifier: Verifier::with_clock(config, metrics.clone(), clock).unwrap(),
            metrics,
            millis,
        }
    }

    pub async fn verify(&self, token: &str) -> Result<Verified, JwtError> {
        self.verifier.verify(token).await
    }

    pub async fn refusal(&self, token: &str) -> Option<JwtError> {
        self.verify(token).await.err()
    }

    pub fn advance(&self, seconds: u64) {
        self.millis.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub fn set_time(&self, seconds: u64) {
        self.millis.store(seconds * 1000, Ordering::SeqCst);
    }

    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }

    pub fn fetches(&self, outcome: &'static str) -> u64 {
        let labels = OutcomeLabels { outcome };
        self.metrics.jwks_fetches.get_or_create(&labels).get()
    }

    /// Waits until a fetch in the background has had an outcome so often.
    pub async fn fetches_become(&self, outcome: &'static str, count: u64) {
        let started = std::time::Instant::now();
        while self.fetches(outcome) < count {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{outcome}: {} fetches, not {count}",
                self.fetches(outcome)
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What an issuer answers.
#[derive(Clone)]
pub enum Answer {
    Ok(Vec<u8>),
    Status(u16),
    /// A body without its length.
    Unbounded(usize),
    /// Nothing, until the other side gives up.
    Silence,
}

/// An issuer on this host. It counts what it is asked.
pub struct Site {
    pub url: String,
    answers: Arc<Mutex<Vec<(String, Answer)>>>,
    asked: Arc<AtomicUsize>,
}

impl Site {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            answers: Arc::default(),
            asked: Arc::default(),
        };
        let (answers, asked) = (site.answers.clone(), site.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, asked) = (answers.clone(), asked.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &answers, &asked);
                });
            }
        });
        site
    }

    /// A site with a key set at `/jwks`.
    pub fn with_keys(keys: &[Value]) -> Self {
        let site = Self::start();
        site.keys(keys);
        site
    }

    pub fn answer(&self, path: &str, answer: Answer) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(known, _)| known != path);
        answers.push((path.into(), answer));
    }

    pub fn keys(&self, keys: &[Value]) {
        let set = json!({"keys": keys}).to_string();
        self.answer("/jwks", Answer::Ok(set.into()));
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// An issuer whose keys are at `/jwks`.
    pub fn issuer(&self, name: &str) -> IssuerConfig {
        IssuerConfig {
            jwks_url: format!("{}/jwks", self.url),
            ..issuer(name)
        }
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &Mutex<Vec<(String, Answer)>>,
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answers = answers.lock().unwrap().clone();
    let answer = answers.into_iter().find(|(known, _)| *known == path);
    match answer.map_or(Answer::Status(404), |(_, answer)| answer) {
        Answer::Ok(body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            )?;
            stream.write_all(&body)
        }
        Answer::Status(status) => write!(
            stream,
            "HTTP/1.1 {status} No\r\nconnection: close\r\nlocation: /jwks-elsewhere\r\ncontent-length: 0\r\n\r\n"
        ),
        Answer::Unbounded(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\": [\"")?;
            let part = [b'a'; 4096];
            for _ in 0..bytes / part.len() {
                stream.write_all(&part)?;
            }
            stream.write_all(b"\"]}")
        }
        Answer::Silence => {
            while stream.read(&mut byte)? > 0 {}
            Ok(())
        }
    }
}
