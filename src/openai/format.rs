//! `response_format`: the form that an answer must have.

use serde_json::Value;

use super::{InvalidRequest, ignored::Ignored, json::Json, read, schema::Definitions};

/// The form that an answer must have.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ResponseFormat {
    /// `text`: any.
    #[default]
    Text,
    /// `json_object`: some JSON object.
    JsonObject,
    /// `json_schema`: JSON that this schema allows.
    JsonSchema(Value),
}

pub(super) fn parse(
    value: Json<'_>,
    definitions: &mut Definitions,
    ignored: &mut Ignored,
) -> Result<ResponseFormat, InvalidRequest> {
    const AT: &str = "response_format";
    let mut kind = None;
    let mut schema = None;
    for (key, value) in read::object(AT, value)? {
        match key.as_ref() {
            "type" => {
                let kinds = ["text", "json_object", "json_schema"];
                kind = Some(read::one_of("response_format.type", &value, &kinds)?);
            }
            _ if value.is_null() => {}
            "json_schema" => schema = Some(value),
            _ => return Err(read::unknown(AT, &key)),
        }
    }
    let at = "response_format.json_schema";
    match (kind, schema) {
        (None, _) => Err(read::missing("response_format.type")),
        (Some("json_schema"), Some(schema)) => json_schema(at, schema, definitions, ignored),
        (Some("json_schema"), None) => Err(read::missing(at)),
        (Some(_), Some(_)) => {
            let rule = "it is only allowed with the type 'json_schema'";
            Err(InvalidRequest::wrong_value(at, rule))
        }
        (Some("json_object"), None) => Ok(ResponseFormat::JsonObject),
        (Some(_), None) => Ok(ResponseFormat::Text),
    }
}

fn json_schema(
    at: &str,
    value: Json<'_>,
    definitions: &mut Definitions,
    ignored: &mut Ignored,
) -> Result<ResponseFormat, InvalidRequest> {
    let mut name = None;
    let mut schema = None;
    for (key, value) in read::object(at, value)? {
        let param = format!("{at}.{}", read::shown(&key));
        match key.as_ref() {
            "name" => name = Some(read::name(&param, value)?),
            _ if value.is_null() => {}
            "description" => {
                read::text(&param, value)?;
                ignored.add("response_format.json_schema.description");
            }
            "schema" => schema = Some(definitions.schema(&param, value)?),
            // The schema is always kept to.
            "strict" => drop(read::boolean(&param, &value)?),
            _ => return Err(read::unknown(at, &key)),
        }
    }
    if name.is_none() {
        return Err(read::missing(format!("{at}.name")));
    }
    let schema = schema.ok_or_else(|| read::missing(format!("{at}.schema")))?;
    Ok(ResponseFormat::JsonSchema(schema))
}
