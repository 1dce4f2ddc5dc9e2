//! An engine that says what the last user text tells it to.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, stream};
use image::RgbImage;
use porthole::{
    engine::{
        Engine, EngineError, Event, EventStream, FinishReason, Health, Input, Inquiry, Job,
        LikelyToken, ModelInfo, OnEnd, Part, Prompt, PromptTokens, Reasoning, Role, SamplingParams,
        TokenLogprob, TokenUsage, Turn,
    },
    media::budget::ImageGeometry,
    metrics::Activity,
    state::EngineState,
};
use serde_json::Value;
use tokio::sync::watch;

use super::helpers::{TestServer, config, start};

pub struct FakeEngine {
    info: ModelInfo,
    pub health: watch::Sender<Health>,
    /// Every request it was asked.
    pub asked: Arc<Mutex<Vec<Asked>>>,
    /// Sequences that it says it computes at once.
    pub width: AtomicUsize,
    /// Generations under way.
    pub running: Arc<AtomicUsize>,
    /// Requests it was given to count.
    pub prepared: AtomicUsize,
    /// Told true, what was asked to "wait" ends.
    pub go: watch::Sender<bool>,
}

impl FakeEngine {
    pub fn new() -> Arc<Self> {
        Self::with_geometry(Some(ImageGeometry::patches(32, 4_096, 1 << 22)))
    }

    pub fn with_geometry(geometry: Option<ImageGeometry>) -> Arc<Self> {
        Arc::new(Self {
            info: ModelInfo {
                geometry,
                context_length: 4096,
                vocabulary: 1000,
                fingerprint: "fp_fake".into(),
                tools: true,
                reasoning: Reasoning::Optional,
            },
            health: watch::Sender::new(Health::Up),
            asked: Arc::default(),
            width: AtomicUsize::new(1_000),
            running: Arc::default(),
            prepared: AtomicUsize::new(0),
            go: watch::Sender::new(false),
        })
    }

    pub fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A server on a fake engine.
pub fn fake_server() -> (TestServer, Arc<FakeEngine>) {
    let engine = FakeEngine::new();
    (start(config(), EngineState::Loaded(engine.clone())), engine)
}

/// What the engine was asked to answer.
#[derive(Clone, Debug)]
pub struct Asked {
    pub turns: Vec<Turn>,
    pub inquiry: Inquiry,
    pub images: Vec<RgbImage>,
    pub sampling: SamplingParams,
}

struct FakePrompt {
    inquiry: Inquiry,
    answers: AtomicUsize,
    asked: Arc<Mutex<Vec<Asked>>>,
    running: Arc<AtomicUsize>,
    go: watch::Receiver<bool>,
}

/// Tokens of every prompt, and of its images.
pub const PROMPT: PromptTokens = PromptTokens {
    total: 10,
    image: 4,
};

fn turns(inquiry: &Inquiry) -> Vec<Turn> {
    match &inquiry.input {
        Input::Chat(turns) => turns.clone(),
        Input::Text(text) => vec![Turn::new(Role::User, vec![Part::Text(text.clone())])],
        Input::Tokens(ids) => {
            let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            vec![Turn::new(Role::User, vec![Part::Text(text)])]
        }
    }
}

fn last_text(turns: &[Turn]) -> String {
    let parts = &turns.last().unwrap().parts;
    let text = parts.iter().rev().find_map(|part| match part {
        Part::Text(text) => Some(text.clone()),
        Part::Image(_) => None,
    });
    text.unwrap_or_else(|| "an image".into())
}

#[async_trait::async_trait]
impl Engine for FakeEngine {
    /// "refuse" is an early error.
    async fn prepare(&self, inquiry: Inquiry) -> Result<Box<dyn Prompt>, EngineError> {
        self.prepared.fetch_add(1, Ordering::SeqCst);
        if last_text(&turns(&inquiry)) == "refuse" {
            return Err(EngineError::ContextLengthExceeded {
                prompt: 5000,
                context: 4096,
                at_least: false,
            });
        }
        Ok(Box::new(FakePrompt {
            inquiry,
            answers: AtomicUsize::new(0),
            asked: self.asked.clone(),
            running: self.running.clone(),
            go: self.go.subscribe(),
        }))
    }

    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn width(&self) -> usize {
        self.width.load(Ordering::SeqCst)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

/// What a test would have the engine say: `events:` and a JSON list of events, or a list of such
/// lists, one an answer.
fn scripted(script: &str, answer: usize) -> Vec<Result<Event, EngineError>> {
    let script: Value = serde_json::from_str(script).unwrap();
    let events = match &script[0] {
        Value::Array(_) => &script[answer],
        _ => &script,
    };
    events.as_array().unwrap().iter().map(event).collect()
}

fn event(event: &Value) -> Result<Event, EngineError> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap_or(0)).unwrap();
    let (kind, value) = event.as_object().unwrap().iter().next().unwrap();
    Ok(match kind.as_str() {
        "text" => Event::text(text(value)),
        "tokens" => {
            let tokens: Vec<TokenLogprob> = value.as_array().unwrap().iter().map(token).collect();
            let bytes = tokens.iter().flat_map(|token| token.token.bytes.clone());
            // Part of a character is said with what completes it.
            let text = String::from_utf8(bytes.collect()).unwrap_or_default();
            Event::Text { text, tokens }
        }
        "reasoning" => Event::Reasoning(text(value)),
        "call" => Event::Call {
            index: number(&value["index"]),
            id: text(&value["id"]),
            name: text(&value["name"]),
        },
        "arguments" => Event::Arguments {
            index: number(&value["index"]),
            text: text(&value["text"]),
        },
        "finished" => Event::Finished {
            reason: match value["reason"].as_str().unwrap() {
                "stop" => FinishReason::Stop,
                "length" => FinishReason::Length,
                "tool_calls" => FinishReason::ToolCalls,
                other => panic!("no reason: {other}"),
            },
            usage: TokenUsage {
                prompt: PROMPT.total,
                image: PROMPT.image,
                completion: number(&value["completion"]),
                reasoning: number(&value["reasoning"]),
            },
        },
        "failed" => return Err(EngineError::Failed(text(value))),
        other => panic!("no event: {other}"),
    })
}

/// `[bytes or text, logprob, [bytes or text, logprob], ...]`: the token and the likeliest ones.
fn token(token: &Value) -> TokenLogprob {
    let likely = |bytes: &Value, logprob: &Value| LikelyToken {
        bytes: match bytes {
            Value::String(text) => text.clone().into_bytes(),
            bytes => serde_json::from_value(bytes.clone()).unwrap(),
        },
        logprob: logprob
            .as_f64()
            .map_or(f32::NEG_INFINITY, |logprob| logprob as f32),
    };
    let items = token.as_array().unwrap();
    let top = items[2..].iter().map(|pair| likely(&pair[0], &pair[1]));
    TokenLogprob {
        token: likely(&items[0], &items[1]),
        top: top.collect(),
    }
}

/// Tells the end, with the words said so far as tokens, when the stream is dropped.
struct Running {
    running: Arc<AtomicUsize>,
    _activity: Activity,
    said: usize,
    on_end: Option<OnEnd>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        if let Some(on_end) = self.on_end.take() {
            on_end(TokenUsage {
                prompt: PROMPT.total,
                image: PROMPT.image,
                completion: self.said,
                reasoning: 0,
            });
        }
    }
}

