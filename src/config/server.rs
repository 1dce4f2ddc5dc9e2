//! `[server]`: the HTTP listener and what it lets in.

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `[server]`: the HTTP listener and what it lets in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port of the API. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Address and port of `/metrics`, `/health` and `/ready`, kept apart from the API. Port 0 takes a free one.
    pub admin_bind: SocketAddr,
    /// PEM file with the certificate chain; empty for plain HTTP. Read anew when it changes.
    pub tls_certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub tls_key: PathBuf,
    /// Origins that browsers may send requests from (`https://app.example.com`, or `*` for all).
    pub cors_origins: Vec<String>,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections open at once.
    pub max_connections: usize,
    /// Connections open at once from one address; those of trusted proxies are not counted.
    pub max_connections_per_address: usize,
    /// Seconds a client may take to send the head of its request.
    pub header_timeout: u64,
    /// Seconds a connection may stay open between requests.
    pub idle_timeout: u64,
    /// Seconds a client may leave what was sent to it unread before it is cut off.
    pub write_timeout: u64,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Bytes of request bodies that all requests may hold together until their images are decoded;
    /// beyond, requests are answered 503. One caller alone gets half.
    pub max_buffered_bytes: usize,
    /// Seconds a client may take to send its request body.
    pub body_timeout: u64,
    /// Requests inside at once, waiting ones included; one more is answered 503. A caller may have
    /// no more of them than it leaves free, so one alone gets half.
    pub max_concurrent_requests: usize,
    /// Seconds between keep-alive comments on a silent stream.
    pub keep_alive_interval: u64,
    /// Seconds, from SIGTERM on, in which new connections are still served while `/ready` is 503
    /// already: as long as load balancers take to notice.
    pub drain_delay: u64,
    /// Seconds that running generations get after that to come to their end; then they are ended
    /// with an error that tells clients to try again.
    pub drain_timeout: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_bind: SocketAddr::from(([127, 0, 0, 1], 9090)),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            max_connections_per_address: 1024,
            header_timeout: 5,
            idle_timeout: 75,
            write_timeout: 30,
            max_body_bytes: 100 << 20,
            max_buffered_bytes: 1 << 30,
            body_timeout: 60,
            max_concurrent_requests: 2048,
            keep_alive_interval: 10,
            drain_delay: 5,
            drain_timeout: 120,
        }
    }
}
