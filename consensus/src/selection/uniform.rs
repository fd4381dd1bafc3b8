//! `uniform`: as many neighbours as the charter says, drawn anew in each round, each as likely as
//! any other.
//!
//! McMahan et al. 2017 (FedAvg), arXiv 1602.05629, where a server draws a share C of the clients;
//! here every peer draws among its neighbours. The weight of those not drawn is shared among the
//! drawn in proportion to their weights. If these are equal, the result has the expectation of
//! mixing all; if not, heavy neighbours count somewhat less on average than they would. W is no
//! longer doubly stochastic in a single round, so the mean of all models moves a little. Cost: O(n)
//! a round.
//!
//! Protects against nothing: a liar is drawn as often as anybody. It draws from all neighbours of
//! the graph, present or not, so that anybody can repeat it; a drawn peer that is away is an absent
//! contribution.

use std::sync::Arc;

use super::{Candidate, Selection, SelectionEntry, draw, ratio};
use crate::random::Stream;
use crate::section::Section;

pub(super) const ENTRY: SelectionEntry = SelectionEntry {
    name: "uniform",
    help: "a share of the neighbours or a count of them, drawn anew each round from seed, round and peer id, keys share, count",
    source: "McMahan et al. 2017, arXiv 1602.05629",
    main_key: None,
    new,
};

fn new(section: &mut Section<'_>) -> Arc<dyn Selection> {
    if !section.has("count") {
        // A guess: half the waiting, and still fast mixing.
        return Arc::new(Uniform::Share(section.number(
            "share",
            Some(0.5),
            1e-6..=1.0,
        )));
    }
    if section.has("share") {
        section.number("share", None, 1e-6..=1.0);
        section.note("share", "expected either share, a part of the neighbours, or count, a number of them; both are given");
    }
    Arc::new(Uniform::Count(
        section.integer("count", None, 1..=1_000_000) as usize,
    ))
}

#[derive(Debug)]
enum Uniform {
    Share(f64),
    Count(usize),
}

impl Selection for Uniform {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn awaits(&self, candidates: &[Candidate], _least: usize, random: &mut Stream) -> Vec<usize> {
        draw(self.mixed_of(candidates.len()), candidates.len(), random)
    }

    /// A share is rounded up, except for what rounding adds in the last bits of the product.
    fn mixed_of(&self, neighbours: usize) -> usize {
        match self {
            Uniform::Share(share) => ((share * neighbours as f64 - 1e-9).ceil() as usize)
                .clamp(neighbours.min(1), neighbours),
            Uniform::Count(count) => (*count).min(neighbours),
        }
    }

    fn factor(&self, all: &[f64], awaited: &[f64], _mixed: &[f64]) -> f64 {
        ratio(all, awaited)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::super::{Candidate, stream};
    use crate::identity::PeerId;

    #[test]
    fn each_neighbour_is_drawn_equally_often_and_the_draw_can_be_repeated() {
        let (neighbours, rounds) = (10, 6000);
        let candidates = vec![Candidate::default(); neighbours];
        for (keys, drawn) in [("share = 0.25", 3), ("count = 4", 4)] {
            let kind = read(&format!("selection = \"uniform\"\n{keys}")).unwrap();
            let own = PeerId([3; 32]);
            let draw =
                |round, own: &PeerId| kind.awaits(&candidates, 1, &mut stream(5, round, own));
            let (mut times, mut together) = (vec![0.0; neighbours], 0.0);
            for round in 0..rounds {
                let places = draw(round, &own);
                assert_eq!(places.len(), drawn);
                together += f64::from(u8::from(places.contains(&0) && places.contains(&1)));
                places.into_iter().for_each(|place| times[place] += 1.0);
            }
            let (of, draws) = (neighbours as f64, rounds as f64);
            let expected = draws * drawn as f64 / of;
            // Five standard deviations of a binomial count.
            let within = |times: f64, expected: f64| {
                (times - expected).abs() < 5.0 * (expected * (1.0 - expected / draws)).sqrt()
            };
            assert!(
                times.iter().all(|times| within(*times, expected)),
                "{keys}: {times:?}, expected {expected}"
            );
            let pairs = draws * (drawn * (drawn - 1)) as f64 / (of * (of - 1.0));
            assert!(
                within(together, pairs),
                "{keys}: {together} times together, expected {pairs}"
            );
            assert_eq!(draw(7, &own), draw(7, &own));
            assert!(
                (0..20).any(|round| draw(round, &own) != draw(round, &PeerId([4; 32]))),
                "every peer draws for itself"
            );
        }
    }

    #[test]
    fn a_draw_never_changes() {
        let kind = read("selection = \"uniform\"\ncount = 3").unwrap();
        let draw = |round| {
            kind.awaits(
                &[Candidate::default(); 9],
                1,
                &mut stream(0, round, &PeerId([1; 32])),
            )
        };
        assert_eq!(
            [draw(0), draw(1), draw(2)],
            [[0, 1, 8], [1, 5, 6], [2, 3, 7]],
            "changing it breaks running federations"
        );
    }

    #[test]
    fn a_share_is_rounded_up_a_count_is_at_most_all_and_both_are_too_much() {
        let share = read("selection = \"uniform\"\nshare = 0.3").unwrap();
        assert_eq!(
            [0, 1, 2, 3, 4, 10].map(|neighbours| share.mixed_of(neighbours)),
            [0, 1, 1, 1, 2, 3]
        );
        let tenth = read("selection = \"uniform\"\nshare = 0.1").unwrap();
        assert_eq!(
            tenth.mixed_of(30),
            3,
            "0.1 times 30 is a little more than 3"
        );
        let count = read("selection = \"uniform\"\ncount = 3").unwrap();
        assert_eq!(
            [0, 2, 3, 9].map(|neighbours| count.mixed_of(neighbours)),
            [0, 2, 3, 3]
        );
        let told = read("selection = \"uniform\"\ncount = 3\nshare = 0.5").expect_err("refused");
        assert!(
            told[0].to_string().contains("expected either share"),
            "{}",
            told[0]
        );
        assert!((share.factor(&[0.1, 0.2, 0.3], &[0.2], &[]) - 3.0).abs() < 1e-12);
    }
}
