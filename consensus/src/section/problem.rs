//! What is wrong in a file, where, and how a message names it.

use std::fmt;

/// Something wrong in a file that a person wrote: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key, for example `aggregation.rule`; empty for the file as a whole.
    pub key: String,
    /// Line in the file, from 1; 0 if no line can be named (a missing key, say).
    pub line: usize,
    /// Column in the line, from 1; 0 if no line can be named.
    pub column: usize,
    /// Byte range in the text, for tools that underline it.
    pub span: Option<std::ops::Range<usize>>,
    /// What is wrong and what was expected, as one sentence.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(formatter, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Problem {}

/// The message for a name that a table does not have: `unknown rule "krun"; known: krum, mean, …`,
/// with the nearest name as a suggestion if one is near.
pub fn unknown<S: AsRef<str>>(what: &str, name: &str, known: &[S]) -> String {
    let names: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    let near = names
        .iter()
        .map(|known| (edit_distance(name, known), *known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    let hint = near.map_or(String::new(), |(_, known)| {
        format!(" (did you mean {known:?}?)")
    });
    format!("unknown {what} {name:?}; known: {}{hint}", names.join(", "))
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |tail| tail.chars().count())
        + 1;
    (line, column)
}
