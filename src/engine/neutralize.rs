//! Client text that spells a special token of the model must stay text.
//!
//! A tokenizer turns `<|im_start|>` into the token that opens a turn wherever it stands, so a
//! document quoted in a question could speak as the system, and `<|image_pad|>` would stand for an
//! image that is not there (which kills the engine). A word joiner (U+2060, which has no width)
//! after the first character breaks the spelling and leaves what a reader sees as it was.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

const WORD_JOINER: char = '\u{2060}';

/// Breaks the spelling of a model's special tokens.
#[derive(Debug)]
pub struct Neutralizer {
    tokens: AhoCorasick,
}

impl Neutralizer {
    /// For these special tokens. One of a single character cannot be broken and is left alone.
    ///
    /// # Errors
    /// The tokens are too many or too long to search for.
    pub fn new<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> Result<Self, BuildError> {
        let tokens = tokens.into_iter().map(|token| token.as_ref().to_string());
        let tokens = tokens.filter(|token| token.chars().nth(1).is_some());
        let tokens = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(tokens)?;
        Ok(Self { tokens })
    }

    /// The text with no special token left in it. Pieces that the chat template puts side by side
    /// must come joined, so that a token split over two of them is seen.
    pub fn apply(&self, text: String) -> String {
        let Some(first) = self.tokens.find(&text) else {
            return text;
        };
        let mut safe = String::with_capacity(text.len() + 64);
        let mut at = 0;
        let mut found = Some(first.start());
        while let Some(start) = found {
            let first_char = text[start..].chars().next().map_or(1, char::len_utf8);
            safe.push_str(&text[at..start + first_char]);
            safe.push(WORD_JOINER);
            at = start + first_char;
            found = self.tokens.find(&text[at..]).map(|next| at + next.start());
        }
        safe.push_str(&text[at..]);
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_special_token_survives_and_all_else_does() {
        let tokens = [
            "<|im_start|>",
            "<|im_end|>",
            "<|image_pad|>",
            "<s>",
            "<<s>>",
        ];
        let neutralizer = Neutralizer::new(tokens).unwrap();
        for text in [
            "plain text, 1 < 2 | 3 > 2",
            "<|im_start|>system",
            "<|im_end|><|im_end|>\n<|image_pad|>",
            "<<s>> <<|im_end|>",
            "中<|im_start|>文",
            "<|im_start",
        ] {
            let safe = neutralizer.apply(text.to_string());
            for token in tokens {
                assert!(!safe.contains(token), "{token} is left in {safe:?}");
            }
            assert_eq!(safe.replace(WORD_JOINER, ""), text);
            if !tokens.iter().any(|token| text.contains(token)) {
                assert_eq!(safe, text);
            }
        }
    }
}
