//! Values of request fields, checked: what the parsers of several bodies share.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::borrow::Cow;

use serde_json::Value;

use super::{InvalidRequest, json::Json, request::ServiceTier};

/// The entries of an object, in the order of the body.
pub type Entries<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// The entries of a body that must be an object.
///
/// # Errors
/// It is no JSON, or no object.
pub fn root(body: &[u8]) -> Result<Entries<'_>, InvalidRequest> {
    let root: Json<'_> = serde_json::from_slice(body).map_err(|e| InvalidRequest {
        message: format!("We could not parse the JSON body of your request: {e}."),
        param: None,
        code: "invalid_json",
    })?;
    match root {
        Json::Object(entries) => Ok(entries),
        other => Err(InvalidRequest {
            message: format!("The body must be a JSON object, but is {}.", other.kind()),
            param: None,
            code: "invalid_type",
        }),
    }
}

pub(super) fn object<'a>(at: &str, value: Json<'a>) -> Result<Entries<'a>, InvalidRequest> {
    match value {
        Json::Object(entries) => Ok(entries),
        other => Err(InvalidRequest::wrong_type(at, "an object", &other)),
    }
}

pub(super) fn array<'a>(at: &str, value: Json<'a>) -> Result<Vec<Json<'a>>, InvalidRequest> {
    match value {
        Json::Array(items) => Ok(items),
        other => Err(InvalidRequest::wrong_type(at, "an array", &other)),
    }
}

/// An array of 1 to `most` values.
pub(super) fn some<'a>(
    at: &str,
    value: Json<'a>,
    most: usize,
) -> Result<Vec<Json<'a>>, InvalidRequest> {
    let items = array(at, value)?;
    let got = items.len();
    if (1..=most).contains(&got) {
        return Ok(items);
    }
    let rule = format!("expected 1 to {most} items, but got {got}");
    Err(InvalidRequest::wrong_value(at, &rule))
}

pub(super) fn string<'a>(at: &str, value: Json<'a>) -> Result<Cow<'a, str>, InvalidRequest> {
    match value {
        Json::String(text) => Ok(text),
        other => Err(InvalidRequest::wrong_type(at, "a string", &other)),
    }
}

/// One of `words`, as the caller's list has it.
pub(super) fn word(
    at: &str,
    value: Json<'_>,
    words: &[&'static str],
) -> Result<&'static str, InvalidRequest> {
    let text = string(at, value)?;
    let known = words.iter().find(|known| **known == text);
    known.copied().ok_or_else(|| {
        let rule = format!("supported values are {}", list(words));
        InvalidRequest::wrong_value(at, &rule)
    })
}

/// `'a', 'b' and 'c'`
pub(super) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

pub(super) fn boolean(at: &str, value: &Json<'_>) -> Result<bool, InvalidRequest> {
    match value {
        Json::Bool(value) => Ok(*value),
        other => Err(InvalidRequest::wrong_type(at, "a boolean", other)),
    }
}

pub(super) fn number(
    at: &str,
    value: &Json<'_>,
    (least, most): (f64, f64),
) -> Result<f64, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(at, "a number", value));
    };
    match number.as_f64() {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let rule = format!("expected a number from {least} to {most}");
            Err(InvalidRequest::wrong_value(at, &rule))
        }
    }
}

/// An integer from `least` to `most`.
pub(super) fn integer(
    at: &str,
    value: &Json<'_>,
    (least, most): (usize, usize),
) -> Result<usize, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(at, "an integer", value));
    };
    let number = number.as_u64().and_then(|n| usize::try_from(n).ok());
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let rule = if most == usize::MAX {
                format!("expected an integer of at least {least}")
            } else {
                format!("expected an integer from {least} to {most}")
            };
            Err(InvalidRequest::wrong_value(at, &rule))
        }
    }
}

/// How urgent a request is.
pub(super) fn tier(value: Json<'_>) -> Result<ServiceTier, InvalidRequest> {
    const TIERS: &[&str] = &["auto", "default", "flex", "scale", "priority"];
    Ok(match word("service_tier", value, TIERS)? {
        "flex" => ServiceTier::Flex,
        "priority" => ServiceTier::Priority,
        _ => ServiceTier::Default,
    })
}

/// A tree of its own, for what is handed on.
pub(super) fn owned(value: Json<'_>) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => value.into(),
        Json::Number(number) => Value::Number(number),
        Json::String(text) => text.into_owned().into(),
        Json::Array(items) => items.into_iter().map(owned).collect(),
        Json::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| (key.into_owned(), owned(value)))
            .collect(),
    }
}

pub(super) fn missing(param: impl Into<String>) -> InvalidRequest {
    let param = param.into();
    let message = format!("Missing required parameter: '{param}'.");
    InvalidRequest::new("missing_required_parameter", param, message)
}

/// A field of the body, or with `at` of an object in it, that nobody knows.
pub(super) fn unknown(at: Option<&str>, key: &str) -> InvalidRequest {
    let param = field(at, key);
    let message = format!("Unknown parameter: '{param}'.");
    InvalidRequest::new("unknown_parameter", param, message)
}

/// A field that asks for what this server does not do.
pub(super) fn unsupported(param: impl Into<String>) -> InvalidRequest {
    let param = param.into();
    let message = format!("Unsupported parameter: '{param}' is not supported by this server.");
    InvalidRequest::new("unsupported_parameter", param, message)
}

/// The path of a field; what a client wrote is shown to 64 characters.
pub(super) fn field(at: Option<&str>, key: &str) -> String {
    let key: String = key.chars().take(64).collect();
    at.map_or(key.clone(), |at| format!("{at}.{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_listed_as_people_do() {
        assert_eq!(list(&["a"]), "'a'");
        assert_eq!(list(&["a", "b", "c"]), "'a', 'b' and 'c'");
    }

    #[test]
    fn an_integer_is_bounded_on_both_sides_and_whole() {
        let parse = |text: &str| {
            let value = serde_json::from_str(text).unwrap();
            integer("n", &value, (1, 16)).map_err(|error| error.code)
        };
        assert_eq!(parse("1"), Ok(1));
        assert_eq!(parse("16"), Ok(16));
        for wrong in ["0", "17", "-1", "1.5", "1e30"] {
            assert_eq!(parse(wrong), Err("invalid_value"), "{wrong}");
        }
        assert_eq!(parse("\"1\""), Err("invalid_type"));
    }
}
