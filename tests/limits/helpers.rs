//! A clock that is moved by hand, callers, and Redis servers.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use porthole::{
    caller::{Caller, Limits, Rights},
    config::{LimitsConfig, OnRedisError},
    limits::{Clock, Cost, Exceeded, Limiter, Reservation},
    metrics::Metrics,
};

/// 2026-03-30 12:00 UTC.
pub const NOON: Duration = Duration::from_secs(1_774_872_000);

/// Microseconds since [`NOON`].
#[derive(Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn advance(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn unix(&self) -> Duration {
        NOON + self.monotonic()
    }

    fn for_redis(&self) -> Option<Duration> {
        Some(self.unix())
    }
}

pub fn in_memory() -> LimitsConfig {
    LimitsConfig {
        store: PathBuf::new(),
        ..LimitsConfig::default()
    }
}

pub fn limiter(config: &LimitsConfig) -> (Arc<Limiter>, Arc<ManualClock>) {
    let clock = ManualClock::new();
    (on_clock(config, &clock), clock)
}

pub fn on_clock(config: &LimitsConfig, clock: &Arc<ManualClock>) -> Arc<Limiter> {
    Limiter::with_clock(config, Arc::default(), clock.clone()).unwrap()
}

pub fn caller(id: &str, limits: Limits) -> Arc<Caller> {
    Arc::new(plain(id, limits))
}

pub fn plain(id: &str, limits: Limits) -> Caller {
    Caller {
        id: id.into(),
        label: "test".into(),
        rights: Rights {
            limits,
            ..Rights::default()
        },
        ..Caller::anonymous()
    }
}

pub fn tokens(tokens: u64) -> Cost {
    Cost { tokens, pixels: 0 }
}

/// A whole request that uses all it reserves.
pub async fn ask(limiter: &Arc<Limiter>, caller: &Arc<Caller>, cost: Cost) -> Result<(), Exceeded> {
    reserve(limiter, caller, cost).await?.settle(cost.tokens);
    Ok(())
}

/// A request that left, but for its reservation.
pub async fn reserve(
    limiter: &Arc<Limiter>,
    caller: &Arc<Caller>,
    cost: Cost,
) -> Result<Reservation, Exceeded> {
    limiter.enter(caller).await?.reserve("demo", cost).await
}

fn server_binary() -> &'static str {
    static BINARY: OnceLock<String> = OnceLock::new();
    BINARY.get_or_init(|| {
        let output = Command::new("bash")
            .arg("tests/redis.sh")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "tests/redis.sh found no server");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A Redis server that ends with the test.
pub struct RedisServer {
    pub port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
    password: Option<&'static str>,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::with_password(None)
    }

    pub fn with_password(password: Option<&'static str>) -> Self {
        let mut server = Self {
            port: free_port(),
            folder: tempfile::tempdir().unwrap(),
            child: None,
            password,
        };
        server.run();
        server
    }

    /// Runs it, again on its port after a kill, and waits until it answers.
    pub fn run(&mut self) {
        let mut command = Command::new(server_binary());
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .args(["--daemonize", "no", "--loglevel", "warning", "--dir"])
            .arg(self.folder.path());
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        self.child = Some(command.stdout(Stdio::null()).spawn().unwrap());
        let started = Instant::now();
        let client = redis::Client::open(self.url()).unwrap();
        while client
            .get_connection()
            .and_then(|mut c| redis::cmd("PING").query::<()>(&mut c))
            .is_err()
        {
            assert!(started.elapsed() < Duration::from_secs(20), "no Redis");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        let login = self.password.map(|p| format!(":{p}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    pub fn config(&self, on_redis_error: OnRedisError) -> LimitsConfig {
        shared(&self.url(), on_redis_error)
    }

    pub fn query<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        command
            .query(&mut client.get_connection().unwrap())
            .unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn shared(url: &str, on_redis_error: OnRedisError) -> LimitsConfig {
    LimitsConfig {
        redis_url: url.into(),
        on_redis_error,
        ..LimitsConfig::default()
    }
}

/// Waits until Redis counts, or does not, for as long as a recovery may take.
pub async fn up_becomes(metrics: &Metrics, up: bool) {
    let started = Instant::now();
    while (metrics.limits_redis_up.get() == 1) != up {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "limits_redis_up is not {up} after five seconds"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
