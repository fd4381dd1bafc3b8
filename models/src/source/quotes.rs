//! Tracks where the quotes of a table open and close while its bytes pass by. The reader of tables
//! silently takes a quote that never closes for a cell that reaches to the end of the file.

use std::io::{self, Read};

/// Passes bytes on unchanged and keeps track of quotes as RFC 4180 has them: a quote opens at the
/// start of a cell only, and two of them inside are one character.
pub(super) struct Quotes<R> {
    inner: R,
    state: State,
    line: u64,
    opened: u64,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    CellStart,
    Plain,
    Quoted,
    /// A quote inside a quoted cell: its end, or the first half of a doubled one.
    Closing,
}

impl<R> Quotes<R> {
    pub(super) fn new(inner: R) -> Quotes<R> {
        Quotes {
            inner,
            state: State::CellStart,
            line: 1,
            opened: 0,
            ended: false,
        }
    }

    /// The line, from 1, of the quote in which the file has ended. `None` before its end; a reader
    /// that gets a cell cut off by the end has seen that end.
    pub(super) fn open_at_end(&self) -> Option<u64> {
        (self.ended && self.state == State::Quoted).then_some(self.opened)
    }

    fn see(&mut self, byte: u8) {
        // The byte order mark that spreadsheets put before the first cell is no part of it.
        if self.state == State::CellStart && self.line == 1 && matches!(byte, 0xef | 0xbb | 0xbf) {
            return;
        }
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::Closing,
            (State::Quoted, _) => State::Quoted,
            (State::Closing, b'"') => State::Quoted,
            (State::CellStart, b'"') => {
                self.opened = self.line;
                State::Quoted
            }
            (_, b',' | b'\n' | b'\r') => State::CellStart,
            _ => State::Plain,
        };
        self.line += u64::from(byte == b'\n');
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.ended |= count == 0 && !buffer.is_empty();
        buffer[..count].iter().for_each(|byte| self.see(*byte));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_at_end(text: &str) -> Option<u64> {
        let mut quotes = Quotes::new(text.as_bytes());
        io::copy(&mut quotes, &mut io::sink()).unwrap();
        quotes.open_at_end()
    }

    #[test]
    fn a_quote_is_open_until_a_single_one_follows() {
        for closed in [
            "",
            "a,b\n",
            "\"a\",b\n",
            "\"a\"\"b\"",
            "a\"b\n",
            "\"a\nb\"\n",
            "\"\"",
            "\"a\"b\n",
            " \"a\n",
        ] {
            assert_eq!(open_at_end(closed), None, "{closed:?}");
        }
        for (open, line) in [
            ("\"", 1),
            ("a\nb,\"c\nd", 2),
            ("\"a\"\"", 1),
            ("\"a\"\n\"b\",\"\n\n", 2),
        ] {
            assert_eq!(open_at_end(open), Some(line), "{open:?}");
        }
    }
}
