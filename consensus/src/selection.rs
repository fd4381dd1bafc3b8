//! Whose updates a round waits for and mixes, among the neighbours that the graph gives.
//!
//! The receiver chooses: the graph and the messages stay the same, so every update still reaches
//! every neighbour and every replica, and the peer's own model always counts. [`SELECTIONS`] lists
//! the kinds, a charter's `[round]` names one ([`selection`]). A [`Selection`] is a pure function
//! of what is known about each neighbour ([`Candidate`]) and of a [`Stream`] that follows from
//! charter, round and the choosing peer, so that anybody can repeat a draw ([`stream`]). For the
//! same reason a draw hides nothing: anyone with the charter knows beforehand which peers will be
//! drawn.
//!
//! Not here: the window, patience and weights of a round (the peer), and the rule.

mod all;
mod deadline;
mod power_of_choice;
mod uniform;

use std::sync::Arc;

use crate::identity::PeerId;
use crate::random::{Seed, Stream};
use crate::registry::{Entry, Registry};
use crate::section::Section;

/// What is known about a neighbour. Candidates are in the order of their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// The training loss that it claims for this round, once its update is here. A claim: a liar
    /// may claim anything.
    pub loss: Option<f64>,
    /// Deadlines missed in a row, of rounds that waited for it.
    pub missed: u64,
    /// When its newest update came, as a share of the deadline of the round that it was for: 0 if
    /// it was there first, above 1 if it came too late. `None` if nothing has come yet.
    pub lateness: Option<f64>,
    /// Rounds since a round last waited for it, 1 for the last round; `None` if none has.
    pub since: Option<u64>,
    /// Whether it can no longer come: it has left or was expelled.
    pub away: bool,
}

/// A way of choosing.
pub trait Selection: std::fmt::Debug + Send + Sync {
    /// The name under which a charter asks for it.
    fn name(&self) -> &'static str;

    /// Whom a round waits for: places in `candidates`, ascending. `least` is the fewest that its
    /// rule needs.
    fn awaits(&self, candidates: &[Candidate], least: usize, random: &mut Stream) -> Vec<usize>;

    /// Whether the update of a neighbour that the round does not wait for is mixed if it comes in
    /// time.
    fn takes_others(&self) -> bool {
        false
    }

    /// Of the candidates that have come when the round closes, those that are mixed: places in
    /// `come`, ascending.
    fn mixes(&self, come: &[Candidate]) -> Vec<usize> {
        (0..come.len()).collect()
    }

    /// How many of `neighbours` neighbours are mixed if all awaited ones come.
    fn mixed_of(&self, neighbours: usize) -> usize {
        neighbours
    }

    /// Factor of the mixing weights of the mixed neighbours, so that they share the weight of those
    /// not chosen. A chosen peer that has not come leaves its weight to the receiver's own model.
    /// The arguments are the weights of all neighbours, of the awaited, and of the mixed.
    fn factor(&self, _all: &[f64], _awaited: &[f64], _mixed: &[f64]) -> f64 {
        1.0
    }

    /// Whether it looks at losses, so that announcements must carry them.
    fn needs_losses(&self) -> bool {
        false
    }

    /// Whether it decides itself how long to wait for late peers, in place of `round.patience`.
    fn is_patient(&self) -> bool {
        false
    }

    /// Whether every neighbour is chosen in every round.
    fn is_everyone(&self) -> bool {
        false
    }
}

