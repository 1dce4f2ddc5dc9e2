//! The parts of a message: text and images.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    InvalidRequest,
    ignored::Ignored,
    json::Json,
    message::{Detail, ImageUrl, MAX_ITEMS, Part, Role},
    read::{self, Entries},
};

pub(super) fn parse_parts(
    body: &Bytes,
    at: &str,
    role: Role,
    items: Vec<Json<'_>>,
    ignored: &mut Ignored,
) -> Result<Vec<Part>, InvalidRequest> {
    let items = read::array(at, Json::Array(items), "parts", 1..=MAX_ITEMS)?;
    let items = items.into_iter().enumerate();
    items
        .map(|(i, item)| parse_part(body, &format!("{at}[{i}]"), role, item, ignored))
        .collect()
}

fn parse_part(
    body: &Bytes,
    at: &str,
    role: Role,
    value: Json<'_>,
    ignored: &mut Ignored,
) -> Result<Part, InvalidRequest> {
    let kind_at = format!("{at}.type");
    let mut kind = None;
    let mut payload = Vec::new();
    for (key, value) in read::object(at, value)? {
        match key.as_ref() {
            "type" => kind = Some(read::text(&kind_at, value)?),
            _ if value.is_null() => {}
            // A hint for a prompt cache; it cannot change the answer.
            "prompt_cache_breakpoint" => ignored.add("messages.content.prompt_cache_breakpoint"),
            _ => payload.push((key, value)),
        }
    }
    let kind = kind.ok_or_else(|| read::missing(&kind_at))?;
    let of_text = |key: &str, payload| {
        let text = read::text(&format!("{at}.{key}"), only(at, key, payload)?)?;
        Ok(Part::Text(text.into_owned()))
    };
    match kind.as_ref() {
        "text" => of_text("text", payload),
        "refusal" if role == Role::Assistant => of_text("refusal", payload),
        "image_url" => {
            let value = only(at, "image_url", payload)?;
            parse_image_url(body, &format!("{at}.image_url"), value)
        }
        "input_audio" | "file" | "refusal" => {
            let message = format!("Parts of type '{kind}' are not supported here.");
            Err(InvalidRequest::new("unsupported_value", kind_at, message))
        }
        _ => {
            let rule = "supported values are 'text' and 'image_url'";
            Err(InvalidRequest::wrong_value(&kind_at, rule))
        }
    }
}

/// The one field that a part of its type has.
fn only<'a>(at: &str, name: &str, payload: Entries<'a>) -> Result<Json<'a>, InvalidRequest> {
    let mut found = None;
    for (key, value) in payload {
        if key == name {
            found = Some(value);
        } else {
            return Err(read::unknown(at, &key));
        }
    }
    found.ok_or_else(|| read::missing(format!("{at}.{name}")))
}

fn parse_image_url(body: &Bytes, at: &str, value: Json<'_>) -> Result<Part, InvalidRequest> {
    let param = format!("{at}.url");
    let mut url = None;
    let mut detail = Detail::Auto;
    for (key, value) in read::object(at, value)? {
        match key.as_ref() {
            "url" => url = Some(read::text(&param, value)?),
            _ if value.is_null() => {}
            "detail" => detail = Detail::read(&format!("{at}.detail"), &value)?,
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let url = match url.ok_or_else(|| read::missing(&param))? {
        Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    Ok(Part::Image(ImageUrl { url, detail, param }))
}
