//! What an answer may look like, compiled: JSON of a schema, calls of tools.
//!
//! Compilation and every step have budgets (llguidance's limits), so a schema that is a bomb is
//! refused with its reason, and one that is merely slow cannot hold up the engine's thread.

use std::sync::Arc;

use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar, toktrie::TokEnv};
use serde_json::{Map, Value, json};

use crate::engine::{EngineError, Format, Tool, ToolChoice, Toolbox};

/// Tokens that a model writes around a call of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallTokens {
    /// `<tool_call>`
    pub(super) open: u32,
    /// `</tool_call>`
    pub(super) close: u32,
}

/// Compiles grammars for one tokenizer.
pub(super) struct Grammars {
    factory: Arc<ParserFactory>,
    calls: Option<CallTokens>,
}

/// What holds for an answer.
pub(super) enum Rule {
    /// Nothing.
    Free,
    /// This, from its first token on.
    Whole(Box<Matcher>),
    /// Nothing until a call is opened, then this.
    FromCall(CallTokens, Box<Matcher>),
    /// Anything but opening a call.
    NoCall(CallTokens),
}

impl Rule {
    /// The same rule for another answer.
    pub(super) fn fresh(&self) -> Self {
        match self {
            Self::Free => Self::Free,
            Self::Whole(matcher) => Self::Whole(Box::new(matcher.deep_clone())),
            Self::FromCall(tokens, matcher) => {
                Self::FromCall(*tokens, Box::new(matcher.deep_clone()))
            }
            Self::NoCall(tokens) => Self::NoCall(*tokens),
        }
    }
}

/// Whitespace between the tokens of an answer in JSON: enough to indent, too little to ramble.
const WHITESPACE: &str = r"[ \n]{0,24}";

impl Grammars {
    pub(super) fn new(tokens: &TokEnv, calls: Option<CallTokens>) -> Result<Self, String> {
        let mut factory = ParserFactory::new_simple(tokens).map_err(|e| e.to_string())?;
        factory.quiet();
        let limits = factory.limits_mut();
        // Its errors would quote the grammar.
        limits.verbose_errors = false;
        limits.max_grammar_size = 200_000;
        limits.max_lexer_states = 50_000;
        Ok(Self {
            factory: Arc::new(factory),
            calls,
        })
    }

    /// The rule of an answer in `format` with these tools.
    ///
    /// # Errors
    /// A schema that cannot be compiled, with the field it came in.
    pub(super) fn rule(&self, format: &Format, toolbox: &Toolbox) -> Result<Rule, EngineError> {
        let schema = match format {
            Format::Text => None,
            Format::JsonObject => Some(json!({"type": "object"})),
            Format::JsonSchema(schema) => Some(schema.clone()),
        };
        let json = schema.map(|schema| format!("%json {}", flexible(schema)));
        self.compiled(json.as_deref(), toolbox)
            .map_err(|reason| self.blame(json.as_deref(), toolbox, reason))
    }

    fn compiled(&self, json: Option<&str>, toolbox: &Toolbox) -> Result<Rule, String> {
        let only_json = |free| match json {
            None => Ok(free),
            Some(json) => self.whole(&format!("start: {json}")),
        };
        let Some(calls) = self.calls.filter(|_| !toolbox.tools.is_empty()) else {
            return only_json(Rule::Free);
        };
        let (allowed, required): (Vec<&Tool>, bool) = match &toolbox.choice {
            ToolChoice::None => return only_json(Rule::NoCall(calls)),
            ToolChoice::Auto => (toolbox.tools.iter().collect(), false),
            ToolChoice::Required => (toolbox.tools.iter().collect(), true),
            ToolChoice::AllowedAuto(names) => (toolbox.named(names), false),
            ToolChoice::AllowedRequired(names) => (toolbox.named(names), true),
        };
        let bodies = allowed
            .into_iter()
            .map(body)
            .collect::<Vec<_>>()
            .join(" | ");
        let (open, close) = (calls.open, calls.close);
        let more = if toolbox.one_at_most {
            String::new()
        } else {
            format!(" (\"\\n\" <[{open}]> call)*")
        };
        let call = format!("call: ({bodies}) \"\\n\" <[{close}]>");
        match (required, json) {
            (true, _) => self.whole(&format!("start: <[{open}]> call{more}\n{call}")),
            (false, Some(json)) => self.whole(&format!(
                "start: json | <[{open}]> call{more}\njson: {json}\n{call}"
            )),
            (false, None) => {
                let matcher = self.compile(&format!("start: call{more}\n{call}"))?;
                Ok(Rule::FromCall(calls, Box::new(matcher)))
            }
        }
    }

    fn whole(&self, lark: &str) -> Result<Rule, String> {
        Ok(Rule::Whole(Box::new(self.compile(lark)?)))
    }

    fn compile(&self, lark: &str) -> Result<Matcher, String> {
        let grammar = TopLevelGrammar::from_lark(lark.to_string());
        let matcher = self.factory.create_parser(grammar).and_then(|parser| {
            let matcher = Matcher::new(Ok(parser));
            // Some schemas show only at the first token that nothing satisfies them, or that
            // they are too large.
            matcher.deep_clone().compute_mask_or_eos()?;
            Ok(matcher)
        });
        matcher.map_err(|error| reason(&error.to_string()))
    }

