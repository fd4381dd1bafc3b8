//! Ways of misbehaving, and the table that lists them.
//!
//! An attacker is an honest peer whose published vector is rewritten ([`Conduct`]); it goes on training and mixing like
//! everyone else. What it may know is stated with each attack, since a result depends on it.

use kith_consensus::section::{Document, unknown};
use kith_consensus::{Problem, Section};
use kith_gossip::Conduct;

mod alie;
mod free_rider;
mod gaussian;
mod inner_product;
mod not_a_number;
mod sign_flip;

/// What an attacker knows beyond its own training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// Only its own start and result.
    Own,
    /// Also what its neighbours sent last.
    Neighbourhood,
}

impl std::fmt::Display for Knowledge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Knowledge::Own => "own",
            Knowledge::Neighbourhood => "neighbourhood",
        })
    }
}

/// An attack in the table.
#[derive(Debug)]
pub struct AttackEntry {
    /// Its name.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What the attacker knows.
    pub knowledge: Knowledge,
    /// The key that `name:value` sets.
    pub parameter: Option<&'static str>,
    /// Reads its parameters.
    pub new: fn(&mut Section<'_>) -> Box<dyn Conduct>,
}

/// Every attack.
pub static ATTACKS: &[AttackEntry] =
    &[sign_flip::ENTRY, gaussian::ENTRY, free_rider::ENTRY, alie::ENTRY, inner_product::ENTRY, not_a_number::ENTRY];

/// An attack from the command line's text: `sign-flip`, or with its parameter `sign-flip:10`.
///
/// # Errors
/// Every problem with the name or the parameter.
pub fn attack_from_text(text: &str) -> Result<Box<dyn Conduct>, Vec<Problem>> {
    let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
    let refuse = |what: String| Err(vec![Problem { key: "attack".into(), line: 0, column: 0, span: None, what }]);
    let names: Vec<&str> = ATTACKS.iter().map(|entry| entry.name).collect();
    let Some(entry) = ATTACKS.iter().find(|entry| entry.name == name) else {
        return refuse(unknown("attack", name, &names));
    };
    let source = match (entry.parameter, value) {
        (_, None) => String::new(),
        (Some(key), Some(value)) if value.parse::<f64>().is_ok() => format!("[attack]\n{key} = {value}\n"),
        (Some(key), Some(value)) => return refuse(format!("expected {name}:{}, a number, found {value:?}", key.to_uppercase())),
        (None, Some(value)) => return refuse(format!("{name} takes no parameter, found {value:?}")),
    };
    let mut document = Document::parse(&source).map_err(|problem| vec![problem])?;
    let conduct = document.section("attack", entry.new);
    document.finish().map(|_| conduct)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_made_from_text() {
        assert!(attack_from_text("sign-flip").is_ok());
        assert!(attack_from_text("sign-flip:10").is_ok());
        let told = |text: &str| attack_from_text(text).unwrap_err()[0].what.clone();
        assert!(told("sing-flip").contains("did you mean \"sign-flip\"?"));
        assert!(told("sign-flip:ten").contains("a number"));
        assert!(told("free-rider:1").contains("takes no parameter"));
    }
}
