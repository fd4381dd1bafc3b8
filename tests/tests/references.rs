//! The reference pages are what the program reads and writes: every key of a charter, of `kith.toml`
//! and of an experiment's world, and every event. `KITH_REFERENCE=write` writes them anew.
//!
//! Of keys, the readers give name, values, default and condition; a person writes the meaning into
//! the page's last column, and it is kept. Of events, the meaning is the comment in the source.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::{kebab, text_of};
use kith_consensus::section::{Document, Key};
use kith_consensus::{Charter, Problem};
use kith_gossip::codec::codec_from_section;
use kith_models::{ModelSection, Schema, TrainingSection};
use kith_node::config::Config;
use kith_simulations::world::World;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

/// Compares the end of a page, from its heading on, with what it has to be.
fn compare(page: &str, heading: &str, made: &str) {
    let path = root().join("docs/reference").join(page);
    let text = text_of(&path);
    let (before, found) = text.split_once(heading).expect("the heading");
    if std::env::var("KITH_REFERENCE").is_ok_and(|what| what == "write") {
        std::fs::write(&path, format!("{before}{heading}{made}")).expect("written");
        return;
    }
    assert!(
        found == made,
        "{page} is not what the code says: \
         KITH_REFERENCE=write cargo test -p kith-tests --test references"
    );
}

fn read_charter(document: Document) -> Vec<Problem> {
    let read = Charter::read(
        document,
        &mut [
            ("data", &mut |section, declared| {
                Schema::read(section).declare(declared);
            }),
            ("model", &mut |section, _| drop(ModelSection::read(section))),
            ("training", &mut |section, declared| {
                TrainingSection::read(section).declare(declared);
            }),
            ("codec", &mut |section, _| drop(codec_from_section(section))),
        ],
        &mut [],
    );
    read.err().unwrap_or_default()
}

fn read_world(mut document: Document) -> Vec<Problem> {
    document.section("world", World::read);
    document.finish().err().unwrap_or_default()
}

fn read_config(document: Document) -> Vec<Problem> {
    let read = Config::read(document, Path::new(""));
    read.err().unwrap_or_default()
}

/// A way in which a key is read.
#[derive(Clone, Debug)]
struct Row {
    key: Key,
    /// Names that its text may be, if not every text is good.
    names: Vec<String>,
    /// By the key that decides it: under which of that one's settings it is read.
    conditions: BTreeMap<String, Vec<String>>,
}

fn is_same(left: &Key, right: &Key) -> bool {
    left.path == right.path && left.expected == right.expected && left.default == right.default
}

fn table_of(key: &Key) -> &str {
    key.path.rsplit_once('.').map_or("", |(table, _)| table)
}

fn value_at<'a>(table: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    let (first, rest) = path
        .split_once('.')
        .map_or((path, None), |(a, b)| (a, Some(b)));
    let found = table.get(first)?;
    let Some(rest) = rest else {
        return Some(found);
    };
    match found {
        toml::Value::Array(items) => value_at(items.first()?.as_table()?, rest),
        other => value_at(other.as_table()?, rest),
    }
}

/// The table with a value at a path, through the first of a list of tables.
fn with(table: &toml::Table, path: &str, value: toml::Value) -> toml::Table {
    let mut table = table.clone();
    let (parents, last) = path.rsplit_once('.').expect("a section and a key");
    let mut at = &mut table;
    for part in parents.split('.') {
        let empty = || toml::Value::Table(toml::Table::new());
        at = match at.entry(part.to_owned()).or_insert_with(empty) {
            toml::Value::Array(items) => items[0].as_table_mut().expect("a table"),
            other => other.as_table_mut().expect("a table"),
        };
    }
    at.insert(last.to_owned(), value);
    table
}

/// A program that reads a kind of file, and what it asked for so far.
struct Explorer {
    read: fn(Document) -> Vec<Problem>,
    rows: Vec<Row>,
    tried: BTreeSet<String>,
}

impl Explorer {
    fn run(&self, table: &toml::Table) -> (Vec<Key>, Vec<Problem>) {
        let text = toml::to_string(table).expect("TOML");
        let document = Document::parse(&text).expect("TOML");
        let keys = document.keys();
        let problems = (self.read)(document);
        let mut list: Vec<Key> = Vec::new();
        for key in keys.list() {
            match list.iter_mut().find(|known| known.path == key.path) {
                Some(known) if known.expected.is_empty() => *known = key,
                Some(_) => {}
                None => list.push(key),
            }
        }
        list.retain(|key| key.expected != "a section");
        (list, problems)
    }

