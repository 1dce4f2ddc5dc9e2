//! The body of `POST /v1/models/{model}:predict`, and its answer: a contract in the way of
//! TensorFlow Serving.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::{
    InvalidRequest,
    json::Json,
    message::{Detail, ImageUrl, Part},
    read,
    sampling::{Sampling, SamplingDraft},
};

/// Most inputs in one request.
pub const MAX_INPUTS: usize = 4096;

/// What is predicted from what, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictRequest {
    /// Images and texts in their order; never empty.
    pub parts: Vec<Part>,
    /// How tokens are chosen, and when an answer ends.
    pub sampling: Sampling,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Prediction<'a> {
    /// One.
    pub outputs: [Output<'a>; 1],
}

/// What the model said.
#[derive(Debug, Serialize)]
pub struct Output<'a> {
    /// The text.
    pub text: &'a str,
}

impl PredictRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// The first fault found, with the field it is in.
    pub fn parse(body: &Bytes) -> Result<Self, InvalidRequest> {
        let mut parts = None;
        let mut sampling = SamplingDraft::default();
        for (key, value) in read::root(body)? {
            match key.as_ref() {
                "inputs" => parts = Some(inputs(value)?),
                "parameters" if value.is_null() => {}
                "parameters" => {
                    for (key, value) in read::object("parameters", value)? {
                        parameter(&mut sampling, &key, &value)?;
                    }
                }
                _ if value.is_null() => {}
                _ => return Err(read::unknown("", &key)),
            }
        }
        Ok(Self {
            parts: parts.ok_or_else(|| read::missing("inputs"))?,
            sampling: sampling.finish("parameters")?,
        })
    }
}

fn parameter(
    sampling: &mut SamplingDraft,
    key: &str,
    value: &Json<'_>,
) -> Result<(), InvalidRequest> {
    let at = read::field("parameters", key);
    // The answer has no place for log probabilities.
    let shown = !matches!(key, "logprobs" | "top_logprobs");
    if value.is_null() || (shown && sampling.set(key, &at, value)?) {
        return Ok(());
    }
    Err(read::unknown("parameters", key))
}

fn inputs(value: Json<'_>) -> Result<Vec<Part>, InvalidRequest> {
    let items = read::array("inputs", value, "items", 1..=MAX_INPUTS)?
        .into_iter()
        .enumerate();
    let parts = items.map(|(i, item)| input(&format!("inputs[{i}]"), item));
    parts.collect()
}

fn input(at: &str, value: Json<'_>) -> Result<Part, InvalidRequest> {
    let (mut text, mut data, mut kind) = (None, None, None);
    for (key, value) in read::object(at, value)? {
        let param = format!("{at}.{key}");
        match key.as_ref() {
            _ if value.is_null() => {}
            "text" => text = Some(read::text(&param, value)?),
            "data" => data = Some(read::text(&param, value)?),
            "mime_type" => kind = Some(read::text(&param, value)?),
            _ => return Err(read::unknown(at, &key)),
        }
    }
    match (text, data, kind) {
        (Some(text), None, None) => Ok(Part::Text(text.into_owned())),
        (Some(_), _, _) => {
            let rule = "expected either 'text' or 'mime_type' and 'data'";
            Err(InvalidRequest::wrong_value(at, rule))
        }
        (None, Some(data), Some(kind)) => image(at, &data, &kind),
        (None, Some(_), None) => Err(read::missing(format!("{at}.mime_type"))),
        (None, None, Some(_)) => Err(read::missing(format!("{at}.data"))),
        (None, None, None) => {
            let rule = "expected 'text', or 'mime_type' and 'data'";
            Err(InvalidRequest::wrong_value(at, rule))
        }
    }
}

/// An image as a `data:` URL, which is what images are loaded from. What type it is the bytes say,
/// as with any other image.
fn image(at: &str, data: &str, kind: &str) -> Result<Part, InvalidRequest> {
    const PREFIX: &str = "data:;base64,";
    if !kind.to_ascii_lowercase().starts_with("image/") {
        let param = format!("{at}.mime_type");
        let message = format!(
            "Unsupported value for '{param}': only images (such as 'image/jpeg') and texts are supported."
        );
        return Err(InvalidRequest::new("unsupported_value", param, message));
    }
    let mut url = BytesMut::with_capacity(PREFIX.len() + data.len());
    url.extend_from_slice(PREFIX.as_bytes());
    url.extend_from_slice(data.as_bytes());
    Ok(Part::Image(ImageUrl {
        url: url.freeze(),
        detail: Detail::Auto,
        param: format!("{at}.data"),
    }))
}
