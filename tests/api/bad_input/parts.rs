//! Parts of messages.

use super::{Case, MISSING, Row, TYPE, UNKNOWN, UNSUPPORTED_VALUE, VALUE};

pub(super) const PARTS: &[Row] = &[
    (TYPE, "messages[0].content[0]", r#""x""#),
    (TYPE, "messages[0].content[0]", "null"),
    (TYPE, "messages[0].content[0]", "[]"),
    (
        TYPE,
        "messages[0].content[1]",
        r#"{"type":"text","text":"x"},1"#,
    ),
    (MISSING, "messages[0].content[0].type", "{}"),
    (MISSING, "messages[0].content[0].type", r#"{"text":"x"}"#),
    (
        TYPE,
        "messages[0].content[0].type",
        r#"{"type":1,"text":"x"}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].type",
        r#"{"type":null,"text":"x"}"#,
    ),
    (
        VALUE,
        "messages[0].content[0].type",
        r#"{"type":"video","video":1}"#,
    ),
    (
        VALUE,
        "messages[0].content[0].type",
        r#"{"type":"image","image":"x"}"#,
    ),
    (
        VALUE,
        "messages[0].content[0].type",
        r#"{"type":"Text","text":"x"}"#,
    ),
    (
        VALUE,
        "messages[0].content[0].type",
        r#"{"type":"","text":"x"}"#,
    ),
    (
        VALUE,
        "messages[0].content[0].type",
        r#"{"type":"input_text","text":"x"}"#,
    ),
    (
        UNSUPPORTED_VALUE,
        "messages[0].content[0].type",
        r#"{"type":"input_audio","input_audio":{}}"#,
    ),
    (
        UNSUPPORTED_VALUE,
        "messages[0].content[0].type",
        r#"{"type":"file","file":{"file_id":"f"}}"#,
    ),
    (
        UNSUPPORTED_VALUE,
        "messages[0].content[0].type",
        r#"{"type":"refusal","refusal":"no"}"#,
    ),
    (MISSING, "messages[0].content[0].text", r#"{"type":"text"}"#),
    (
        MISSING,
        "messages[0].content[0].text",
        r#"{"type":"text","text":null}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].text",
        r#"{"type":"text","text":1}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].text",
        r#"{"type":"text","text":["x"]}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].text",
        r#"{"type":"text","text":{"value":"x"}}"#,
    ),
    (
        UNKNOWN,
        "messages[0].content[0].foo",
        r#"{"type":"text","text":"x","foo":1}"#,
    ),
    (
        UNKNOWN,
        "messages[0].content[0].image_url",
        r#"{"type":"text","text":"x","image_url":{"url":"http://a/"}}"#,
    ),
    (
        MISSING,
        "messages[0].content[0].image_url",
        r#"{"type":"image_url"}"#,
    ),
    (
        MISSING,
        "messages[0].content[0].image_url",
        r#"{"type":"image_url","image_url":null}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].image_url",
        r#"{"type":"image_url","image_url":"http://a/"}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].image_url",
        r#"{"type":"image_url","image_url":[]}"#,
    ),
    (
        UNKNOWN,
        "messages[0].content[0].url",
        r#"{"type":"image_url","url":"http://a/"}"#,
    ),
    (
        MISSING,
        "messages[0].content[0].image_url.url",
        r#"{"type":"image_url","image_url":{}}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].image_url.url",
        r#"{"type":"image_url","image_url":{"url":1}}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].image_url.url",
        r#"{"type":"image_url","image_url":{"url":null}}"#,
    ),
    (
        TYPE,
        "messages[0].content[0].image_url.detail",
        r#"{"type":"image_url","image_url":{"url":"x","detail":1}}"#,
    ),
    (
        VALUE,
        "messages[0].content[0].image_url.detail",
        r#"{"type":"image_url","image_url":{"url":"x","detail":"ultra"}}"#,
    ),
    (
        VALUE,
        "messages[0].content[0].image_url.detail",
        r#"{"type":"image_url","image_url":{"url":"x","detail":""}}"#,
    ),
    (
        UNKNOWN,
        "messages[0].content[0].image_url.file_id",
        r#"{"type":"image_url","image_url":{"url":"x","file_id":"f"}}"#,
    ),
];

/// URLs that are refused before or by their content.
const URLS: &[(u16, &str, &str)] = &[
    (400, "invalid_image_url", ""),
    (400, "invalid_image_url", " "),
    (400, "invalid_image_url", "cat.png"),
    (400, "invalid_image_url", "//example.com/a.png"),
    (400, "invalid_image_url", "http://"),
    (400, "invalid_image_url", "http://:80/"),
    (400, "invalid_image_url", "file:///etc/passwd"),
    (400, "invalid_image_url", "ftp://example.com/a.png"),
    (400, "invalid_image_url", "gopher://example.com/"),
    (400, "invalid_image_url", "javascript:alert(1)"),
    (400, "invalid_image_url", "blob:http://example.com/1"),
    (400, "invalid_image_url", "http://user:pw@example.com/a.png"),
    (400, "invalid_image_url", "data:"),
    (400, "invalid_image_url", "data:image/png"),
    (400, "invalid_image_url", "data:image/png;base64"),
    (400, "invalid_image_url", "data:image/png,abc"),
    (400, "invalid_base64", "data:image/png;base64,@@@"),
    (400, "invalid_base64", "data:image/png;base64,ab=c"),
    (
        415,
        "unsupported_image_type",
        "data:image/png;base64,aGVsbG8=",
    ),
    (
        415,
        "unsupported_image_type",
        "data:image/svg+xml;base64,PHN2Zy8+",
    ),
];

pub(super) fn images() -> Vec<Case> {
    let case = |(status, code, url): &(u16, &'static str, &str)| {
        let part = format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        let message = format!(r#"{{"role":"user","content":[{part}]}}"#);
        Case {
            status: *status,
            code,
            param: Some("messages[0].content[0].image_url.url"),
            body: format!(r#"{{"model":"demo","messages":[{message}]}}"#),
        }
    };
    URLS.iter().map(case).collect()
}
