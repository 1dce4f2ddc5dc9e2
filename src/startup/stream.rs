//! A client's stream that gives up on a client which does not do its part.
//!
//! actix-http limits the time of the first request head and of the silence between requests, and
//! the body has a limit of its own (`routes/body.rs`). What is left is watched here: bytes that the
//! client leaves unread, the heads of later requests, and the rest of a body that nobody reads.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;

use crate::connections::Connection;

/// What lies under HTTP.
pub(super) enum Transport {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To begin a request.
    pub(super) idle: Duration,
    /// To send a request's head, once begun.
    pub(super) head: Duration,
    /// To take any of what is sent to it.
    pub(super) unread: Duration,
}

/// The stream of one connection.
pub(super) struct GuardedStream {
    transport: Transport,
    connection: Rc<Connection>,
    patience: Patience,
    /// Runs while the client owes a request.
    owed: Option<Owed>,
    /// Runs while the client takes nothing of what is sent to it.
    unread: Option<Pin<Box<Sleep>>>,
}

struct Owed {
    /// The request after this many.
    after: u64,
    begun: bool,
    until: Pin<Box<Sleep>>,
}

impl GuardedStream {
    pub(super) fn new(
        transport: Transport,
        connection: Rc<Connection>,
        patience: Patience,
    ) -> Self {
        Self {
            transport,
            connection,
            patience,
            owed: None,
            unread: None,
        }
    }

    pub(super) fn connection(&self) -> Rc<Connection> {
        self.connection.clone()
    }

    /// Bytes do not buy time, only a whole request does: else one byte a second would do.
    fn poll_owed(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<io::Error> {
        if self.connection.is_serving() {
            self.owed = None;
            self.connection.wake_when_idle(cx.waker());
            return Poll::Pending;
        }
        let after = self.connection.served();
        // A request that came and was answered between two reads was paid for.
        self.owed.take_if(|owed| owed.after != after);
        let begun = read || self.owed.as_ref().is_some_and(|owed| owed.begun);
        let owed = match &mut self.owed {
            Some(owed) if owed.begun == begun => owed,
            owed => {
                let patience = if begun {
                    self.patience.head
                } else {
                    self.patience.idle
                };
                let until = Box::pin(sleep(patience));
                owed.insert(Owed {
                    after,
                    begun,
                    until,
                })
            }
        };
        owed.until.as_mut().poll(cx).map(|()| timed_out())
    }

    fn poll_unread<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.unread = None;
            return result;
        }
        let patience = self.patience.unread;
        let unread = self.unread.get_or_insert_with(|| Box::pin(sleep(patience)));
        unread.as_mut().poll(cx).map(|()| {
            self.forget_unread();
            Err(timed_out())
        })
    }
}

impl GuardedStream {
    /// Lets the kernel drop what it holds for the client when the socket is closed, which else it
    /// would go on offering.
    fn forget_unread(&self) {
        let tcp = match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        };
        if let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection is closed without a reset");
        }
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = match &mut this.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        };
        let read = buffer.filled().len() > before;
        match this.poll_owed(cx, read) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => result,
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match &mut this.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        };
        this.poll_unread(cx, result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = match &mut this.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        this.poll_unread(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = match &mut this.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        };
        this.poll_unread(cx, result)
    }
}
