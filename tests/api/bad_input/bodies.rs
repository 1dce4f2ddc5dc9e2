//! Whole bodies, and the fields that are not of a kind of their own.

use super::{Case, MISSING, Row, TYPE, UNKNOWN, UNSUPPORTED, VALUE};

/// Bodies that are no JSON, with the code that all of them earn.
const NOT_JSON: &[&str] = &[
    "",
    " ",
    "{",
    "}",
    "{}}",
    "{} {}",
    "nope",
    "{\"model\": NaN}",
    "{\"model\": Infinity}",
    "{\"temperature\": -Infinity}",
    "{\"model\": 1e999}",
    "{\"seed\": 01}",
    "{\"seed\": +1}",
    "{\"seed\": .5}",
    "{\"seed\": 0x10}",
    "{\"model\": 'demo'}",
    "{model: \"demo\"}",
    "{\"model\": \"demo\",}",
    "{\"model\": \"demo\" // comment\n}",
    "{\"model\": \"\\ud800\"}",
    "{\"model\": \"\\udc00\\ud800\"}",
    "{\"\\ud800\": 1}",
    "{\"model\": \"\\x41\"}",
    "{\"model\": \"tab\there\"}",
    "{\"model\": \"a\", \"model\": \"b\"}",
    "{\"model\": \"a\", \"mod\\u0065l\": \"b\"}",
    "{\"metadata\": {\"a\": 1, \"a\": 2}}",
    "{\"messages\": [{\"role\": \"user\", \"role\": \"system\", \"content\": \"x\"}]}",
    "{\"tools\": [{\"type\": \"function\", \"type\": \"custom\"}]}",
    "\u{feff}{\"model\": \"demo\"}",
    "{\"model\": \"demo\"\0}",
];

/// Bodies that are JSON and no object.
const NO_OBJECT: &[&str] = &[
    "[]",
    "null",
    "true",
    "1",
    "\"text\"",
    "[{\"model\": \"demo\"}]",
];

