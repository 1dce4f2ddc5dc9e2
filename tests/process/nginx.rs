//! The nginx of `deploy/nginx/nginx.conf` in front of servers, as it is shipped: only ports, paths
//! and the list of servers are others.
#![allow(dead_code)] // each test binary uses its part

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::redis_server::free_port;

const SHIPPED: &str = include_str!("../../deploy/nginx/nginx.conf");

fn nginx_binary() -> &'static str {
    static BINARY: OnceLock<String> = OnceLock::new();
    BINARY.get_or_init(|| {
        let output = Command::new("bash")
            .arg("tests/nginx.sh")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "tests/nginx.sh found no nginx");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// An nginx that ends with the test.
pub struct Nginx {
    /// `http://127.0.0.1:PORT`.
    pub base: String,
    /// `https://localhost:PORT`, with HTTP/2.
    pub tls_base: String,
    folder: tempfile::TempDir,
    child: Child,
}

impl Nginx {
    /// Starts it in front of these servers (`http://127.0.0.1:PORT` each) and waits until it listens.
    pub fn start(servers: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("tls.crt"), certificate.cert.pem()).unwrap();
        fs::write(path("tls.key"), certificate.signing_key.serialize_pem()).unwrap();
        let (port, tls_port) = (free_port(), free_port());
        let conf = path("nginx.conf");
        fs::write(&conf, configuration(servers, &folder, port, tls_port)).unwrap();
        let child = Command::new(nginx_binary())
            .arg("-c")
            .arg(&conf)
            // Under root its workers would be another user, who cannot enter the folder.
            .args(["-g", "daemon off; user root;"])
            .args(["-e", "stderr"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self {
            base: format!("http://127.0.0.1:{port}"),
            tls_base: format!("https://localhost:{tls_port}"),
            folder,
            child,
        };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "no nginx");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    /// The certificate that it shows, for clients that shall believe it.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    /// What it wrote of the request with this id, once it has.
    pub async fn logged(&self, request_id: &str) -> serde_json::Value {
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(self.folder.path().join("access.log")).unwrap();
            let mut lines = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let line = lines.find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                (line["request_id"] == request_id).then_some(line)
            });
            if let Some(line) = line {
                return line;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "no log of {request_id}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends the workers when it is told to, not when it is killed.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// The shipped configuration with a test's ports, paths and servers.
fn configuration(servers: &[&str], folder: &tempfile::TempDir, port: u16, tls_port: u16) -> String {
    let folder = folder.path().display();
    let shipped = "server porthole:8080 max_fails=3 fail_timeout=2s;";
    let servers: Vec<String> = servers
        .iter()
        .map(|base| shipped.replace("porthole:8080", base.trim_start_matches("http://")))
        .collect();
    let replaced = [
        // First, since the folder is itself below /tmp.
        (" /tmp/", format!(" {folder}/")),
        (shipped, servers.join("\n        ")),
        ("listen 8080;", format!("listen 127.0.0.1:{port};")),
        (
            "listen 8443 ssl http2;",
            format!("listen 127.0.0.1:{tls_port} ssl http2;"),
        ),
        ("/etc/nginx/tls/", format!("{folder}/")),
        ("/dev/stdout", format!("{folder}/access.log")),
    ];
    let mut text = SHIPPED.to_string();
    for (from, to) in &replaced {
        assert!(text.contains(from), "nginx.conf has no {from:?}");
        text = text.replace(from, to);
    }
    text
}
