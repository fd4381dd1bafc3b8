//! `alie`: "a little is enough": mean − z · standard deviation of what honest peers send, per
//! coordinate (ddof 1).
//!
//! Assumes that honest values scatter like a normal distribution, and that the liars send the same.
//! With z = 0 it takes the largest z that still hides, [`cover`]: n is the size of its own
//! neighbourhood, f the charter's number of liars there. For small neighbourhoods with few liars z
//! is 0 or less, and the attack can only send the mean.
//!
//! On the digits, dealt evenly, two of nine with z = 1.5 cost a plain mean a point; dealt unevenly,
//! three with z = 10 take it from 0.93 to 0.7 and below (measured, like
//! `simulations/tests/attacks.rs`).

use std::sync::Arc;

use kith_consensus::{Charter, Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "alie",
    help: "publishes the honest mean minus `z` standard deviations: small enough to hide; 0 takes the largest z that hides",
    source: "Baruch, Baruch and Goldberg, NeurIPS 2019",
    main_key: Some("z"),
    // 1.5: byzfl's default.
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Alie {
                z: section.number("z", Some(1.5), -100.0..=100.0),
                byzantine: 1,
            })
        },
    },
};

#[derive(Debug)]
struct Alie {
    z: f64,
    /// Liars in a neighbourhood, itself among them.
    byzantine: usize,
}

impl Attack for Alie {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let z = if self.z == 0.0 {
            self.hiding(scene)
        } else {
            self.z
        };
        let (means, deviations) = moments(scene);
        Publication::Same(
            means
                .iter()
                .zip(deviations)
                .map(|(mean, deviation)| (mean - z * deviation) as f32)
                .collect(),
        )
    }

    fn study(&mut self, charter: &Arc<Charter>) {
        self.byzantine = charter.aggregation.byzantine.max(1);
    }
}

impl Alie {
    /// The largest z that hides in its own neighbourhood, at least 0.
    fn hiding(&self, scene: &Scene<'_>) -> f64 {
        let own = scene.view.roster.binary_search(&scene.view.own);
        let peers = own.map_or(1, |own| scene.view.graph.receives_from(own).len() + 1);
        deviation_bound(peers, self.byzantine).map_or(0.0, |bound| bound.z.max(0.0))
    }
}

/// Mean and sample standard deviation (0 for a single row) of the honest rows, per coordinate.
pub(super) fn moments(scene: &Scene<'_>) -> (Vec<f64>, Vec<f64>) {
    let count = scene.honest.len();
    let moments = (0..scene.view.trained.len()).map(|index| {
        let mean = scene.mean(index);
        let squares: f64 = scene
            .honest
            .iter()
            .map(|(_, row)| (f64::from(row[index]) - mean).powi(2))
            .sum();
        (
            mean,
            if count > 1 {
                (squares / (count - 1) as f64).sqrt()
            } else {
                0.0
            },
        )
    });
    moments.unzip()
}

/// How far liars may be from the mean among a number of peers and still look like one of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviationBound {
    /// Honest peers that must be further out, so that the liars with them are a majority.
    pub supporters: usize,
    /// The share of honest peers that is nearer to the mean.
    pub share: f64,
    /// Where that share of a normal distribution lies, in standard deviations. Negative if less
    /// than half is nearer.
    pub z: f64,
}

/// The bound that `byzantine` of `peers` have: s = ⌊n/2 + 1⌋ − f supporters, Φ(z) = (n − f − s) /
/// (n − f). `None` if the liars are a majority themselves, so that nothing bounds z, or if every
/// honest peer would have to support them.
pub fn deviation_bound(peers: usize, byzantine: usize) -> Option<DeviationBound> {
    let supporters = (peers / 2 + 1)
        .checked_sub(byzantine)
        .filter(|supporters| *supporters > 0)?;
    let honest = peers - byzantine;
    let share = honest.checked_sub(supporters)? as f64 / honest as f64;
    (share > 0.0).then(|| DeviationBound {
        supporters,
        share,
        z: normal_quantile(share),
    })
}

/// Where the share `probability` of a standard normal distribution lies, to 1e-12 for shares up to
/// 1 − 1e-12: bisection of Φ(x) = ½ + φ(x) · (x + x³/3 + x⁵/(3·5) + …), all of whose terms are
/// positive.
fn normal_quantile(probability: f64) -> f64 {
    if probability < 0.5 {
        return -normal_quantile(1.0 - probability);
    }
    let distribution = |x: f64| {
        let (mut term, mut sum, mut odd) = (x, 0.0, 1.0);
        while sum + term != sum {
            sum += term;
            odd += 2.0;
            term *= x * x / odd;
        }
        0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    };
    let (mut low, mut high) = (0.0, 8.0); // beyond lie 1e-15 of it
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if distribution(middle) < probability {
            low = middle
        } else {
            high = middle
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        // Tables of the normal distribution, as every textbook has them.
        let known = [
            (0.975, 1.959963984540054),
            (0.99, 2.3263478740408408),
            (0.999, 3.090232306167813),
            (0.5, 0.0),
        ];
        for (probability, quantile) in known {
            assert!(
                (normal_quantile(probability) - quantile).abs() < 1e-12,
                "{probability}"
            );
            assert!(
                (normal_quantile(1.0 - probability) + quantile).abs() < 1e-12,
                "1 − {probability}"
            );
        }
    }

    #[test]
    fn a_majority_of_liars_has_no_bound() {
        assert_eq!(deviation_bound(4, 3), None);
        assert_eq!(deviation_bound(1, 1), None);
        assert_eq!(
            deviation_bound(2, 1),
            None,
            "the only honest peer would have to support it"
        );
        assert!(
            deviation_bound(6, 1).is_some_and(|bound| bound.z < 0.0),
            "one liar among six cannot hide at all"
        );
    }
}