    /// The names that the refusal of a text lists.
    fn names(&self, table: &toml::Table, path: &str, text: &str) -> Vec<String> {
        let value = toml::Value::String(text.to_owned());
        let (_, problems) = self.run(&with(table, path, value));
        let listed = problems.iter().find_map(|problem| {
            let is_name = problem.key == path && problem.what.starts_with("unknown ");
            let (_, names) = problem.what.split_once("; known: ")?;
            is_name.then_some(names)
        });
        let listed = listed.map(|names| names.split(" (did you").next().unwrap_or(names));
        let names = listed.map(|names| names.split("; ").next().unwrap_or(names));
        let names = names.into_iter().flat_map(|names| names.split(", "));
        names.map(str::to_owned).collect()
    }

    /// The table with a name for each key that needs one: without it a reader reads the keys of all.
    fn complete(&self, mut table: toml::Table) -> toml::Table {
        loop {
            let missing = self.run(&table).0.into_iter().find_map(|key| {
                let is_open = key.is_required
                    && key.expected == "a text"
                    && value_at(&table, &key.path).is_none();
                let name = is_open.then(|| self.names(&table, &key.path, "?????"))?;
                Some((key.path, name.first()?.clone()))
            });
            match missing {
                Some((path, name)) => table = with(&table, &path, toml::Value::String(name)),
                None => return table,
            }
        }
    }

