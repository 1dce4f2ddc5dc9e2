//! From names to addresses that may be connected to.
//!
//! The HTTP client connects to exactly the addresses that it is handed here, so a name cannot
//! resolve to one address while it is judged and to another while it is connected to.

use std::{
    fmt::Debug,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::address::is_public;

/// Lookups of the system's resolver at once. Each takes a thread for as long as the name servers
/// take to answer, and those threads also decode images.
const MAX_LOOKUPS: usize = 64;

/// Turns names into addresses.
#[async_trait::async_trait]
pub trait Lookup: Debug + Send + Sync {
    /// All addresses of a name, unjudged.
    ///
    /// # Errors
    /// The name has none, or nobody could say.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemLookup {
    slots: Arc<Semaphore>,
}

impl Default for SystemLookup {
    fn default() -> Self {
        let slots = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Self { slots }
    }
}

#[async_trait::async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let slot = self.slots.clone().acquire_owned().await;
        let name = name.to_string();
        tokio::task::spawn_blocking(move || {
            // Held by the thread: a caller that gives up does not free it.
            let _slot = slot;
            let found = (name.as_str(), 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// Hands on the addresses of a name only when all are public. A name with one inner address among
/// its addresses is refused whole: honest names have none.
#[derive(Debug)]
pub(super) struct Judging {
    pub(super) lookup: Arc<dyn Lookup>,
    /// Hand on any address: private ones are allowed, or the only name asked for is the proxy's.
    pub(super) allow_private: bool,
}

impl Resolve for Judging {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.lookup.clone();
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = lookup.lookup(name.as_str()).await?;
            if found.is_empty() {
                return Err("the name has no address".into());
            }
            if allow_private || found.iter().copied().all(is_public) {
                // Port 0: the client puts the URL's in.
                let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
                Ok(Box::new(addresses) as Addrs)
            } else {
                Err("the name resolves to an address that is not public".into())
            }
        })
    }
}
