//! A server that says to each request what a test wants, bytes and times included.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What is said to a request.
#[derive(Clone)]
pub struct Reply {
    /// Before anything is said.
    pub delay: Duration,
    /// The whole response, head included.
    pub bytes: Vec<u8>,
    /// The connection ends with it.
    pub close: bool,
}

impl Reply {
    /// A response that keeps its connection.
    pub fn new(status: u16, kind: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\nserver: scripted\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        Self {
            delay: Duration::ZERO,
            bytes: format!("{head}{body}").into_bytes(),
            close: false,
        }
    }

    /// A stream of these data lines.
    pub fn stream(data: &[&str]) -> Self {
        let events = data.iter().map(|data| format!("data: {data}\n\n"));
        Self::new(200, "text/event-stream", &events.collect::<String>())
    }

    /// A stream of two words that ends as it should.
    pub fn good() -> Self {
        Self::stream(&[WORD, WORD, STOP, "[DONE]"])
    }

    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Only the first so many bytes of it, and then the end of the connection.
    pub fn cut(mut self, off: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - off);
        self.close = true;
        self
    }
}

pub const WORD: &str = r#"{"choices": [{"index": 0, "delta": {"content": "word "}}]}"#;
pub const STOP: &str = r#"{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}"#;

/// The base URL of a server whose `n`th chat request, and its head, are given to `script`.
pub fn scripted<F, R>(script: F) -> String
where
    F: Fn(usize, String) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let state = Arc::new((script, AtomicUsize::new(0)));
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = state.clone();
                tokio::spawn(async move {
                    // The generator may close whenever it wants to.
                    let _ = serve(socket, &state.0, &state.1).await;
                });
            }
        });
    });
    format!("http://{address}/v1")
}

async fn serve<F, R>(socket: TcpStream, script: &F, count: &AtomicUsize) -> std::io::Result<()>
where
    F: Fn(usize, String) -> R,
    R: Future<Output = Reply>,
{
    let mut socket = BufReader::new(socket);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if socket.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1);
        let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        let reply = if head.starts_with("GET") {
            Reply::new(
                200,
                "application/json",
                r#"{"data": [{"id": "scripted-model"}]}"#,
            )
        } else {
            script(count.fetch_add(1, Ordering::SeqCst), head).await
        };
        tokio::time::sleep(reply.delay).await;
        socket.write_all(&reply.bytes).await?;
        if reply.close {
            return Ok(());
        }
    }
}
