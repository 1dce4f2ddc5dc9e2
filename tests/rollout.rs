//! Servers that are replaced, killed and told of changes while clients stream from them: the binary
//! as processes of its own, behind the nginx that is shipped.

mod process;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use process::{Keys, Server, nginx::Nginx};
use reqwest::Client;
use serde_json::{Value, json};

/// Streams at once.
const CLIENTS: usize = 50;
const RESTARTS: usize = 10;
/// Between a server that is ready and the end of the next, as nginx.conf asks for.
const BETWEEN: Duration = Duration::from_secs(3);

/// One test at a time: each has processes of its own, which share the machine as it is.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A question of the reference, and its answer.
fn case(longest: bool) -> (Value, String) {
    let file: Value =
        serde_json::from_slice(&std::fs::read("models/demo/reference.json").unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap().iter();
    let text_only = cases.filter(|case| {
        case["images"].as_array().unwrap().is_empty()
            && case.get("tools").is_none_or(Value::is_null)
    });
    let tokens = |case: &&Value| case["completion_tokens"].as_u64().unwrap();
    let case = if longest {
        text_only.max_by_key(tokens)
    } else {
        text_only.min_by_key(tokens)
    };
    let case = case.unwrap();
    let answer = case["answer"].as_str().unwrap().to_string();
    (case["messages"].clone(), answer)
}

/// How a stream came out.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Whole, and right.
    Whole,
    /// Anything else.
    Broken(String),
}

async fn stream(client: &Client, base: &str, key: &str, case: &(Value, String)) -> Outcome {
    let body = json!({"model": "demo", "stream": true, "messages": case.0});
    let sent = client
        .post(format!("{base}/v1/chat/completions"))
        .bearer_auth(key)
        .json(&body)
        .send()
        .await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => return Outcome::Broken(error.to_string()),
    };
    let status = response.status();
    let text = match response.text().await {
        Ok(text) => text,
        Err(error) => return Outcome::Broken(error.to_string()),
    };
    let said: String = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| {
            let content = &chunk["choices"][0]["delta"]["content"];
            content.as_str().map(str::to_string)
        })
        .collect();
    if status == 200 && text.ends_with("data: [DONE]\n\n") && said == case.1 {
        Outcome::Whole
    } else {
        Outcome::Broken(format!("{status}: {text}"))
    }
}

