//! The wire vocabulary of OpenAI's Responses API, as far as a server that keeps nothing has it.

pub mod answer;
pub mod fields;
pub mod input;
pub mod request;
pub mod text;
pub mod tools;
