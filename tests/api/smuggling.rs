//! Requests whose bounds, hosts or targets two parsers could see differently (RFC 9112, section
//! 11.2): refused with the end of the connection, or exactly one request, never a smuggled one.

use std::sync::Arc;

use futures::future::join_all;
use porthole::{engine::Part, state::EngineState};

use super::{
    fake_engine::FakeEngine,
    helpers::{TestServer, config, start, user},
};

fn server() -> (TestServer, Arc<FakeEngine>) {
    let engine = FakeEngine::new();
    let mut config = config();
    config.server.header_timeout = 2;
    config.server.idle_timeout = 1;
    config.server.body_timeout = 2;
    config.server.max_connections_per_address = 1000;
    (start(config, EngineState::Loaded(engine.clone())), engine)
}

/// A chat request with these header lines (each with its line end) and this body.
fn chat(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
    )
}

/// The whole request that an attacker wants served in another's name.
fn smuggled() -> String {
    let body = user("smuggled").to_string();
    chat(
        &format!("Content-Length: {}\r\nConnection: close\r\n", body.len()),
        &body,
    )
}

fn hello() -> String {
    user("hello").to_string()
}

/// One chunk, with what follows the size.
fn chunk(text: &str, extension: &str) -> String {
    format!("{:x}{extension}\r\n{text}\r\n", text.len())
}

