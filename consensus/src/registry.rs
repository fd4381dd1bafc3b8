//! Tables of what a name can stand for: rules, codecs, topologies, models, attacks and all the rest.
//!
//! One file describes an entry, and one line lists it. From the table come the look-up with its
//! suggestions, the short form of the command line and `kith list`, so they cannot disagree.

use std::ops::Deref;

use crate::section::{Section, unknown};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub struct Entry<N> {
    /// The name in files and on the command line.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The paper, standard or authors that it comes from.
    pub source: &'static str,
    /// The key that `name:value` sets; `None` if only `name:key=value` is understood.
    pub main_key: Option<&'static str>,
    /// What makes one: mostly a function that reads its keys from a section.
    pub new: N,
}

/// A table of entries. It derefs to its list, the default first.
#[derive(Debug)]
pub struct Registry<N: 'static> {
    what: &'static str,
    entries: &'static [Entry<N>],
}

impl<N> Registry<N> {
    /// A table of these entries. `what` is the word for one of them in messages.
    pub const fn new(what: &'static str, entries: &'static [Entry<N>]) -> Registry<N> {
        Registry { what, entries }
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&'static Entry<N>> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The names, in the table's order.
    pub fn names(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.name).collect()
    }

    /// The entry of that name.
    ///
    /// # Errors
    /// The known names, with the nearest as a suggestion.
    pub fn find(&self, name: &str) -> Result<&'static Entry<N>, String> {
        let names: Vec<&str> = self.entries.iter().map(|entry| entry.name).collect();
        self.get(name)
            .ok_or_else(|| unknown(self.what, name, &names))
    }

    /// The entry that a key of a section names, or `default`. `None`, with the problem noted, if
    /// the key is missing or the table does not have its name.
    pub fn choose(
        &self,
        section: &mut Section<'_>,
        key: &str,
        default: Option<&str>,
    ) -> Option<&'static Entry<N>> {
        let name = section.text(key, default);
        match self.find(&name) {
            Ok(entry) => Some(entry),
            Err(_) if default.is_none() && !section.has(key) => None, // noted as missing
            Err(what) => {
                section.note(key, what);
                None
            }
        }
    }
}

impl<T> Registry<fn(&mut Section<'_>) -> T> {
    /// Builds what a key of a section names, or `default`. If the name is unknown, every entry
    /// reads its keys, so that one wrong word does not make all the other keys unknown.
    ///
    /// # Panics
    /// When the table is empty.
    pub fn build(
        &self,
        section: &mut Section<'_>,
        key: &str,
        default: Option<&str>,
    ) -> (&'static str, T) {
        if let Some(entry) = self.choose(section, key, default) {
            return (entry.name, (entry.new)(section));
        }
        let all = self
            .into_iter()
            .map(|entry| (entry.name, (entry.new)(section)));
        all.last().expect("a table has entries")
    }
}

impl<N> Deref for Registry<N> {
    type Target = [Entry<N>];

    fn deref(&self) -> &[Entry<N>] {
        self.entries
    }
}

impl<N> IntoIterator for &Registry<N> {
    type Item = &'static Entry<N>;
    type IntoIter = std::slice::Iter<'static, Entry<N>>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

/// Takes the short form of the command line apart: `name`, `name:value`, `name:value,key=value`.
/// For each value, its key, if one is written, and its text.
pub fn short_form(text: &str) -> (&str, impl Iterator<Item = (Option<&str>, &str)>) {
    let (name, values) = text
        .split_once(':')
        .map_or((text, None), |(name, values)| (name, Some(values)));
    let values = values.into_iter().flat_map(|values| values.split(','));
    (
        name,
        values.map(|part| {
            part.split_once('=')
                .map_or((None, part), |(k, v)| (Some(k), v))
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Document;

    #[test]
    fn short_forms_come_apart() {
        let parts = |text: &'static str| {
            let (name, values) = short_form(text);
            (name, values.collect::<Vec<_>>())
        };
        assert_eq!(parts("ring"), ("ring", vec![]));
        assert_eq!(
            parts("mlp:128,64"),
            ("mlp", vec![(None, "128"), (None, "64")])
        );
        let backdoor = vec![(None, "3"), (Some("share"), "0.2")];
        assert_eq!(parts("backdoor:3,share=0.2"), ("backdoor", backdoor));
        assert_eq!(parts("top-k:"), ("top-k", vec![(None, "")]));
    }

    static COLOURS: Registry<u8> = Registry::new(
        "colour",
        &[
            Entry {
                name: "red",
                help: "warm",
                source: "own",
                main_key: None,
                new: 1,
            },
            Entry {
                name: "green",
                help: "cool",
                source: "own",
                main_key: None,
                new: 2,
            },
        ],
    );

    fn chosen(text: &str) -> Result<Option<u8>, String> {
        let mut document = Document::parse(text).expect("TOML");
        let read = |section: &mut Section<'_>| COLOURS.choose(section, "colour", Some("red"));
        let entry = document.section("paint", read);
        let finished = document
            .finish()
            .map_err(|problems| problems[0].to_string());
        finished.map(|_| entry.map(|entry| entry.new))
    }

    #[test]
    fn a_name_is_found_or_refused_with_the_nearest_one() {
        assert_eq!(chosen("[paint]\ncolour = \"green\""), Ok(Some(2)));
        assert_eq!(chosen("[paint]"), Ok(Some(1)));
        let refused = chosen("[paint]\ncolour = \"gren\"").expect_err("no such colour");
        let words = "unknown colour \"gren\"; known: red, green (did you mean \"green\"?)";
        assert!(refused.ends_with(words), "{refused}");
        assert_eq!(
            COLOURS.iter().map(|entry| entry.name).collect::<Vec<_>>(),
            ["red", "green"]
        );
    }
}
