//! `deadline`: rounds do not wait for a neighbour whose last update came late, except once every
//! `fairness` rounds.
//!
//! After Nishio and Yonetani 2019 (FedCS), arXiv 1804.08333, where a server asks for resources and
//! leaves out clients that would delay the round. Here nobody is asked: a neighbour counts by when
//! its newest update came, as a share of the deadline counted from the end of the peer's own
//! training. A neighbour that came later than `late`, or missed the deadline, is awaited again
//! `fairness` rounds after it was last awaited. A neighbour that is not awaited and comes in time
//! is mixed anyway. One that does not come leaves its weight to the peer's own model, as an absent
//! peer always does. So a slow peer's rows count less, but they do count: with unlike rows the
//! result leans towards the fast.
//!
//! The quickest are awaited in any case, as many as the rule needs. `round.patience` has no part in
//! it: a neighbour that is silent for good costs one deadline every `fairness` rounds. Cost: O(n
//! log n). A liar is as quick as it likes.

use std::sync::Arc;

use super::{Candidate, Selection, SelectionEntry};
use crate::random::Stream;
use crate::section::Section;

pub(super) const ENTRY: SelectionEntry = SelectionEntry {
    name: "deadline",
    help: "all but late neighbours, each of those again after some rounds, keys late, fairness",
    source: "after Nishio and Yonetani 2019 (FedCS), arXiv 1804.08333",
    main_key: None,
    new: |section: &mut Section<'_>| {
        Arc::new(InTime {
            late: section.number("late", Some(0.5), 0.0..=1.0), // guess
            // Guess: a fifth of the rounds at a slow peer's pace.
            fairness: section.integer("fairness", Some(5), 1..=1_000_000),
        })
    },
};

#[derive(Debug)]
struct InTime {
    late: f64,
    fairness: u64,
}

impl Selection for InTime {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn awaits(&self, candidates: &[Candidate], least: usize, _random: &mut Stream) -> Vec<usize> {
        let lateness =
            |place: &usize| match (candidates[*place].missed, candidates[*place].lateness) {
                (0, lateness) => lateness.unwrap_or(0.0),
                (_, lateness) => lateness.unwrap_or(1.0).max(1.0),
            };
        let due = |place: &usize| {
            candidates[*place]
                .since
                .is_none_or(|since| since >= self.fairness)
        };
        let there: Vec<usize> = (0..candidates.len())
            .filter(|place| !candidates[*place].away)
            .collect();
        let (mut awaited, mut others): (Vec<usize>, Vec<usize>) = there
            .into_iter()
            .partition(|place| lateness(place) <= self.late || due(place));
        others.sort_by(|a, b| lateness(a).total_cmp(&lateness(b)));
        awaited.extend(others.into_iter().take(least.saturating_sub(awaited.len())));
        awaited.sort_unstable();
        awaited
    }

    fn takes_others(&self) -> bool {
        true
    }

    fn is_patient(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::super::{Candidate, stream};
    use crate::identity::PeerId;

    #[test]
    fn who_came_late_is_left_out_until_it_is_due_and_the_quickest_fill_up_what_the_rule_needs() {
        let kind = read("selection = \"deadline\"\nlate = 0.5\nfairness = 4").unwrap();
        let awaits = |candidates: &[Candidate], least| {
            kind.awaits(candidates, least, &mut stream(0, 0, &PeerId([1; 32])))
        };
        let seen = |lateness: f64, since: u64| Candidate {
            lateness: Some(lateness),
            since: Some(since),
            ..Candidate::default()
        };
        let candidates = [
            seen(0.1, 1),
            seen(0.9, 3),
            seen(0.9, 4),
            Candidate {
                missed: 1,
                ..seen(0.2, 2)
            },
            Candidate {
                away: true,
                ..seen(0.0, 9)
            },
            Candidate::default(),
            seen(0.6, 1),
        ];
        assert_eq!(
            awaits(&candidates, 1),
            [0, 2, 5],
            "the quick peers, those that are due, and those that are not known yet"
        );
        assert_eq!(
            awaits(&candidates, 5),
            [0, 1, 2, 5, 6],
            "then the quickest of the late"
        );
        assert_eq!(
            awaits(&candidates, 9),
            [0, 1, 2, 3, 5, 6],
            "nobody waits for a peer that is away"
        );
    }

    #[test]
    fn everybody_is_awaited_at_least_every_so_many_rounds() {
        let kind = read("selection = \"deadline\"\nfairness = 3").unwrap();
        let mut slow = Candidate {
            missed: 5,
            lateness: Some(7.0),
            since: None,
            ..Candidate::default()
        };
        let mut awaited = Vec::new();
        for round in 0..10 {
            if kind
                .awaits(
                    &[slow, Candidate::default()],
                    1,
                    &mut stream(0, round, &PeerId([1; 32])),
                )
                .contains(&0)
            {
                awaited.push(round);
                slow.since = Some(0);
            }
            slow.since = slow.since.map(|since| since + 1);
        }
        assert_eq!(awaited, [0, 3, 6, 9]);
    }
}