fn health(headers: &str) -> String {
    format!("GET /health HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

/// Attacks on the bounds of a request: none may be served.
fn refused() -> Vec<(&'static str, String)> {
    let (hello, smuggled) = (hello(), smuggled());
    let n = hello.len();
    let empty_chunks = format!("0\r\n\r\n{smuggled}");
    let sized = |value: &str| chat(&format!("Content-Length: {value}\r\n"), &hello);
    let coded = |lines: &str| chat(lines, &empty_chunks);
    let both = |coding: &str| {
        chat(
            &format!("Content-Length: {n}\r\n{coding}\r\n"),
            &format!("{hello}{smuggled}"),
        )
    };
    let chunked = |body: &str| {
        chat(
            "Transfer-Encoding: chunked\r\n",
            &format!("{body}{smuggled}"),
        )
    };
    let line = |line: &str| format!("{line}\r\n{smuggled}");
    vec![
        (
            "CL.TE",
            chat(
                &format!(
                    "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
                    empty_chunks.len()
                ),
                &empty_chunks,
            ),
        ),
        (
            "TE.CL",
            chat(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                &empty_chunks,
            ),
        ),
        (
            "TE.CL of 0",
            chat(
                "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
                &empty_chunks,
            ),
        ),
        (
            "TE twice",
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "TE chunked, identity",
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ),
        (
            "TE x, chunked",
            coded("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
        ),
        ("TE identity", coded("Transfer-Encoding: identity\r\n")),
        ("TE xchunked", coded("Transfer-Encoding: xchunked\r\n")),
        (
            "TE chunked, chunked",
            coded("Transfer-Encoding: chunked, chunked\r\n"),
        ),
        (
            "TE gzip, chunked",
            coded("Transfer-Encoding: gzip, chunked\r\n"),
        ),
        (
            "TE chunked, gzip",
            coded("Transfer-Encoding: chunked, gzip\r\n"),
        ),
        ("TE quoted", coded("Transfer-Encoding: \"chunked\"\r\n")),
        (
            "TE with a parameter",
            coded("Transfer-Encoding: chunked;q=1\r\n"),
        ),
        ("TE empty", coded("Transfer-Encoding: \r\n")),
        (
            "TE vertical tab",
            coded("Transfer-Encoding: \x0bchunked\r\n"),
        ),
        ("TE NUL", coded("Transfer-Encoding: chunked\0\r\n")),
        (
            "TE CR in the value",
            coded("Transfer-Encoding: chun\rked\r\n"),
        ),
        (
            "TE blank before the colon",
            coded("Transfer-Encoding : chunked\r\n"),
        ),
        (
            "TE tab before the colon",
            coded("Transfer-Encoding\t: chunked\r\n"),
        ),
        (
            "TE blank before the name",
            coded(" Transfer-Encoding: chunked\r\n"),
        ),
        ("TE obs-fold", coded("Transfer-Encoding:\r\n chunked\r\n")),
        (
            "TE folded behind another",
            coded("X: y\r\n Transfer-Encoding: chunked\r\n"),
        ),
        (
            "TE NUL in the name",
            coded("Transfer-Encoding\0: chunked\r\n"),
        ),
        ("TE with underscore", both("Transfer_Encoding: chunked")),
        (
            "TE with CL after a CR",
            coded("X: y\rTransfer-Encoding: chunked\r\n"),
        ),
        (
            "CL with underscore",
            chat(
                "Content_Length: 5\r\nTransfer-Encoding: chunked\r\n",
                &empty_chunks,
            ),
        ),
        (
            "CL twice, equal",
            chat(
                &format!("Content-Length: {n}\r\nContent-Length: {n}\r\n"),
                &hello,
            ),
        ),
        (
            "CL twice, unequal",
            chat(
                &format!("Content-Length: {n}\r\nContent-Length: 5\r\n"),
                &hello,
            ),
        ),
        (
            "CL twice, first 0",
            chat(
                &format!("Content-Length: 0\r\nContent-Length: {n}\r\n"),
                &smuggled,
            ),
        ),
        ("CL list, equal", sized(&format!("{n}, {n}"))),
        ("CL list, unequal", sized(&format!("0, {n}"))),
        ("CL plus", sized(&format!("+{n}"))),
        ("CL minus", sized(&format!("-{n}"))),
        ("CL minus zero", sized("-0")),
        ("CL hex", sized(&format!("0x{n:x}"))),
        ("CL letters", sized("abc")),
        ("CL empty", sized("")),
        ("CL blank inside", sized("1 0")),
        ("CL fraction", sized("10.0")),
        ("CL exponent", sized("1e2")),
        ("CL underscore", sized("1_0")),
        ("CL overflow", sized("18446744073709551617")),
        ("CL 10^40", sized(&format!("1{}", "0".repeat(40)))),
        (
            "CL blank before the colon",
            chat(&format!("Content-Length : {n}\r\n"), &hello),
        ),
        (
            "CL obs-fold",
            chat(&format!("Content-Length:\r\n {n}\r\n"), &hello),
        ),
        ("CL NUL", sized("5\0")),
        ("CL full-width digits", sized("\u{ff15}")),
        (
            "CL longer than the body",
            chat(&format!("Content-Length: {}\r\n", n + 100), &hello),
        ),
        (
            "chunk size with sign",
            chunked(&format!("+{n:x}\r\n{hello}\r\n0\r\n\r\n")),
        ),
        (
            "chunk size 0x",
            chunked(&format!("0x{n:x}\r\n{hello}\r\n0\r\n\r\n")),
        ),
        (
            "chunk size empty",
            chunked(&format!("\r\n{hello}\r\n0\r\n\r\n")),
        ),
        ("chunk size letters", chunked("zz\r\nhello\r\n0\r\n\r\n")),
        ("chunk size minus", chunked("-5\r\nhello\r\n0\r\n\r\n")),
        (
            "chunk size overflow",
            chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "chunk size of 64 bits",
            chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "chunk size with blanks inside",
            chunked("1 0\r\nhello\r\n0\r\n\r\n"),
        ),
        ("chunk too long", chunked("5\r\nhello world\r\n0\r\n\r\n")),
        ("chunk too short", chunked("5\r\nhi\r\n0\r\n\r\n")),
        ("chunk ended by LF", chunked("5\r\nhello\n0\r\n\r\n")),
        ("chunk size ended by LF", chunked("5\nhello\r\n0\r\n\r\n")),
        (
            "chunk extension with LF",
            chunked("5;a\nhello\r\n0\r\n\r\n"),
        ),
        (
            "chunk extension with NUL",
            chunked("5;a\0b\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "chunk extension with CR",
            chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ),
        ("no Host", format!("GET /health HTTP/1.1\r\n\r\n{smuggled}")),
        ("two Hosts", format!("{}{smuggled}", health("Host: y\r\n"))),
        (
            "two equal Hosts",
            format!("{}{smuggled}", health("Host: x\r\n")),
        ),
        ("no colon", format!("{}{smuggled}", health("Whatever\r\n"))),
        ("empty name", format!("{}{smuggled}", health(": x\r\n"))),
        (
            "blank in a name",
            format!("{}{smuggled}", health("A b: x\r\n")),
        ),
        (
            "CR in a value",
            format!("{}{smuggled}", health("A: x\ry\r\n")),
        ),
        (
            "NUL in a value",
            format!("{}{smuggled}", health("A: x\0y\r\n")),
        ),
        (
            "obs-fold",
            format!("{}{smuggled}", health("A: x\r\n y\r\n")),
        ),
        ("HTTP/0.9", line("GET /health\r\n")),
        ("HTTP/1.2", line("GET /health HTTP/1.2\r\nHost: x\r\n")),
        ("HTTP/2.0", line("GET /health HTTP/2.0\r\nHost: x\r\n")),
        ("HTTP/2 preface", line("PRI * HTTP/2.0\r\n\r\nSM\r\n")),
        ("http/1.1", line("GET /health http/1.1\r\nHost: x\r\n")),
        (
            "no version number",
            line("GET /health HTTP/\r\nHost: x\r\n"),
        ),
        (
            "blank in the target",
            line("GET /health x HTTP/1.1\r\nHost: x\r\n"),
        ),
        (
            "LF in the target",
            line("GET /heal\nth HTTP/1.1\r\nHost: x\r\n"),
        ),
        (
            "NUL in the target",
            line("GET /health\0 HTTP/1.1\r\nHost: x\r\n"),
        ),
        (
            "1.0 with TE",
            format!(
                "POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{empty_chunks}"
            ),
        ),
        (
            "1.0 POST without CL",
            format!("POST /v1/chat/completions HTTP/1.0\r\n\r\n{smuggled}"),
        ),
        (
            "WebSocket with a body",
            chat(
                &format!("Content-Length: {n}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
                &format!("{hello}{smuggled}"),
            ),
        ),
        ("CONNECT", line("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n")),
        (
            "TLS on a plain port",
            "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".into(),
        ),
    ]
}

/// What has one meaning only, though not every server likes it: this many answers of 200.
fn served() -> Vec<(&'static str, String, usize)> {
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

fn statuses(said: &str) -> Vec<u16> {
    // "1 200 OK" or "0 200 OK"
    let heads = said.split("HTTP/1.").skip(1);
    let statuses = heads.map(|head| head[2..5].parse().unwrap());
    statuses.filter(|status| *status != 100).collect()
}

#[tokio::test]
async fn what_two_parsers_could_see_differently_is_refused_and_nothing_behind_it_is_served() {
    let (server, engine) = server();
    let cases = refused();
    assert!(cases.len() >= 60, "{}", cases.len());
    let said = join_all(cases.iter().map(|(_, bytes)| server.raw(bytes.as_bytes()))).await;
    let mut wrong = Vec::new();
    for ((name, _), said) in cases.iter().zip(&said) {
        let statuses = statuses(said);
        // 400, 408 or nothing; whatever follows on the connection is refused too.
        if !statuses.iter().all(|status| (400..500).contains(status)) {
            wrong.push(format!("{name}: {statuses:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(engine.times_asked(), 0);
    server.metric_becomes("porthole_connections", 0.0).await;
}

#[tokio::test]
async fn what_has_one_meaning_is_served_once_and_what_it_carries_is_not() {
    let (server, engine) = server();
    let cases = served();
    let said = join_all(
        cases
            .iter()
            .map(|(_, bytes, _)| server.raw(bytes.as_bytes())),
    )
    .await;
    let mut wrong = Vec::new();
    for ((name, _, expected), said) in cases.iter().zip(&said) {
        let statuses = statuses(said);
        let fine = statuses.iter().filter(|status| **status == 200).count();
        if fine != *expected || statuses.iter().any(|status| *status >= 500) {
            wrong.push(format!("{name}: {statuses:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let chats = cases
        .iter()
        .filter(|(_, bytes, _)| bytes.contains("\"hello\""))
        .count();
    let asked = engine.asked.lock().unwrap().clone();
    for request in &asked {
        let Some(Part::Text(text)) = request.turns[0].parts.first() else {
            panic!("{request:?}");
        };
        assert_eq!(text, "hello");
    }
    assert_eq!(asked.len(), chats);
    server.metric_becomes("porthole_connections", 0.0).await;
}

#[tokio::test]
async fn neither_host_nor_the_form_of_the_target_moves_a_request_to_another_route() {
    let (server, engine) = server();
    for host in [
        "x/health",
        "x?/health",
        "x#/health",
        "u@x",
        "/health",
        "x/../health",
        "x\\health",
        "x,y",
        "x y",
        "http://x",
        "x:80/health",
        "x:port",
        "x:80:80",
        "[::1",
        "[x]",
        "[::1]x",
        "x%2fhealth",
        "x;y",
        "x\u{e9}",
        "*",
        "<x>",
    ] {
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n{}",
            smuggled()
        );
        let said = server.raw(request.as_bytes()).await;
        let statuses = statuses(&said);
        assert!(
            !statuses.is_empty() && statuses.iter().all(|s| *s == 400),
            "{host}: {said}"
        );
        assert!(said.contains("connection: close"), "{said}");
    }
    for host in [
        "x",
        "x:80",
        "x:",
        "",
        "127.0.0.1:8080",
        "[::1]:8080",
        "a-b.example_1.com",
    ] {
        let request =
            format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let said = server.raw(request.as_bytes()).await;
        assert_eq!(statuses(&said), [200], "{host}: {said}");
        assert!(said.contains("\"object\":\"list\""), "{said}");
    }
    // The answer of /health has `status`, that of /v1/models `object`.
    for (target, status, marker) in [
        ("http://x/v1/models", 200, "\"object\":\"list\""),
        ("http://health/v1/models", 200, "\"object\":\"list\""),
        (
            "HTTP://evil.example/health?/v1/models",
            200,
            "\"status\":\"ok\"",
        ),
        ("https://x/health", 200, "\"status\":\"ok\""),
        ("http://x", 404, "unknown_url"),
        ("http://u@x/health", 400, "target"),
        ("ftp://x/health", 400, "target"),
        ("x:80", 400, "target"),
        ("health", 400, "target"),
        ("*", 400, "target"),
        ("//health", 404, "unknown_url"),
        ("//x/health", 404, "unknown_url"),
        ("/health/", 404, "unknown_url"),
        ("/HEALTH", 404, "unknown_url"),
        ("/v1/../health", 404, "unknown_url"),
        ("/v1/%2e%2e/health", 404, "unknown_url"),
        ("/v1%2fmodels", 404, "unknown_url"),
        ("/health;x=/v1/models", 404, "unknown_url"),
        ("/health?x=/v1/models#y", 200, "\"status\":\"ok\""),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let said = server.raw(request.as_bytes()).await;
        assert_eq!(statuses(&said), [status], "{target}: {said}");
        assert!(said.contains(marker), "{target}: {said}");
    }
    assert_eq!(engine.times_asked(), 0);
}
