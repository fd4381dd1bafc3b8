//! One section while it is read: the readers of its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::key::Keys;
use super::node::{Entry, NOWHERE, Node};
use super::problem::{Problem, position, unknown};

/// The place of a table, and its name for the message when it is no table.
pub(super) struct Place<'a> {
    pub(super) path: String,
    pub(super) what: &'static str,
    pub(super) source: &'a str,
    pub(super) keys: &'a Keys,
}

/// Reads the table of an entry, an empty one if there is none: its value and its canonical form.
pub(super) fn read_table<T>(
    entry: Option<&mut Entry>,
    place: Place<'_>,
    problems: &mut Vec<Problem>,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> (T, toml::Table) {
    let Place {
        path,
        what,
        source,
        keys,
    } = place;
    keys.asked(&path, what, false);
    let (mut empty, mut wrong) = (BTreeMap::new(), None);
    let entries = match entry {
        None => &mut empty,
        Some(entry) => {
            entry.used = true;
            match &mut entry.node {
                Node::Table(table) => table,
                other => {
                    wrong = Some((entry.span.clone(), other.kind()));
                    &mut empty
                }
            }
        }
    };
    let mut section = Section {
        path: path.clone(),
        source,
        entries,
        canonical: toml::Table::new(),
        optional: Vec::new(),
        problems,
        keys,
    };
    if let Some((span, kind)) = wrong {
        section.note_at(
            Some(span),
            path.clone(),
            format!("expected {what} [{path}], found {kind}"),
        );
    }
    let value = read(&mut section);
    section.refuse_unknown();
    (value, section.canonical)
}

/// One section while it is read. Each reader takes the key's default (`None`: the key is required)
/// and its range, notes a problem and returns the default (or the range's start) when the value is
/// not acceptable.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    source: &'a str,
    entries: &'a mut BTreeMap<String, Entry>,
    canonical: toml::Table,
    /// Known keys that may be absent.
    optional: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
    keys: &'a Keys,
}