#[async_trait::async_trait]
impl Prompt for FakePrompt {
    fn tokens(&self) -> PromptTokens {
        PROMPT
    }

    fn ids(&self) -> Vec<u32> {
        (0..u32::try_from(PROMPT.total).unwrap()).collect()
    }

    fn count(&self, text: &str) -> usize {
        text.split(' ').count()
    }

    /// "fail" is an error after the first word, "hang" says one word and no more, "mute" says
    /// nothing at all, "wait" ends when told to, "endless" talks for ever, "events:" is a script; all else is echoed word by
    /// word.
    async fn generate(&self, job: Job) -> Result<EventStream, EngineError> {
        let turns = turns(&self.inquiry);
        let text = last_text(&turns);
        self.asked.lock().unwrap().push(Asked {
            turns,
            inquiry: self.inquiry.clone(),
            images: job.images.to_vec(),
            sampling: job.sampling,
        });
        let usage = TokenUsage {
            prompt: PROMPT.total,
            image: PROMPT.image,
            completion: text.split(' ').count() + 1,
            reasoning: 0,
        };
        let words: Vec<_> = text
            .split_inclusive(' ')
            .map(|word| Ok(Event::text(word)))
            .collect();
        let failed = || Err(EngineError::Failed("secret inside".into()));
        let one = || Ok(Event::text("one "));
        let events: EventStream = match text.as_str() {
            "fail at once" => Box::pin(stream::iter([failed()])),
            "fail" => Box::pin(stream::iter([one(), failed()])),
            "hang" => Box::pin(stream::iter([one()]).chain(stream::pending())),
            "mute" => Box::pin(stream::pending()),
            "wait" => {
                let mut go = self.go.clone();
                let told = async move {
                    go.wait_for(|go| *go).await.unwrap();
                    let reason = FinishReason::Stop;
                    Ok(Event::Finished { reason, usage })
                };
                Box::pin(stream::iter([one()]).chain(stream::once(told)))
            }
            "endless" => Box::pin(stream::repeat_with(move || {
                Ok(Event::text("word ".repeat(200)))
            })),
            script if script.starts_with("events:") => {
                let answer = self.answers.fetch_add(1, Ordering::SeqCst);
                Box::pin(stream::iter(scripted(&script["events:".len()..], answer)))
            }
            _ => {
                let end = Event::Finished {
                    reason: FinishReason::Stop,
                    usage,
                };
                Box::pin(stream::iter(words).chain(stream::iter([Ok(end)])))
            }
        };
        self.running.fetch_add(1, Ordering::SeqCst);
        let mut activity = job.activity;
        activity.run();
        let mut running = Running {
            running: self.running.clone(),
            _activity: activity,
            said: 0,
            on_end: Some(job.on_end),
        };
        Ok(Box::pin(events.map(move |event| {
            // All of it moves in here, not a copy of a number in it.
            let running = &mut running;
            running.said = match &event {
                Ok(Event::Finished { usage, .. }) => usage.completion,
                Ok(_) | Err(_) => running.said + 1,
            };
            event
        })))
    }
}
