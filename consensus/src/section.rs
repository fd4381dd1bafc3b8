//! Reading one section of a charter, a configuration or an experiment.
//!
//! Reading is resolving: every `section.number("deadline_seconds", …)` checks the value, notes a
//! [`Problem`] with line and column if it is wrong, and writes the value in force, default
//! included, into the canonical table. So one description of a section gives its validation, its
//! defaults, its canonical form and the error that lists the known names. Keys that nobody asked
//! for are refused by [`Document::finish`].
//!
//! This module knows no section by name; start reading at [`Document::parse`].

mod document;
mod key;
mod node;
mod problem;
#[expect(
    clippy::module_inception,
    reason = "the file is named for the type that it holds"
)]
mod section;

pub use document::{Document, Places};
pub use key::{Key, Keys};
pub use problem::{Problem, unknown};
pub use section::Section;
