//! JSON schemas and definitions that come from clients, within bounds.

use serde_json::Value;

use super::{InvalidRequest, json::Json, read};

/// Arrays and objects of a schema inside one another.
const MAX_DEPTH: usize = 64;
/// Bytes of all tools and schemas of a request, as JSON: each is compiled to a grammar.
const MAX_BYTES: usize = 256 << 10;

/// Definitions taken so far.
#[derive(Default)]
pub(super) struct Definitions {
    bytes: usize,
}

impl Definitions {
    /// Takes what stands at `param`, which holds a schema `around` levels down.
    pub(super) fn take(
        &mut self,
        param: &str,
        value: Json<'_>,
        around: usize,
    ) -> Result<Value, InvalidRequest> {
        let value = value.into_value(MAX_DEPTH + around).ok_or_else(|| {
            let rule = format!("a schema may be at most {MAX_DEPTH} levels deep");
            InvalidRequest::wrong_value(param, &rule)
        })?;
        self.bytes += serde_json::to_vec(&value).map_or(0, |json| json.len());
        if self.bytes > MAX_BYTES {
            let rule = format!("tools and schemas may have at most {MAX_BYTES} bytes together");
            return Err(InvalidRequest::wrong_value(param, &rule));
        }
        Ok(value)
    }

    /// A schema that must be an object.
    pub(super) fn schema(&mut self, param: &str, value: Json<'_>) -> Result<Value, InvalidRequest> {
        let entries = read::object(param, value)?;
        self.take(param, Json::Object(entries), 0)
    }
}
