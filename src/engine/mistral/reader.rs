//! Tokens of an answer to its events.

use tokenizers::Tokenizer;

use super::chooser::{Chosen, Kind};
use crate::engine::{Event, FinishReason, LikelyToken, TokenLogprob, stop::StopMatcher};

/// Turns the tokens of one answer into events.
pub(super) struct Reader<'a> {
    tokenizer: &'a Tokenizer,
    bytes: &'a (dyn Fn(u32) -> Vec<u8> + Send + Sync),
    decoder: Decoder,
    stop: StopMatcher,
    /// Tokens whose text is held back with the stop matcher's.
    held: Vec<(usize, TokenLogprob)>,
    /// Bytes of text that came, and that were shown.
    came: usize,
    shown: usize,
    thought: bool,
    said: bool,
    calls: Calls,
}

/// What a token led to.
pub(super) enum Read {
    /// Go on.
    More,
    /// The answer has ended.
    Ended(FinishReason),
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        bytes: &'a (dyn Fn(u32) -> Vec<u8> + Send + Sync),
        stop: Vec<String>,
    ) -> Self {
        Self {
            tokenizer,
            bytes,
            decoder: Decoder::default(),
            stop: StopMatcher::new(stop),
            held: Vec::new(),
            came: 0,
            shown: 0,
            thought: false,
            said: false,
            calls: Calls::default(),
        }
    }

    /// Takes the next token; the events go to `out`.
    pub(super) fn read(&mut self, chosen: Chosen, out: &mut Vec<Event>) -> Read {
        match chosen.kind {
            Kind::Thought => {
                self.thought = true;
                if let Some(text) = self.decoder.push(self.tokenizer, chosen.token) {
                    out.push(Event::Reasoning(text));
                }
                Read::More
            }
            Kind::ThoughtEnd => {
                self.thought = true;
                self.decoder = Decoder::default();
                Read::More
            }
            Kind::Call => {
                if let Some(text) = self.decoder.push(self.tokenizer, chosen.token) {
                    self.calls.push(&text, out);
                }
                Read::More
            }
            Kind::Text => self.text(chosen, out),
            Kind::End => {
                self.finish(out);
                Read::Ended(self.reason())
            }
            Kind::Cut => {
                self.finish(out);
                Read::Ended(FinishReason::Length)
            }
        }
    }

    /// Shows what was held back, when no more tokens come.
    pub(super) fn finish(&mut self, out: &mut Vec<Event>) {
        let mut text = self.decoder.finish(self.tokenizer);
        if self.calls.any() {
            self.calls.push(&text, out);
            return;
        }
        let (shown, stopped) = self.stop.push(std::mem::take(&mut text));
        text = shown;
        if !stopped {
            text.push_str(&self.stop.finish());
        }
        self.show(text, true, out);
    }

    fn reason(&self) -> FinishReason {
        if self.calls.any() {
            FinishReason::ToolCalls
        } else {
            FinishReason::Stop
        }
    }

    fn text(&mut self, chosen: Chosen, out: &mut Vec<Event>) -> Read {
        let mut piece = self
            .decoder
            .push(self.tokenizer, chosen.token)
            .unwrap_or_default();
        if self.thought && !self.said {
            // Templates part thought and answer by blank lines.
            piece = piece.trim_start_matches('\n').to_string();
        }
        self.said |= !piece.is_empty();
        if let Some((logprob, top)) = chosen.logprobs {
            let likely = |token, logprob| LikelyToken {
                bytes: (self.bytes)(token),
                logprob,
            };
            let token = TokenLogprob {
                token: likely(chosen.token, logprob),
                top: top.into_iter().map(|(id, lp)| likely(id, lp)).collect(),
            };
            // A token is shown when the first of its text is.
            self.held.push((self.came, token));
        }
        self.came += piece.len();
        let (text, stopped) = self.stop.push(piece);
        self.show(text, false, out);
        if stopped {
            Read::Ended(FinishReason::Stop)
        } else {
            Read::More
        }
    }

    fn show(&mut self, text: String, all: bool, out: &mut Vec<Event>) {
        self.shown += text.len();
        let shown = self
            .held
            .iter()
            .take_while(|(at, _)| all || *at < self.shown);
        let count = shown.count();
        let tokens: Vec<TokenLogprob> = self.held.drain(..count).map(|(_, token)| token).collect();
        if !text.is_empty() || !tokens.is_empty() {
            out.push(Event::Text { text, tokens });
        }
    }
}

