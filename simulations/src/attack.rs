//! Ways of misbehaving, and the table that lists them.
//!
//! An attacker is an honest peer whose publication is rewritten, or whose rows are poisoned; it
//! continues to train and mix like everyone else. Each attack states what it may know, since a
//! result depends on it. [`Attacker`] makes a peer's [`Conduct`] of an [`Attack`].
//!
//! Five kinds: vectors that lie (`sign-flip` to `infinity`), vectors that hide among the honest
//! (`alie`, `mimic`, `slow-drift`, `free-rider`), rows that lie (`label-flip`, `backdoor`,
//! `model-replacement`), and conduct that breaks the protocol (`dissensus`, `equivocation`,
//! `false-state`, `wrong-shape`, `forgery`, `replay`, `silence`, `mute`), and messages that no peer
//! would send (`odd-spelling`, `two-sequences`, `two-claims`, `header-first`, `far-ahead`,
//! `junk-gossip`, `recordings`, `false-addresses`, `far-claims`, `flood`, `late`, `foreign-bodies`,
//! `slow-bodies`). The last kind needs a simulation, whose [`Adversary`] speaks beside the peer; each
//! names the invariant that it must not break.
//!
//! If the charter selects by claimed losses, every attacker claims the highest that receivers
//! accept.
//!
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kith_consensus::registry::{Entry, Registry, short_form};
use kith_consensus::section::Document;
use kith_consensus::{Charter, PeerId, Problem, Section, Stream};
use kith_gossip::conduct::{Fraud, LOSS_MAX};
use kith_gossip::{Conduct, Parameters, Publication, View};
use kith_models::poison;
use kith_models::{Dataset, Schema};

use crate::simulator::Adversary;

mod alie;
mod backdoor;
mod contradiction;
mod dissensus;
mod equivocation;
mod fall_of_empires;
pub(crate) mod false_addresses;
mod false_state;
mod far_claims;
mod flood;
mod foreign_bodies;
mod forgery;
mod free_rider;
mod gaussian;
mod half_met;
mod infinity;
mod inner_product;
mod junk_gossip;
mod label_flip;
mod late;
mod messages;
mod mimic;
mod model_replacement;
mod mute;
mod not_a_number;
mod odd_spelling;
mod optimal;
mod random;
mod recordings;
mod replay;
mod sign_flip;
mod silence;
mod slow_bodies;
mod slow_drift;
mod sybil;
mod wrong_shape;
mod zero;

pub use messages::{Collusion, LIVED, Speaker};

pub use alie::{DeviationBound, deviation_bound};
pub use mimic::Direction;

/// What an attacker knows beyond its own training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// Only its own start and result.
    Own,
    /// Also what its neighbours sent last.
    Neighbourhood,
    /// The updates of all honest peers in the same round. Only a simulation can give that; a real
    /// process falls back to its neighbourhood.
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

/// What an attacker knows when it decides.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The knowledge that any peer has.
    pub view: &'a View<'a>,
    /// What it takes for the honest peers' vectors of this round, in the order of ids: all of them
    /// if it is omniscient, otherwise its own result and what its neighbours sent last.
    pub honest: &'a [(PeerId, &'a [f32])],
    /// Whether `honest` holds all honest peers, so that a missing peer lies.
    pub omniscient: bool,
}

impl Scene<'_> {
    /// The mean of the honest vectors at one coordinate.
    pub fn mean(&self, index: usize) -> f64 {
        self.honest
            .iter()
            .map(|(_, row)| f64::from(row[index]))
            .sum::<f64>()
            / self.honest.len() as f64
    }
}

/// A way of misbehaving with its parameters set.
pub trait Attack: std::fmt::Debug + Send {
    /// What to publish instead of the trained vector.
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication;

    /// Learns the charter before anything starts: the rule that an attack is fitted to, and how
    /// many liars it expects.
    fn study(&mut self, _charter: &Arc<Charter>) {}

    /// The rows it trains on instead of its own, for attacks that poison data; `None` for the
    /// others.
    ///
    /// # Errors
    /// When rows of this schema cannot be poisoned in this way.
    fn poison(
        &self,
        _rows: &Dataset,
        _schema: &Schema,
        _random: &mut Stream,
    ) -> Result<Option<Dataset>, poison::PoisonError> {
        Ok(None)
    }

    /// Held-out rows with the trigger, labelled with the target: accuracy on them is the attack's
    /// success rate. `None` for attacks without a trigger.
    ///
    /// # Errors
    /// When rows of this schema cannot carry the trigger, or none is of another class.
    fn triggered(
        &self,
        _test: &Dataset,
        _schema: &Schema,
    ) -> Result<Option<Dataset>, poison::PoisonError> {
        Ok(None)
    }

    /// Whether the update of `round` is kept from this receiver.
    fn withholds(&mut self, _round: u64, _receiver: &PeerId) -> bool {
        false
    }

