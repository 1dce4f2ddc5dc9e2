//! What decides about an answer's tokens, on the real engine: seed, penalties, biases, log
//! probabilities, schemas, tools, thinking.

#[path = "answers/schemas.rs"]
mod schemas;
#[path = "answers/thoughts.rs"]
mod thoughts;
#[path = "answers/tools.rs"]
mod tools;

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use porthole::{
    config::ModelConfig,
    engine::{
        Effort, Engine, EngineError, Event, FinishReason, Input, Inquiry, Job, Part, Role,
        SamplingParams, TokenLogprob, TokenUsage, Turn, mistral::MistralEngine,
    },
    metrics::{Activity, Metrics},
};

async fn engine_of(model: ModelConfig) -> Arc<MistralEngine> {
    let metrics = Arc::new(Metrics::default());
    Arc::new(MistralEngine::load(model, metrics).await.unwrap())
}

async fn engine() -> Arc<MistralEngine> {
    engine_of(ModelConfig::default()).await
}

#[derive(Debug, Default, PartialEq)]
struct Answer {
    text: String,
    thought: String,
    tokens: Vec<TokenLogprob>,
    calls: Vec<(String, String)>,
    reason: Option<FinishReason>,
    usage: TokenUsage,
}

async fn answer(engine: &MistralEngine, inquiry: Inquiry, sampling: SamplingParams) -> Answer {
    try_answer(engine, inquiry, sampling).await.unwrap()
}

async fn try_answer(
    engine: &MistralEngine,
    inquiry: Inquiry,
    sampling: SamplingParams,
) -> Result<Answer, EngineError> {
    let prompt = engine.prepare(inquiry).await?;
    let job = Job {
        images: Arc::default(),
        sampling,
        activity: Activity::unseen(),
        on_end: Box::new(|_| {}),
    };
    let mut events = prompt.generate(job).await?;
    let mut answer = Answer::default();
    while let Some(event) = events.next().await {
        match event? {
            Event::Text { text, tokens } => {
                answer.text.push_str(&text);
                answer.tokens.extend(tokens);
            }
            Event::Reasoning(text) => answer.thought.push_str(&text),
            Event::Call { index, id, name } => {
                assert_eq!(index, answer.calls.len());
                assert!(id.starts_with("call_"), "{id}");
                answer.calls.push((name, String::new()));
            }
            Event::Arguments { index, text } => answer.calls[index].1.push_str(&text),
            Event::Finished { reason, usage } => {
                answer.reason = Some(reason);
                answer.usage = usage;
            }
        }
    }
    assert!(
        answer.reason.is_some(),
        "the answer did not finish: {answer:?}"
    );
    Ok(answer)
}

fn ask(text: &str) -> Inquiry {
    Inquiry::chat(vec![Turn::new(Role::User, vec![Part::Text(text.into())])])
}

fn greedy() -> SamplingParams {
    SamplingParams {
        temperature: Some(0.0),
        max_tokens: Some(200),
        ..SamplingParams::default()
    }
}

