//! How likely tokens were, in the parallel lists of the completions API.

use crate::{
    engine::{LikelyToken, TokenLogprob},
    openai::completions::Logprobs,
    sse::responses::finite,
};

/// Where the next token of an answer begins.
#[derive(Debug, Default)]
pub struct TokenOffsets {
    characters: usize,
    /// The beginning of a character whose end is still to come.
    unfinished: Vec<u8>,
}

impl TokenOffsets {
    /// The lists for the next tokens, with `top` alternatives.
    pub fn logprobs(&mut self, tokens: &[TokenLogprob], top: usize) -> Logprobs {
        let mut lists = Logprobs {
            top_logprobs: (top > 0).then(Vec::new),
            ..Logprobs::default()
        };
        for TokenLogprob { token, top } in tokens {
            lists.text_offset.push(self.characters);
            self.pass(&token.bytes);
            lists.tokens.push(name(token));
            lists.token_logprobs.push(finite(token.logprob));
            if let Some(tops) = &mut lists.top_logprobs {
                let likely = top.iter().chain([token]);
                tops.push(likely.map(|one| (name(one), finite(one.logprob))).collect());
            }
        }
        lists
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.unfinished.extend_from_slice(bytes);
        let mut chunks = self.unfinished.utf8_chunks().peekable();
        let mut rest = Vec::new();
        while let Some(chunk) = chunks.next() {
            self.characters += chunk.valid().chars().count();
            // What is invalid is shown as one character; at the end it may still become valid.
            if chunk.invalid().is_empty() {
                continue;
            }
            if chunks.peek().is_none() {
                rest = chunk.invalid().to_vec();
            } else {
                self.characters += 1;
            }
        }
        self.unfinished = rest;
    }
}

fn name(token: &LikelyToken) -> String {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => text.to_string(),
        Err(_) => {
            let bytes = token.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8], logprob: f32) -> TokenLogprob {
        let token = LikelyToken {
            bytes: bytes.to_vec(),
            logprob,
        };
        let other = LikelyToken {
            bytes: b"other".to_vec(),
            logprob: f32::NEG_INFINITY,
        };
        TokenLogprob {
            token,
            top: vec![other],
        }
    }

    #[test]
    fn offsets_are_in_characters_and_go_on_over_pieces() {
        let mut offsets = TokenOffsets::default();
        let first = offsets.logprobs(
            &[token("né".as_bytes(), -1.0), token(&[0xe4, 0xbd], -2.0)],
            1,
        );
        assert_eq!(first.text_offset, [0, 2]);
        assert_eq!(first.tokens, ["né", "bytes:\\xe4\\xbd"]);
        assert_eq!(first.token_logprobs, [-1.0, -2.0]);
        let tops = first.top_logprobs.unwrap();
        assert_eq!(tops[0]["né"], -1.0);
        assert_eq!(tops[0]["other"], -9999.0);
        let second = offsets.logprobs(&[token(&[0xa0], -3.0), token(b"x", -4.0)], 0);
        assert_eq!(second.text_offset, [2, 3]);
        assert_eq!(second.top_logprobs, None);
    }
}
