//! `tools`, `tool_choice` and `parallel_tool_calls`: what a model may call.
#![allow(clippy::wildcard_enum_match_arm)] // JSON will not get a seventh type

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{InvalidRequest, ignored::Ignored, json::Json, read, schema::Definitions};

/// Most tools, as OpenAI has it.
pub const MAX_TOOLS: usize = 128;
/// Levels of a tool's definition around its schema.
const AROUND_SCHEMA: usize = 2;

/// What a model may call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    /// The functions; their names are unique.
    pub functions: Vec<Function>,
    /// Whether it must or must not.
    pub choice: ToolChoice,
    /// At most one call an answer.
    pub one_at_most: bool,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments, an object.
    pub parameters: Value,
    /// The tool as the client sent it.
    pub definition: Value,
}

/// Whether a model must or must not call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must.
    Required,
    /// Only these, which are tools of the request.
    Allowed {
        /// Their names.
        names: Vec<String>,
        /// It must call one.
        required: bool,
    },
}

/// The fields read so far.
#[derive(Default)]
pub(super) struct ToolsDraft {
    functions: Vec<Function>,
    choice: Option<ToolChoice>,
    parallel: Option<bool>,
}

impl ToolsDraft {
    /// Takes a field; the value comes back where it is not of this kind.
    pub(super) fn set<'a>(
        &mut self,
        key: &str,
        value: Json<'a>,
        definitions: &mut Definitions,
    ) -> Result<Option<Json<'a>>, InvalidRequest> {
        match key {
            "tools" => self.functions = functions(value, definitions)?,
            "tool_choice" => self.choice = Some(choice(value)?),
            "parallel_tool_calls" => self.parallel = Some(read::boolean(key, &value)?),
            _ => return Ok(Some(value)),
        }
        Ok(None)
    }

    /// What the fields say together.
    pub(super) fn finish(self, ignored: &mut Ignored) -> Result<Tools, InvalidRequest> {
        let Self {
            functions,
            choice,
            parallel,
        } = self;
        let choice = choice.unwrap_or_default();
        let refused = |rule: &str| Err(InvalidRequest::wrong_value("tool_choice", rule));
        if functions.is_empty() {
            if parallel.is_some() {
                ignored.add("parallel_tool_calls");
            }
            return match choice {
                ToolChoice::Auto | ToolChoice::None => Ok(Tools::default()),
                ToolChoice::Required | ToolChoice::Allowed { .. } => {
                    refused("it is only allowed when there are 'tools'")
                }
            };
        }
        if let ToolChoice::Allowed { names, .. } = &choice {
            let unknown = |name: &&String| !functions.iter().any(|known| known.name == **name);
            if let Some(name) = names.iter().find(unknown) {
                return refused(&format!("there is no tool '{name}' among 'tools'"));
            }
        }
        Ok(Tools {
            functions,
            choice,
            one_at_most: parallel == Some(false),
        })
    }
}

fn functions(
    value: Json<'_>,
    definitions: &mut Definitions,
) -> Result<Vec<Function>, InvalidRequest> {
    let mut functions: Vec<Function> = Vec::new();
    for (i, tool) in read::array("tools", value, "tools", 0..=MAX_TOOLS)?
        .into_iter()
        .enumerate()
    {
        let at = format!("tools[{i}]");
        let function = function(&at, tool, definitions)?;
        if functions.iter().any(|known| known.name == function.name) {
            let rule = format!("the name '{}' is taken by a tool before it", function.name);
            return Err(InvalidRequest::wrong_value(
                &format!("{at}.function.name"),
                &rule,
            ));
        }
        functions.push(function);
    }
    Ok(functions)
}

fn function(
    at: &str,
    tool: Json<'_>,
    definitions: &mut Definitions,
) -> Result<Function, InvalidRequest> {
    let name = checked_tool(at, &tool, check_function)?;
    let param = format!("{at}.function.parameters");
    let definition = definitions.take(&param, tool, AROUND_SCHEMA)?;
    let parameters = match &definition["function"]["parameters"] {
        // As OpenAI has it: no parameters.
        Value::Null => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        parameters => parameters.clone(),
    };
    Ok(Function {
        name,
        parameters,
        definition,
    })
}

