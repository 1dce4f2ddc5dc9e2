//! Connections: how many may be open, and what is known of each.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use ipnet::IpNet;

use crate::{
    config::ServerConfig,
    metrics::{GaugeGuard, Metrics, ReasonLabels},
};

/// Counts the connections of the process, and those of each address.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    max_per_address: usize,
    trusted: Vec<IpNet>,
    metrics: Arc<Metrics>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    of: HashMap<IpAddr, usize>,
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// `server.max_connections` are open.
    #[error("too many connections")]
    All,
    /// `server.max_connections_per_address` are open from its address.
    #[error("too many connections from this address")]
    Address,
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
    counted_as: Option<IpAddr>,
    _open: GaugeGuard,
}

impl Connections {
    /// Room for as many connections as the configuration says.
    pub fn new(config: &ServerConfig, metrics: Arc<Metrics>) -> Self {
        for reason in ["all", "address"] {
            let labels = ReasonLabels { reason };
            drop(metrics.connections_refused.get_or_create(&labels));
        }
        Self(Arc::new(Inner {
            max: config.max_connections,
            max_per_address: config.max_connections_per_address,
            trusted: config.trusted_proxies.clone(),
            metrics,
            open: Mutex::default(),
        }))
    }

    /// A place for a connection from `peer`. A client with IPv6 is its /64: that is what one
    /// subscriber gets. A trusted proxy speaks for many, so its connections count in all only.
    ///
    /// # Errors
    /// None is left.
    pub fn admit(&self, peer: IpAddr) -> Result<Place, Full> {
        let peer = peer.to_canonical();
        let trusted = self.0.trusted.iter().any(|network| network.contains(&peer));
        let counted_as = (!trusted).then(|| subscriber(peer));
        self.0.count(counted_as).inspect_err(|full| {
            let reason = match full {
                Full::All => "all",
                Full::Address => "address",
            };
            let refused = &self.0.metrics.connections_refused;
            refused.get_or_create(&ReasonLabels { reason }).inc();
        })?;
        Ok(Place {
            connections: self.clone(),
            counted_as,
            _open: GaugeGuard::new(&self.0.metrics.connections),
        })
    }
}

impl Inner {
    fn count(&self, counted_as: Option<IpAddr>) -> Result<(), Full> {
        let mut open = self.lock();
        if open.total >= self.max {
            return Err(Full::All);
        }
        if let Some(address) = counted_as {
            let count = open.of.get(&address).copied().unwrap_or(0);
            if count >= self.max_per_address {
                return Err(Full::Address);
            }
            open.of.insert(address, count + 1);
        }
        open.total += 1;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.0.lock();
        open.total -= 1;
        if let Some(address) = self.counted_as
            && let Some(count) = open.of.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.of.remove(&address);
            }
        }
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// What the stream of a connection and the requests on it tell each other; both live on one thread.
#[derive(Debug)]
pub struct Connection {
    serving: Cell<usize>,
    served: Cell<u64>,
    closing: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    _place: Place,
}

/// A request that is being served, until the last byte of its answer has been taken; held while so.
#[derive(Debug)]
pub struct Serving(Rc<Connection>);

impl Connection {
    /// A connection at `place`.
    pub fn new(place: Place) -> Rc<Self> {
        Rc::new(Self {
            serving: Cell::new(0),
            served: Cell::new(0),
            closing: Cell::new(false),
            waker: RefCell::new(None),
            _place: place,
        })
    }

    /// Notes that a request has come and is being served.
    pub fn serve(self: &Rc<Self>) -> Serving {
        self.serving.set(self.serving.get() + 1);
        self.served.set(self.served.get().wrapping_add(1));
        Serving(self.clone())
    }

    /// Requests that have come so far.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// Whether a request is being served; else the client is to send one.
    pub fn is_serving(&self) -> bool {
        self.serving.get() > 0
    }

    /// Notes that no further request may be served on the connection.
    pub fn close(&self) {
        self.closing.set(true);
    }

    /// Whether [`Connection::close`] was called.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Wakes this task when nothing is served any more, so that it watches the idle connection.
    pub fn wake_when_idle(&self, waker: &Waker) {
        let mut stored = self.waker.borrow_mut();
        match &mut *stored {
            Some(stored) => stored.clone_from(waker),
            None => *stored = Some(waker.clone()),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let serving = &self.0.serving;
        serving.set(serving.get() - 1);
        if serving.get() == 0
            && let Some(waker) = self.0.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max: usize, each: usize) -> (Connections, Arc<Metrics>) {
        let config = ServerConfig {
            max_connections: max,
            max_connections_per_address: each,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..ServerConfig::default()
        };
        let metrics = Arc::new(Metrics::default());
        (Connections::new(&config, metrics.clone()), metrics)
    }

    #[test]
    fn places_are_counted_in_all_and_by_address_and_come_back() {
        let (connections, metrics) = connections(4, 2);
        let admit = |address: &str| connections.admit(address.parse().unwrap());
        let first = admit("192.0.2.1").unwrap();
        let second = admit("::ffff:192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.1").unwrap_err(), Full::Address);
        let third = admit("192.0.2.2").unwrap();
        let fourth = admit("192.0.2.2").unwrap();
        assert_eq!(admit("192.0.2.3").unwrap_err(), Full::All);
        assert_eq!(metrics.connections.get(), 4);
        drop(first);
        drop(admit("192.0.2.1").unwrap());
        drop((second, third, fourth));
        assert_eq!(metrics.connections.get(), 0);
        assert!(connections.0.lock().of.is_empty());
        assert_eq!(connections.0.lock().total, 0);
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let (connections, _) = connections(10, 1);
        let admit = |address: &str| connections.admit(address.parse().unwrap());
        let _first = admit("2001:db8:0:1::1").unwrap();
        assert_eq!(admit("2001:db8:0:1:ffff::2").unwrap_err(), Full::Address);
        assert!(admit("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn trusted_proxies_count_in_all_only() {
        let (connections, _) = connections(3, 1);
        let admit = |address: &str| connections.admit(address.parse().unwrap());
        let _proxies = [admit("10.0.0.1").unwrap(), admit("10.0.0.1").unwrap()];
        let _third = admit("::ffff:10.0.0.1").unwrap();
        assert_eq!(admit("10.0.0.1").unwrap_err(), Full::All);
    }
}
