//! The body of `POST /v1/models/{model}:predict`, and its answer: a contract in the way of
//! TensorFlow Serving.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::{
    InvalidRequest,
    json::Json,
    message::{Detail, ImageUrl, Part},
    text_sampling::Sampling,
    values::{integer, missing, object, root, some, string, unknown},
};

/// Most inputs in one request.
pub const MAX_INPUTS: usize = 4096;

/// What is predicted from what, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictRequest {
    /// Images and texts in their order; never empty.
    pub parts: Vec<Part>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Longest answer, in tokens; at least 1.
    pub max_tokens: Option<usize>,
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
        let mut sampling = Sampling::default();
        let mut lengths = Lengths::default();
        for (key, value) in root(body)? {
            match key.as_ref() {
                "inputs" => parts = Some(inputs(value)?),
                "parameters" if value.is_null() => {}
                "parameters" => {
                    for (key, value) in object("parameters", value)? {
                        parameter(&mut sampling, &mut lengths, &key, value)?;
                    }
                }
                _ if value.is_null() => {}
                _ => return Err(unknown(None, &key)),
            }
        }
        if let (Some(a), Some(b)) = (lengths.max_tokens, lengths.max_completion_tokens)
            && a != b
        {
            let rule = "it contradicts 'parameters.max_completion_tokens'; set only one of them";
            return Err(InvalidRequest::wrong_value("parameters.max_tokens", rule));
        }
        Ok(Self {
            parts: parts.ok_or_else(|| missing("inputs"))?,
            sampling,
            max_tokens: lengths.max_completion_tokens.or(lengths.max_tokens),
        })
    }
}

#[derive(Default)]
struct Lengths {
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
}

fn parameter(
    sampling: &mut Sampling,
    lengths: &mut Lengths,
    key: &str,
    value: Json<'_>,
) -> Result<(), InvalidRequest> {
    let at = super::values::field(Some("parameters"), key);
    let count = |value: &Json<'_>| integer(&at, value, (1, usize::MAX));
    match key {
        _ if value.is_null() => Ok(()),
        "max_tokens" => {
            lengths.max_tokens = Some(count(&value)?);
            Ok(())
        }
        "max_completion_tokens" => {
            lengths.max_completion_tokens = Some(count(&value)?);
            Ok(())
        }
        _ => sampling
            .set(key, &at, value)
            .unwrap_or_else(|| Err(unknown(Some("parameters"), key))),
    }
}

fn inputs(value: Json<'_>) -> Result<Vec<Part>, InvalidRequest> {
    let items = some("inputs", value, MAX_INPUTS)?.into_iter().enumerate();
    let parts = items.map(|(i, item)| input(&format!("inputs[{i}]"), item));
    parts.collect()
}

fn input(at: &str, value: Json<'_>) -> Result<Part, InvalidRequest> {
    let (mut text, mut data, mut kind) = (None, None, None);
    for (key, value) in object(at, value)? {
        let param = format!("{at}.{key}");
        match key.as_ref() {
            _ if value.is_null() => {}
            "text" => text = Some(string(&param, value)?),
            "data" => data = Some(string(&param, value)?),
            "mime_type" => kind = Some(string(&param, value)?),
            _ => return Err(unknown(Some(at), &key)),
        }
    }
    match (text, data, kind) {
        (Some(text), None, None) => Ok(Part::Text(text.into_owned())),
        (Some(_), _, _) => {
            let rule = "expected either 'text' or 'mime_type' and 'data'";
            Err(InvalidRequest::wrong_value(at, rule))
        }
        (None, Some(data), Some(kind)) => image(at, &data, &kind),
        (None, Some(_), None) => Err(missing(format!("{at}.mime_type"))),
        (None, None, Some(_)) => Err(missing(format!("{at}.data"))),
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