/// The name of a tool, `{"type": "function", "function": {...}}`, whose function is judged by
/// `check`.
fn checked_tool(
    at: &str,
    tool: &Json<'_>,
    check: impl FnOnce(&str, &Json<'_>) -> Result<String, InvalidRequest>,
) -> Result<String, InvalidRequest> {
    let Json::Object(entries) = tool else {
        return Err(InvalidRequest::wrong_type(at, "an object", tool));
    };
    check_kind(at, entries, &["function"])?;
    let mut function = None;
    for (key, value) in entries {
        match key.as_ref() {
            "type" => {}
            "function" => function = Some(value),
            _ if value.is_null() => {}
            _ => return Err(read::unknown(at, key)),
        }
    }
    let at = format!("{at}.function");
    check(&at, function.ok_or_else(|| read::missing(&at))?)
}

/// The `type` of a tool, a call or a choice, which must be one of `kinds`.
pub(super) fn check_kind(
    at: &str,
    entries: &[(Cow<'_, str>, Json<'_>)],
    kinds: &[&'static str],
) -> Result<&'static str, InvalidRequest> {
    let param = format!("{at}.type");
    let kind = entries.iter().find(|(key, _)| key == "type");
    let (_, kind) = kind.ok_or_else(|| read::missing(&param))?;
    if matches!(kind, Json::String(kind) if kind == "custom") {
        let message = "Custom tools are not supported by this server; describe a function.";
        return Err(InvalidRequest::new("unsupported_value", param, message));
    }
    read::one_of(&param, kind, kinds)
}

fn check_function(at: &str, value: &Json<'_>) -> Result<String, InvalidRequest> {
    let Json::Object(entries) = value else {
        return Err(InvalidRequest::wrong_type(at, "an object", value));
    };
    let mut name = None;
    for (key, value) in entries {
        let param = format!("{at}.{}", read::shown(key));
        match (key.as_ref(), value) {
            ("name", _) => name = Some(read::name(&param, value.clone())?),
            ("description", Json::String(_))
            | ("parameters", Json::Object(_))
            | (_, Json::Null) => {}
            ("description", _) => {
                return Err(InvalidRequest::wrong_type(&param, "a string", value));
            }
            ("parameters", _) => {
                return Err(InvalidRequest::wrong_type(&param, "an object", value));
            }
            // Arguments always keep to their schema.
            ("strict", _) => drop(read::boolean(&param, value)?),
            _ => return Err(read::unknown(at, key)),
        }
    }
    name.ok_or_else(|| read::missing(format!("{at}.name")))
}

fn choice(value: Json<'_>) -> Result<ToolChoice, InvalidRequest> {
    const AT: &str = "tool_choice";
    let entries = match value {
        Json::String(_) => {
            return read::one_of(AT, &value, &["none", "auto", "required"]).map(
                |word| match word {
                    "none" => ToolChoice::None,
                    "required" => ToolChoice::Required,
                    _ => ToolChoice::Auto,
                },
            );
        }
        Json::Object(entries) => entries,
        other => {
            return Err(InvalidRequest::wrong_type(
                AT,
                "a string or an object",
                &other,
            ));
        }
    };
    if check_kind(AT, &entries, &["function", "allowed_tools"])? == "function" {
        let name = checked_tool(AT, &Json::Object(entries), check_name)?;
        return Ok(ToolChoice::Allowed {
            names: vec![name],
            required: true,
        });
    }
    let mut allowed = None;
    for (key, value) in entries {
        match key.as_ref() {
            "type" => {}
            "allowed_tools" => allowed = Some(value),
            _ => return Err(read::unknown(AT, &key)),
        }
    }
    let at = "tool_choice.allowed_tools";
    allowed_tools(at, allowed.ok_or_else(|| read::missing(at))?)
}

fn allowed_tools(at: &str, value: Json<'_>) -> Result<ToolChoice, InvalidRequest> {
    let mut mode = None;
    let mut tools = None;
    for (key, value) in read::object(at, value)? {
        let param = format!("{at}.{}", read::shown(&key));
        match key.as_ref() {
            "mode" => mode = Some(read::one_of(&param, &value, &["auto", "required"])?),
            "tools" => tools = Some(read::array(&param, value, "tools", 1..=MAX_TOOLS)?),
            _ => return Err(read::unknown(at, &key)),
        }
    }
    let mode = mode.ok_or_else(|| read::missing(format!("{at}.mode")))?;
    let tools = tools.ok_or_else(|| read::missing(format!("{at}.tools")))?;
    let names = tools
        .iter()
        .enumerate()
        .map(|(i, tool)| checked_tool(&format!("{at}.tools[{i}]"), tool, check_name));
    Ok(ToolChoice::Allowed {
        names: names.collect::<Result<_, _>>()?,
        required: mode == "required",
    })
}

/// Of a function that is only referred to, the name is all there is.
fn check_name(at: &str, value: &Json<'_>) -> Result<String, InvalidRequest> {
    let mut name = None;
    for (key, value) in read::object(at, value.clone())? {
        match key.as_ref() {
            "name" => name = Some(read::name(&format!("{at}.name"), value)?),
            _ => return Err(read::unknown(at, &key)),
        }
    }
    name.ok_or_else(|| read::missing(format!("{at}.name")))
}
