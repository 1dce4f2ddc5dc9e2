//! As much of JSON Schema as the document uses; a word it does not know is a failure.

use serde_json::{Map, Value};

pub struct Document(pub Value);

type Checked = Result<(), String>;

impl Document {
    pub fn schema(&self, name: &str) -> &Value {
        &self.0["components"]["schemas"][name]
    }

    /// Whether `value` is as the schema of this name says.
    pub fn check(&self, name: &str, value: &Value) -> Checked {
        self.is(self.schema(name), value, name)
    }

    fn is(&self, schema: &Value, value: &Value, at: &str) -> Checked {
        let words = schema
            .as_object()
            .unwrap_or_else(|| panic!("{at}: no schema: {schema}"));
        for (word, says) in words {
            self.holds(words, word, says, value, at)?;
        }
        Ok(())
    }

    fn holds(
        &self,
        schema: &Map<String, Value>,
        word: &str,
        says: &Value,
        value: &Value,
        at: &str,
    ) -> Checked {
        let require = |holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(format!("{at}: {word} {says}: {value}"))
            }
        };
        let number = |value: &Value| value.as_f64().unwrap();
        let length = |text: &str| text.chars().count() as f64;
        match (word, value) {
            ("description" | "contentEncoding" | "discriminator", _) => Ok(()),
            ("$ref", _) => {
                let path = says.as_str().unwrap().strip_prefix('#').unwrap();
                self.is(self.0.pointer(path).unwrap(), value, at)
            }
            ("type", _) => require(kind(value, says.as_str().unwrap())),
            ("const", _) => require(value == says),
            ("enum", _) => require(says.as_array().unwrap().contains(value)),
            ("allOf", _) => {
                let mut rules = says.as_array().unwrap().iter();
                rules.try_for_each(|rule| self.is(rule, value, at))
            }
            ("oneOf", _) => {
                let ways = says.as_array().unwrap().iter();
                let tried: Vec<_> = ways.map(|way| self.is(way, value, at)).collect();
                match tried.iter().filter(|tried| tried.is_ok()).count() {
                    1 => Ok(()),
                    0 => {
                        let faults = tried.into_iter().filter_map(Result::err);
                        Err(faults.collect::<Vec<_>>().join("; "))
                    }
                    several => Err(format!("{at}: {several} of the schemas hold at once")),
                }
            }
            ("anyOf", _) => {
                let ways = says.as_array().unwrap().iter();
                let tried: Vec<_> = ways.map(|way| self.is(way, value, at)).collect();
                if tried.iter().any(Result::is_ok) {
                    return Ok(());
                }
                let faults: Vec<String> = tried.into_iter().filter_map(Result::err).collect();
                Err(faults.join("; "))
            }
            ("minimum", Value::Number(n)) if n.as_i128().is_some() && says.is_i64() => {
                require(n.as_i128().unwrap() >= i128::from(says.as_i64().unwrap()))
            }
            ("maximum", Value::Number(n)) if n.as_i128().is_some() && says.is_u64() => {
                require(n.as_i128().unwrap() <= i128::from(says.as_u64().unwrap()))
            }
            ("minimum", Value::Number(n)) => require(n.as_f64().unwrap() >= number(says)),
            ("exclusiveMinimum", Value::Number(n)) => require(n.as_f64().unwrap() > number(says)),
            ("maximum", Value::Number(n)) => require(n.as_f64().unwrap() <= number(says)),
            ("minLength", Value::String(text)) => require(length(text) >= number(says)),
            ("maxLength", Value::String(text)) => require(length(text) <= number(says)),
            ("pattern", Value::String(text)) => require(matches(text, says.as_str().unwrap())),
            ("minItems", Value::Array(items)) => require(items.len() as f64 >= number(says)),
            ("maxItems", Value::Array(items)) => require(items.len() as f64 <= number(says)),
            ("items", Value::Array(items)) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(i, item)| self.is(says, item, &format!("{at}[{i}]")))
            }
            ("maxProperties", Value::Object(entries)) => {
                require(entries.len() as f64 <= number(says))
            }
            ("required", Value::Object(entries)) => {
                let mut names = says.as_array().unwrap().iter();
                require(names.all(|name| entries.contains_key(name.as_str().unwrap())))
            }
            ("propertyNames", Value::Object(entries)) => {
                let mut names = entries.keys();
                names.try_for_each(|name| self.is(says, &name.as_str().into(), at))
            }
            ("properties", Value::Object(entries)) => {
                let mut known = entries
                    .iter()
                    .filter_map(|(name, value)| Some((name, says.get(name)?, value)));
                known.try_for_each(|(name, says, value)| {
                    self.is(says, value, &format!("{at}.{name}"))
                })
            }
            ("additionalProperties", Value::Object(entries)) => {
                let known = schema.get("properties");
                let is_known = |name: &str| known.is_some_and(|known| known.get(name).is_some());
                let mut others = entries.iter().filter(|(name, _)| !is_known(name));
                match says {
                    Value::Bool(true) => Ok(()),
                    Value::Bool(false) => match others.next() {
                        None => Ok(()),
                        Some((name, _)) => Err(format!("{at}: unknown field {name}")),
                    },
                    says => others.try_for_each(|(name, value)| {
                        self.is(says, value, &format!("{at}.{name}"))
                    }),
                }
            }
            (
                "minimum"
                | "exclusiveMinimum"
                | "maximum"
                | "minLength"
                | "maxLength"
                | "pattern"
                | "minItems"
                | "maxItems"
                | "items"
                | "maxProperties"
                | "required"
                | "propertyNames"
                | "properties"
                | "additionalProperties",
                _,
            ) => Ok(()),
            _ => panic!("{at}: the word {word:?} is not known here"),
        }
    }
}

fn kind(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("there is no type {kind}"),
    }
}

/// The patterns that there are.
fn matches(text: &str, pattern: &str) -> bool {
    let all = |text: &str, sane: fn(char) -> bool| !text.is_empty() && text.chars().all(sane);
    match pattern {
        "^image/" => text.starts_with("image/"),
        "^rs_" => text.starts_with("rs_"),
        "^[a-zA-Z0-9_-]+$" => all(text, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-'),
        "^(0|[1-9][0-9]{0,9})$" => {
            let leads = text.starts_with('0') && text != "0";
            all(text, |c| c.is_ascii_digit()) && text.len() <= 10 && !leads
        }
        "^([dD][aA][tT][aA]:|[hH][tT][tT][pP][sS]?://)" => {
            let lower = text.to_ascii_lowercase();
            let schemes = ["data:", "http://", "https://"];
            schemes.iter().any(|scheme| lower.starts_with(scheme))
        }
        _ => panic!("the pattern {pattern} is not known here"),
    }
}
