//! Images by URL: what is fetched, what is refused, in which order they arrive.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use porthole::{engine::Part, media::budget::ImageGeometry, state::EngineState};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    fake_engine::{FakeEngine, fake_server},
    helpers::{about, config, data_url, png, start},
};

/// A small web server for images and for everything that goes wrong with them. Returns its address
/// and how many connections it has had.
async fn web() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = [0_u8; 4096];
                let n = socket.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..n]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or("/").to_string();
                serve(&mut socket, &path).await;
            });
        }
    });
    (base, connections)
}

async fn serve(socket: &mut tokio::net::TcpStream, path: &str) {
    let ok = |kind: &str, body: &[u8]| {
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    };
    let redirect = |to: &str| {
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        .into_bytes()
    };
    let answer = match path {
        // The type is by content, whatever the server says.
        "/red.png" => ok("text/plain", &png(64, 64, [255, 0, 0])),
        "/late-blue.png" => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            ok("image/png", &png(64, 64, [0, 0, 255]))
        }
        "/page" => ok(
            "image/png",
            b"<!doctype html><html><body>an image</body></html>",
        ),
        "/once" => redirect("/red.png"),
        "/loop" => redirect("/loop"),
        "/to-file" => redirect("file:///etc/passwd"),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            Vec::new()
        }
        "/slow-body" => {
            let _ = socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n\x89PNG")
                .await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            Vec::new()
        }
        // A coding is refused before it is inflated, whatever it would hold.
        "/gzip" => {
            let mut bytes =
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9\r\n\r\n".to_vec();
            bytes.extend(b"\x1f\x8b\x08\0\0\0\0\0\0");
            bytes
        }
        "/short" => {
            b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\nconnection: close\r\n\r\n\x89PNG".to_vec()
        }
        "/lying" => {
            let image = png(64, 64, [255, 0, 0]);
            let mut bytes =
                b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\nconnection: close\r\n\r\n".to_vec();
            bytes.extend(image);
            bytes
        }
        "/silent" => Vec::new(),
        "/endless" => {
            let _ = socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
                .await;
            let chunk = vec![7_u8; 1 << 16];
            while socket.write_all(&chunk).await.is_ok() {}
            Vec::new()
        }
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
    };
    let _ = socket.write_all(&answer).await;
}

#[tokio::test]
async fn images_load_in_parallel_and_keep_their_order() {
    let (server, engine) = fake_server();
    let (web, _) = web().await;
    let green = data_url(&png(64, 64, [0, 255, 0]));
    let urls = [
        format!("{web}/late-blue.png"),
        format!("{web}/red.png"),
        green,
        format!("{web}/late-blue.png"),
        format!("{web}/once"),
    ];
    let parts: Vec<Value> = urls
        .iter()
        .map(|url| json!({"type": "image_url", "image_url": {"url": url}}))
        .collect();
    let started = Instant::now();
    let (status, json) = server
        .ask(&json!({"model": "demo", "messages": [{"role": "user", "content": parts}]}))
        .await;
    assert_eq!(status, 200, "{json}");
    assert!(
        started.elapsed() < Duration::from_millis(390),
        "one after the other: {:?}",
        started.elapsed()
    );
    let asked = engine.asked.lock().unwrap();
    let images = asked[0].images.iter();
    let colors: Vec<[u8; 3]> = images.map(|image| image.get_pixel(5, 5).0).collect();
    assert_eq!(
        colors,
        [
            [0, 0, 255],
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [255, 0, 0]
        ]
    );
}

#[tokio::test]
async fn what_goes_wrong_with_a_url_is_told_fast() {
    let mut config = config();
    config.images.fetch_timeout = 1;
    config.images.max_bytes = 1 << 20;
    let engine = FakeEngine::new();
    let server = start(config, EngineState::Loaded(engine.clone()));
    let (web, _) = web().await;
    for (path, status, code, word) in [
        ("/missing", 400, "image_fetch_failed", "404"),
        ("/page", 415, "unsupported_image_type", "PNG"),
        ("/loop", 400, "image_fetch_failed", "redirects"),
        ("/to-file", 400, "invalid_image_url", "redirects"),
        ("/slow", 400, "image_fetch_failed", "from this URL"),
        ("/slow-body", 400, "image_fetch_failed", "seconds"),
        ("/gzip", 400, "image_fetch_failed", "coding"),
        ("/short", 400, "image_fetch_failed", "broke off"),
        ("/lying", 422, "invalid_image", "damaged"),
        ("/silent", 400, "image_fetch_failed", "from this URL"),
        ("/endless", 413, "image_too_large", "bytes"),
    ] {
        let started = Instant::now();
        let (got, json) = server.ask(&about(&format!("{web}{path}"), "x")).await;
        assert_eq!(
            (got, &json["error"]["code"]),
            (status, &json!(code)),
            "{path}: {json}"
        );
        assert!(
            json["error"]["message"].as_str().unwrap().contains(word),
            "{path}: {json}"
        );
        assert_eq!(
            json["error"]["param"],
            "messages[0].content[0].image_url.url"
        );
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{path} took {:?}",
            started.elapsed()
        );
    }
    assert_eq!(engine.times_asked(), 0);
}

