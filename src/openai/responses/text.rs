//! The form of the answer, and how the model thinks: `text`, `reasoning`, `include`, `metadata`.

use serde_json::{Map, Value, json};

use crate::openai::{
    InvalidRequest, fields::VERBOSITIES, json::Json, read, request::EFFORTS, schema::Definitions,
};

/// Most entries of `metadata`.
pub const MAX_METADATA: usize = 16;
/// Longest key of `metadata`, in characters.
pub const MAX_METADATA_KEY: usize = 64;
/// Longest value in `metadata`, in characters.
pub const MAX_METADATA_VALUE: usize = 512;

/// OpenAI's kinds of summaries of thoughts.
pub const SUMMARIES: &[&str] = &["auto", "concise", "detailed"];
/// Of which turns a model shall see its thoughts, in OpenAI's words.
pub const CONTEXTS: &[&str] = &["auto", "current_turn", "all_turns"];
/// What `include` may list; all but [`LOGPROBS`] is never there.
pub const INCLUDABLE: &[&str] = &[
    LOGPROBS,
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
];
/// Tells how likely the tokens of the text were.
pub const LOGPROBS: &str = "message.output_text.logprobs";

/// The form of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum TextFormat {
    /// Free.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Value,
        /// Whether the client insists; the answer follows the schema in any case.
        strict: bool,
    },
}

impl TextFormat {
    /// The form as the answer repeats it.
    pub fn json(&self) -> Value {
        match self {
            Self::Text => json!({ "type": "text" }),
            Self::JsonObject => json!({ "type": "json_object" }),
            Self::JsonSchema {
                name,
                description,
                schema,
                strict,
            } => json!({
                "type": "json_schema",
                "name": name,
                "description": description,
                "schema": schema,
                "strict": strict,
            }),
        }
    }
}

/// The field `text`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextConfig {
    /// The form of the answer.
    pub format: TextFormat,
    /// How long to say it; without effect.
    pub verbosity: Option<&'static str>,
}

/// The field `reasoning`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReasoningConfig {
    /// One of [`EFFORTS`].
    pub effort: Option<&'static str>,
    /// Which kind of summary was asked for; none is made.
    pub summary: Option<&'static str>,
}

pub(super) fn parse_text(
    value: Json<'_>,
    definitions: &mut Definitions,
) -> Result<TextConfig, InvalidRequest> {
    let mut config = TextConfig::default();
    for (key, value) in read::object("text", value)? {
        match key.as_ref() {
            _ if value.is_null() => {}
            "format" => config.format = format(value, definitions)?,
            "verbosity" => {
                config.verbosity = Some(read::one_of("text.verbosity", &value, VERBOSITIES)?)
            }
            _ => return Err(read::unknown("text", &key)),
        }
    }
    Ok(config)
}

fn format(value: Json<'_>, definitions: &mut Definitions) -> Result<TextFormat, InvalidRequest> {
    const AT: &str = "text.format";
    let mut kind = None;
    let (mut name, mut description) = (None, None);
    let (mut schema, mut strict) = (None, None);
    for (key, value) in read::object(AT, value)? {
        let param = read::field(AT, &key);
        match key.as_ref() {
            "type" => {
                kind = Some(read::one_of(
                    &param,
                    &value,
                    &["text", "json_object", "json_schema"],
                )?)
            }
            _ if value.is_null() => {}
            "name" => name = Some(read::name(&param, value)?),
            "description" => description = Some(read::text(&param, value)?.into_owned()),
            "schema" => schema = Some(definitions.schema(&param, value)?),
            "strict" => strict = Some(read::boolean(&param, &value)?),
            _ => return Err(read::unknown(AT, &key)),
        }
    }
    let kind = kind.ok_or_else(|| read::missing("text.format.type"))?;
    if kind == "json_schema" {
        return Ok(TextFormat::JsonSchema {
            name: name.ok_or_else(|| read::missing("text.format.name"))?,
            description,
            schema: schema.ok_or_else(|| read::missing("text.format.schema"))?,
            strict: strict.unwrap_or(false),
        });
    }
    let given = [
        ("name", name.is_some()),
        ("description", description.is_some()),
        ("schema", schema.is_some()),
        ("strict", strict.is_some()),
    ];
    if let Some((key, _)) = given.iter().find(|(_, given)| *given) {
        return Err(read::unknown(AT, key));
    }
    Ok(if kind == "json_object" {
        TextFormat::JsonObject
    } else {
        TextFormat::Text
    })
}

/// How to think, and what of it was accepted without effect.
pub(super) fn parse_reasoning(
    value: Json<'_>,
    ignored: &mut Vec<&'static str>,
) -> Result<ReasoningConfig, InvalidRequest> {
    let mut config = ReasoningConfig::default();
    for (key, value) in read::object("reasoning", value)? {
        let param = read::field("reasoning", &key);
        match key.as_ref() {
            _ if value.is_null() => {}
            "effort" => config.effort = Some(read::one_of(&param, &value, EFFORTS)?),
            "summary" | "generate_summary" => {
                config.summary = Some(read::one_of(&param, &value, SUMMARIES)?);
                ignored.push("reasoning.summary");
            }
            // Thoughts of earlier turns are never shown to the model.
            "context" => {
                read::one_of(&param, &value, CONTEXTS)?;
                ignored.push("reasoning.context");
            }
            "mode" if value == Json::String("standard".into()) => {}
            "mode" => return Err(read::unsupported(param)),
            _ => return Err(read::unknown("reasoning", &key)),
        }
    }
    Ok(config)
}

/// Whether log probabilities are asked for.
pub(super) fn parse_include(
    value: Json<'_>,
    ignored: &mut Vec<&'static str>,
) -> Result<bool, InvalidRequest> {
    let mut logprobs = false;
    for (i, item) in read::array("include", value, "items", 0..=usize::MAX)?
        .into_iter()
        .enumerate()
    {
        if read::one_of(&format!("include[{i}]"), &item, INCLUDABLE)? == LOGPROBS {
            logprobs = true;
        } else if !ignored.contains(&"include") {
            ignored.push("include");
        }
    }
    Ok(logprobs)
}

pub(super) fn parse_metadata(value: Json<'_>) -> Result<Map<String, Value>, InvalidRequest> {
    let entries = read::object("metadata", value)?;
    if entries.len() > MAX_METADATA {
        let rule = format!("expected at most {MAX_METADATA} entries");
        return Err(InvalidRequest::wrong_value("metadata", &rule));
    }
    let entries = entries.into_iter().map(|(key, value)| {
        let param = read::field("metadata", &key);
        let value = read::text(&param, value)?;
        if key.chars().count() > MAX_METADATA_KEY || value.chars().count() > MAX_METADATA_VALUE {
            let rule = format!(
                "expected keys of at most {MAX_METADATA_KEY} and values of at most {MAX_METADATA_VALUE} characters"
            );
            return Err(InvalidRequest::wrong_value(&param, &rule));
        }
        Ok((key.into_owned(), value.into_owned().into()))
    });
    entries.collect()
}
