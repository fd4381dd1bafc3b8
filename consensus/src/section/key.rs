//! The keys that readers ask for: what the reference pages of the documentation list.

use std::cell::RefCell;
use std::rc::Rc;

/// A key that a reader asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Dotted path, such as `round.quorum`.
    pub path: String,
    /// What it takes, in words: `an integer from 0 to 9`; empty if a reader only looked whether the
    /// key is there.
    pub expected: String,
    /// Whether a file without it is refused.
    pub is_required: bool,
    /// The value of a file that lacks it, if there is one.
    pub default: Option<toml::Value>,
}

/// The keys of a document in the order in which they are asked for. Clones share one list, so that
/// it outlives the document.
#[derive(Clone, Debug, Default)]
pub struct Keys(Rc<RefCell<Vec<Key>>>);

impl Keys {
    /// Every key asked for so far, once for each way of asking.
    pub fn list(&self) -> Vec<Key> {
        self.0.borrow().clone()
    }

    pub(super) fn looked_for(&self, path: String) {
        self.asked(&path, "", false);
    }

    pub(super) fn asked(&self, path: &str, expected: &str, is_required: bool) {
        self.0.borrow_mut().push(Key {
            path: path.to_owned(),
            expected: expected.to_owned(),
            is_required,
            default: None,
        });
    }

    /// Notes the default of a key that was asked for.
    pub(super) fn fill(&self, path: &str, value: &toml::Value) {
        for key in self.0.borrow_mut().iter_mut() {
            if key.path == path && !key.is_required {
                key.default.get_or_insert_with(|| value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::section::Document;

    #[test]
    fn readers_leave_the_keys_that_they_asked_for_with_values_and_defaults() {
        let mut document = Document::parse("[a]\nx = 7\n[[a.list]]\n[[a.list]]\n").unwrap();
        let keys = document.keys();
        document.section("a", |section| {
            section.integer("x", Some(1), 0..=9);
            section.number("y", None, 0.0..=1.0);
            section.has("z");
            section.tables("list", |item| item.flag("on", Some(true)));
        });
        assert!(document.finish().is_err(), "y is missing");
        let told = |path: &str| {
            let list = keys.list().into_iter();
            let found: Vec<_> = list.filter(|key| key.path == path).collect();
            assert_eq!(found.len(), 1, "{path}");
            let default = found[0].default.as_ref().map(ToString::to_string);
            (found[0].expected.clone(), found[0].is_required, default)
        };
        let integer = "an integer from 0 to 9".to_owned();
        assert_eq!(told("a.x"), (integer, false, None), "the file has its own");
        assert_eq!(told("a.y"), ("a number from 0 to 1".to_owned(), true, None));
        assert_eq!(told("a.z"), (String::new(), false, None));
        let flag = "true or false".to_owned();
        assert_eq!(told("a.list.on"), (flag, false, Some("true".to_owned())));
    }
}
