//! What a request asks of a model: plain data.

use serde_json::Value;

use super::Role;

/// What to answer, and in which form.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// What to continue.
    pub input: Input,
    /// The form of the answer.
    pub format: Format,
    /// What the model may call.
    pub tools: Toolbox,
    /// How long to think; `None` is the model's own way.
    pub effort: Option<Effort>,
}

impl Inquiry {
    /// A conversation to be continued freely.
    pub fn chat(turns: Vec<Turn>) -> Self {
        Self::of(Input::Chat(turns))
    }

    /// `input`, to be continued freely.
    pub fn of(input: Input) -> Self {
        Self {
            input,
            format: Format::Text,
            tools: Toolbox::default(),
            effort: None,
        }
    }
}

/// What to continue.
#[derive(Debug, Clone)]
pub enum Input {
    /// A conversation, through the model's chat template.
    Chat(Vec<Turn>),
    /// Text as it is; the model's special tokens in it stay text.
    Text(String),
    /// Tokens as they are; each below [`vocabulary`](super::ModelInfo::vocabulary).
    Tokens(Vec<u32>),
}

/// The form of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Format {
    /// Free.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that this schema allows.
    JsonSchema(Value),
}

/// What a model may call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Toolbox {
    /// The tools; names are unique.
    pub tools: Vec<Tool>,
    /// Whether it must or must not.
    pub choice: ToolChoice,
    /// At most one call an answer.
    pub one_at_most: bool,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// The tool as the client sent it, which the chat template shows to the model.
    pub definition: Value,
}

/// Whether a model must or must not call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not; the tools are shown to it all the same.
    None,
    /// It must, and says nothing else.
    Required,
    /// As it likes, but only these.
    AllowedAuto(Vec<String>),
    /// It must, one of these.
    AllowedRequired(Vec<String>),
}

/// How long to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Not at all.
    None,
    /// At most so many tokens.
    Tokens(usize),
    /// As long as it takes.
    Unlimited,
}

/// One turn.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown.
    pub parts: Vec<Part>,
    /// What an assistant called.
    pub calls: Vec<ToolCall>,
    /// Which call a tool answers.
    pub call_id: Option<String>,
}

impl Turn {
    /// A turn without calls.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self {
            role,
            parts,
            calls: Vec::new(),
            call_id: None,
        }
    }
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// `call_...`
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON.
    pub arguments: String,
}

/// A piece of a turn.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text, as the client sent it.
    Text(String),
    /// An image of this width and height, which [`target`](crate::media::budget::ImageGeometry::target) gave.
    Image((u32, u32)),
}