    /// Settings of a key to try: what the page calls each, and its value.
    fn settings(&self, table: &toml::Table, key: &Key) -> Vec<(String, Option<toml::Value>)> {
        let short = key.path.rsplit('.').next().expect("a name");
        let presence = |shown: String, value| {
            let absent = (format!("no {shown}"), None);
            vec![absent, (shown, Some(value))]
        };
        let empty = toml::Value::Table(toml::Table::new());
        match key.expected.as_str() {
            "" => presence(format!("`{short}`"), toml::Value::Integer(1)),
            "a table" => presence(format!("`[{}]`", key.path), empty),
            "tables" => {
                let list = toml::Value::Array(vec![empty]);
                presence(format!("`[[{}]]`", key.path), list)
            }
            "true or false" => [true, false]
                .map(|flag| (format!("`{short} = {flag}`"), Some(flag.into())))
                .into(),
            "a text" => {
                let known = self.names(table, &key.path, "?????");
                let Some(last) = known.first() else {
                    return Vec::new();
                };
                let before = self.names(table, &key.path, &format!("?????+{last}"));
                let before = before.iter().filter(|name| !known.contains(name));
                let chains = before.map(|name| (format!("{name}+…"), format!("{name}+{last}")));
                let plain = known.iter().map(|name| (name.clone(), name.clone()));
                plain
                    .chain(chains)
                    .map(|(shown, text)| (format!("`{short} = {shown:?}`"), Some(text.into())))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    fn row(&mut self, key: &Key) -> &mut Row {
        let place = self.rows.iter().position(|row| is_same(&row.key, key));
        let place = place.unwrap_or_else(|| {
            // Beside the other keys of its table.
            let table = |key: &Key| key.path.rsplit_once('.').map(|(table, _)| table.to_owned());
            let last = self
                .rows
                .iter()
                .rposition(|row| table(&row.key) == table(key));
            let place = last.map_or(self.rows.len(), |last| last + 1);
            let (names, conditions) = (Vec::new(), BTreeMap::new());
            let key = key.clone();
            self.rows.insert(
                place,
                Row {
                    key,
                    names,
                    conditions,
                },
            );
            place
        });
        &mut self.rows[place]
    }

    /// Reads the table, and once more with each setting of each key that was not yet tried. `under`
    /// is the setting that led to the table: its key, and what the page calls it.
    fn explore(&mut self, table: &toml::Table, under: Option<&(String, String)>) {
        let base = self.complete(table.clone());
        let keys = self.run(&base).0;
        for key in &keys {
            if value_at(&base, &key.path).is_none() && !key.expected.is_empty() {
                self.row(key);
            }
        }
        let mut fresh = Vec::new();
        for key in keys {
            let is_set = value_at(table, &key.path).is_some();
            let has_row = |row: &Row| row.key.path == key.path;
            let is_known = key.expected.is_empty() && self.rows.iter().any(has_row);
            if !is_set && !is_known && self.tried.insert(key.path.clone()) {
                fresh.push(key);
            }
        }
        // All of them are noted before one is tried: those that a setting adds are its own.
        for key in fresh {
            self.try_settings(table, &base, &key, under);
        }
    }

    fn try_settings(
        &mut self,
        table: &toml::Table,
        base: &toml::Table,
        key: &Key,
        under: Option<&(String, String)>,
    ) {
        let settings = self.settings(base, key);
        let is_table = matches!(key.expected.as_str(), "a table" | "tables");
        let mut found: Vec<(Key, Vec<String>)> = Vec::new();
        for (shown, value) in &settings {
            let set = match value {
                Some(value) => with(base, &key.path, value.clone()),
                None => base.clone(),
            };
            for read in self.run(&self.complete(set)).0 {
                let is_elsewhere = !is_table && !table_of(&read).starts_with(table_of(key));
                if read.path == key.path || read.expected.is_empty() || is_elsewhere {
                    continue;
                }
                match found.iter_mut().find(|(other, _)| is_same(other, &read)) {
                    Some((_, under)) => under.push(shown.clone()),
                    None => found.push((read, vec![shown.clone()])),
                }
            }
        }
        self.note_names(base, key, &settings, under);
        for (read, shown) in found {
            let is_inside = read.path.starts_with(&format!("{}.", key.path));
            if value_at(base, &read.path).is_some() && !read.is_required {
                continue;
            }
            let row = self.row(&read);
            if shown.len() < settings.len() && !is_inside {
                row.need(&key.path, fewer(shown, &settings), under);
            }
        }
        for (shown, value) in settings {
            let Some(value) = value else {
                continue;
            };
            let under = (!is_table).then(|| (key.path.clone(), shown));
            self.explore(&with(table, &key.path, value), under.as_ref());
        }
    }

    /// The row of a key whose reader looks for it first, and the names that a text may be.
    fn note_names(
        &mut self,
        base: &toml::Table,
        key: &Key,
        settings: &[(String, Option<toml::Value>)],
        under: Option<&(String, String)>,
    ) {
        if key.expected == "a text" {
            let names = settings
                .iter()
                .filter_map(|(_, value)| value.as_ref()?.as_str());
            let names = names.filter(|name| !name.contains('+')).map(str::to_owned);
            self.row(key).names = names.collect();
        } else if key.expected.is_empty() {
            let there = with(base, &key.path, toml::Value::Integer(1));
            let mut read = self.run(&there).0.into_iter();
            let read = read.find(|read| read.path == key.path && !read.expected.is_empty());
            if let Some(read) = read {
                let row = self.row(&Key {
                    is_required: false,
                    ..read
                });
                if let Some((path, shown)) = under {
                    row.conditions.insert(path.clone(), vec![shown.clone()]);
                }
            }
        }
    }
}

/// Of the settings under which a key is read, or of those under which it is not, the fewer.
fn fewer(shown: Vec<String>, settings: &[(String, Option<toml::Value>)]) -> Vec<String> {
    let others = settings.iter().map(|(name, _)| name.clone());
    let others: Vec<String> = others.filter(|name| !shown.contains(name)).collect();
    if shown.len() > 5 && others.len() < shown.len() {
        return vec![format!("not {}", others.join(", not "))];
    }
    shown
}

impl Row {
    /// The key is read only under these settings of another one, which was itself found under a
    /// setting of a third, or of none.
    fn need(&mut self, path: &str, shown: Vec<String>, under: Option<&(String, String)>) {
        let Some((above, setting)) = under else {
            self.conditions.insert(path.to_owned(), shown);
            return;
        };
        let both = format!("{setting} with {}", shown.join(" or "));
        let list = self.conditions.entry(above.clone()).or_default();
        match list.iter_mut().find(|known| *known == setting) {
            Some(known) => *known = both,
            None => list.push(both),
        }
    }
}

/// A value as a page shows it.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(number) if number.abs() >= 1e6 => format!("{number:e}"),
        toml::Value::Float(number) if number.to_string().len() > 12 => format!("{number:.3}"),
        other => other.to_string(),
    }
}

/// What a key takes.
fn values(row: &Row) -> String {
    const NAMES_MAX: usize = 25; // of more, `kith list` has a table
    if !row.names.is_empty() && row.names.len() <= NAMES_MAX {
        let names: Vec<String> = row
            .names
            .iter()
            .map(|name| format!("`\"{name}\"`"))
            .collect();
        return names.join(", ");
    }
    let words = row.key.expected.split(' ');
    let short = words.map(|word| match word.parse::<f64>() {
        Ok(number) if word.len() > 20 => format!("{number:.1e}"),
        _ => word.to_owned(),
    });
    let all = format!(" from {:.1e} to {:.1e}", f64::MIN, f64::MAX);
    short.collect::<Vec<_>>().join(" ").replace(&all, "")
}

/// The meanings that a page has, in its order for each key.
fn meanings(page: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## `") {
            table = heading.trim_matches(['[', ']', '`']).to_owned();
        }
        let cells: Vec<&str> = line.split(" | ").collect();
        if let (Some(key), [_, .., meaning]) = (line.strip_prefix("| `"), &cells[..]) {
            let key = key.split('`').next().expect("a key");
            let meaning = meaning.trim_end_matches('|').trim().to_owned();
            found
                .entry(format!("{table}.{key}"))
                .or_default()
                .push(meaning);
        }
    }
    found
}