    /// An earlier round whose update is sent once more along with this round's.
    fn replays(&mut self, _round: u64) -> Option<u64> {
        None
    }

    /// What is false about the update of `round`, apart from its vector.
    fn fraud(&self, _round: u64) -> Option<Fraud> {
        None
    }
}

/// What honest peers publish, round by round: an omniscient attacker's knowledge. Filled by the
/// simulation as results come in.
#[derive(Debug, Default)]
pub struct Oracle {
    published: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Published {
    /// The vectors of the newest rounds.
    rounds: BTreeMap<u64, BTreeMap<PeerId, Parameters>>,
    /// The peers that published, by round.
    publishers: BTreeMap<u64, BTreeSet<PeerId>>,
    /// For each round in which an attacker asked: how often one did, and how many vectors it found,
    /// in total.
    asked: BTreeMap<u64, (u64, u64)>,
}

impl Oracle {
    /// Rounds that are remembered: receivers no longer hear an attacker that is further behind.
    const ROUNDS_MAX: usize = 16;

    /// Notes that an honest peer publishes `vector` in `round`.
    pub fn record(&self, round: u64, peer: PeerId, vector: Parameters) {
        let mut published = self.published();
        published.publishers.entry(round).or_default().insert(peer);
        published
            .rounds
            .entry(round)
            .or_default()
            .insert(peer, vector);
        while published.rounds.len() > Oracle::ROUNDS_MAX {
            published.rounds.pop_first();
        }
    }

    /// Of the honest vectors of the rounds in which attackers published, the share that they knew
    /// then, on average; `None` if none was published.
    pub fn known_share(&self) -> Option<f64> {
        let published = self.published();
        let count = |round: &u64| published.publishers.get(round).map_or(0, BTreeSet::len) as u64;
        let all: u64 = published
            .asked
            .iter()
            .map(|(round, (times, _))| times * count(round))
            .sum();
        let known: u64 = published.asked.values().map(|(_, known)| known).sum();
        (all > 0).then(|| known as f64 / all as f64)
    }

    fn ask(&self, round: u64) -> BTreeMap<PeerId, Parameters> {
        let mut published = self.published();
        let known = published.rounds.get(&round).cloned().unwrap_or_default();
        let (times, sum) = published.asked.entry(round).or_default();
        (*times, *sum) = (*times + 1, *sum + known.len() as u64);
        known
    }

    fn published(&self) -> std::sync::MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attack as a peer's conduct.
#[derive(Debug)]
pub struct Attacker {
    attack: Box<dyn Attack>,
    oracle: Option<Arc<Oracle>>,
}

impl Attacker {
    /// An attacker; with an oracle it is omniscient.
    pub fn new(attack: Box<dyn Attack>, oracle: Option<Arc<Oracle>>) -> Attacker {
        Attacker { attack, oracle }
    }

    /// The attacker after it has studied the charter.
    pub fn under(mut self, charter: &Arc<Charter>) -> Attacker {
        self.attack.study(charter);
        self
    }
}

impl Conduct for Attacker {
    fn publish(&mut self, view: &View<'_>, random: &mut Stream) -> Publication {
        let told = self
            .oracle
            .as_ref()
            .map(|oracle| oracle.ask(view.round))
            .unwrap_or_default();
        let mut honest: Vec<(PeerId, &[f32])> = told
            .iter()
            .map(|(peer, vector)| (*peer, vector.as_slice()))
            .collect();
        let omniscient = !honest.is_empty();
        if !omniscient {
            honest.extend(view.neighbours.iter().copied());
            honest.push((view.own, view.trained));
            honest.sort_by_key(|(peer, _)| *peer);
        }
        self.attack.publish(
            &Scene {
                view,
                honest: &honest,
                omniscient,
            },
            random,
        )
    }

    fn withholds(&mut self, round: u64, receiver: &PeerId) -> bool {
        self.attack.withholds(round, receiver)
    }

    fn replays(&mut self, round: u64) -> Option<u64> {
        self.attack.replays(round)
    }

    fn fraud(&self, round: u64) -> Option<Fraud> {
        self.attack.fraud(round)
    }