impl Section<'_> {
    /// The section's name, for messages.
    pub fn name(&self) -> &str {
        &self.path
    }

    /// Whether the file gives this key.
    pub fn has(&self, key: &str) -> bool {
        self.keys.looked_for(self.path_of(key));
        self.entries.contains_key(key)
    }

    /// An integer in `range`.
    pub fn integer(&mut self, key: &str, default: Option<u64>, range: RangeInclusive<u64>) -> u64 {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let value = self.read(key, default, *range.start(), &expected, |node| match node {
            Node::Integer(value) => u64::try_from(*value)
                .ok()
                .filter(|value| range.contains(value)),
            _ => None,
        });
        // TOML integers end at i64::MAX; every range used here does as well.
        self.canonical.insert(
            key.to_owned(),
            toml::Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)),
        );
        value
    }

    /// A finite number in `range`.
    pub fn number(&mut self, key: &str, default: Option<f64>, range: RangeInclusive<f64>) -> f64 {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let value = self.read(key, default, *range.start(), &expected, |node| {
            let value = match node {
                Node::Integer(value) => *value as f64,
                Node::Number(value) => *value,
                _ => return None,
            };
            (value.is_finite() && range.contains(&value)).then_some(value)
        });
        self.canonical
            .insert(key.to_owned(), toml::Value::Float(value));
        value
    }

    /// A number that the first charters did not have: its default is not written out, so that their
    /// id stays.
    pub fn added_number(
        &mut self,
        key: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> f64 {
        let value = self.number(key, Some(default), range);
        if value == default {
            self.canonical.remove(key);
            self.optional.push(key);
            self.keys
                .fill(&self.path_of(key), &toml::Value::Float(default));
        }
        value
    }

    /// Any text, the empty one included.
    pub fn text(&mut self, key: &str, default: Option<&str>) -> String {
        let value = self.read(
            key,
            default.map(str::to_owned),
            String::new(),
            "a text",
            |node| match node {
                Node::Text(text) => Some(text.clone()),
                _ => None,
            },
        );
        self.canonical
            .insert(key.to_owned(), toml::Value::String(value.clone()));
        value
    }

    /// One of `known`; the message of a wrong one lists them all.
    pub fn choice(&mut self, key: &str, default: Option<&str>, known: &[&str]) -> String {
        let value = self.text(key, default);
        if self.entries.contains_key(key) && !value.is_empty() && !known.contains(&value.as_str()) {
            self.note(key, unknown(key, &value, known));
        }
        value
    }

    /// true or false.
    pub fn flag(&mut self, key: &str, default: Option<bool>) -> bool {
        let value = self.read(key, default, false, "true or false", |node| match node {
            Node::Flag(flag) => Some(*flag),
            _ => None,
        });
        self.canonical
            .insert(key.to_owned(), toml::Value::Boolean(value));
        value
    }

    /// A list of integers, each in `range`.
    pub fn integers(
        &mut self,
        key: &str,
        default: Option<&[u64]>,
        range: RangeInclusive<u64>,
    ) -> Vec<u64> {
        let expected = format!(
            "a list of integers from {} to {}",
            range.start(),
            range.end()
        );
        let value = self.read(
            key,
            default.map(<[u64]>::to_vec),
            Vec::new(),
            &expected,
            |node| match node {
                Node::List(items) => items
                    .iter()
                    .map(|item| match item.node {
                        Node::Integer(value) => u64::try_from(value)
                            .ok()
                            .filter(|value| range.contains(value)),
                        _ => None,
                    })
                    .collect(),
                _ => None,
            },
        );
        let list = value
            .iter()
            .map(|value| toml::Value::Integer(i64::try_from(*value).unwrap_or(i64::MAX)))
            .collect();
        self.canonical
            .insert(key.to_owned(), toml::Value::Array(list));
        value
    }

    /// A list of pairs of integers, each in `range`: `[[0, 1], [1, 2]]`.
    pub fn pairs(
        &mut self,
        key: &str,
        default: Option<&[(u64, u64)]>,
        range: RangeInclusive<u64>,
    ) -> Vec<(u64, u64)> {
        let expected = format!(
            "a list of pairs of integers from {} to {}",
            range.start(),
            range.end()
        );
        let pair = |entry: &Entry| pair_of(entry, &range);
        // A reader of a long list needs the pair at fault underlined.
        let wrong = self.entries.get_mut(key).and_then(|entry| {
            let span = item_without(entry, pair)?;
            entry.used = true;
            Some(span)
        });
        let value = if let Some(span) = wrong {
            let found = &self.source[span.clone()];
            let what = format!("expected {expected}, found {found}");
            let path = self.path_of(key);
            self.note_at(Some(span), path, what);
            Vec::new()
        } else {
            let default = default.map(<[(u64, u64)]>::to_vec);
            self.read(key, default, Vec::new(), &expected, |node| match node {
                Node::List(items) => items.iter().map(pair).collect(),
                _ => None,
            })
        };
        let integer = |value: u64| toml::Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let list = value
            .iter()
            .map(|(a, b)| toml::Value::Array(vec![integer(*a), integer(*b)]))
            .collect();
        self.canonical
            .insert(key.to_owned(), toml::Value::Array(list));
        value
    }

    /// A list of finite numbers.
    pub fn numbers(&mut self, key: &str, default: Option<&[f64]>) -> Vec<f64> {
        let value = self.read(
            key,
            default.map(<[f64]>::to_vec),
            Vec::new(),
            "a list of finite numbers",
            |node| match node {
                Node::List(items) => items
                    .iter()
                    .map(|item| match item.node {
                        Node::Integer(value) => Some(value as f64),
                        Node::Number(value) => Some(value).filter(|value| value.is_finite()),
                        _ => None,
                    })
                    .collect(),
                _ => None,
            },
        );
        self.canonical.insert(
            key.to_owned(),
            toml::Value::Array(
                value
                    .iter()
                    .map(|value| toml::Value::Float(*value))
                    .collect(),
            ),
        );
        value
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str, default: Option<&[&str]>) -> Vec<String> {
        let default = default.map(|items| items.iter().map(|item| (*item).to_owned()).collect());
        let value: Vec<String> =
            self.read(
                key,
                default,
                Vec::new(),
                "a list of texts",
                |node| match node {
                    Node::List(items) => items
                        .iter()
                        .map(|item| match &item.node {
                            Node::Text(text) => Some(text.clone()),
                            _ => None,
                        })
                        .collect(),
                    _ => None,
                },
            );
        self.canonical.insert(
            key.to_owned(),
            toml::Value::Array(value.iter().cloned().map(toml::Value::String).collect()),
        );
        value
    }

    /// Every key of a section whose keys the writer chooses, in the file's order, each with a list
    /// of values.
    pub fn lists(&mut self) -> Vec<(String, Vec<toml::Value>)> {
        let mut found: Vec<(usize, String, Vec<toml::Value>)> = Vec::new();
        let mut wrong = Vec::new();
        for (key, entry) in self.entries.iter_mut() {
            entry.used = true;
            match entry.value() {
                Some(toml::Value::Array(values)) if !values.is_empty() => {
                    found.push((entry.span.start, key.clone(), values))
                }
                _ => wrong.push(key.clone()),
            }
        }
        wrong
            .iter()
            .for_each(|key| self.note(key, "expected a list of at least one value"));
        found.sort_by_key(|(place, _, _)| *place);
        let mut lists = Vec::new();
        for (_, key, values) in found {
            self.canonical
                .insert(key.clone(), toml::Value::Array(values.clone()));
            lists.push((key, values));
        }
        lists
    }

    /// The table `[section.key]`, or an empty one if the file has none.
    pub fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let place = Place {
            path: self.path_of(key),
            what: "a table",
            source: self.source,
            keys: self.keys,
        };
        let (value, canonical) = read_table(self.entries.get_mut(key), place, self.problems, read);
        self.canonical
            .insert(key.to_owned(), toml::Value::Table(canonical));
        value
    }

    /// The table `[section.key]` if the file has one; the key counts as known even if it does not.
    pub fn optional_table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        self.optional.push(key);
        self.keys.asked(&self.path_of(key), "a table", false);
        let is_there = self.entries.contains_key(key);
        is_there.then(|| self.table(key, read))
    }

    /// The tables of an array of tables, `[[section.key]]`, in the file's order.
    pub fn tables<T>(&mut self, key: &str, mut read: impl FnMut(&mut Section<'_>) -> T) -> Vec<T> {
        let mut values = Vec::new();
        let mut canonical = Vec::new();
        let path = self.path_of(key);
        self.keys.asked(&path, "tables", false);
        let mut wrong = None;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.used = true;
            if let Node::List(items) = &mut entry.node {
                for (place, item) in items.iter_mut().enumerate() {
                    let Node::Table(entries) = &mut item.node else {
                        wrong = Some((item.span.clone(), item.node.kind()));
                        continue;
                    };
                    // One of them shows the keys; there may be very many.
                    let unnoted = Keys::default();
                    let mut section = Section {
                        path: path.clone(),
                        source: self.source,
                        entries,
                        canonical: toml::Table::new(),
                        optional: Vec::new(),
                        problems: self.problems,
                        keys: if place == 0 { self.keys } else { &unnoted },
                    };
                    values.push(read(&mut section));
                    section.refuse_unknown();
                    canonical.push(toml::Value::Table(section.canonical));
                }
            } else {
                wrong = Some((entry.span.clone(), entry.node.kind()));
            }
        }
        if let Some((span, kind)) = wrong {
            self.note_at(
                Some(span),
                path.clone(),
                format!("expected tables [[{path}]], found {kind}"),
            );
        }
        self.canonical
            .insert(key.to_owned(), toml::Value::Array(canonical));
        values
    }

    /// Adds a problem at `key`.
    pub fn note(&mut self, key: &str, what: impl Into<String>) {
        let span = self.entries.get(key).map(|entry| entry.span.clone());
        let path = self.path_of(key);
        self.note_at(span, path, what.into());
    }

    fn note_at(&mut self, span: Option<std::ops::Range<usize>>, key: String, what: String) {
        let span = span.filter(|span| *span != NOWHERE);
        let (line, column) = span
            .as_ref()
            .map_or((0, 0), |span| position(self.source, span.start));
        self.problems.push(Problem {
            key,
            line,
            column,
            span,
            what,
        });
    }

    fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn read<T: Clone>(
        &mut self,
        key: &str,
        default: Option<T>,
        fallback: T,
        expected: &str,
        accept: impl FnOnce(&Node) -> Option<T>,
    ) -> T {
        self.keys
            .asked(&self.path_of(key), expected, default.is_none());
        let Some(entry) = self.entries.get_mut(key) else {
            if default.is_none() {
                let path = self.path_of(key);
                self.note_at(
                    None,
                    path,
                    format!("this key is missing; expected {expected}"),
                );
            }
            return default.unwrap_or(fallback);
        };
        entry.used = true;
        if let Some(value) = accept(&entry.node) {
            return value;
        }
        let found = match &entry.node {
            Node::Integer(value) => value.to_string(),
            Node::Number(value) => value.to_string(),
            Node::Text(text) => format!("{text:?}"),
            other => other.kind().to_owned(),
        };
        let span = entry.span.clone();
        let path = self.path_of(key);
        self.note_at(
            Some(span),
            path,
            format!("expected {expected}, found {found}"),
        );
        default.unwrap_or(fallback)
    }

    fn refuse_unknown(&mut self) {
        for (key, value) in &self.canonical {
            if !self.entries.contains_key(key) {
                self.keys.fill(&self.path_of(key), value);
            }
        }
        let optional = self.optional.iter().map(|key| (*key).to_owned());
        let known: BTreeSet<String> = self.canonical.keys().cloned().chain(optional).collect();
        let known: Vec<String> = known.into_iter().collect();
        let unread: Vec<(String, std::ops::Range<usize>)> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.used)
            .map(|(key, entry)| (key.clone(), entry.span.clone()))
            .collect();
        for (key, span) in unread {
            let path = self.path_of(&key);
            self.note_at(Some(span), path, unknown("key", &key, &known));
        }
    }
}

