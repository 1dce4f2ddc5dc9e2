//! Stop sequences over a stream of text: found wherever the tokens happen to split them, and never
//! shown, not even their beginning.

/// Looks for stop sequences in text that arrives in pieces.
#[derive(Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far, while it may be the beginning of a stop sequence.
    held: String,
}

impl StopMatcher {
    /// A matcher for any of `stops`, none of which is empty.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece; gives the text that may be shown, and whether a stop sequence ended it.
    pub fn push(&mut self, piece: String) -> (String, bool) {
        if self.stops.is_empty() {
            return (piece, false);
        }
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&piece);
        let found = self
            .stops
            .iter()
            .filter_map(|stop| text.find(stop.as_str()))
            .min();
        if let Some(at) = found {
            text.truncate(at);
            return (text, true);
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| longest_beginning_at_end(&text, stop))
            .max()
            .unwrap_or(0);
        self.held = text.split_off(text.len() - keep);
        (text, false)
    }

    /// What was held back, once no more text comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`, and not all of it.
fn longest_beginning_at_end(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|length| stop.is_char_boundary(*length) && text.ends_with(&stop[..*length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way of cutting `text` into two, and one character at a time.
    fn shown(text: &str, stops: &[&str]) -> Vec<String> {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_string()).collect();
        let mut cuts: Vec<Vec<String>> = text
            .char_indices()
            .map(|(i, _)| vec![text[..i].to_string(), text[i..].to_string()])
            .collect();
        cuts.push(text.chars().map(String::from).collect());
        cuts.into_iter()
            .map(|pieces| {
                let mut matcher = StopMatcher::new(stops.clone());
                let mut shown = String::new();
                for piece in pieces {
                    let (text, stopped) = matcher.push(piece);
                    shown.push_str(&text);
                    if stopped {
                        return shown;
                    }
                }
                shown + &matcher.finish()
            })
            .collect()
    }

    #[test]
    fn however_it_is_cut_the_text_before_the_stop_is_shown() {
        for (text, stops, expected) in [
            ("one END two", &["END"][..], "one "),
            ("aaab", &["aab"], "a"),
            ("no stop here", &["xyz", "hereafter"], "no stop here"),
            ("ends with EN", &["END"], "ends with EN"),
            ("图片。位于右", &["。位"], "图片"),
            ("x</s>y", &["</s>", "</"], "x"),
        ] {
            for shown in shown(text, stops) {
                assert_eq!(shown, expected, "{text:?} with {stops:?}");
            }
        }
    }
}