    fn claims(&self, _loss: f64) -> f64 {
        LOSS_MAX
    }
}

/// An attack in the table.
pub type AttackEntry = Entry<AttackKind>;

/// What an attack is made of.
#[derive(Clone, Copy, Debug)]
pub struct AttackKind {
    /// How much the attacker knows.
    pub knowledge: Knowledge,
    /// With what it lies.
    pub means: Means,
    /// Reads its parameters and builds it.
    pub build: fn(&mut Section<'_>) -> Box<dyn Attack>,
}

/// With what an attack lies.
#[derive(Clone, Copy, Debug)]
pub enum Means {
    /// The peer's updates.
    Updates,
    /// Its rows, so that it needs a world that trains on rows.
    Rows,
    /// Messages beside its peer's or in their place: it needs a simulation.
    Messages {
        /// Lets a liar speak.
        speak: fn(Speaker) -> Box<dyn Adversary>,
        /// The invariant that it must not break.
        fails: &'static str,
    },
}

/// Every attack.
pub static ATTACKS: Registry<AttackKind> = Registry::new(
    "attack",
    &[
        sign_flip::ENTRY,
        inner_product::ENTRY,
        fall_of_empires::ENTRY,
        sybil::ENTRY,
        gaussian::ENTRY,
        random::ENTRY,
        zero::ENTRY,
        not_a_number::ENTRY,
        infinity::ENTRY,
        alie::ENTRY,
        optimal::INNER_PRODUCT,
        optimal::ALIE,
        mimic::ENTRY,
        slow_drift::ENTRY,
        free_rider::ENTRY,
        label_flip::ENTRY,
        backdoor::ENTRY,
        model_replacement::ENTRY,
        dissensus::ENTRY,
        equivocation::ENTRY,
        false_state::ENTRY,
        wrong_shape::ENTRY,
        forgery::ENTRY,
        replay::ENTRY,
        silence::ENTRY,
        mute::ENTRY,
        odd_spelling::ENTRY,
        contradiction::SEQUENCE,
        contradiction::CLAIMS,
        contradiction::HEADER_FIRST,
        contradiction::FAR_AHEAD,
        junk_gossip::ENTRY,
        recordings::ENTRY,
        false_addresses::ENTRY,
        far_claims::ENTRY,
        flood::ENTRY,
        late::ENTRY,
        half_met::ENTRY,
        foreign_bodies::ENTRY,
        slow_bodies::ENTRY,
    ],
);

/// An attack from the command line's text: `sign-flip`, with its main parameter `sign-flip:10`,
/// with others `backdoor:3,share=0.2` or `model-replacement:target=3`.
///
/// # Errors
/// Every problem with the name or the parameters.
pub fn attack_from_text(text: &str) -> Result<Box<dyn Attack>, Vec<Problem>> {
    let (name, values) = short_form(text);
    let refuse = |what: String| {
        Err(vec![Problem {
            key: "attack".into(),
            line: 0,
            column: 0,
            span: None,
            what,
        }])
    };
    let entry = match ATTACKS.find(name) {
        Ok(entry) => entry,
        Err(what) => return refuse(what),
    };
    let mut source = "[attack]\n".to_owned();
    for (place, (key, value)) in values.enumerate() {
        let key = match (key, entry.main_key) {
            (Some(key), _) => key,
            (None, Some(key)) if place == 0 => key,
            (None, Some(_)) => {
                let expected = "expected KEY=NUMBER after the first comma";
                return refuse(format!("{expected}, found {value:?}"));
            }
            (None, None) => return refuse(format!("{name} takes no parameter, found {value:?}")),
        };
        // An integer stays one, since some keys need that.
        let number = value.parse::<i64>().map(|number| number.to_string());
        let number = number.or_else(|_| value.parse::<f64>().map(|number| format!("{number:?}")));
        let word = || toml::Value::String(value.to_owned()).to_string();
        let value = match number {
            Ok(number) => number,
            Err(_) if place > 0 => word(), // the key's reader reports what it expects
            Err(_) => {
                return refuse(format!(
                    "expected {name}:{}, a number, found {value:?}",
                    key.to_uppercase()
                ));
            }
        };
        source.push_str(&format!(
            "{} = {value}\n",
            toml::Value::String(key.to_owned())
        ));
    }
    let mut document = Document::parse(&source).map_err(|problem| vec![problem])?;
    let attack = document.section("attack", entry.new.build);
    document.finish().map(|_| attack)
}

/// The table's entry that `text` names; `None` if there is no such attack.
pub fn entry_of(text: &str) -> Option<&'static AttackEntry> {
    ATTACKS.get(short_form(text).0)
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
        assert!(told("zero:1").contains("takes no parameter"));
        assert!(told("sign-flip:1,2").contains("KEY=NUMBER"));
        assert!(attack_from_text("backdoor:3,share=.25").is_ok());
        assert!(attack_from_text("backdoor:3,corner=top-left").is_ok());
        assert!(
            told("backdoor:3,corner=middle").contains("top-left")
                && told("backdoor:3,share=half").contains("a number")
        );
        assert!(attack_from_text("model-replacement:target=3").is_ok());
        assert!(attack_from_text("backdoor:3,shear=0.25").is_err());
        assert!(
            attack_from_text("replay:0.5").is_err(),
            "an age is an integer"
        );
    }

    #[test]
    fn every_attack_is_made_from_its_name_alone_and_names_its_source() {
        for entry in &ATTACKS {
            assert!(attack_from_text(entry.name).is_ok(), "{}", entry.name);
            assert!(
                !entry.source.is_empty() && !entry.help.is_empty(),
                "{}",
                entry.name
            );
            assert_eq!(
                ATTACKS
                    .iter()
                    .filter(|other| other.name == entry.name)
                    .count(),
                1,
                "{}",
                entry.name
            );
        }
    }
}
