//! Ways of misbehaving, and the table that lists them.
//!
//! An attacker is an honest peer whose publication is rewritten, or whose rows are poisoned; it goes on training and mixing like
//! everyone else. What it may know is stated with each attack, since a result depends on it. [`Attacker`] makes a peer's
//! [`Conduct`] of an [`Attack`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kith_consensus::section::{Document, unknown};
use kith_consensus::{PeerId, Problem, Section, Stream};
use kith_gossip::{Conduct, Parameters, Publication, View};
use kith_models::Dataset;

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
    /// What every honest peer publishes in the same round. Only a simulation can give that; a real process falls back to its
    /// neighbourhood.
    Omniscient,
}

impl std::fmt::Display for Knowledge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Knowledge::Own => "own",
            Knowledge::Neighbourhood => "neighbourhood",
            Knowledge::Omniscient => "omniscient",
        })
    }
}

/// What an attacker has before it when it decides.
#[derive(Debug)]
pub struct Scene<'a> {
    /// What any peer knows.
    pub view: &'a View<'a>,
    /// What it takes for the honest peers' vectors of this round, in the order of ids: all of them where it is omniscient, else
    /// its own result and what its neighbours sent last.
    pub honest: &'a [(PeerId, &'a [f32])],
}

impl Scene<'_> {
    /// The mean of the honest vectors at one coordinate.
    pub fn mean(&self, index: usize) -> f64 {
        self.honest.iter().map(|(_, row)| f64::from(row[index])).sum::<f64>() / self.honest.len() as f64
    }
}

/// A way of misbehaving with its parameters set.
pub trait Attack: std::fmt::Debug + Send {
    /// What to publish instead of the trained vector.
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication;

    /// The rows it trains on instead of its own, for attacks that poison data.
    fn poison(&self, _rows: &Dataset, _classes: usize) -> Option<Dataset> {
        None
    }

    /// Whether the update of `round` is kept from this receiver.
    fn withholds(&mut self, _round: u64, _receiver: &PeerId) -> bool {
        false
    }

    /// An earlier round whose update is sent once more beside this round's.
    fn replays(&mut self, _round: u64) -> Option<u64> {
        None
    }
}

/// What honest peers publish, round by round: an omniscient attacker's knowledge. Filled by the simulation as results come in.
#[derive(Debug, Default)]
pub struct Oracle {
    rounds: Mutex<BTreeMap<u64, BTreeMap<PeerId, Parameters>>>,
}

impl Oracle {
    /// Rounds that are remembered: attackers are never further behind than this and still heard.
    const ROUNDS_MAX: usize = 16;

    /// An honest peer publishes `vector` in `round`.
    pub fn tell(&self, round: u64, peer: PeerId, vector: Parameters) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.entry(round).or_default().insert(peer, vector);
        while rounds.len() > Oracle::ROUNDS_MAX {
            rounds.pop_first();
        }
    }

    fn ask(&self, round: u64) -> BTreeMap<PeerId, Parameters> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).get(&round).cloned().unwrap_or_default()
    }
}

/// An attack as a peer's conduct.
#[derive(Debug)]
pub struct Attacker {
    attack: Box<dyn Attack>,
    oracle: Option<Arc<Oracle>>,
}

impl Attacker {
    /// With an oracle it is omniscient.
    pub fn new(attack: Box<dyn Attack>, oracle: Option<Arc<Oracle>>) -> Attacker {
        Attacker { attack, oracle }
    }
}

impl Conduct for Attacker {
    fn publish(&mut self, view: &View<'_>, random: &mut Stream) -> Publication {
        let told = self.oracle.as_ref().map(|oracle| oracle.ask(view.round)).unwrap_or_default();
        let mut honest: Vec<(PeerId, &[f32])> = told.iter().map(|(peer, vector)| (*peer, vector.as_slice())).collect();
        if honest.is_empty() {
            honest.extend(view.neighbours.iter().copied());
            honest.push((view.own, view.trained));
            honest.sort_by_key(|(peer, _)| *peer);
        }
        self.attack.publish(&Scene { view, honest: &honest }, random)
    }

    fn withholds(&mut self, round: u64, receiver: &PeerId) -> bool {
        self.attack.withholds(round, receiver)
    }

    fn replays(&mut self, round: u64) -> Option<u64> {
        self.attack.replays(round)
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
    pub new: fn(&mut Section<'_>) -> Box<dyn Attack>,
}

/// Every attack.
pub static ATTACKS: &[AttackEntry] =
    &[sign_flip::ENTRY, gaussian::ENTRY, free_rider::ENTRY, alie::ENTRY, inner_product::ENTRY, not_a_number::ENTRY];

/// An attack from the command line's text: `sign-flip`, or with its parameter `sign-flip:10`.
///
/// # Errors
/// Every problem with the name or the parameter.
pub fn attack_from_text(text: &str) -> Result<Box<dyn Attack>, Vec<Problem>> {
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
    let attack = document.section("attack", entry.new);
    document.finish().map(|_| attack)
}

/// What the entry that `text` names says of itself; `None` where there is no such attack.
pub fn entry_of(text: &str) -> Option<&'static AttackEntry> {
    let name = text.split(':').next().unwrap_or_default();
    ATTACKS.iter().find(|entry| entry.name == name)
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