#[tokio::test]
async fn inner_addresses_are_never_connected_to() {
    let mut config = config();
    config.images.allow_private_addresses = false;
    let engine = FakeEngine::new();
    let server = start(config, EngineState::Loaded(engine.clone()));
    let (web, connections) = web().await;
    let port = web.rsplit(':').next().unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
    ] {
        let (status, json) = server
            .ask(&about(&format!("http://{host}:{port}/red.png"), "x"))
            .await;
        assert_eq!(status, 400, "{host}: {json}");
        assert_eq!(
            json["error"]["code"], "image_fetch_failed",
            "{host}: {json}"
        );
        // The same words as for a host that is not there: nothing is told of the inside.
        let (_, absent) = server
            .ask(&about("http://no-such-host.invalid/red.png", "x"))
            .await;
        assert_eq!(
            json["error"]["message"], absent["error"]["message"],
            "{host}"
        );
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    assert_eq!(engine.times_asked(), 0);
}

#[tokio::test]
async fn limits_on_count_and_size_are_those_of_the_configuration() {
    let mut config = config();
    config.images.max_count = 2;
    config.images.max_input_pixels = 10_000;
    let server = start(config, EngineState::Loaded(FakeEngine::new()));
    let small = data_url(&png(50, 50, [0; 3]));
    let parts: Vec<Value> = (0..3)
        .map(|_| json!({"type": "image_url", "image_url": {"url": small}}))
        .collect();
    let (status, json) = server
        .ask(&json!({"model": "demo", "messages": [{"role": "user", "content": parts}]}))
        .await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (400, &json!("too_many_images"))
    );
    let (status, json) = server
        .ask(&about(&data_url(&png(101, 100, [0; 3])), "x"))
        .await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (413, &json!("image_too_large"))
    );
    let whole = png(90, 90, [9; 3]);
    let (status, json) = server
        .ask(&about(&data_url(&whole[..whole.len() - 30]), "x"))
        .await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (422, &json!("invalid_image"))
    );
}

#[tokio::test]
async fn detail_decides_the_size_that_the_model_sees() {
    let (server, engine) = fake_server();
    let image = data_url(&png(1600, 1600, [50; 3]));
    for detail in ["low", "auto", "high", "original"] {
        let mut body = about(&image, "x");
        body["messages"][0]["content"][0]["image_url"]["detail"] = json!(detail);
        let (status, json) = server.ask(&body).await;
        assert_eq!(status, 200, "{json}");
    }
    let asked = engine.asked.lock().unwrap();
    let sizes: Vec<(u32, u32)> = asked
        .iter()
        .map(|asked| match &asked.turns[0].parts[0] {
            Part::Image(size) => {
                assert_eq!(asked.images[0].dimensions(), *size);
                *size
            }
            Part::Text(_) => panic!("the image comes first"),
        })
        .collect();
    assert_eq!(
        sizes,
        [(512, 512), (1024, 1024), (1600, 1600), (1600, 1600)]
    );
}

/// Every file of the corpus is an image or a clear 4xx, in bounded time.
#[tokio::test]
async fn every_file_of_the_corpus_is_answered_or_refused() {
    let corpora = std::env::var("PORTHOLE_CORPORA").unwrap_or_else(|_| "../shared/corpora".into());
    let archive = PathBuf::from(corpora).join("images.tar.gz");
    if !archive.is_file() {
        let text = format!(
            "LEFT OUT: {} is not there; set PORTHOLE_CORPORA\n",
            archive.display()
        );
        // Not through `eprintln!`, whose words a passing test swallows.
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unpacked = std::process::Command::new("tar")
        .arg("xzf")
        .arg(&archive)
        .arg("-C")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(unpacked.success(), "the corpus cannot be read");

    let (server, _) = fake_server();
    let (mut images, mut refused) = (0, 0);
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = std::fs::read(entry.path()).unwrap();
            let started = Instant::now();
            let (status, json) = server.ask(&about(&data_url(&bytes), "x")).await;
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{:?} is slow",
                entry.path()
            );
            match status {
                200 => images += 1,
                400 | 413 | 415 | 422 => refused += 1,
                _ => panic!("{:?}: {status} {json}", entry.path()),
            }
        }
    }
    println!("{images} images, {refused} refused");
    assert!(
        images > 100 && refused > 100,
        "{images} images, {refused} refused"
    );
}

#[tokio::test]
async fn no_more_images_than_the_engine_survives_and_none_where_the_model_is_blind() {
    let one = ImageGeometry::Padded {
        side: 336,
        tokens: 576,
    };
    for (geometry, images, expected) in [
        (Some(one), 1, (200, Value::Null)),
        (Some(one), 2, (400, json!("too_many_images"))),
        (None, 1, (400, json!("unsupported_value"))),
    ] {
        let engine = FakeEngine::with_geometry(geometry);
        let server = start(config(), EngineState::Loaded(engine.clone()));
        let image = data_url(&png(64, 64, [1, 2, 3]));
        let part = json!({"type": "image_url", "image_url": {"url": image}});
        let body =
            json!({"model": "demo", "messages": [{"role": "user", "content": vec![part; images]}]});
        let (status, answer) = server.ask(&body).await;
        assert_eq!(
            (status, answer["error"]["code"].clone()),
            expected,
            "{answer}"
        );
        assert_eq!(engine.times_asked(), usize::from(status == 200));
    }
}
