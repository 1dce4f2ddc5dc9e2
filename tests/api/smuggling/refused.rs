//! Attacks on the bounds of a request.

use super::*;

/// Attacks on the bounds of a request: none may be served.
pub(super) fn refused() -> Vec<(&'static str, String)> {
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
