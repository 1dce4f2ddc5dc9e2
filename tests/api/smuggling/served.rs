//! What has one meaning only, though not every server likes it.

use super::*;

/// What has one meaning only, though not every server likes it: this many answers of 200.
pub(super) fn served() -> Vec<(&'static str, String, usize)> {
    let (hello, smuggled) = (hello(), smuggled());
    let n = hello.len();
    let chunked = |body: &str| chat("Transfer-Encoding: chunked\r\nConnection: close\r\n", body);
    let (front, back) = hello.split_at(7);
    vec![
        (
            "CL",
            chat(
                &format!("Content-Length: {n}\r\nConnection: close\r\n"),
                &hello,
            ),
            1,
        ),
        (
            "CL with zeros",
            chat(
                &format!("Content-Length: 000{n}\r\nConnection: close\r\n"),
                &hello,
            ),
            1,
        ),
        (
            "CL with blanks",
            chat(
                &format!("Content-Length: \t {n} \t\r\nConnection: close\r\n"),
                &hello,
            ),
            1,
        ),
        (
            "chunked",
            chunked(&format!("{}{}0\r\n\r\n", chunk(front, ""), chunk(back, ""))),
            1,
        ),
        (
            "Chunked",
            chat(
                "transfer-encoding: ChunKed \r\nConnection: close\r\n",
                &format!("{}0\r\n\r\n", chunk(&hello, "")),
            ),
            1,
        ),
        (
            "chunk sizes with zeros",
            chunked(&format!("0000{}0000\r\n\r\n", chunk(&hello, ""))),
            1,
        ),
        (
            "chunk extensions",
            chunked(&format!("{}0;b\r\n\r\n", chunk(&hello, ";a=\"x;y\""))),
            1,
        ),
        (
            "trailers",
            chunked(&format!(
                "{}0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: y\r\n\r\n",
                chunk(&hello, "")
            )),
            1,
        ),
        (
            "a request as a trailer",
            chunked(&format!("{}0\r\n{smuggled}\r\n\r\n", chunk(&hello, ""))),
            1,
        ),
        (
            "two in a row",
            format!("{}{}", health(""), health("Connection: close\r\n")),
            2,
        ),
        (
            "three in a row, one chunked",
            format!(
                "{}{}{}",
                health(""),
                chat(
                    "Transfer-Encoding: chunked\r\n",
                    &format!("{}0\r\n\r\n", chunk(&hello, ""))
                ),
                health("Connection: close\r\n")
            ),
            3,
        ),
        (
            "behind the end",
            format!("{}{smuggled}", health("Connection: close\r\n")),
            1,
        ),
        (
            "behind the end, among other options",
            format!("{}{smuggled}", health("Connection: x, Close\r\n")),
            1,
        ),
        (
            "behind HTTP/1.0",
            format!("GET /health HTTP/1.0\r\n\r\n{smuggled}"),
            1,
        ),
        (
            "a body of GET",
            format!(
                "{}{smuggled}",
                health(&format!("Content-Length: {}\r\n", smuggled.len()))
            ),
            1,
        ),
        (
            "a chunked body of GET",
            format!(
                "{}{}0\r\n\r\n",
                health("Transfer-Encoding: chunked\r\n"),
                chunk(&smuggled, "")
            ),
            1,
        ),
        (
            "bare LF",
            "GET /health HTTP/1.1\nHost: x\nConnection: close\n\n".into(),
            1,
        ),
        (
            "empty lines before",
            format!("\r\n\r\n{}", health("Connection: close\r\n")),
            1,
        ),
        (
            "100-continue",
            chat(
                &format!("Content-Length: {n}\r\nExpect: 100-continue\r\nConnection: close\r\n"),
                &hello,
            ),
            1,
        ),
        (
            "Upgrade to h2c",
            chat(
                &format!(
                    "Content-Length: {n}\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
                ),
                &hello,
            ),
            1,
        ),
        (
            "Connection names CL",
            chat(
                &format!("Content-Length: {n}\r\nConnection: close, content-length\r\n"),
                &hello,
            ),
            1,
        ),
        (
            "WebSocket without a body",
            format!(
                "{}{smuggled}",
                health("Connection: Upgrade\r\nUpgrade: websocket\r\n")
            ),
            1,
        ),
    ]
}