/// Tokens to text, a character at a time: as tokenizers' `DecodeStream` does it, but without
/// borrowing the tokenizer.
#[derive(Default)]
struct Decoder {
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
}

impl Decoder {
    fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Option<String> {
        let text = tokenizers::tokenizer::step_decode_stream(
            tokenizer,
            token,
            true,
            &mut self.ids,
            &mut self.prefix,
            &mut self.prefix_index,
        );
        // It fails where the text before it changes with a token, which only cleaning up does.
        text.ok().flatten().filter(|text| !text.is_empty())
    }

    /// The rest, where the last tokens end inside a character.
    fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        let text = tokenizer.decode(&self.ids, true).unwrap_or_default();
        let rest = text.strip_prefix(&self.prefix).unwrap_or_default();
        rest.to_string()
    }
}

/// Reads calls, whose spelling the grammar fixes: `<tool_call>\n{"name": "...", "arguments":
/// ...}\n</tool_call>`, again and again.
#[derive(Default)]
struct Calls {
    begun: usize,
    buffer: String,
    inside: Option<Scanner>,
}

const NAME: &str = "{\"name\": ";
const ARGUMENTS: &str = ", \"arguments\": ";

impl Calls {
    fn any(&self) -> bool {
        self.begun > 0
    }

    fn push(&mut self, text: &str, out: &mut Vec<Event>) {
        self.buffer.push_str(text);
        loop {
            if let Some(scanner) = &mut self.inside {
                let end = scanner.scan(&self.buffer);
                let taken: String = self
                    .buffer
                    .drain(..end.unwrap_or(self.buffer.len()))
                    .collect();
                let index = self.begun - 1;
                if !taken.is_empty() {
                    out.push(Event::Arguments { index, text: taken });
                }
                if end.is_none() {
                    return;
                }
                self.inside = None;
            }
            let Some((name, rest)) = self.head() else {
                return;
            };
            self.buffer.drain(..rest);
            out.push(Event::Call {
                index: self.begun,
                id: format!("call_{}", uuid::Uuid::new_v4().simple()),
                name,
            });
            self.begun += 1;
            self.inside = Some(Scanner::default());
        }
    }

    /// The name of the call that begins in the buffer, and where its arguments begin.
    fn head(&self) -> Option<(String, usize)> {
        let name = self.buffer.find(NAME)? + NAME.len();
        let arguments = name + self.buffer[name..].find(ARGUMENTS)?;
        let parsed = serde_json::from_str(&self.buffer[name..arguments]).ok()?;
        Some((parsed, arguments + ARGUMENTS.len()))
    }
}

/// Finds the end of a JSON value that comes in pieces.
#[derive(Default)]
struct Scanner {
    depth: usize,
    string: bool,
    escaped: bool,
}

impl Scanner {
    /// Where the value ends in this piece; `None` if it goes on.
    fn scan(&mut self, piece: &str) -> Option<usize> {
        for (at, byte) in piece.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.string => self.escaped = true,
                b'"' => self.string = !self.string,
                _ if self.string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => return Some(at),
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(text: &str, cut: usize) -> Vec<(String, String)> {
        let mut reader = Calls::default();
        let mut events = Vec::new();
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(cut) {
            reader.push(&piece.iter().collect::<String>(), &mut events);
        }
        let mut calls: Vec<(String, String)> = Vec::new();
        for event in events {
            match event {
                Event::Call { index, name, .. } => {
                    assert_eq!(index, calls.len());
                    calls.push((name, String::new()));
                }
                Event::Arguments { index, text } => calls[index].1.push_str(&text),
                other @ (Event::Text { .. } | Event::Reasoning(_) | Event::Finished { .. }) => {
                    panic!("{other:?}")
                }
            }
        }
        calls
    }

    #[test]
    fn calls_are_read_however_they_are_cut() {
        let text = "<tool_call>\n{\"name\": \"a\\\"b\", \"arguments\": {\"x\": \"}\\\"]\", \"y\": [1, {}]}}\n</tool_call>\n\
                    <tool_call>\n{\"name\": \"c\", \"arguments\": {}}\n</tool_call>";
        for cut in 1..text.len() {
            let found = calls(text, cut);
            let expected = [
                (
                    "a\"b".to_string(),
                    r#"{"x": "}\"]", "y": [1, {}]}"#.to_string(),
                ),
                ("c".to_string(), "{}".to_string()),
            ];
            assert_eq!(found, expected, "cut in pieces of {cut}");
        }
    }
}
