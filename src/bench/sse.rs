//! Reading `text/event-stream` as it comes, in whatever pieces.

/// An event may be no longer, bytes.
const LONGEST: usize = 16 << 20;

/// An event that came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Its `event` field; empty where there is none.
    pub name: String,
    /// Its `data` lines.
    pub data: String,
}

/// An event is longer than any that makes sense.
#[derive(Debug, thiserror::Error)]
#[error("an event is longer than {LONGEST} bytes")]
pub struct TooLong;

/// A reader of one stream, by the rules of the HTML standard, section 9.2.6: lines end in CR, LF
/// or both, a colon begins a comment, and an empty line ends an event.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows ends no further line.
    after_cr: bool,
    past_first_line: bool,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// Takes a piece of the stream and adds the events that it completes to `events`.
    ///
    /// # Errors
    /// An event that does not end.
    pub fn feed(&mut self, mut piece: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
        while let Some(&first) = piece.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                piece = &piece[1..];
                continue;
            }
            let end = piece.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let text = &piece[..end.unwrap_or(piece.len())];
            if self.line.len() + self.event.data.len() + text.len() > LONGEST {
                return Err(TooLong);
            }
            self.line.extend_from_slice(text);
            let Some(end) = end else { break };
            self.after_cr = piece[end] == b'\r';
            piece = &piece[end + 1..];
            events.extend(self.end_line());
        }
        Ok(())
    }

    /// The event that the stream ended in the midst of. The standard drops it; some servers forget
    /// the empty line after their last one.
    pub fn end(mut self) -> Option<Event> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.end_event()
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&line);
        if !std::mem::replace(&mut self.past_first_line, true)
            && let Some(rest) = line.strip_prefix('\u{feff}')
        {
            line = rest.to_string().into();
        }
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => self.event.name = value.to_string(),
            // A comment has no name; `id` and `retry` are for those who come again.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Data and names, with the stream cut into pieces of `size` bytes.
    fn read(stream: &str, size: usize) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in stream.as_bytes().chunks(size) {
            parser.feed(piece, &mut events).unwrap();
        }
        events.extend(parser.end());
        events.into_iter().map(|e| (e.name, e.data)).collect()
    }

    fn data(texts: &[&str]) -> Vec<(String, String)> {
        texts
            .iter()
            .map(|text| (String::new(), (*text).to_string()))
            .collect()
    }

    #[test]
    fn it_does_not_matter_where_the_stream_is_cut() {
        let stream = ": hello\n\ndata: {\"é\": \"🦀\"}\n\r\n\ndata:one\r\ndata:  two\r\n\r\n\
                      id: 7\nretry: 5\ndata\r\rdata: [DONE]\n\n";
        let expected = data(&["{\"é\": \"🦀\"}", "one\n two", "", "[DONE]"]);
        for size in 1..=stream.len() {
            assert_eq!(read(stream, size), expected, "pieces of {size} bytes");
        }
    }

    #[test]
    fn names_belong_to_their_own_event() {
        let events = read("event: error\ndata: {}\n\nevent: lost\n\ndata: x\n\n", 5);
        let expected = [("error", "{}"), ("", "x")];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, data)| ((*name).to_string(), (*data).to_string()))
            .collect();
        assert_eq!(events, expected);
    }

    #[test]
    fn comments_alone_are_no_event() {
        assert!(read(": keep-alive\n\n: keep-alive\n\n", 3).is_empty());
    }

    #[test]
    fn a_last_event_without_its_empty_line_counts() {
        assert_eq!(read("data: a\n\ndata: [DONE]", 4), data(&["a", "[DONE]"]));
        assert_eq!(read("data: a\n\ndata: [DONE]\n", 4), data(&["a", "[DONE]"]));
        assert_eq!(read("data: a\n\n", 4), data(&["a"]));
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_once() {
        assert_eq!(
            read("\u{feff}data: a\n\ndata: \u{feff}\n\n", 1),
            data(&["a", "\u{feff}"])
        );
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        let piece = vec![b'x'; LONGEST / 2];
        assert!(parser.feed(&piece, &mut events).is_ok());
        assert!(parser.feed(&piece, &mut events).is_ok());
        assert!(parser.feed(b"x", &mut events).is_err());
    }
}