/// Reads a selection's keys and builds it.
pub type NewSelection = fn(&mut Section<'_>) -> Arc<dyn Selection>;

/// A selection in the table; `new` reads its keys of `[round]`.
pub type SelectionEntry = Entry<NewSelection>;

/// Every kind there is.
pub static SELECTIONS: Registry<NewSelection> = Registry::new(
    "selection",
    &[
        all::ENTRY,
        uniform::ENTRY,
        power_of_choice::ENTRY,
        deadline::ENTRY,
    ],
);

/// Reads key `selection` and those of the kind it names.
pub fn selection(section: &mut Section<'_>) -> Arc<dyn Selection> {
    let entry = SELECTIONS.choose(section, "selection", Some(all::ENTRY.name));
    (entry.unwrap_or(&SELECTIONS[0]).new)(section)
}

/// The stream from which `peer` draws in `round` under a charter with this seed.
pub fn stream(seed: u64, round: u64, peer: &PeerId) -> Stream {
    Stream::derive(
        "kith.v1 selection",
        &Seed::from_number(seed).child(&peer.to_string()),
        round,
        0,
        0,
    )
}

/// `count` of `0..of`, each as likely as any other, ascending (the first `count` steps of
/// Fisher–Yates).
fn draw(count: usize, of: usize, random: &mut Stream) -> Vec<usize> {
    let mut places: Vec<usize> = (0..of).collect();
    let count = count.min(of);
    for place in 0..count {
        let other = place + random.bounded((of - place) as u64) as usize;
        places.swap(place, other);
    }
    places.truncate(count);
    places.sort_unstable();
    places
}

/// `numerator / denominator` of two sums of weights; 1 if there is nothing to share or nobody to
/// share it among.
fn ratio(numerator: &[f64], denominator: &[f64]) -> f64 {
    let (above, below): (f64, f64) = (numerator.iter().sum(), denominator.iter().sum());
    if above > 0.0 && below > 0.0 {
        above / below
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::{Document, Problem};

    pub(super) fn read(keys: &str) -> Result<Arc<dyn Selection>, Vec<Problem>> {
        let mut document = Document::parse(&format!("[round]\n{keys}")).unwrap();
        let read = document.section("round", selection);
        document.finish().map(|_| read)
    }

    /// Every entry with its defaults.
    fn each() -> impl Iterator<Item = Arc<dyn Selection>> {
        SELECTIONS
            .iter()
            .map(|entry| read(&format!("selection = {:?}", entry.name)).expect("defaults are good"))
    }

    #[test]
    fn every_kind_waits_for_some_of_those_there_are_and_says_how_many_it_mixes() {
        for kind in each() {
            for count in 0..12 {
                let candidates = vec![
                    Candidate {
                        loss: Some(1.0),
                        ..Candidate::default()
                    };
                    count
                ];
                let awaited = kind.awaits(&candidates, 1, &mut stream(1, 2, &PeerId([7; 32])));
                assert!(
                    awaited.windows(2).all(|pair| pair[0] < pair[1]),
                    "{} {count}",
                    kind.name()
                );
                assert!(
                    awaited.iter().all(|place| *place < count),
                    "{} {count}",
                    kind.name()
                );
                assert!(!awaited.is_empty() || count == 0, "{} {count}", kind.name());
                let mixed = kind.mixes(&vec![
                    candidates.first().copied().unwrap_or_default();
                    awaited.len()
                ]);
                assert_eq!(mixed.len(), kind.mixed_of(count), "{} {count}", kind.name());
                assert!(mixed.iter().all(|place| *place < awaited.len()));
            }
            assert!(kind.is_everyone() == (kind.name() == "all"));
        }
    }

    #[test]
    fn equal_weights_sum_to_what_they_summed_to_before_and_who_does_not_come_leaves_its_share() {
        for kind in each().filter(|kind| !kind.takes_others() && !kind.is_everyone()) {
            let all = [0.1; 6];
            let awaited = kind
                .awaits(
                    &[Candidate::default(); 6],
                    1,
                    &mut stream(1, 2, &PeerId([7; 32])),
                )
                .len();
            let mixed = kind.mixed_of(6);
            let sum =
                |came: usize| kind.factor(&all, &all[..awaited], &all[..came]) * 0.1 * came as f64;
            assert!(
                (sum(mixed) - 0.6).abs() < 1e-12,
                "{}: {}",
                kind.name(),
                sum(mixed)
            );
            let share = (mixed - 1) as f64 / mixed as f64;
            assert!(
                (sum(mixed - 1) - 0.6 * share).abs() < 1e-12,
                "{}: {}",
                kind.name(),
                sum(mixed - 1)
            );
            assert!(kind.factor(&all, &all[..awaited], &[]).is_finite());
        }
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones_and_keys_of_another_kind_are_refused() {
        let told = |keys: &str| read(keys).expect_err("refused")[0].to_string();
        assert!(
            told("selection = \"unifrom\"").contains("did you mean \"uniform\"?"),
            "{}",
            told("selection = \"unifrom\"")
        );
        assert!(told("share = 0.5").contains("unknown key"));
        assert!(told("selection = \"uniform\"\nfairness = 3").contains("unknown key"));
    }
}