/// The tables of a page, one for each table of the file.
fn tables(rows: &[Row], mut meanings: BTreeMap<String, Vec<String>>) -> String {
    let is_table = |row: &&Row| !matches!(row.key.expected.as_str(), "a table" | "tables");
    let mut text = String::new();
    let mut last = "";
    for row in rows.iter().filter(is_table) {
        let (table, name) = row.key.path.rsplit_once('.').expect("a section and a key");
        if table != last {
            let mut all = rows.iter().map(|row| &row.key);
            let is_list = all.any(|key| key.path == table && key.expected == "tables");
            let heading = if is_list {
                format!("[[{table}]]")
            } else {
                format!("[{table}]")
            };
            text += &format!(
                "\n## `{heading}`\n\n| key | takes | default | only with | meaning |\n|---|---|---|---|---|\n"
            );
            last = table;
        }
        let default = match &row.key.default {
            _ if row.key.path == "resources.threads" => "the machine's cores".to_owned(),
            Some(value) => format!("`{}`", shown(value)),
            None if row.key.is_required => "required".to_owned(),
            None => "none".to_owned(),
        };
        let conditions: Vec<String> = row
            .conditions
            .values()
            .map(|list| list.join(", "))
            .collect();
        let of_key = meanings
            .get_mut(&row.key.path)
            .filter(|list| !list.is_empty());
        let meaning = of_key.map_or(String::new(), |list| list.remove(0));
        let cells = [values(row), default, conditions.join("; ")];
        text += &format!("| `{name}` | {} | {meaning} |\n", cells.join(" | "));
    }
    text
}

fn check_keys(page: &str, read: fn(Document) -> Vec<Problem>) {
    let mut explorer = Explorer {
        read,
        rows: Vec::new(),
        tried: BTreeSet::new(),
    };
    explorer.explore(&toml::Table::new(), None);
    let before = text_of(&root().join("docs/reference").join(page));
    let made = tables(&explorer.rows, meanings(&before));
    compare(page, KEYS, &made);
    let without: Vec<&str> = made
        .lines()
        .filter(|line| line.ends_with(" |  |"))
        .collect();
    assert!(
        without.is_empty(),
        "write the meanings into {page}: {without:#?}"
    );
}

/// What stands before the generated part of a page of keys.
const KEYS: &str = "<!-- generated from here on, except for the meanings -->\n";

#[test]
fn every_key_of_a_charter_is_on_its_page() {
    check_keys("charter.md", read_charter);
}

#[test]
fn every_key_of_a_peer_s_settings_is_on_its_page() {
    check_keys("kith-toml.md", read_config);
}

#[test]
fn every_key_of_a_world_is_on_its_page() {
    check_keys("experiment.md", read_world);
}

