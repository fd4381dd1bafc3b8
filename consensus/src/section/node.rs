//! The values of a file, with their places.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// A value of the file: what it is, where, and whether a reader asked for it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) node: Node,
    pub(super) span: std::ops::Range<usize>,
    pub(super) used: bool,
}

/// The place of a value that nobody wrote.
pub(super) const NOWHERE: std::ops::Range<usize> = usize::MAX..usize::MAX;

impl Entry {
    pub(super) fn supplied(value: &toml::Value) -> Entry {
        let node = match value {
            toml::Value::String(text) => Node::Text(text.clone()),
            toml::Value::Integer(value) => Node::Integer(*value),
            toml::Value::Float(value) => Node::Number(*value),
            toml::Value::Boolean(flag) => Node::Flag(*flag),
            toml::Value::Datetime(_) => Node::Other("a date"),
            toml::Value::Array(items) => Node::List(items.iter().map(Entry::supplied).collect()),
            toml::Value::Table(table) => Node::Table(
                table
                    .iter()
                    .map(|(key, value)| (key.clone(), Entry::supplied(value)))
                    .collect(),
            ),
        };
        Entry {
            node,
            span: NOWHERE,
            used: false,
        }
    }

    /// The value as it was written; `None` for types that this module does not read.
    pub(super) fn value(&self) -> Option<toml::Value> {
        Some(match &self.node {
            Node::Text(text) => toml::Value::String(text.clone()),
            Node::Integer(value) => toml::Value::Integer(*value),
            Node::Number(value) => toml::Value::Float(*value),
            Node::Flag(flag) => toml::Value::Boolean(*flag),
            Node::List(items) => {
                toml::Value::Array(items.iter().map(Entry::value).collect::<Option<_>>()?)
            }
            Node::Table(table) => {
                let pairs = table
                    .iter()
                    .map(|(key, entry)| Some((key.clone(), entry.value()?)));
                toml::Value::Table(pairs.collect::<Option<_>>()?)
            }
            Node::Other(_) => return None,
        })
    }
}

/// Adds the keys of `table` that are missing, table by table.
pub(super) fn supply(entries: &mut BTreeMap<String, Entry>, table: &toml::Table) {
    for (key, value) in table {
        match (entries.get_mut(key), value) {
            (None, value) => drop(entries.insert(key.clone(), Entry::supplied(value))),
            (
                Some(Entry {
                    node: Node::Table(own),
                    ..
                }),
                toml::Value::Table(table),
            ) => supply(own, table),
            (Some(_), _) => {}
        }
    }
}

/// A value by its type.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Integer(i64),
    Number(f64),
    Text(String),
    Flag(bool),
    List(Vec<Entry>),
    Table(BTreeMap<String, Entry>),
    Other(&'static str),
}

impl Node {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Node::Integer(_) => "an integer",
            Node::Number(_) => "a number",
            Node::Text(_) => "a text",
            Node::Flag(_) => "true or false",
            Node::List(_) => "a list",
            Node::Table(_) => "a table",
            Node::Other(name) => name,
        }
    }

    fn build(value: &DeValue<'_>) -> Node {
        match value {
            DeValue::String(text) => Node::Text(text.to_string()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(value) => Node::Integer(value),
                    Err(_) => Node::Other("an integer beyond 64 bits"),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(value) => Node::Number(value),
                Err(_) => Node::Other("a number that cannot be represented"),
            },
            DeValue::Boolean(flag) => Node::Flag(*flag),
            DeValue::Datetime(_) => Node::Other("a date"),
            DeValue::Array(items) => Node::List(
                items
                    .iter()
                    .map(|item| Entry {
                        node: Node::build(item.get_ref()),
                        span: item.span(),
                        used: false,
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Node::Table(build_table(table)),
        }
    }
}

pub(super) fn build_table(table: &DeTable<'_>) -> BTreeMap<String, Entry> {
    table
        .iter()
        .map(|(key, value)| {
            // A table's own span covers only its header; a reader needs the key's span underlined
            // for unknown keys.
            let node = Node::build(value.get_ref());
            let span = if matches!(node, Node::Table(_)) {
                key.span()
            } else {
                value.span()
            };
            (
                key.get_ref().to_string(),
                Entry {
                    node,
                    span,
                    used: false,
                },
            )
        })
        .collect()
}
