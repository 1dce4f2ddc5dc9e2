//! What a request would come to: counted as it would be, without waiting, decoding or asking.

use actix_web::HttpRequest;

use super::generation::{Ready, Visit};
use crate::{
    engine::{EngineError, ModelInfo, Prompt},
    error::ApiError,
    limits::Window,
    media::budget::ImageGeometry,
    middleware::short,
    openai::{
        InvalidRequest,
        message::{Message, Part},
        response::{DryRun, DryRunKind, DryRunLimit, DryRunLimits, DryRunPart, Usage},
    },
};

const HEADER: &str = "x-porthole-dry-run";

/// What a dry run shall tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The counts.
    Counts,
    /// The prompt's tokens too.
    Ids,
}

/// Whether a request asks for a dry run.
///
/// # Errors
/// 400 for another value of the header than `true`, `ids` and `false`.
pub(super) fn wish(request: &HttpRequest) -> Result<Option<Wish>, ApiError> {
    match request.headers().get(HEADER).map(|value| value.as_bytes()) {
        None | Some(b"false") => Ok(None),
        Some(b"true") => Ok(Some(Wish::Counts)),
        Some(b"ids") => Ok(Some(Wish::Ids)),
        Some(_) => {
            let rule = "supported values are 'true', 'ids' and 'false'";
            Err(InvalidRequest::wrong_value(HEADER, rule).into())
        }
    }
}

/// The parts of the messages, which a prompt no longer tells apart: their places, and the text of
/// those that are text.
pub(super) struct Pieces(Vec<(usize, usize, Option<String>)>);

impl Pieces {
    /// Those of `messages`.
    pub(super) fn of(messages: &[Message]) -> Self {
        let mut pieces = Vec::new();
        for (message, turn) in messages.iter().enumerate() {
            for (part, content) in turn.parts.iter().enumerate() {
                let text = match content {
                    Part::Text(text) => Some(text.clone()),
                    Part::Image(_) => None,
                };
                pieces.push((message, part, text));
            }
        }
        Self(pieces)
    }

    /// Their tokens; `images` are the sizes of those that are images, as the model would see them.
    /// Takes a while on long texts.
    fn count(
        self,
        prompt: &dyn Prompt,
        images: Vec<(u32, u32)>,
        geometry: Option<ImageGeometry>,
    ) -> Vec<DryRunPart> {
        let mut images = images.into_iter();
        let count = |(message, part, text): (usize, usize, Option<String>)| {
            let (tokens, kind) = match text {
                Some(text) => (prompt.count(&text), DryRunKind::Text),
                None => {
                    let (width, height) = images.next().unwrap_or_default();
                    let tokens = geometry.map_or(0, |geometry| geometry.tokens((width, height)));
                    (tokens, DryRunKind::ImageUrl { width, height })
                }
            };
            DryRunPart {
                message,
                part,
                tokens,
                kind,
            }
        };
        self.0.into_iter().map(count).collect()
    }
}

/// What the request comes to. `pieces` are those of its messages.
///
/// # Errors
/// 500 where counting failed.
pub(super) async fn report<'a>(
    visit: &Visit,
    info: &ModelInfo,
    model: &'a str,
    ready: Ready,
    pieces: Pieces,
    wish: Wish,
) -> Result<DryRun<'a>, ApiError> {
    let images = ready.images.iter().map(|image| image.target).collect();
    let (prompt, geometry) = (ready.prompt.clone(), info.geometry);
    let counting = move || pieces.count(prompt.as_ref(), images, geometry);
    let parts = tokio::task::spawn_blocking(counting).await;
    let parts = parts.map_err(|e| EngineError::Failed(e.to_string()))?;
    let tokens = ready.prompt.tokens();
    Ok(DryRun {
        object: "chat.completion.dry_run",
        model,
        prompt_tokens: tokens.total,
        prompt_tokens_details: Usage::new(tokens.total, tokens.image, 0).prompt_tokens_details,
        max_completion_tokens: info.context_length.saturating_sub(tokens.total),
        parts,
        prompt_token_ids: (wish == Wish::Ids).then(|| ready.prompt.ids()),
        limits: limits(visit),
    })
}

fn limits(visit: &Visit) -> DryRunLimits {
    let told = |window: Window| DryRunLimit {
        limit: window.limit,
        remaining: window.remaining,
        reset: short(window.reset),
    };
    let snapshot = visit.limits();
    DryRunLimits {
        requests: snapshot.requests.map(told),
        tokens: snapshot.tokens.map(told),
    }
}
