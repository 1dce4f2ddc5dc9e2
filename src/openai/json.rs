//! A JSON tree that borrows its strings from the body.
//!
//! A request may carry tens of megabytes of base64 in one string; this tree points at them where
//! `serde_json::Value` would copy them. It keeps the order of keys and refuses duplicate ones,
//! which parsers disagree about.

use std::{borrow::Cow, fmt};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string; borrowed where the body has no escapes in it.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object, in the order of the body.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl Json<'_> {
    /// What it is, as an error message calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The same value, owned; `None` where more than `depth` arrays and objects are inside one
    /// another.
    pub fn into_value(self, depth: usize) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(number) => Value::Number(number),
            Self::String(text) => Value::String(text.into_owned()),
            Self::Array(items) => {
                let below = depth.checked_sub(1)?;
                let items = items.into_iter().map(|item| item.into_value(below));
                Value::Array(items.collect::<Option<_>>()?)
            }
            Self::Object(entries) => {
                let below = depth.checked_sub(1)?;
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| Some((key.into_owned(), value.into_value(below)?)));
                Value::Object(entries.collect::<Option<_>>()?)
            }
        })
    }

    /// Says the same as leaving the field out.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// As the values are, whatever order the keys stand in.
impl PartialEq<Value> for Json<'_> {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Number(a), Value::Number(b)) => a == b,
            (Self::String(a), Value::String(b)) => a == b,
            (Self::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
            }
            (Self::Object(a), Value::Object(b)) => {
                let same = |(key, value): &(Cow<'_, str>, Self)| {
                    b.get(key.as_ref()).is_some_and(|other| value == other)
                };
                a.len() == b.len() && a.iter().all(same)
            }
            (
                Self::Null
                | Self::Bool(_)
                | Self::Number(_)
                | Self::String(_)
                | Self::Array(_)
                | Self::Object(_),
                _,
            ) => false,
        }
    }
}

struct Text<'a>(Cow<'a, str>);

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        serde_json::Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        // A long object is compared by hash, a short one key by key.
        let mut seen = std::collections::HashSet::new();
        while let Some(Text(key)) = access.next_key()? {
            let known = if entries.len() < 32 {
                entries.iter().any(|(known, _)| *known == key)
            } else {
                if seen.is_empty() {
                    seen.extend(entries.iter().map(|(known, _)| known.clone()));
                }
                !seen.insert(key.clone())
            };
            if known {
                let shown: String = key.chars().take(64).collect();
                return Err(de::Error::custom(format!(
                    "the key '{shown}' appears twice"
                )));
            }
            entries.push((key, access.next_value()?));
        }
        Ok(Json::Object(entries))
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_without_escapes_is_not_copied() {
        let body = br#"{"a":"plain","b":"esc\n"}"#;
        let Json::Object(entries) = serde_json::from_slice(body).unwrap() else {
            panic!()
        };
        assert!(matches!(
            &entries[0].1,
            Json::String(Cow::Borrowed("plain"))
        ));
        assert!(matches!(&entries[1].1, Json::String(Cow::Owned(s)) if s == "esc\n"));
    }

    #[test]
    fn a_duplicate_key_is_refused_in_short_and_long_objects() {
        assert!(serde_json::from_str::<Json<'_>>(r#"{"a":1,"a":2}"#).is_err());
        let mut long: Vec<String> = (0..100).map(|i| format!("\"k{i}\":1")).collect();
        assert!(serde_json::from_str::<Json<'_>>(&format!("{{{}}}", long.join(","))).is_ok());
        for twice in [5, 99] {
            long.push(format!("\"k{twice}\":1"));
            assert!(serde_json::from_str::<Json<'_>>(&format!("{{{}}}", long.join(","))).is_err());
            long.pop();
        }
    }

    #[test]
    fn it_equals_the_value_that_says_the_same() {
        let text = r#"{"a": [null, true, 1, 1.5, "x"], "b": {}}"#;
        let json: Json<'_> = serde_json::from_str(text).unwrap();
        let same = serde_json::json!({"b": {}, "a": [null, true, 1, 1.5, "x"]});
        assert_eq!(json, same);
        for other in [
            serde_json::json!({"a": [null, true, 1, 1.5, "y"], "b": {}}),
            serde_json::json!({"a": [null, true, 1, 1.5, "x"]}),
            serde_json::json!({"a": [null, true, 1, 1.5], "b": {}}),
            serde_json::json!({"a": [null, true, 1, 1.5, "x"], "c": {}}),
            serde_json::json!([]),
        ] {
            assert_ne!(json, other);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(10_000);
        assert!(serde_json::from_str::<Json<'_>>(&deep).is_err());
    }
}