async fn two(keys: &Keys) -> [Server; 2] {
    let settings = [
        ("PORTHOLE__SERVER__DRAIN_DELAY", "1"),
        ("PORTHOLE__LIMITS__MAX_QUEUE_TIME", "600"),
        ("PORTHOLE__SERVER__TRUSTED_PROXIES", "[\"127.0.0.1/32\"]"),
    ];
    [
        Server::start(keys, &settings).await,
        Server::start(keys, &settings).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stream_is_lost_in_ten_rolling_restarts() {
    let _alone = ALONE.lock().await;
    let mut keys = Keys::new();
    keys.create("app", &[]);
    let mut servers = two(&keys).await;
    let nginx = Nginx::start(&[&servers[0].base, &servers[1].base]);
    let over = Arc::new(AtomicBool::new(false));
    let whole = Arc::new(AtomicUsize::new(0));
    let asked = Arc::new((case(false), keys.of["app"].clone(), nginx.base.clone()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (over, whole, asked) = (over.clone(), whole.clone(), asked.clone());
            tokio::spawn(async move {
                let client = Client::new();
                let (case, key, base) = &*asked;
                let mut broken = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    match stream(&client, base, key, case).await {
                        Outcome::Whole => {
                            whole.fetch_add(1, Ordering::SeqCst);
                        }
                        Outcome::Broken(how) => broken.push(how),
                    }
                }
                broken
            })
        })
        .collect();

    for restart in 0..RESTARTS {
        let before = whole.load(Ordering::SeqCst);
        let server = &mut servers[restart % 2];
        server.signal("TERM");
        tells_that_it_ends(server).await;
        assert_eq!(server.ended().await, Some(0));
        server.start_again().await;
        assert_eq!(server.metric("porthole_draining").await, 0.0);
        tokio::time::sleep(BETWEEN).await;
        while whole.load(Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    over.store(true, Ordering::SeqCst);
    let mut broken = Vec::new();
    for client in clients {
        broken.extend(client.await.unwrap());
    }
    let whole = whole.load(Ordering::SeqCst);
    println!("{whole} streams whole, {} broken", broken.len());
    assert!(
        broken.is_empty(),
        "{} broken: {:?}",
        broken.len(),
        broken[0]
    );
    assert!(whole > CLIENTS * 2, "only {whole} streams");
}

/// While it still serves, it is not ready any more.
async fn tells_that_it_ends(server: &Server) {
    let client = Client::new();
    let started = Instant::now();
    loop {
        let ready = client.get(format!("{}/ready", server.base)).send().await;
        if ready.unwrap().status() == 503 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(1), "still ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.metric("porthole_draining").await, 1.0);
    assert_eq!(server.metric("porthole_ready").await, 0.0);
    let health = client.get(format!("{}/health", server.base)).send().await;
    assert_eq!(health.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_server_is_killed_its_clients_know_and_others_notice_nothing() {
    let _alone = ALONE.lock().await;
    let mut keys = Keys::new();
    keys.create("app", &[]);
    let mut servers = two(&keys).await;
    let nginx = Nginx::start(&[&servers[0].base, &servers[1].base]);
    let asked = Arc::new((case(true), keys.of["app"].clone(), nginx.base.clone()));
    let client = Client::new();
    let streams: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (asked, client) = (asked.clone(), client.clone());
            tokio::spawn(async move {
                let (case, key, base) = &*asked;
                let outcome = stream(&client, base, key, case).await;
                (outcome, Instant::now())
            })
        })
        .collect();
    // Both have begun, and have told all who wait that their answer is under way.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    servers[0].signal("KILL");
    let killed = Instant::now();
    let (mut whole, mut broken) = (0, 0);
    for stream in streams {
        match stream.await.unwrap() {
            (Outcome::Whole, _) => whole += 1,
            (Outcome::Broken(how), at) => {
                broken += 1;
                let late = at.saturating_duration_since(killed);
                assert!(late < Duration::from_secs(1), "{late:?} late: {how}");
            }
        }
    }
    println!("{whole} streams whole, {broken} told at once");
    assert!(whole > 0 && broken > 0, "{whole} whole, {broken} broken");
    let (case, key, base) = &*asked;
    for _ in 0..4 {
        assert_eq!(stream(&client, base, key, case).await, Outcome::Whole);
    }
    assert_eq!(servers[0].ended().await, None);
    servers[0].start_again().await;
    assert_eq!(
        stream(&client, &servers[0].base, key, case).await,
        Outcome::Whole
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_taken_on_and_a_broken_one_is_not() {
    let _alone = ALONE.lock().await;
    let mut keys = Keys::new();
    keys.create("app", &[]);
    let file = keys.folder.path().join("config.toml");
    std::fs::write(&file, "[log]\nfilter = \"warn\"\n").unwrap();
    let server = Server::start_with_file(&keys, &file).await;
    let reloads = async |outcome: &str| {
        let name = format!("porthole_config_reloads_total{{outcome=\"{outcome}\"}}");
        server.metric(&name).await
    };
    let client = Client::new();
    let ask = async || {
        let body = json!({"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]});
        let chat = client.post(format!("{}/v1/chat/completions", server.base));
        let sent = chat.bearer_auth(&keys.of["app"]).json(&body).send().await;
        sent.unwrap().status().as_u16()
    };
    assert_eq!(ask().await, 200);
    // By its file alone ...
    std::fs::write(&file, "[limits.default]\nrequests_per_minute = 1\n").unwrap();
    let started = Instant::now();
    while reloads("ok").await < 1.0 {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((ask().await, ask().await), (200, 429));
    // ... a broken one changes nothing ...
    std::fs::write(&file, "[limits.default]\nrequests_per_minuet = 1000\n").unwrap();
    server.signal("HUP");
    while reloads("error").await < 1.0 {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask().await, 429);
    // ... and a signal takes the next one on.
    std::fs::write(&file, "[limits.default]\nrequests_per_minute = 1000\n").unwrap();
    let before = reloads("ok").await;
    server.signal("HUP");
    while reloads("ok").await <= before {
        assert!(started.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What was used under the old limit is a whole minute of it; a moment later there is room.
    while ask().await != 200 {
        assert!(started.elapsed() < Duration::from_secs(40));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_loaded_ends_the_process_with_a_code_of_its_own() {
    let _alone = ALONE.lock().await;
    let keys = Keys::new();
    let settings = [
        ("PORTHOLE__MODEL__ID", "models/none"),
        ("HF_HUB_OFFLINE", "1"),
    ];
    let mut server = Server::launch(&keys, &settings);
    let started = Instant::now();
    assert_eq!(server.ended().await, Some(3));
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_while_it_still_loads() {
    let _alone = ALONE.lock().await;
    let keys = Keys::new();
    let mut server = Server::launch(&keys, &[]);
    let client = Client::new();
    while client
        .get(format!("{}/health", server.base))
        .send()
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.signal("INT");
    let started = Instant::now();
    assert_eq!(server.ended().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_where_redis_is_away() {
    let _alone = ALONE.lock().await;
    let mut keys = Keys::new();
    keys.create("app", &["--rpm", "100"]);
    let nobody = format!("redis://127.0.0.1:{}", process::redis_server::free_port());
    let settings = [
        ("PORTHOLE__LIMITS__REDIS_URL", nobody.as_str()),
        ("PORTHOLE__LIMITS__ON_REDIS_ERROR", "local"),
    ];
    let mut server = Server::start(&keys, &settings).await;
    let asked = stream(&Client::new(), &server.base, &keys.of["app"], &case(false)).await;
    assert_eq!(asked, Outcome::Whole);
    server.signal("INT");
    let started = Instant::now();
    assert_eq!(server.ended().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(20));
}
