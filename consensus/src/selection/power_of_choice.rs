//! `power-of-choice`: of d neighbours drawn at random, the k whose announced training loss is
//! highest.
//!
//! Cho, Wang and Joshi 2022, arXiv 2010.01243: the peer that the common model fits worst moves it
//! most, so learning is faster at first. The larger d is against k, the more the end result is
//! biased towards peers with a high loss. There a server asks d clients for the loss of the common
//! model; here each update announces the loss of its own training, as in the paper's cheaper
//! variants. The d are drawn from charter, round and the receiver's id, and awaited. When the round
//! closes, the k highest of those that came are mixed, ties to the lower id. The weight of the
//! others is shared among the k in proportion to their weights. Cost: O(n + d log d).
//!
//! A loss is a claim that nobody can check: a liar claims a high one and is mixed whenever it is
//! drawn, which makes it stronger than under `all`. Combine it with a robust rule whose `byzantine`
//! is meant for the k + 1 models that are mixed.

use std::sync::Arc;

use super::{Candidate, Selection, SelectionEntry, draw, ratio};
use crate::random::Stream;
use crate::section::Section;

pub(super) const ENTRY: SelectionEntry = SelectionEntry {
    name: "power-of-choice",
    help: "of some drawn neighbours those that claim the highest training loss, keys candidates, selected",
    source: "Cho et al. 2022, arXiv 2010.01243",
    main_key: None,
    new,
};

fn new(section: &mut Section<'_>) -> Arc<dyn Selection> {
    // Guesses in the paper's spirit, which finds d of two to five times k worth its bias.
    let candidates = section.integer("candidates", Some(4), 1..=1_000_000) as usize;
    let selected = section.integer("selected", Some(2), 1..=1_000_000) as usize;
    if selected > candidates {
        section
            .note("selected", format!("{selected} of {candidates} candidates cannot be selected; expected at most {candidates}"));
    }
    Arc::new(PowerOfChoice {
        candidates,
        selected,
    })
}

#[derive(Debug)]
struct PowerOfChoice {
    candidates: usize,
    selected: usize,
}

impl Selection for PowerOfChoice {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn awaits(&self, candidates: &[Candidate], _least: usize, random: &mut Stream) -> Vec<usize> {
        draw(self.candidates, candidates.len(), random)
    }

    fn mixes(&self, come: &[Candidate]) -> Vec<usize> {
        let loss = |place: &usize| come[*place].loss.unwrap_or(f64::NEG_INFINITY);
        let mut places: Vec<usize> = (0..come.len()).collect();
        places.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
        places.truncate(self.selected);
        places.sort_unstable();
        places
    }

    fn mixed_of(&self, neighbours: usize) -> usize {
        self.selected.min(neighbours)
    }

    fn factor(&self, all: &[f64], _awaited: &[f64], mixed: &[f64]) -> f64 {
        if mixed.is_empty() {
            1.0
        } else {
            ratio(all, mixed) * mixed.len() as f64 / self.mixed_of(all.len()) as f64
        }
    }

    fn needs_losses(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::super::{Candidate, stream};
    use crate::identity::PeerId;

    fn claims(losses: &[f64]) -> Vec<Candidate> {
        losses
            .iter()
            .map(|loss| Candidate {
                loss: Some(*loss),
                ..Candidate::default()
            })
            .collect()
    }

    #[test]
    fn the_highest_losses_are_mixed_and_ties_go_to_the_lower_id() {
        let kind = read("selection = \"power-of-choice\"\ncandidates = 5\nselected = 2").unwrap();
        assert_eq!(kind.mixes(&claims(&[0.3, 0.9, 0.1, 0.9, 2.0])), [1, 4]);
        assert_eq!(kind.mixes(&claims(&[1.0, 1.0, 1.0])), [0, 1]);
        assert_eq!(kind.mixes(&claims(&[0.5])), [0]);
        assert_eq!(kind.mixes(&claims(&[-1.0, -3.0, -2.0])), [0, 2]);
        let mut silent = claims(&[-5.0, 0.0]);
        silent[1].loss = None;
        assert_eq!(
            kind.mixes(&[silent[1], silent[0], silent[1]]),
            [0, 1],
            "who tells nothing comes last"
        );
        assert_eq!(
            kind.awaits(&claims(&[0.0; 9]), 1, &mut stream(0, 0, &PeerId([1; 32])))
                .len(),
            5
        );
    }

    #[test]
    fn more_cannot_be_selected_than_are_candidates() {
        let told = read("selection = \"power-of-choice\"\ncandidates = 2\nselected = 3")
            .expect_err("refused");
        assert!(
            told[0].to_string().contains("expected at most 2"),
            "{}",
            told[0]
        );
    }
}
