//! Lines of a file that may still grow, each bounded in length.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// What is read next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line without its end.
    Line(Vec<u8>),
    /// There is nothing more now.
    End,
    /// There is nothing more now, and the last line has no end.
    Unfinished,
}

/// Reads a file to its end, and on when it has grown.
pub(crate) struct Growing {
    file: BufReader<File>,
    /// The part of an unfinished line that has been read.
    begun: Vec<u8>,
    /// Lines that were whole.
    whole: u64,
    bytes_max: u64,
}

impl Growing {
    /// The file at `path`, whose lines have at most `bytes_max` bytes.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path, bytes_max: u64) -> std::io::Result<Growing> {
        Ok(Growing {
            file: BufReader::new(File::open(path)?),
            begun: Vec::new(),
            whole: 0,
            bytes_max,
        })
    }

    /// Number of the line that was read last or is not finished, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.whole + u64::from(!self.begun.is_empty())
    }

    /// Takes the unfinished line if `is_whole` says that nothing but its end is missing.
    pub(crate) fn take_unfinished(&mut self, is_whole: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        is_whole(&self.begun).then(|| std::mem::take(&mut self.begun))
    }

    /// The next line, if it is whole.
    ///
    /// # Errors
    /// When it cannot be read or is too long; then nothing after it can be read either.
    pub(crate) fn next(&mut self) -> Result<Next, String> {
        let room = self.bytes_max.saturating_sub(self.begun.len() as u64);
        (&mut self.file)
            .take(room)
            .read_until(b'\n', &mut self.begun)
            .map_err(|error| error.to_string())?;
        if self.begun.last() == Some(&b'\n') {
            self.whole += 1;
            let mut line = std::mem::take(&mut self.begun);
            line.pop();
            return Ok(Next::Line(line));
        }
        match self.begun.len() as u64 {
            0 => Ok(Next::End),
            bytes if bytes < self.bytes_max => Ok(Next::Unfinished),
            _ => Err(format!(
                "it is too long: more than {} bytes",
                self.bytes_max
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_come_when_they_are_whole_and_none_is_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut file = File::create(&path).unwrap();
        let mut lines = Growing::open(&path, 8).unwrap();
        assert_eq!(lines.next(), Ok(Next::End));
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(lines.next(), Ok(Next::Line(b"one".to_vec())));
        assert_eq!(lines.next(), Ok(Next::Unfinished));
        assert_eq!(
            lines.next(),
            Ok(Next::Unfinished),
            "nothing is lost meanwhile"
        );
        file.write_all(b"o\n1234567\n").unwrap();
        assert_eq!(lines.next(), Ok(Next::Line(b"two".to_vec())));
        assert_eq!(lines.line(), 2);
        assert_eq!(lines.next(), Ok(Next::Line(b"1234567".to_vec())));
        // One byte too many with its end, which is not read.
        file.write_all(b"12345678\nfour\n").unwrap();
        assert!(lines.next().is_err());
        assert!(lines.next().is_err(), "and nothing after it is read");
    }
}