/// A type as JSON has it, in words.
fn json_type(kind: &syn::Type) -> String {
    let syn::Type::Path(path) = kind else {
        return match kind {
            syn::Type::Array(list) => format!("list of {}", json_type(&list.elem)),
            _ => panic!("a type that the page has no word for"),
        };
    };
    let last = path.path.segments.last().expect("a name");
    let inner = || match &last.arguments {
        syn::PathArguments::AngleBracketed(of) => match of.args.first() {
            Some(syn::GenericArgument::Type(kind)) => json_type(kind),
            _ => panic!("a type of types"),
        },
        _ => panic!("a type of types"),
    };
    match last.ident.to_string().as_str() {
        "u32" | "u64" | "usize" => "integer".to_owned(),
        "f64" => "number".to_owned(),
        "bool" => "true or false".to_owned(),
        "String" => "text".to_owned(),
        "PeerId" => "peer".to_owned(),
        "Digest" | "State" => "hash".to_owned(),
        "BTreeMap" => "numbers by number".to_owned(),
        "Option" => format!("{} or null", inner()),
        "Vec" => format!("list of {}", inner()),
        other => format!("[{}](#{})", kebab(other), kebab(other)),
    }
}

/// The comment of an item on one line, without links into the source.
fn comment(attributes: &[syn::Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
    let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    let text = lines.join(" ");
    let mut plain = String::new();
    for (place, part) in text.split("[`").enumerate() {
        match part.split_once("`]") {
            Some((name, rest)) if place > 0 => {
                let name = name.rsplit("::").next().unwrap_or(name);
                plain += &format!("`{}`{rest}", kebab(name));
            }
            _ => plain += part,
        }
    }
    plain.replace("`None`", "null").replace('|', "\\|")
}

/// The fields of an event or of a part of one, each with its type and, if it has one, its comment.
fn fields(fields: &syn::Fields) -> String {
    let mut cells = Vec::new();
    for field in fields {
        let name = field.ident.as_ref().expect("a named field");
        let comment = comment(&field.attrs);
        let meaning = if comment.is_empty() {
            String::new()
        } else {
            format!(": {comment}")
        };
        cells.push(format!("`{name}` ({}){meaning}", json_type(&field.ty)));
    }
    cells.join("<br>")
}

/// The lines of the table for an enum of events, or for those of its parts.
fn events(source: &str, name: &str) -> String {
    let file = syn::parse_file(&text_of(&root().join(source))).expect("Rust");
    let found = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(found) if found.ident == name => Some(found),
        _ => None,
    });
    let mut text = String::new();
    for variant in &found.expect("the enum").variants {
        let name = kebab(&variant.ident.to_string());
        let (meaning, fields) = (comment(&variant.attrs), fields(&variant.fields));
        text += &format!("| `{name}` | {meaning} | {fields} |\n");
    }
    text
}

/// A part of an event as a section: its comment and its fields.
fn part(source: &str, name: &str) -> String {
    let file = syn::parse_file(&text_of(&root().join(source))).expect("Rust");
    let mut text = format!("\n## {}\n\n", kebab(name));
    for item in &file.items {
        match item {
            syn::Item::Struct(found) if found.ident == name => {
                let fields = fields(&found.fields).replace("<br>", "\n- ");
                text += &format!("{}\n\n- {fields}\n", comment(&found.attrs));
            }
            syn::Item::Enum(found) if found.ident == name => {
                let names = found.variants.iter().map(|variant| {
                    let name = kebab(&variant.ident.to_string());
                    format!("- `{name}`: {}\n", comment(&variant.attrs))
                });
                let names: String = names.collect();
                text += &format!("{}\n\n{names}", comment(&found.attrs));
            }
            _ => {}
        }
    }
    text
}

#[test]
fn every_event_is_on_its_page() {
    const PEER: &str = "gossip/src/event.rs";
    let head = "| event | meaning | fields |\n|---|---|---|\n";
    let of_peer = events(PEER, "Event");
    let of_node = events("node/src/telemetry/line.rs", "NodeEvent");
    let parts = [
        part(PEER, "DroppedShare"),
        part(PEER, "History"),
        part(PEER, "Closed"),
        part("gossip/src/envelope.rs", "Kind"),
        part("gossip/src/refusal.rs", "Refusal"),
    ];
    let made = format!(
        "\n{head}{of_peer}\n## Of the node around the peer\n\n{head}{of_node}{}",
        parts.concat()
    );
    compare("events.md", "## Of the peer\n", &made);
}
