//! The API's listener: connections are counted and their sockets set up before a byte is read,
//! before the TLS handshake too, then served as HTTP/1.1.
//!
//! HTTP/2 is left to a proxy in front: its floods (rapid reset, CONTINUATION, SETTINGS, PING) are
//! then not ours to stop.

use std::{fmt, io, net, rc::Rc, sync::Arc, time::Duration};

use actix_http::{HttpService, Request, Response, body::MessageBody, error::DispatchError};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config,
};
use actix_web::{
    Error,
    dev::{AppConfig, Server},
};
use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::drain::LAST_WORDS;
use super::stream::{GuardedStream, Patience, Transport};
use crate::{
    config::ServerConfig,
    connections::{Connection, Connections},
    metrics::Metrics,
    tls::{Certificate, TlsError},
};

/// What the kernel may hold of an answer that its client has not taken, in bytes. Left alone it
/// grows to megabytes, and a client that does not read is found out that much later.
const SEND_BUFFER: usize = 256 << 10;
/// By this much our limits are longer than actix's own, which answer 408 first where they can.
const AFTER_ACTIX: Duration = Duration::from_secs(1);

/// How connections come in.
#[derive(Clone)]
pub(super) struct Doors {
    connections: Connections,
    tls: Option<TlsAcceptor>,
    head: Duration,
    idle: Duration,
    unread: Duration,
    max_connections: usize,
    /// How long running requests may take once the server is told to stop.
    patience: u64,
}

impl Doors {
    /// The doors that the configuration describes.
    pub(super) fn new(
        config: &ServerConfig,
        certificate: Option<&Arc<Certificate>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let tls = certificate
            .map(|certificate| certificate.server_config())
            .transpose()?;
        Ok(Self {
            connections: Connections::new(config, metrics),
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            head: Duration::from_secs(config.header_timeout),
            idle: Duration::from_secs(config.idle_timeout),
            unread: Duration::from_secs(config.write_timeout),
            max_connections: config.max_connections,
            patience: config.drain_timeout + LAST_WORDS.as_secs(),
        })
    }

    /// Lets a connection in; else it is closed by being dropped.
    async fn open(
        &self,
        tcp: TcpStream,
    ) -> Result<(GuardedStream, Option<net::SocketAddr>), DispatchError> {
        let peer = tcp.peer_addr().map_err(DispatchError::Io)?;
        let place = self.connections.admit(peer.ip());
        let place = place.map_err(|full| DispatchError::Io(io::Error::other(full)))?;
        self.set_up(&tcp).map_err(DispatchError::Io)?;
        let transport = match &self.tls {
            None => Transport::Plain(tcp),
            Some(acceptor) => match timeout(self.head, acceptor.accept(tcp)).await {
                Ok(tls) => Transport::Tls(Box::new(tls.map_err(DispatchError::Io)?)),
                Err(_) => return Err(DispatchError::SlowRequestTimeout),
            },
        };
        let patience = Patience {
            idle: self.idle.max(self.head) + AFTER_ACTIX,
            head: self.head + AFTER_ACTIX,
            unread: self.unread,
        };
        let stream = GuardedStream::new(transport, Connection::new(place), patience);
        Ok((stream, Some(peer)))
    }

    fn set_up(&self, tcp: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(tcp);
        // Tokens are small writes; Nagle's algorithm would hold them back for 40 ms.
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        // A client whose machine has gone acknowledges nothing; the kernel would try for minutes.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.unread))?;
        Ok(())
    }
}

/// Serves the applications of `factory`, one a worker, on `listener`.
pub(super) fn serve<F, I, S, B>(
    listener: net::TcpListener,
    doors: Doors,
    factory: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let server = Server::build()
        .shutdown_timeout(doors.patience)
        .disable_signals()
        // Ours is the limit: past it connections are closed, not left waiting.
        .max_concurrent_connections(doors.max_connections.saturating_add(64));
    let stopping = server.graceful_shutdown_signal();
    let service = move || {
        let stopping = stopping.clone();
        let app = factory().into_factory();
        let app = app.map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(doors.idle)
            .client_request_timeout(doors.head)
            .client_disconnect_timeout(Duration::from_secs(1))
            // A client that closes its half is gone; its generation ends there and then.
            .h1_allow_half_closed(false)
            .on_connect_ext(|stream: &GuardedStream, data| {
                data.insert::<Rc<Connection>>(stream.connection());
            })
            .h1(map_config(app, |()| AppConfig::default()));
        let doors = doors.clone();
        let open = fn_service(move |tcp: TcpStream| {
            let doors = doors.clone();
            async move { doors.open(tcp).await }
        });
        open.and_then(http)
    };
    Ok(server.listen("api", listener, service)?.run())
}
