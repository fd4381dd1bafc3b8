//! A file as a whole: its sections are read one after the other, and what nobody read is refused.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::key::Keys;
use super::node::{Entry, NOWHERE, Node, build_table, supply};
use super::problem::{Problem, position, unknown};
use super::section::{Place, Section, read_table};

/// A parsed file whose sections are read one after the other.
#[derive(Debug)]
pub struct Document {
    source: String,
    root: BTreeMap<String, Entry>,
    canonical: toml::Table,
    problems: Vec<Problem>,
    keys: Keys,
}

impl Document {
    /// Parses TOML text.
    ///
    /// # Errors
    /// One [`Problem`] with line and column when the text is not TOML.
    pub fn parse(text: &str) -> Result<Document, Problem> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Document {
                source: text.to_owned(),
                root: build_table(table.get_ref()),
                canonical: toml::Table::new(),
                problems: Vec::new(),
                keys: Keys::default(),
            }),
            Err(error) => {
                let span = error.span();
                let (line, column) = span
                    .as_ref()
                    .map_or((0, 0), |span| position(text, span.start));
                Err(Problem {
                    key: String::new(),
                    line,
                    column,
                    span,
                    what: format!("this is not TOML: {}", error.message()),
                })
            }
        }
    }

    /// Adds the keys of `table` that the file does not have, section by section: these are keys
    /// that a person may leave out.
    pub fn supply(&mut self, table: &toml::Table) {
        supply(&mut self.root, table);
    }

    /// Puts a value under a dotted key such as `aggregation.rule`, in place of the file's.
    ///
    /// # Errors
    /// When a part of the key is no section.
    pub fn set(&mut self, key: &str, value: &toml::Value) -> Result<(), Problem> {
        let problem = |what: String| Problem {
            key: key.to_owned(),
            line: 0,
            column: 0,
            span: None,
            what,
        };
        let mut parts = key.split('.').peekable();
        let mut at = &mut self.root;
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                at.insert(part.to_owned(), Entry::supplied(value));
                break;
            }
            let entry = at
                .entry(part.to_owned())
                .or_insert_with(|| Entry::supplied(&toml::Value::Table(toml::Table::new())));
            let kind = entry.node.kind();
            at = match &mut entry.node {
                Node::Table(table) => table,
                _ => return Err(problem(format!("{part:?} is {kind}, not a section"))),
            };
        }
        Ok(())
    }

    /// Takes a section out unread, for a file that holds more than its reader covers; returns
    /// whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.root.remove(name).is_some()
    }

    /// Takes one key of a section out unread; returns its value, if that is a plain value.
    pub fn take(&mut self, section: &str, key: &str) -> Option<toml::Value> {
        match &mut self.root.get_mut(section)?.node {
            Node::Table(table) => table.remove(key)?.value(),
            _ => None,
        }
    }

    /// Whether a section of this name is written in the file.
    pub fn has(&self, name: &str) -> bool {
        self.root.contains_key(name)
    }

    /// Reads the section `name` (an empty one if the file has none).
    pub fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let place = Place {
            path: name.to_owned(),
            what: "a section",
            source: &self.source,
            keys: &self.keys,
        };
        let (value, canonical) =
            read_table(self.root.get_mut(name), place, &mut self.problems, read);
        self.canonical
            .insert(name.to_owned(), toml::Value::Table(canonical));
        value
    }

    /// Adds a problem that concerns more than one key.
    pub fn note(&mut self, key: &str, what: impl Into<String>) {
        let problem = problem_at(&self.source, &self.root, key, what.into());
        self.problems.push(problem);
    }

    /// The places of all keys, for problems that are found after the document has been read.
    pub fn places(&self) -> Places {
        Places {
            source: self.source.clone(),
            root: self.root.clone(),
        }
    }

    /// The keys that readers of this document ask for, now and later.
    pub fn keys(&self) -> Keys {
        self.keys.clone()
    }

    /// The canonical tables read so far: every default written out.
    ///
    /// # Errors
    /// Every problem found in the file, sections that nobody asked for included.
    pub fn finish(mut self) -> Result<toml::Table, Vec<Problem>> {
        let known: Vec<String> = self.canonical.keys().cloned().collect();
        for (name, entry) in &self.root {
            if !entry.used {
                let span = Some(entry.span.clone()).filter(|span| *span != NOWHERE);
                let (line, column) = span
                    .as_ref()
                    .map_or((0, 0), |span| position(&self.source, span.start));
                self.problems.push(Problem {
                    key: name.clone(),
                    line,
                    column,
                    span,
                    what: unknown("section", name, &known),
                });
            }
        }
        if self.problems.is_empty() {
            Ok(self.canonical)
        } else {
            Err(self.problems)
        }
    }
}

/// The places of a document's keys.
#[derive(Clone, Debug)]
pub struct Places {
    source: String,
    root: BTreeMap<String, Entry>,
}

impl Places {
    /// A problem of a dotted key, at the key if that is written, otherwise at its section.
    pub fn problem(&self, key: &str, what: impl Into<String>) -> Problem {
        problem_at(&self.source, &self.root, key, what.into())
    }
}

fn problem_at(source: &str, root: &BTreeMap<String, Entry>, key: &str, what: String) -> Problem {
    let span = span_of(root, key).filter(|span| *span != NOWHERE);
    let (line, column) = span
        .as_ref()
        .map_or((0, 0), |span| position(source, span.start));
    Problem {
        key: key.to_owned(),
        line,
        column,
        span,
        what,
    }
}

/// The span of a dotted key, or of the deepest table on the way to it; in a list of tables, of the
/// first one that has it.
fn span_of(root: &BTreeMap<String, Entry>, key: &str) -> Option<std::ops::Range<usize>> {
    let (first, rest) = key
        .split_once('.')
        .map_or((key, None), |(first, rest)| (first, Some(rest)));
    let entry = root.get(first)?;
    let Some(rest) = rest else {
        return Some(entry.span.clone());
    };
    let inside = |entry: &Entry| match &entry.node {
        Node::Table(table) => span_of(table, rest),
        _ => None,
    };
    let found = match &entry.node {
        Node::List(items) => items.iter().find_map(inside),
        _ => inside(entry),
    };
    found.or_else(|| Some(entry.span.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_supplied_gives_way_to_the_file_and_what_is_set_does_not() {
        let mut document = Document::parse("[a]\nx = 1\n").unwrap();
        document.supply(&"[a]\nx = 2\ny = 3\n[b]\nz = 4\n".parse().unwrap());
        document.set("b.z", &toml::Value::Integer(99)).unwrap();
        assert!(
            document
                .set("a.x.deep", &toml::Value::Integer(5))
                .unwrap_err()
                .what
                .contains("an integer, not a section")
        );
        document.section("a", |section| {
            assert_eq!(
                (
                    section.integer("x", None, 0..=9),
                    section.integer("y", None, 0..=9)
                ),
                (1, 3)
            )
        });
        document.section("b", |section| section.integer("z", None, 0..=9));
        let problem = &document.finish().unwrap_err()[0];
        assert_eq!(
            problem.to_string(),
            "b.z: expected an integer from 0 to 9, found 99",
            "nobody wrote it, so it has no line"
        );
    }
}
