//! A client so cheap that the server is what is measured: one keep-alive connection, HTTP/1.1 by
//! hand.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    request: Vec<u8>,
    line: String,
    piece: Vec<u8>,
}

impl Client {
    /// A connection that will send this body again and again.
    pub(crate) fn new(port: u16, body: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self {
            reader: BufReader::with_capacity(1 << 16, stream),
            request: [head.as_bytes(), body.as_bytes()].concat(),
            line: String::new(),
            piece: Vec::new(),
        }
    }

    /// Sends the request and shows each piece of the answer's body to `piece` as it comes.
    pub(crate) fn ask(&mut self, mut piece: impl FnMut(&[u8])) {
        let stream = self.reader.get_mut();
        stream
            .write_all(&self.request)
            .expect("the server takes the request");
        if let Some(length) = self.head() {
            return piece(self.take(length));
        }
        loop {
            let size = self.next_line().trim_end();
            let size = usize::from_str_radix(size, 16).expect("a chunk begins with its size");
            let chunk = self.take(size + 2);
            if size == 0 {
                return;
            }
            piece(&chunk[..size]);
        }
    }

    /// The whole body of an answer.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        self.ask(|piece| body.extend_from_slice(piece));
        body
    }

    /// Reads the head; the body's length, or none if it comes in chunks.
    fn head(&mut self) -> Option<usize> {
        let status = self.next_line();
        assert!(status.contains(" 200 "), "refused: {status}");
        let mut length = None;
        loop {
            let line = self.next_line().trim_end();
            if line.is_empty() {
                return length;
            }
            let (name, value) = line.split_once(": ").expect("a header has a value");
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            }
        }
    }

    fn next_line(&mut self) -> &str {
        self.line.clear();
        self.reader
            .read_line(&mut self.line)
            .expect("the connection stays open");
        &self.line
    }

    fn take(&mut self, size: usize) -> &[u8] {
        self.piece.resize(size, 0);
        self.reader
            .read_exact(&mut self.piece)
            .expect("the connection stays open");
        &self.piece
    }
}
