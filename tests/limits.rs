//! The limiter, below HTTP: in memory, with its file, and on real Redis servers.

#[path = "limits/helpers.rs"]
mod helpers;
#[path = "limits/local.rs"]
mod local;
#[path = "limits/outage.rs"]
mod outage;
#[path = "limits/redis.rs"]
mod redis;
#[path = "process/redis_server.rs"]
mod redis_server;
#[path = "limits/store.rs"]
mod store;
