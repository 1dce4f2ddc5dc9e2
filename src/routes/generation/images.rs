//! The images of a request, and the turns in which they stand.

use std::time::Instant;

use super::Visit;
use crate::{
    audit::{ImageFields, millis},
    engine::{Engine, EngineError, Input, Inquiry, Part, ToolCall, Turn},
    error::ApiError,
    media::{Encoded, ImageCeiling},
    openai::{
        InvalidRequest,
        message::{self, ImageUrl},
    },
    state::AppState,
};

/// Fetches the images and judges them by their headers.
pub(super) async fn fetch(
    state: &AppState,
    visit: &Visit,
    engine: &dyn Engine,
    urls: Vec<ImageUrl>,
) -> Result<Vec<Encoded>, ApiError> {
    let info = engine.info();
    let Some(geometry) = info.geometry else {
        return match urls.into_iter().next() {
            None => Ok(Vec::new()),
            Some(image) => Err(InvalidRequest::new(
                "unsupported_value",
                image.param,
                "This model does not see images.",
            )
            .into()),
        };
    };
    if urls.is_empty() {
        return Ok(Vec::new());
    }
    let since = Instant::now();
    let caller = &visit.session.caller;
    let own = caller.min_right(|rights| rights.max_images);
    let ceiling = ImageCeiling {
        max_pixels: caller.min_right(|rights| rights.max_image_pixels),
        // The engine does not survive more with some models.
        max_images: [own, geometry.max_images()].into_iter().flatten().min(),
    };
    let images = state.media.fetch(&caller.id, urls, geometry, ceiling).await;
    if let Some(trace) = visit.record.trace() {
        trace.step("images", (since, Instant::now()), None);
    }
    let images = images?;
    visit.record.note(|fields| {
        fields.images_ms = Some(millis(since.elapsed()));
        fields.images = images
            .iter()
            .map(|image| ImageFields {
                sha256: image.sha256_hex(),
                bytes: image.len(),
                width: image.target.0,
                height: image.target.1,
            })
            .collect();
    });
    let tokens = |image: &Encoded| geometry.tokens(image.target);
    let tokens: usize = images.iter().map(tokens).sum();
    if tokens >= info.context_length {
        return Err(EngineError::ContextLengthExceeded {
            prompt: tokens,
            context: info.context_length,
            at_least: true,
        }
        .into());
    }
    Ok(images)
}

/// The parts as the engine takes them; where their images are goes into `images`.
pub fn parts(parts: Vec<message::Part>, images: &mut Vec<ImageUrl>) -> Vec<Part> {
    let parts = parts.into_iter().map(|part| match part {
        message::Part::Text(text) => Part::Text(text),
        message::Part::Image(image) => {
            images.push(image);
            Part::Image((0, 0))
        }
    });
    parts.collect()
}

/// The turns of messages as the engine takes them, and where their images are.
pub fn turns(messages: Vec<message::Message>) -> (Vec<Turn>, Vec<ImageUrl>) {
    let mut images = Vec::new();
    let turns = messages.into_iter().map(|message| Turn {
        role: message.role,
        parts: parts(message.parts, &mut images),
        calls: message.calls.into_iter().map(call).collect(),
        call_id: message.call_id,
    });
    (turns.collect(), images)
}

fn call(call: message::ToolCall) -> ToolCall {
    ToolCall {
        id: call.id,
        name: call.name,
        arguments: call.arguments,
    }
}

/// The sizes that the model will see, filled in.
pub(super) fn fill_in_sizes(inquiry: &mut Inquiry, images: &[Encoded]) {
    let mut sizes = images.iter().map(|image| image.target);
    if let Input::Chat(turns) = &mut inquiry.input {
        let parts = turns.iter_mut().flat_map(|turn| &mut turn.parts);
        for part in parts {
            if let Part::Image(size) = part
                && let Some(target) = sizes.next()
            {
                *size = target;
            }
        }
    }
}