    /// Which of the schemas it is that cannot be compiled.
    fn blame(&self, json: Option<&str>, toolbox: &Toolbox, reason: String) -> EngineError {
        let alone = |schema: &str| self.compile(&format!("start: {schema}")).err();
        let faults = toolbox.tools.iter().enumerate().filter_map(|(i, tool)| {
            let reason = alone(&body(tool))?;
            Some((format!("tools[{i}].function.parameters"), reason))
        });
        let of_format = json
            .and_then(alone)
            .map(|reason| ("response_format".into(), reason));
        // Where each alone is good, they are too large together.
        let together = if toolbox.tools.is_empty() {
            "response_format"
        } else {
            "tools"
        };
        let (param, reason) = of_format
            .into_iter()
            .chain(faults)
            .next()
            .unwrap_or_else(|| (together.to_string(), reason));
        EngineError::Refused {
            message: format!("Invalid schema in '{param}': {reason}."),
            code: "invalid_schema",
            param: param.into(),
        }
    }

    /// The text of a token.
    pub(super) fn bytes(&self, token: u32) -> Vec<u8> {
        self.factory.tok_env().tok_trie().decode(&[token])
    }

    /// The token that ends a grammar's text.
    pub(super) fn end(&self) -> u32 {
        self.factory.tok_env().tok_trie().eos_token()
    }
}

impl Toolbox {
    fn named(&self, names: &[String]) -> Vec<&Tool> {
        let named = |tool: &&Tool| names.contains(&tool.name);
        self.tools.iter().filter(named).collect()
    }
}

/// A call of a tool, spelled as the models were taught (and as Python's `json.dumps` does).
fn body(tool: &Tool) -> String {
    let head = format!("\n{{\"name\": {}, \"arguments\": ", json!(tool.name));
    let mut schema = closed(as_object(tool.parameters.clone()));
    if let Value::Object(entries) = &mut schema {
        let style = json!({
            "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
        });
        entries.insert("x-guidance".into(), style);
    }
    format!("{} %json {schema} \"}}\"", json!(head))
}

fn flexible(schema: Value) -> Value {
    let mut schema = closed(as_object(schema));
    if let Value::Object(entries) = &mut schema {
        let style = json!({ "whitespace_flexible": true, "whitespace_pattern": WHITESPACE });
        entries.insert("x-guidance".into(), style);
    }
    schema
}

/// The schema with every object closed that lists its properties and does not say whether there may
/// be others: what keeps to it keeps to the schema too, and a model does not invent keys until its
/// tokens run out. Objects that are put together from several schemas are left alone.
fn closed(schema: Value) -> Value {
    let Value::Object(entries) = schema else {
        return schema;
    };
    let speaks_of_others = [
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
    ];
    let put_together = ["allOf", "anyOf", "oneOf", "not", "if", "$ref"];
    let mut mentioned = speaks_of_others.iter().chain(&put_together);
    let lists_all = entries.get("properties").is_some_and(|listed| {
        let required = entries.get("required").and_then(Value::as_array);
        let mut required = required.into_iter().flatten().filter_map(Value::as_str);
        listed.is_object() && required.all(|name| listed.get(name).is_some())
    });
    let close = lists_all && !mentioned.any(|key| entries.contains_key(*key));
    let mut entries: Map<String, Value> = entries
        .into_iter()
        .map(|(key, value)| {
            let value = match (key.as_str(), value) {
                ("properties" | "$defs" | "definitions", Value::Object(named)) => named
                    .into_iter()
                    .map(|(name, schema)| (name, closed(schema)))
                    .collect(),
                ("items", schema) => closed(schema),
                ("anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                    schemas.into_iter().map(closed).collect()
                }
                (_, other) => other,
            };
            (key, value)
        })
        .collect();
    if close {
        entries.insert("additionalProperties".into(), false.into());
    }
    Value::Object(entries)
}

/// The schema as an object, which can carry how it shall be written: `true` allows all.
fn as_object(schema: Value) -> Value {
    match schema {
        Value::Bool(true) | Value::Null => json!({}),
        Value::Bool(false) => json!({ "not": {} }),
        other @ (Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => other,
    }
}

/// The compiler's words, without its internals: it goes on to quote the grammar.
fn reason(error: &str) -> String {
    let words = error
        .split_once("JSON schema: ")
        .map_or(error, |(_, words)| words);
    let quotes = |line: &&str| {
        let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < line.len() && digits.trim_start().starts_with('|')
    };
    let lines = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('<'));
    let words = lines
        .take_while(|line| !quotes(line))
        .collect::<Vec<_>>()
        .join(" ");
    let words = words.replace(" without 'referencing' feature", "");
    words.trim_end_matches('.').chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_list_their_properties_are_closed() {
        let open = json!({
            "properties": {"a": {"items": {"properties": {"b": {}}}}, "properties": {"type": "object"}},
            "required": ["a"],
        });
        let expected = json!({
            "properties": {
                "a": {"items": {"properties": {"b": {}}, "additionalProperties": false}},
                "properties": {"type": "object"},
            },
            "required": ["a"],
            "additionalProperties": false,
        });
        assert_eq!(closed(open), expected);
        for left_alone in [
            json!({"properties": {"a": {}}, "additionalProperties": true}),
            json!({"properties": {"a": {}}, "required": ["b"]}),
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
            json!({"properties": {"a": {}}, "anyOf": [{"required": ["b"]}]}),
            json!({"const": {"properties": {}}}),
            json!(true),
        ] {
            assert_eq!(closed(left_alone.clone()), left_alone);
        }
    }
}