pub(super) fn cases() -> Vec<Case> {
    let without_param = |code| {
        move |body: &&str| Case {
            status: 400,
            code,
            param: None,
            body: (*body).to_string(),
        }
    };
    let mut cases: Vec<Case> = NOT_JSON.iter().map(without_param("invalid_json")).collect();
    cases.extend(NO_OBJECT.iter().map(without_param("invalid_type")));
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    let models: [(u16, &str, &str); 8] = [
        (400, MISSING, ""),
        (400, TYPE, r#""model":3,"#),
        (400, TYPE, r#""model":null,"#),
        (400, TYPE, r#""model":["demo"],"#),
        (400, TYPE, r#""model":{"id":"demo"},"#),
        (404, "model_not_found", r#""model":"gpt-4o","#),
        (404, "model_not_found", r#""model":"","#),
        (404, "model_not_found", r#""model":"DEMO","#),
    ];
    cases.extend(models.map(|(status, code, model)| Case {
        status,
        code,
        param: Some("model"),
        body: format!("{{{model}{messages}}}"),
    }));
    cases.push(Case {
        status: 400,
        code: MISSING,
        param: Some("messages"),
        body: r#"{"model":"demo"}"#.into(),
    });
    cases
}

pub(super) const FIELDS: &[Row] = &[
    (UNKNOWN, "frobnicate", r#""frobnicate":1"#),
    (UNKNOWN, "Temperature", r#""Temperature":1"#),
    (UNKNOWN, "temperature ", r#""temperature ":1"#),
    (UNKNOWN, "temperature\u{0}", r#""temperature\u0000":1"#),
    (UNKNOWN, "", r#""":1"#),
    (UNKNOWN, "best_of", r#""best_of":2"#),
    (UNKNOWN, "prompt", r#""prompt":"hi""#),
    (UNKNOWN, "__proto__", r#""__proto__":{}"#),
    // What is not honoured.
    (UNSUPPORTED, "modalities", r#""modalities":["audio"]"#),
    (
        UNSUPPORTED,
        "modalities",
        r#""modalities":["text","audio"]"#,
    ),
    (UNSUPPORTED, "modalities", r#""modalities":[]"#),
    (UNSUPPORTED, "modalities", r#""modalities":"text""#),
    (
        UNSUPPORTED,
        "audio",
        r#""audio":{"voice":"alloy","format":"wav"}"#,
    ),
    (UNSUPPORTED, "audio", r#""audio":1"#),
    (UNSUPPORTED, "moderation", r#""moderation":{}"#),
    (
        UNSUPPORTED,
        "web_search_options",
        r#""web_search_options":{}"#,
    ),
    (UNSUPPORTED, "functions", r#""functions":[{"name":"f"}]"#),
    (UNSUPPORTED, "functions", r#""functions":{}"#),
    (
        UNSUPPORTED,
        "function_call",
        r#""function_call":{"name":"f"}"#,
    ),
    (
        UNSUPPORTED,
        "function_call",
        r#""function_call":"required""#,
    ),
    // What has no effect has a type all the same.
    (TYPE, "user", r#""user":1"#),
    (TYPE, "user", r#""user":["me"]"#),
    (TYPE, "safety_identifier", r#""safety_identifier":{}"#),
    (TYPE, "metadata", r#""metadata":"a""#),
    (TYPE, "metadata", r#""metadata":[]"#),
    (TYPE, "store", r#""store":"yes""#),
    (TYPE, "store", r#""store":0"#),
    (TYPE, "prompt_cache_key", r#""prompt_cache_key":1"#),
    (
        TYPE,
        "prompt_cache_options",
        r#""prompt_cache_options":"x""#,
    ),
    (
        TYPE,
        "prompt_cache_retention",
        r#""prompt_cache_retention":24"#,
    ),
    (TYPE, "prediction", r#""prediction":"x""#),
    (TYPE, "verbosity", r#""verbosity":1"#),
    (VALUE, "verbosity", r#""verbosity":"loud""#),
    (VALUE, "verbosity", r#""verbosity":"""#),
    // How the answer is sent.
    (TYPE, "stream", r#""stream":"yes""#),
    (TYPE, "stream", r#""stream":1"#),
    (TYPE, "stream", r#""stream":[true]"#),
    (
        VALUE,
        "stream_options",
        r#""stream_options":{"include_usage":true}"#,
    ),
    (
        VALUE,
        "stream_options",
        r#""stream_options":{},"stream":false"#,
    ),
    (
        TYPE,
        "stream_options",
        r#""stream":true,"stream_options":true"#,
    ),
    (
        TYPE,
        "stream_options",
        r#""stream":true,"stream_options":["include_usage"]"#,
    ),
    (
        TYPE,
        "stream_options.include_usage",
        r#""stream":true,"stream_options":{"include_usage":"true"}"#,
    ),
    (
        TYPE,
        "stream_options.include_obfuscation",
        r#""stream":true,"stream_options":{"include_obfuscation":1}"#,
    ),
    (
        UNKNOWN,
        "stream_options.usage",
        r#""stream":true,"stream_options":{"usage":true}"#,
    ),
    (TYPE, "service_tier", r#""service_tier":1"#),
    (VALUE, "service_tier", r#""service_tier":"vip""#),
    (VALUE, "service_tier", r#""service_tier":"""#),
    (TYPE, "n", r#""n":"2""#),
    (TYPE, "n", r#""n":true"#),
    (VALUE, "n", r#""n":0"#),
    (VALUE, "n", r#""n":-1"#),
    (VALUE, "n", r#""n":17"#),
    (VALUE, "n", r#""n":1.5"#),
    (VALUE, "n", r#""n":1000000000"#),
    (VALUE, "n", r#""n":18446744073709551617"#),
    (TYPE, "reasoning_effort", r#""reasoning_effort":1"#),
    (
        TYPE,
        "reasoning_effort",
        r#""reasoning_effort":{"effort":"low"}"#,
    ),
    (VALUE, "reasoning_effort", r#""reasoning_effort":"""#),
    (VALUE, "reasoning_effort", r#""reasoning_effort":"LOW""#),
    (VALUE, "reasoning_effort", r#""reasoning_effort":"ultra""#),
];
