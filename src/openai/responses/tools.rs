//! Functions that a model may call, in the flat shape of the Responses API.

use serde_json::{Map, Value, json};

use crate::openai::{InvalidRequest, json::Json, read, schema::Definitions, tools::MAX_TOOLS};

/// Tools that run at OpenAI, or have no JSON arguments.
const FOREIGN: &[&str] = &[
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "custom",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "namespace",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_preview",
];

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionTool {
    /// 1 to 64 letters, digits, `_` and `-`.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// Whether the client insists on the schema; arguments follow it in any case.
    pub strict: bool,
}

impl FunctionTool {
    /// The tool as the answer repeats it.
    pub fn flat(&self) -> Value {
        json!({
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": self.strict,
        })
    }

    /// The tool as chat templates show it.
    pub fn nested(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".into(), self.name.as_str().into());
        if let Some(description) = &self.description {
            function.insert("description".into(), description.as_str().into());
        }
        function.insert("parameters".into(), self.parameters.clone());
        json!({ "type": "function", "function": function })
    }
}

/// Whether the model must or must not call.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Choice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must.
    Required,
    /// It must call this one.
    Function(String),
    /// As it likes, or it must, but only these.
    Allowed {
        /// Whether it must.
        required: bool,
        /// Names of tools.
        names: Vec<String>,
    },
}

impl Choice {
    /// The choice as the answer repeats it.
    pub fn json(&self) -> Value {
        match self {
            Self::Auto => "auto".into(),
            Self::None => "none".into(),
            Self::Required => "required".into(),
            Self::Function(name) => json!({ "type": "function", "name": name }),
            Self::Allowed { required, names } => {
                let tool = |name| json!({ "type": "function", "name": name });
                json!({
                    "type": "allowed_tools",
                    "mode": if *required { "required" } else { "auto" },
                    "tools": names.iter().map(tool).collect::<Value>(),
                })
            }
        }
    }

    /// Checks it against the tools that there are.
    pub(super) fn check(&self, tools: &[FunctionTool]) -> Result<(), InvalidRequest> {
        let named = match self {
            Self::Auto | Self::None => return Ok(()),
            Self::Required if tools.is_empty() => {
                let rule = "there are no 'tools' to call";
                return Err(InvalidRequest::wrong_value("tool_choice", rule));
            }
            Self::Required => return Ok(()),
            Self::Function(name) => std::slice::from_ref(name),
            Self::Allowed { names, .. } => names,
        };
        let is_there = |name: &&String| tools.iter().any(|tool| tool.name == **name);
        match named.iter().find(|name| !is_there(name)) {
            None => Ok(()),
            Some(name) => {
                let rule = format!("there is no tool named '{name}' in 'tools'");
                Err(InvalidRequest::wrong_value("tool_choice", &rule))
            }
        }
    }
}

pub(super) fn parse(
    value: Json<'_>,
    definitions: &mut Definitions,
) -> Result<Vec<FunctionTool>, InvalidRequest> {
    let items = read::array("tools", value, "tools", 0..=MAX_TOOLS)?;
    let mut tools: Vec<FunctionTool> = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        let at = format!("tools[{i}]");
        let tool = tool(&at, item, definitions)?;
        if tools.iter().any(|known| known.name == tool.name) {
            let rule = "there is another tool with this name";
            return Err(InvalidRequest::wrong_value(&format!("{at}.name"), rule));
        }
        tools.push(tool);
    }
    Ok(tools)
}