/// A list of two integers in `range`.
fn pair_of(entry: &Entry, range: &RangeInclusive<u64>) -> Option<(u64, u64)> {
    let integer = |entry: &Entry| match entry.node {
        Node::Integer(value) => u64::try_from(value)
            .ok()
            .filter(|value| range.contains(value)),
        _ => None,
    };
    match &entry.node {
        Node::List(ends) if ends.len() == 2 => Some((integer(&ends[0])?, integer(&ends[1])?)),
        _ => None,
    }
}

/// The place of the first item of a list that is not acceptable.
fn item_without<T>(
    list: &Entry,
    accept: impl Fn(&Entry) -> Option<T>,
) -> Option<std::ops::Range<usize>> {
    let Node::List(items) = &list.node else {
        return None;
    };
    let wrong = items.iter().find(|item| accept(item).is_none());
    wrong.map(|item| item.span.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Document;

    #[test]
    fn unknown_keys_are_named_with_line_column_and_what_is_known() {
        let mut document = Document::parse("[round]\ndeadline_seconds = 3\nquorun = 1\n").unwrap();
        document.section("round", |section| {
            section.integer("deadline_seconds", Some(30), 1..=3600);
            section.number("quorum", Some(1.0), 0.0..=1.0);
        });
        let problems = document.finish().unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(
            problems[0].to_string(),
            "line 3, column 10: round.quorun: unknown key \"quorun\"; known: deadline_seconds, quorum (did you mean \"quorum\"?)"
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut document =
            Document::parse("[a]\nx = \"seven\"\ny = 99\n[b]\n[[c.member]]\nkey = 1\n").unwrap();
        document.section("a", |section| {
            section.integer("x", None, 0..=9);
            section.integer("y", None, 0..=9);
            section.text("z", None);
        });
        document.section("c", |section| {
            section.tables("member", |member| member.text("key", None))
        });
        let text: Vec<String> = document
            .finish()
            .unwrap_err()
            .iter()
            .map(Problem::to_string)
            .collect();
        assert_eq!(
            text,
            [
                "line 2, column 5: a.x: expected an integer from 0 to 9, found \"seven\"",
                "line 3, column 5: a.y: expected an integer from 0 to 9, found 99",
                "a.z: this key is missing; expected a text",
                "line 6, column 7: c.member.key: expected a text, found 1",
                "line 4, column 2: b: unknown section \"b\"; known: a, c (did you mean \"a\"?)",
            ]
        );
    }

    #[test]
    fn a_table_in_a_section_has_its_own_keys() {
        let read = |text: &str| {
            let mut document = Document::parse(text).unwrap();
            document.section("world", |section| {
                section.table("links", |links| links.number("loss", Some(0.0), 0.0..=1.0))
            });
            document.finish()
        };
        let canonical = read("[world.links]\nloss = 0.5\n").unwrap();
        assert_eq!(canonical["world"]["links"]["loss"].as_float(), Some(0.5));
        let told = |text: &str| read(text).unwrap_err()[0].to_string();
        assert!(
            told("[world.links]\nlos = 0.5\n")
                .contains("world.links.los: unknown key \"los\"; known: loss")
        );
        assert!(
            told("[world]\nlinks = 3\n")
                .contains("expected a table [world.links], found an integer")
        );
    }

    #[test]
    fn the_pair_at_fault_is_named() {
        let read = |text: &str| {
            let mut document = Document::parse(text).unwrap();
            let pairs = document.section("a", |section| section.pairs("x", None, 0..=9));
            document
                .finish()
                .map(|canonical| (pairs, toml::to_string(&canonical).unwrap()))
                .map_err(|problems| problems[0].to_string())
        };
        let (pairs, canonical) = read("[a]\nx = [[0, 1], [2, 9]]").unwrap();
        assert_eq!(
            (pairs, canonical.as_str()),
            (vec![(0, 1), (2, 9)], "[a]\nx = [[0, 1], [2, 9]]\n")
        );
        let expected = "a.x: expected a list of pairs of integers from 0 to 9, found";
        assert_eq!(
            read("[a]\nx = [[0, 1],\n [2, 10]]").unwrap_err(),
            format!("line 3, column 2: {expected} [2, 10]")
        );
        assert_eq!(
            read("[a]\nx = [[0, 1, 2]]").unwrap_err(),
            format!("line 2, column 6: {expected} [0, 1, 2]")
        );
        assert_eq!(
            read("[a]\nx = 7").unwrap_err(),
            format!("line 2, column 5: {expected} 7")
        );
    }

    #[test]
    fn lists_come_in_the_file_s_order_and_a_section_can_be_taken_out() {
        let mut document =
            Document::parse("[a]\nz = [1, \"x\"]\n\"b.c\" = [{ k = [true] }, 0.5]\n[b]\nq = 1\n")
                .unwrap();
        assert!(document.remove("b") && !document.remove("b"));
        let lists = document.section("a", |section| section.lists());
        assert_eq!((lists[0].0.as_str(), lists[1].0.as_str()), ("z", "b.c"));
        assert_eq!(
            toml::Value::Array(lists[1].1.clone()).to_string(),
            "[{ k = [true] }, 0.5]"
        );
        document.finish().unwrap();
        let mut document = Document::parse("[a]\nx = []\ny = 3\n").unwrap();
        assert!(document.section("a", |section| section.lists()).is_empty());
        assert_eq!(document.finish().unwrap_err().len(), 2);
    }

    #[test]
    fn defaults_are_written_out() {
        let mut document = Document::parse("[a]\nx = 1\n").unwrap();
        document.section("a", |section| {
            section.number("x", None, 0.0..=9.0);
            section.flag("y", Some(true));
        });
        assert_eq!(
            toml::to_string(&document.finish().unwrap()).unwrap(),
            "[a]\nx = 1.0\ny = true\n"
        );
    }
}
