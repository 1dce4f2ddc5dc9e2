//! The model's own chat template, rendered as transformers renders it.
//!
//! The engine could render it too, but its JSON differs from Python's (compact, with escapes, keys
//! sorted), and prompts with tools would not be those that the models were taught with. So it gets
//! finished text: see [`PASS_THROUGH`].

use std::{fmt::Write, path::Path, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, Value,
    value::{Enumerator, Kwargs, Object, ObjectRepr, ValueKind},
};
use serde_json::Value as Json;

/// The template that the engine itself gets: the messages' contents, as they are.
pub(super) const PASS_THROUGH: &str =
    "{%- for message in messages -%}{{- message['content'] -}}{%- endfor -%}";

/// A chat template.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// What a template is rendered with, beside the messages.
pub(super) struct Variables {
    pub(super) messages: Json,
    pub(super) tools: Json,
    /// `None` leaves the template's own way.
    pub(super) enable_thinking: Option<bool>,
}

impl ChatTemplate {
    /// # Errors
    /// The template cannot be compiled.
    pub(super) fn new(source: &str, bos: String, eos: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        // As transformers sets Jinja up (`_compile_jinja_template`).
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| {
            Err::<String, _>(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            jiff::Zoned::now().strftime(&format).to_string()
        });
        environment.add_filter("tojson", to_json);
        // What minijinja does not have, and templates use.
        let compiled = source
            .replace("[::-1]", "|reverse")
            .replace("{% generation %}", "")
            .replace("{% endgeneration %}", "");
        environment
            .add_template_owned("chat", compiled)
            .map_err(|e| format!("the chat template: {e:#}"))?;
        Ok(Self {
            environment,
            source: source.to_string(),
            bos,
            eos,
        })
    }

    /// The template of a model's folder, where there is one. A file of its own comes first, then
    /// the processor's, then the tokenizer's, as in transformers.
    pub(super) fn source(folder: &Path) -> Option<String> {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        if let Some(source) = read("chat_template.jinja") {
            return Some(source);
        }
        let files = [
            "chat_template.json",
            "processor_config.json",
            "tokenizer_config.json",
        ];
        files.into_iter().find_map(|name| {
            let json: Json = serde_json::from_str(&read(name)?).ok()?;
            match json.get("chat_template")? {
                Json::String(source) => Some(source.clone()),
                Json::Array(named) => {
                    let default = named.iter().find(|one| one["name"] == "default");
                    let one = default.or(named.first())?;
                    Some(one.get("template")?.as_str()?.to_string())
                }
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => None,
            }
        })
    }

    /// Whether the template's source has this in it.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.source.contains(text)
    }

    /// The prompt, with the head of the assistant's turn at its end.
    ///
    /// # Errors
    /// The template refuses the messages, in its own words.
    pub(super) fn render(&self, variables: Variables) -> Result<String, String> {
        let template = self.environment.get_template("chat");
        let template = template.map_err(|e| e.to_string())?;
        let mut context = vec![
            ("messages", value(variables.messages)),
            ("add_generation_prompt", Value::from(true)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ];
        if variables
            .tools
            .as_array()
            .is_some_and(|tools| !tools.is_empty())
        {
            context.push(("tools", value(variables.tools)));
        }
        if let Some(enable) = variables.enable_thinking {
            context.push(("enable_thinking", Value::from(enable)));
        }
        let context: Value = context.into_iter().collect();
        template.render(context).map_err(|e| {
            e.detail()
                .map_or_else(|| e.to_string(), ToString::to_string)
        })
    }
}

/// An object that keeps the order of its keys, which minijinja's own maps sort.
#[derive(Debug)]
struct Ordered(Vec<(String, Value)>);

impl Object for Ordered {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let entry = self.0.iter().find(|(name, _)| name == key)?;
        Some(entry.1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let keys = self.0.iter().map(|(name, _)| Value::from(name.as_str()));
        Enumerator::Values(keys.collect())
    }
}

fn value(json: Json) -> Value {
    match json {
        Json::Object(entries) => {
            let entries = entries.into_iter().map(|(key, json)| (key, value(json)));
            Value::from_object(Ordered(entries.collect()))
        }
        Json::Array(items) => items.into_iter().map(value).collect::<Vec<_>>().into(),
        other @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
            Value::from_serialize(other)
        }
    }
}

/// Python's `json.dumps(value, ensure_ascii=False)`, with its `indent`.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut text = String::new();
    write_json(value, indent, 0, &mut text)?;
    Ok(Value::from_safe_string(text))
}

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    let is_map = value.kind() == ValueKind::Map;
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if !is_map && !is_list {
        let text = serde_json::to_string(value);
        out.push_str(&text.map_err(|e| {
            Error::new(ErrorKind::BadSerialization, "cannot serialize to JSON").with_source(e)
        })?);
        return Ok(());
    }
    let (open, close) = if is_map { ('{', '}') } else { ('[', ']') };
    out.push(open);
    let mut empty = true;
    for item in value.try_iter()? {
        if !empty {
            out.push(',');
        }
        match indent {
            Some(width) => break_line(out, width * (depth + 1)),
            None if !empty => out.push(' '),
            None => {}
        }
        empty = false;
        if is_map {
            out.push_str(&serde_json::to_string(&item.to_string()).unwrap_or_default());
            out.push_str(": ");
            write_json(&value.get_item(&item)?, indent, depth + 1, out)?;
        } else {
            write_json(&item, indent, depth + 1, out)?;
        }
    }
    if let (Some(width), false) = (indent, empty) {
        break_line(out, width * depth);
    }
    out.push(close);
    Ok(())
}

fn break_line(out: &mut String, width: usize) {
    // Writing into a String cannot fail.
    let _ = write!(out, "\n{:width$}", "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str, messages: Json, tools: Json) -> Result<String, String> {
        let template = ChatTemplate::new(source, "<s>".into(), "</s>".into()).unwrap();
        template.render(Variables {
            messages,
            tools,
            enable_thinking: None,
        })
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let tools = json!([{"z": 1, "a": ["<b>", "it's", "中"], "e": {}, "n": null, "t": true}]);
        let text = render(
            "{% for t in tools %}{{ t | tojson }}{% endfor %}",
            json!([]),
            tools,
        );
        assert_eq!(
            text.unwrap(),
            r#"{"z": 1, "a": ["<b>", "it's", "中"], "e": {}, "n": null, "t": true}"#
        );
        let indented = render(
            "{{ tools | tojson(indent=2) }}",
            json!([]),
            json!([{"z": [1]}]),
        );
        assert_eq!(
            indented.unwrap(),
            "[\n  {\n    \"z\": [\n      1\n    ]\n  }\n]"
        );
    }

    #[test]
    fn a_template_sees_keys_and_methods_as_in_python() {
        let source = "{{ bos_token }}{% for m in messages %}{% if m.content is string %}\
                      {{ m.content.strip().upper() }}{% endif %}{{ m['role'] }}{% endfor %}";
        let messages = json!([{"role": "user", "content": " hi "}]);
        assert_eq!(render(source, messages, json!([])).unwrap(), "<s>HIuser");
    }

    #[test]
    fn a_refusal_has_the_templates_words() {
        let refused = render(
            "{{ raise_exception('no system role') }}",
            json!([]),
            json!([]),
        );
        assert_eq!(refused.unwrap_err(), "no system role");
    }
}
