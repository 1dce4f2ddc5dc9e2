//! Browsers: whose scripts may read the answers, and what every answer tells a browser.

use porthole::state::EngineState;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use super::{
    fake_engine::{FakeEngine, fake_server},
    helpers::{TestServer, build, config, start, user},
};

const APP: &str = "https://app.example.com";

fn server(origins: &[&str]) -> TestServer {
    let mut config = config();
    config.server.cors_origins = origins.iter().map(ToString::to_string).collect();
    start(config, EngineState::Loaded(FakeEngine::new()))
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|v| v.to_str().unwrap())
}

fn request(server: &TestServer, method: Method, path: &str, origin: &str) -> RequestBuilder {
    let url = format!("{}{path}", server.base);
    server.client.request(method, url).header("Origin", origin)
}

fn preflight(server: &TestServer, origin: &str, method: &str, headers: &str) -> RequestBuilder {
    request(server, Method::OPTIONS, "/v1/chat/completions", origin)
        .header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", headers)
}

fn cors_headers(response: &Response) -> Vec<String> {
    let names = response.headers().keys().map(ToString::to_string);
    names.filter(|n| n.starts_with("access-control-")).collect()
}

/// What openai 7 for JavaScript sends from a browser.
const SDK_HEADERS: &str = "authorization,content-type,idempotency-key,openai-beta,openai-organization,\
    openai-project,x-request-id,x-stainless-arch,x-stainless-async,x-stainless-custom-poll-interval,\
    x-stainless-helper-method,x-stainless-lang,x-stainless-os,x-stainless-package-version,\
    x-stainless-poll-helper,x-stainless-retry-count,x-stainless-runtime,\
    x-stainless-runtime-version,x-stainless-timeout";

#[tokio::test]
async fn without_origins_no_answer_has_cors_headers() {
    let server = server(&[]);
    let models = request(&server, Method::GET, "/v1/models", APP);
    let models = models.send().await.unwrap();
    assert_eq!(models.status(), 200);
    assert!(cors_headers(&models).is_empty());
    let preflight = preflight(&server, APP, "POST", "authorization");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.status(), 405);
    assert!(cors_headers(&preflight).is_empty());
}

#[tokio::test]
async fn a_preflight_of_the_sdk_is_allowed_logged_and_reaches_no_route() {
    let server = server(&["http://localhost:3000", APP]);
    for origin in ["http://localhost:3000", APP] {
        let response = preflight(&server, origin, "POST", SDK_HEADERS);
        let response = response.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            Some(origin)
        );
        let methods = header(&response, "access-control-allow-methods").unwrap();
        for method in ["GET", "POST", "OPTIONS"] {
            assert!(methods.contains(method), "{methods}");
        }
        let allowed = header(&response, "access-control-allow-headers").unwrap();
        for name in SDK_HEADERS.split(',') {
            assert!(allowed.split(',').any(|a| a.trim() == name), "{name}");
        }
        assert_eq!(header(&response, "access-control-max-age"), Some("3600"));
        assert_eq!(header(&response, "access-control-allow-credentials"), None);
        assert!(header(&response, "vary").unwrap().contains("Origin"));
        assert!(header(&response, "x-request-id").is_some());
    }
    let counted = "porthole_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"}";
    assert_eq!(server.metric(counted).await, 2.0);
}

#[tokio::test]
async fn answers_and_errors_alike_can_be_read_by_an_allowed_origin() {
    let mut config = config();
    config.server.cors_origins = vec![APP.into()];
    config.server.max_body_bytes = 2000;
    config.server.max_concurrent_requests = 1;
    let server = start(config, EngineState::Loaded(FakeEngine::new()));
    let chat = |body: String| {
        request(&server, Method::POST, "/v1/chat/completions", APP)
            .header(
                "Content-Type",
                if body == "text" {
                    "text/plain"
                } else {
                    "application/json"
                },
            )
            .body(body)
    };
    let get = |path: &str| request(&server, Method::GET, path, APP);
    let mut hanging = user("hang");
    hanging["stream"] = true.into();
    let answers = [
        (200, get("/v1/models")),
        (200, chat(user("hi").to_string())),
        (400, chat("{".into())),
        (404, get("/v1/models/nothing")),
        (404, get("/nowhere")),
        (405, get("/v1/chat/completions")),
        (413, chat(user(&"x".repeat(3000)).to_string())),
        (415, chat("text".into())),
        // From here on the only place is taken.
        (200, chat(hanging.to_string())),
        (503, chat(user("hi").to_string())),
    ];
    let mut open = Vec::new();
    for (status, request) in answers {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            Some(APP),
            "{status}"
        );
        let exposed = header(&response, "access-control-expose-headers").unwrap();
        for name in [
            "x-request-id",
            "openai-processing-ms",
            "x-ratelimit-remaining-tokens",
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "x-porthole-ignored",
            "server-timing",
        ] {
            assert!(
                exposed.split(", ").any(|e| e == name),
                "{name} in {exposed}"
            );
        }
        assert!(header(&response, "vary").unwrap().contains("Origin"));
        assert_eq!(header(&response, "access-control-allow-credentials"), None);
        open.push(response);
    }
}

