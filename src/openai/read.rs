//! Reading the values of fields, with one wording for each fault.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::{borrow::Cow, ops::RangeInclusive};

use super::{InvalidRequest, json::Json};

/// Longest name of a tool or a schema, in bytes, as OpenAI has it.
pub(crate) const MAX_NAME: usize = 64;

/// The entries of an object.
pub(crate) type Entries<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// The entries of a body that must be an object.
///
/// # Errors
/// It is no JSON, or no object.
pub(crate) fn root(body: &[u8]) -> Result<Entries<'_>, InvalidRequest> {
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

pub(crate) fn text<'a>(param: &str, value: Json<'a>) -> Result<Cow<'a, str>, InvalidRequest> {
    match value {
        Json::String(text) => Ok(text),
        other => Err(InvalidRequest::wrong_type(param, "a string", &other)),
    }
}

pub(crate) fn boolean(param: &str, value: &Json<'_>) -> Result<bool, InvalidRequest> {
    match value {
        Json::Bool(value) => Ok(*value),
        other => Err(InvalidRequest::wrong_type(param, "a boolean", other)),
    }
}

pub(crate) fn number(
    param: &str,
    value: &Json<'_>,
    range: RangeInclusive<f64>,
) -> Result<f64, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(param, "a number", value));
    };
    let number = number.as_f64().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let rule = format!(
            "expected a number from {} to {}",
            range.start(),
            range.end()
        );
        InvalidRequest::wrong_value(param, &rule)
    })
}

pub(crate) fn integer(
    param: &str,
    value: &Json<'_>,
    range: RangeInclusive<usize>,
) -> Result<usize, InvalidRequest> {
    let Json::Number(number) = value else {
        return Err(InvalidRequest::wrong_type(param, "an integer", value));
    };
    let number = whole(number).and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let rule = match (range.start(), range.end()) {
                (least, &usize::MAX) => format!("expected an integer of at least {least}"),
                (least, most) => format!("expected an integer from {least} to {most}"),
            };
            InvalidRequest::wrong_value(param, &rule)
        })
}

/// An integer, however it is spelled: clients whose numbers are all floats write `4.0` for 4, which
/// is one for JSON Schema too.
pub(crate) fn whole(number: &serde_json::Number) -> Option<i128> {
    /// From here on a float stands for several integers.
    const VAGUE: f64 = 9_007_199_254_740_992.0;
    let float = || {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() < VAGUE).then_some(float as i128)
    };
    number.as_i128().or_else(float)
}

pub(crate) fn object<'a>(param: &str, value: Json<'a>) -> Result<Entries<'a>, InvalidRequest> {
    match value {
        Json::Object(entries) => Ok(entries),
        other => Err(InvalidRequest::wrong_type(param, "an object", &other)),
    }
}

/// An array of so many items, which are called `what`.
pub(crate) fn array<'a>(
    param: &str,
    value: Json<'a>,
    what: &str,
    range: RangeInclusive<usize>,
) -> Result<Vec<Json<'a>>, InvalidRequest> {
    let items = match value {
        Json::Array(items) => items,
        other => return Err(InvalidRequest::wrong_type(param, "an array", &other)),
    };
    if range.contains(&items.len()) {
        return Ok(items);
    }
    let (least, most, got) = (range.start(), range.end(), items.len());
    let rule = format!("expected {least} to {most} {what}, but got {got}");
    Err(InvalidRequest::wrong_value(param, &rule))
}

/// One of these words.
pub(crate) fn one_of(
    param: &str,
    value: &Json<'_>,
    words: &[&'static str],
) -> Result<&'static str, InvalidRequest> {
    let Json::String(text) = value else {
        return Err(InvalidRequest::wrong_type(param, "a string", value));
    };
    let known = words.iter().find(|word| *word == text);
    known.copied().ok_or_else(|| {
        let rule = format!("supported values are '{}'", words.join("', '"));
        InvalidRequest::wrong_value(param, &rule)
    })
}

/// The name of a tool or a schema.
pub(crate) fn name(param: &str, value: Json<'_>) -> Result<String, InvalidRequest> {
    let name = text(param, value)?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(sane) {
        return Ok(name.into_owned());
    }
    let rule = format!("expected 1 to {MAX_NAME} of the characters a-z, A-Z, 0-9, _ and -");
    Err(InvalidRequest::wrong_value(param, &rule))
}

/// A key as an error may show it.
pub(crate) fn shown(key: &str) -> String {
    key.chars().take(64).collect()
}

/// The path of `key` in what stands at `at`; the body itself is "".
pub(crate) fn field(at: &str, key: &str) -> String {
    if at.is_empty() {
        shown(key)
    } else {
        format!("{at}.{}", shown(key))
    }
}

pub(crate) fn missing(param: impl Into<String>) -> InvalidRequest {
    let param = param.into();
    let message = format!("Missing required parameter: '{param}'.");
    InvalidRequest::new("missing_required_parameter", param, message)
}

/// `key` is none of the fields of what stands at `at`.
pub(crate) fn unknown(at: &str, key: &str) -> InvalidRequest {
    let param = field(at, key);
    let message = format!("Unknown parameter: '{param}'.");
    InvalidRequest::new("unknown_parameter", param, message)
}

/// A field that asks for what this server does not do.
pub(crate) fn unsupported(param: impl Into<String>) -> InvalidRequest {
    let param = param.into();
    let message = format!("Unsupported parameter: '{param}' is not supported by this server.");
    InvalidRequest::new("unsupported_parameter", param, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_bounded_on_both_sides_and_whole() {
        let parse = |text: &str| {
            let value = serde_json::from_str(text).unwrap();
            integer("n", &value, 1..=16).map_err(|error| error.code)
        };
        assert_eq!(parse("1"), Ok(1));
        assert_eq!(parse("16"), Ok(16));
        assert_eq!(parse("4.0"), Ok(4));
        assert_eq!(parse("1e1"), Ok(10));
        for wrong in [
            "0", "17", "-1", "1.5", "4.5", "-4.0", "17.0", "1e30", "1e300",
        ] {
            assert_eq!(parse(wrong), Err("invalid_value"), "{wrong}");
        }
        assert_eq!(parse("\"1\""), Err("invalid_type"));
    }
}