fn tool(
    at: &str,
    value: Json<'_>,
    definitions: &mut Definitions,
) -> Result<FunctionTool, InvalidRequest> {
    let mut entries = read::object(at, value)?;
    is_function(at, &mut entries)?;
    let (mut name, mut description) = (None, None);
    let (mut parameters, mut strict) = (None, false);
    for (key, value) in entries {
        let param = read::field(at, &key);
        match key.as_ref() {
            _ if value.is_null() => {}
            "name" => name = Some(read::name(&param, value)?),
            "description" => description = Some(read::text(&param, value)?.into_owned()),
            "parameters" => parameters = Some(definitions.schema(&param, value)?),
            "strict" => strict = read::boolean(&param, &value)?,
            "defer_loading" | "async" if value == Json::Bool(false) => {}
            "defer_loading" | "async" | "allowed_callers" | "output_schema" => {
                return Err(read::unsupported(param));
            }
            _ => return Err(read::unknown(at, &key)),
        }
    }
    Ok(FunctionTool {
        name: name.ok_or_else(|| read::missing(format!("{at}.name")))?,
        description,
        parameters: parameters.unwrap_or_else(|| json!({ "type": "object", "properties": {} })),
        strict,
    })
}

/// Takes the type out of `entries`; it must be `function`.
fn is_function(at: &str, entries: &mut read::Entries<'_>) -> Result<(), InvalidRequest> {
    let param = format!("{at}.type");
    let place = entries.iter().position(|(key, _)| key == "type");
    let place = place.ok_or_else(|| read::missing(&param))?;
    let kind = read::text(&param, entries.remove(place).1)?;
    match kind.as_ref() {
        "function" => Ok(()),
        kind if FOREIGN.contains(&kind) => {
            let message = format!(
                "Tools of type '{kind}' are not supported by this server; only functions are."
            );
            Err(InvalidRequest::new("unsupported_value", param, message))
        }
        _ => Err(InvalidRequest::wrong_value(
            &param,
            "supported values are 'function'",
        )),
    }
}

pub(super) fn parse_choice(value: Json<'_>) -> Result<Choice, InvalidRequest> {
    const AT: &str = "tool_choice";
    if let Json::String(_) = value {
        return Ok(
            match read::one_of(AT, &value, &["none", "auto", "required"])? {
                "none" => Choice::None,
                "required" => Choice::Required,
                _ => Choice::Auto,
            },
        );
    }
    let Json::Object(mut entries) = value else {
        return Err(InvalidRequest::wrong_type(
            AT,
            "a string or an object",
            &value,
        ));
    };
    let is_allowed = |(key, value): &(_, Json<'_>)| {
        key == "type" && matches!(value, Json::String(kind) if kind == "allowed_tools")
    };
    let Some(place) = entries.iter().position(is_allowed) else {
        return Ok(Choice::Function(named(AT, Json::Object(entries))?));
    };
    entries.remove(place);
    let (mut required, mut names) = (None, None);
    for (key, value) in entries {
        match key.as_ref() {
            "mode" => {
                let mode = read::one_of("tool_choice.mode", &value, &["auto", "required"])?;
                required = Some(mode == "required");
            }
            "tools" => {
                let tools = read::array("tool_choice.tools", value, "items", 1..=MAX_TOOLS)?;
                let tools = tools.into_iter().enumerate();
                let named = tools.map(|(i, tool)| named(&format!("tool_choice.tools[{i}]"), tool));
                names = Some(named.collect::<Result<_, _>>()?);
            }
            _ => return Err(read::unknown(AT, &key)),
        }
    }
    Ok(Choice::Allowed {
        required: required.ok_or_else(|| read::missing("tool_choice.mode"))?,
        names: names.ok_or_else(|| read::missing("tool_choice.tools"))?,
    })
}

/// The name in `{"type": "function", "name": ...}`.
fn named(at: &str, value: Json<'_>) -> Result<String, InvalidRequest> {
    let mut entries = read::object(at, value)?;
    is_function(at, &mut entries)?;
    let mut name = None;
    for (key, value) in entries {
        match key.as_ref() {
            "name" => name = Some(read::name(&format!("{at}.name"), value)?),
            _ => return Err(read::unknown(at, &key)),
        }
    }
    name.ok_or_else(|| read::missing(format!("{at}.name")))
}