fn warm(seed: u64) -> SamplingParams {
    SamplingParams {
        temperature: Some(1.5),
        top_p: Some(0.98),
        seed: Some(seed),
        max_tokens: Some(40),
        ..SamplingParams::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_gives_the_same_answer_whatever_else_is_running() {
    let engine = engine().await;
    let question = "Tell me a story about this image.";
    let alone = answer(&engine, ask(question), warm(7)).await;
    let others: Vec<_> = (0..16)
        .map(|i| {
            let engine = engine.clone();
            tokio::spawn(async move { answer(&engine, ask("9 + 4 = ?"), warm(100 + i)).await })
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(answer(&engine, ask(question), warm(7)).await, alone);
    }
    let mut seen = HashSet::from([alone.text.clone()]);
    for seed in 8..12 {
        seen.insert(answer(&engine, ask(question), warm(seed)).await.text);
    }
    assert!(seen.len() >= 4, "seeds do not matter: {seen:?}");
    for other in others {
        other.await.unwrap();
    }
}

/// Models and replicas each have an engine of their own, which compute at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_gives_the_same_answer_beside_another_engine() {
    let (one, other) = (engine().await, engine().await);
    let question = "Tell me a story about this image.";
    let mut alone = Vec::new();
    for seed in 0..6 {
        alone.push(answer(&one, ask(question), warm(seed)).await);
    }
    let texts: HashSet<_> = alone.iter().map(|answer| &answer.text).collect();
    assert!(texts.len() >= 5, "seeds do not matter: {texts:?}");
    let asked = (0..12).map(|i| {
        let engine = if i % 2 == 0 { &one } else { &other };
        let seed = i / 2;
        async move { (seed, answer(engine, ask(question), warm(seed)).await) }
    });
    for (seed, together) in futures::future::join_all(asked).await {
        assert_eq!(together, alone[seed as usize]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_are_natural_and_add_up() {
    let engine = engine().await;
    let params = SamplingParams {
        logprobs: Some(20),
        ..greedy()
    };
    let answer = answer(&engine, ask("What are you able to do?"), params).await;
    let bytes: Vec<u8> = answer
        .tokens
        .iter()
        .flat_map(|t| t.token.bytes.clone())
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), answer.text);
    // The closing token is counted and not shown.
    assert_eq!(answer.tokens.len() + 1, answer.usage.completion);
    for token in &answer.tokens {
        assert_eq!(token.top.len(), 20);
        assert!(token.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        let greedy_is_likeliest = (token.token.logprob - token.top[0].logprob).abs() < 1e-6;
        assert!(greedy_is_likeliest, "{token:?}");
        let sum: f32 = token.top.iter().map(|t| t.logprob.exp()).sum();
        assert!((0.5..=1.0001).contains(&sum), "{sum}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn biases_and_penalties_do_what_they_say() {
    let engine = engine().await;
    let plain = answer(&engine, ask("What are you able to do?"), greedy()).await;
    let first = engine
        .prepare(Inquiry::of(Input::Text("I can".into())))
        .await
        .unwrap()
        .ids()[0];
    let bias = |bias: f64, tokens| SamplingParams {
        logit_bias: vec![(first, bias)],
        max_tokens: Some(tokens),
        ..greedy()
    };
    let forced = answer(&engine, ask("Hi"), bias(100.0, 5)).await;
    assert_eq!(forced.text, "I".repeat(5));
    let forbidden = answer(&engine, ask("What are you able to do?"), bias(-100.0, 40)).await;
    assert!(!forbidden.text.starts_with('I') && plain.text.starts_with('I'));

    let once = SamplingParams {
        logit_bias: vec![(first, 30.0)],
        frequency_penalty: 2.0,
        presence_penalty: 2.0,
        max_tokens: Some(60),
        ..greedy()
    };
    let fewer = answer(&engine, ask("Hi"), once).await;
    let often = |text: &str| text.matches('I').count();
    assert!(
        often(&fewer.text) < 60 && often(&fewer.text) > 1,
        "{}",
        fewer.text
    );

    let narrow = SamplingParams {
        temperature: Some(2.0),
        top_k: Some(1),
        max_tokens: Some(200),
        ..SamplingParams::default()
    };
    assert_eq!(
        answer(&engine, ask("What are you able to do?"), narrow.clone())
            .await
            .text,
        plain.text
    );
    let narrow = SamplingParams {
        top_k: None,
        min_p: Some(1.0),
        ..narrow
    };
    assert_eq!(
        answer(&engine, ask("What are you able to do?"), narrow)
            .await
            .text,
        plain.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_cannot_do_is_refused_by_name() {
    let engine = engine().await;
    let inquiry = Inquiry {
        effort: Some(Effort::Tokens(5)),
        ..ask("Hi")
    };
    let Err(EngineError::Refused { param, .. }) = try_answer(&engine, inquiry, greedy()).await
    else {
        panic!("it thinks");
    };
    assert_eq!(param, "reasoning_effort");
    let text = answer(
        &engine,
        Inquiry::of(Input::Text("The image shows".into())),
        greedy(),
    )
    .await;
    let ids = engine
        .prepare(Inquiry::of(Input::Text("The image shows".into())))
        .await
        .unwrap()
        .ids();
    let same = answer(&engine, Inquiry::of(Input::Tokens(ids)), greedy()).await;
    assert_eq!(text.text, same.text);
}