#[tokio::test]
async fn another_origin_gets_no_cors_headers_and_its_preflight_a_clear_refusal() {
    let server = server(&[APP]);
    for origin in [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "https://sub.app.example.com",
        "null",
    ] {
        let response = preflight(&server, origin, "POST", "authorization");
        let response = response.send().await.unwrap();
        assert_eq!(response.status(), 400, "{origin}");
        assert!(cors_headers(&response).is_empty());
        let json: Value = response.json().await.unwrap();
        assert_eq!(json["error"]["code"], "cors_refused");
        assert_eq!(json["error"]["type"], "invalid_request_error");
        assert!(json["error"]["message"].as_str().unwrap().contains("rigin"));

        let response = request(&server, Method::GET, "/v1/models", origin);
        let response = response.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(cors_headers(&response).is_empty(), "{origin}");
        assert!(header(&response, "vary").unwrap().contains("Origin"));
    }
    for method in ["PUT", "DELETE", "PATCH", "TRACE"] {
        let response = preflight(&server, APP, method, "authorization");
        let response = response.send().await.unwrap();
        assert_eq!(response.status(), 400, "{method}");
        assert!(response.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn a_star_allows_every_origin_without_credentials() {
    let server = server(&["*"]);
    for origin in ["https://a.example", "null", "http://localhost:5173"] {
        let preflight = preflight(&server, origin, "POST", SDK_HEADERS);
        let get = request(&server, Method::GET, "/v1/models", origin);
        for request in [preflight, get] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
            assert_eq!(header(&response, "access-control-allow-credentials"), None);
        }
    }
}

#[actix_web::test]
async fn an_origin_that_no_browser_sends_is_refused_at_start() {
    for (origin, good) in [
        ("https://app.example.com", true),
        ("http://localhost:3000", true),
        ("http://[::1]:3000", true),
        ("capacitor://localhost", true),
        ("chrome-extension://abcdefghijklmnop", true),
        ("*", true),
        ("https://app.example.com/", false),
        ("https://App.example.com", false),
        ("https://app.example.com:443", false),
        ("app.example.com", false),
        ("https://*.example.com", false),
        ("null", false),
        ("", false),
    ] {
        let mut config = config();
        config.server.cors_origins = vec![origin.into()];
        match build(config) {
            Ok(_) => assert!(good, "{origin} was taken"),
            Err(error) => {
                assert!(!good, "{origin}: {error}");
                assert!(error.to_string().contains("server.cors_origins"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_that_it_is_data() {
    let (server, _) = fake_server();
    let mut streamed = user("hi");
    streamed["stream"] = true.into();
    let answers = [
        (server.get("/health").await, "no-store"),
        (server.get("/v1/models").await, "no-store"),
        (server.get("/nowhere").await, "no-store"),
        (server.chat(&user("hi")).await, "no-store"),
        (server.chat(&user("refuse")).await, "no-store"),
        (server.chat(&streamed).await, "no-cache"),
    ];
    for (response, caching) in answers {
        for (name, value) in [
            ("x-content-type-options", Some("nosniff")),
            ("cache-control", Some(caching)),
            (
                "content-security-policy",
                Some("default-src 'none'; frame-ancestors 'none'"),
            ),
            ("referrer-policy", Some("no-referrer")),
            ("x-frame-options", Some("DENY")),
            ("cross-origin-resource-policy", Some("same-origin")),
            // Only TLS may speak of TLS, and nothing of versions.
            ("strict-transport-security", None),
            ("server", None),
            ("x-powered-by", None),
        ] {
            assert_eq!(
                header(&response, name),
                value,
                "{name} of {}",
                response.url()
            );
        }
    }
}
