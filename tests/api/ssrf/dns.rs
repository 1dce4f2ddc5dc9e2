//! A name server of our own, over UDP, and a resolver that asks it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use porthole::media::resolver::Lookup;
use tokio::net::UdpSocket;

/// Names under `example.test` and all their addresses. None may be connected to: at least one
/// address is inside, or there is none. 2d00::/8 is of the public range and given to nobody.
pub const ANSWERS: &[(&str, &str)] = &[
    ("loopback", "127.0.0.1"),
    ("loopback-other", "127.8.9.10"),
    ("this", "0.0.0.0"),
    ("this-net", "0.1.2.3"),
    ("ten", "10.1.2.3"),
    ("carrier", "100.64.0.1"),
    ("alibaba", "100.100.100.200"),
    ("metadata", "169.254.169.254"),
    ("container-metadata", "169.254.170.2"),
    ("tencent", "169.254.0.23"),
    ("azure", "168.63.129.16"),
    ("oracle", "192.0.0.192"),
    ("seventeen", "172.17.0.1"),
    ("home", "192.168.1.1"),
    ("benchmark", "198.18.0.1"),
    ("documentation", "192.0.2.1 198.51.100.1 203.0.113.1"),
    ("relay", "192.88.99.1"),
    ("multicast", "224.0.0.1"),
    ("reserved", "240.0.0.1"),
    ("broadcast", "255.255.255.255"),
    ("six-loopback", "::1"),
    ("six-any", "::"),
    ("mapped", "::ffff:127.0.0.1"),
    ("mapped-ten", "::ffff:10.0.0.1"),
    ("compatible", "::127.0.0.1"),
    ("nat64", "64:ff9b::7f00:1"),
    ("nat64-metadata", "64:ff9b::a9fe:a9fe"),
    ("nat64-local", "64:ff9b:1::808:808"),
    ("six-to-four", "2002:7f00:1::1"),
    ("teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ("unique-local", "fd00::1"),
    ("amazon", "fd00:ec2::254"),
    ("google-six", "fd20:ce::254"),
    ("link-local", "fe80::1"),
    ("site-local", "fec0::1"),
    ("six-multicast", "ff02::1"),
    ("six-documentation", "2001:db8::1 3fff::1"),
    ("discard", "100::1"),
    ("segment-routing", "5f00::1"),
    ("mixed-first", "127.0.0.1 2d00::1"),
    ("mixed-last", "2d00::1 127.0.0.1"),
    ("mixed-many", "2d00::1 2d00::2 2d00::3 10.0.0.1 2d00::4"),
    ("public-but-mapped", "2d00::1 ::ffff:169.254.169.254"),
    ("nothing", ""),
];

/// The server; it ends with its runtime.
pub struct DnsServer {
    address: SocketAddr,
    queries: Arc<AtomicUsize>,
}

impl DnsServer {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let queries = Arc::new(AtomicUsize::new(0));
        let counted = queries.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let Ok((n, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&buffer[..n]).unwrap();
                let answer = answer(&query, number).to_vec().unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { address, queries }
    }

    /// Queries it has had.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }

    /// A resolver that asks this server.
    pub fn lookup(&self) -> Arc<dyn Lookup> {
        Arc::new(Asking(self.address))
    }
}

/// The answer to one query. `rebinding` is public and private by turns.
fn answer(query: &Message, number: usize) -> Message {
    let question = &query.queries[0];
    let name = question.name().to_ascii();
    let label = name.split('.').next().unwrap_or_default();
    let addresses = match label {
        "rebinding" if number.is_multiple_of(2) => "2d00::1",
        "rebinding" => "127.0.0.1 ::1",
        _ => ANSWERS
            .iter()
            .find(|(known, _)| *known == label)
            .map_or("", |(_, all)| all),
    };
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.add_query(question.clone());
    if addresses.is_empty() {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    for address in addresses.split_whitespace() {
        let data = match (address.parse().unwrap(), question.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(A(v4)),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(v6)),
            _ => continue,
        };
        message.add_answer(Record::from_rdata(question.name().clone(), 0, data));
    }
    message
}

/// Asks for A and AAAA and takes what comes.
#[derive(Debug)]
struct Asking(SocketAddr);

impl Asking {
    async fn ask(&self, name: &str, kind: RecordType) -> io::Result<Vec<IpAddr>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(self.0).await?;
        let name = Name::from_ascii(name).map_err(io::Error::other)?;
        let mut query = Message::query();
        query.add_query(Query::query(name, kind));
        let query = query.to_vec().map_err(io::Error::other)?;
        let mut buffer = [0; 1500];
        // As resolvers do: a datagram may be lost among a thousand.
        for _ in 0..10 {
            socket.send(&query).await?;
            let wait = Duration::from_millis(500);
            if let Ok(n) = tokio::time::timeout(wait, socket.recv(&mut buffer)).await {
                let answer = Message::from_vec(&buffer[..n?]).map_err(io::Error::other)?;
                let addresses = answer
                    .answers
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::A(a) => Some(IpAddr::V4(a.0)),
                        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                        _ => None,
                    });
                return Ok(addresses.collect());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

#[async_trait::async_trait]
impl Lookup for Asking {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut found = self.ask(name, RecordType::A).await?;
        found.extend(self.ask(name, RecordType::AAAA).await?);
        if found.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(found)
    }
}
