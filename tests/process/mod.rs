//! The binary as an operator runs it: a process of its own, with keys made by its own command.
#![allow(dead_code)] // each test binary uses its part

pub mod nginx;
pub mod redis_server;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use redis_server::free_port;
use reqwest::Client;

/// A folder with a keys file, and the keys in it.
pub struct Keys {
    pub folder: tempfile::TempDir,
    pub of: BTreeMap<String, String>,
}

impl Keys {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            of: BTreeMap::new(),
        }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("keys.toml")
    }

    /// Makes a key as `porthole key create NAME OPTIONS` does.
    pub fn create(&mut self, name: &str, options: &[&str]) {
        let made = Command::new(env!("CARGO_BIN_EXE_porthole"))
            .args(["key", "create", name])
            .args(options)
            .env("PORTHOLE__AUTH__KEYS_FILE", self.file())
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let key = String::from_utf8(made.stdout).unwrap().trim().to_string();
        self.of.insert(name.to_string(), key);
    }
}

/// A server that ends with the test.
pub struct Server {
    pub base: String,
    pub admin: String,
    command: Command,
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts on the demo model, with settings as environment variables, and waits until it is ready.
    pub async fn start(keys: &Keys, settings: &[(&str, &str)]) -> Self {
        let server = Self::launch(keys, settings);
        server.wait_until_ready().await;
        server
    }

    /// The same, on a configuration file.
    pub async fn start_with_file(keys: &Keys, file: &Path) -> Self {
        let server = Self::launch_command(keys, |command| {
            command.arg("--config").arg(file);
        });
        server.wait_until_ready().await;
        server
    }

    /// Starts without waiting.
    pub fn launch(keys: &Keys, settings: &[(&str, &str)]) -> Self {
        Self::launch_command(keys, |command| {
            command.envs(settings.iter().copied());
        })
    }

    fn launch_command(keys: &Keys, more: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin) = (free_port(), free_port());
        let log = File::create(folder.path().join("log")).unwrap();
        let audit = File::create(folder.path().join("audit")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_porthole"));
        command
            .env("PORTHOLE__AUTH__KEYS_FILE", keys.file())
            .env("PORTHOLE__LIMITS__STORE", folder.path().join("usage.redb"))
            .env("PORTHOLE__SERVER__BIND", format!("127.0.0.1:{port}"))
            .env("PORTHOLE__SERVER__ADMIN_BIND", format!("127.0.0.1:{admin}"))
            .stdout(audit)
            .stderr(log);
        more(&mut command);
        let child = command.spawn().unwrap();
        Self {
            base: format!("http://127.0.0.1:{port}"),
            admin: format!("http://127.0.0.1:{admin}"),
            command,
            child,
            folder,
        }
    }

    pub async fn wait_until_ready(&self) {
        let client = Client::new();
        let started = Instant::now();
        loop {
            let ready = client.get(format!("{}/ready", self.base)).send().await;
            if ready.is_ok_and(|ready| ready.status() == 200) {
                return;
            }
            if started.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                panic!("not ready: {}", log.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; its exit code, if it was not killed.
    pub async fn ended(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < Duration::from_secs(180), "does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it once more, on the same port, after its end.
    pub async fn start_again(&mut self) {
        self.child = self.command.spawn().unwrap();
        self.wait_until_ready().await;
    }

    /// Resident kilobytes and open descriptors.
    pub fn resources(&self) -> (u64, usize) {
        let process = Path::new("/proc").join(self.child.id().to_string());
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
        (
            resident,
            std::fs::read_dir(process.join("fd")).unwrap().count(),
        )
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The audit line of the request with this id, if it is written by now.
    pub fn audit_line(&self, request_id: &str) -> Option<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit")).unwrap();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find(|line| line["request_id"] == request_id)
    }

    /// The same, once it is written.
    pub async fn audit(&self, request_id: &str) -> serde_json::Value {
        let started = Instant::now();
        loop {
            if let Some(line) = self.audit_line(request_id) {
                return line;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "no audit line of {request_id}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The sum of a metric over all its labels.
    pub async fn metrics_named(&self, name: &str) -> f64 {
        let text = Client::new().get(format!("{}/metrics", self.admin)).send();
        let text = text.await.unwrap().text().await.unwrap();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (_, value) = rest.rsplit_once(' ')?;
            rest.starts_with([' ', '{']).then_some(value)
        });
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    }

    pub async fn metric(&self, name: &str) -> f64 {
        let text = Client::new()
            .get(format!("{}/metrics", self.admin))
            .send()
            .await
            .unwrap();
        let text = text.text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}"))
            .parse()
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
