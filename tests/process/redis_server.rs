//! A Redis server for tests.
#![allow(dead_code)] // each test binary uses its part

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

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
