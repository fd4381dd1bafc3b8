//! `optimal-ipm` and `optimal-alie`: inner-product manipulation and "a little is enough" with the
//! factor that does most harm to the charter's own rule.
//!
//! The harm of a factor is ‖rule(honest rows ∪ f copies of the attack) − mean of the honest rows‖.
//! A line search finds a large one: from 0 in steps of 10 that double while the harm grows, then
//! nearer on both sides of the best in steps that shrink to 0.8, 20 evaluations in all (byzfl's
//! numbers). Harm need not have a single maximum, so the result is a large harm and not the
//! largest.
//!
//! A vector longer than receivers accept does no harm. f is the charter's `byzantine`, at least 1.
//! The honest rows are all that are known, while a receiver sees only its neighbourhood. Without a
//! charter, or if the rule cannot be tried (it needs losses, or more rows), the attack is fitted to
//! the plain mean. Cost: 20 times the rule's.

use std::sync::Arc;

use kith_consensus::aggregate::{Context, Contribution};
use kith_consensus::charter::Space;
use kith_consensus::{Charter, PeerId, Stream};
use kith_gossip::Publication;

use super::alie::moments;
use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const INNER_PRODUCT: AttackEntry = AttackEntry {
    name: "optimal-ipm",
    help: "inner-product manipulation with the factor that harms the charter's rule most",
    source: "Xie, Koyejo and Gupta, UAI 2019; line search as in byzfl",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |_| {
            Box::new(Optimal {
                line: Line::InnerProduct,
                charter: None,
            })
        },
    },
};

pub(super) const ALIE: AttackEntry = AttackEntry {
    name: "optimal-alie",
    help: "\"a little is enough\" with the factor that harms the charter's rule most",
    source: "Baruch, Baruch and Goldberg, NeurIPS 2019; line search as in byzfl",
    main_key: None,
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |_| {
            Box::new(Optimal {
                line: Line::Alie,
                charter: None,
            })
        },
    },
};

/// Evaluations of a search.
const EVALUATIONS: usize = 20;
/// The first step.
const FIRST_STEP: f64 = 10.0;
/// Ratio of each later step to the one before, once harm no longer grows.
const SHRINKING: f64 = 0.8;

/// Longer vectors are refused on receipt.
const LENGTH_MAX: f64 = 1e9;

#[derive(Debug)]
struct Optimal {
    line: Line,
    charter: Option<Arc<Charter>>,
}

/// The line along which the attack searches.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// From the start, against the honest mean.
    InnerProduct,
    /// From the honest mean, against the deviation.
    Alie,
}

impl Attack for Optimal {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let start = scene.view.start.iter().map(|value| f64::from(*value));
        let (means, deviations) = moments(scene);
        let line: Vec<(f64, f64)> = match self.line {
            Line::InnerProduct => start
                .zip(&means)
                .map(|(start, mean)| (start, start - mean))
                .collect(),
            Line::Alie => means
                .iter()
                .zip(deviations)
                .map(|(mean, deviation)| (*mean, -deviation))
                .collect(),
        };
        let at = |factor: f64| -> Vec<f32> {
            line.iter()
                .map(|(from, step)| (from + factor * step) as f32)
                .collect()
        };
        Publication::Same(at(maximize(|factor| self.harm(scene, &means, &at(factor)))))
    }

    fn study(&mut self, charter: &Arc<Charter>) {
        self.charter = Some(Arc::clone(charter));
    }
}

impl Optimal {
    /// How far `vector` drives the rule's result from the honest means.
    fn harm(&self, scene: &Scene<'_>, means: &[f64], vector: &[f32]) -> f64 {
        if vector
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt()
            > LENGTH_MAX
        {
            return 0.0;
        }
        let byzantine = self
            .charter
            .as_ref()
            .map_or(1, |charter| charter.aggregation.byzantine.max(1));
        let ruled = self
            .charter
            .as_ref()
            .and_then(|charter| aggregate(charter, scene, vector, byzantine));
        let result = ruled.unwrap_or_else(|| average(scene, vector, byzantine));
        result
            .iter()
            .zip(means)
            .map(|(value, mean)| (value - mean).powi(2))
            .sum::<f64>()
            .sqrt()
    }
}

/// What the charter's rule makes of the honest rows and `copies` of `vector`, from the first honest
/// peer's view.
fn aggregate(
    charter: &Charter,
    scene: &Scene<'_>,
    vector: &[f32],
    copies: usize,
) -> Option<Vec<f64>> {
    let start = scene.view.start;
    let updates = charter.aggregation.on == Space::Updates;
    let seen = |row: &[f32]| -> Vec<f32> {
        let origin = start.iter().map(|value| if updates { *value } else { 0.0 });
        row.iter()
            .zip(origin)
            .map(|(value, origin)| value - origin)
            .collect()
    };
    let rows: Vec<Vec<f32>> = scene
        .honest
        .iter()
        .map(|(_, row)| *row)
        .chain(std::iter::repeat_n(vector, copies))
        .map(seen)
        .collect();
    let weight = 1.0 / rows.len() as f64;
    let contributions: Vec<Contribution<'_>> = (0u64..)
        .zip(&rows)
        .map(|(number, row)| {
            let mut sender = [0; 32];
            sender[..8].copy_from_slice(&number.to_be_bytes());
            Contribution {
                mixing_weight: weight,
                ..Contribution::of(PeerId(sender), row)
            }
        })
        .collect();
    let context = Context {
        own: Some(0),
        last_aggregate: (!updates).then_some(start),
        round: scene.view.round,
        rounds: charter.rounds,
        seed: charter.genesis.seed(),
        ..Context::offline()
    };
    let result = charter
        .aggregation
        .rule
        .aggregate(&context, &contributions)
        .ok()?
        .parameters;
    let origin = start
        .iter()
        .map(|value| if updates { f64::from(*value) } else { 0.0 });
    Some(
        result
            .iter()
            .zip(origin)
            .map(|(value, origin)| f64::from(*value) + origin)
            .collect(),
    )
}

/// The mean of the honest rows and `copies` of `vector`.
fn average(scene: &Scene<'_>, vector: &[f32], copies: usize) -> Vec<f64> {
    let (honest, copies) = (scene.honest.len() as f64, copies as f64);
    let mean = |(index, value): (usize, &f32)| {
        (honest * scene.mean(index) + copies * f64::from(*value)) / (honest + copies)
    };
    vector.iter().enumerate().map(mean).collect()
}

/// A place at which `harm` is large, not below 0.
fn maximize(harm: impl Fn(f64) -> f64) -> f64 {
    let (mut best, mut most, mut step) = (0.0, harm(0.0), FIRST_STEP);
    let mut left = EVALUATIONS - 1;
    let mut try_at = |factor: f64, best: &mut f64| {
        let found = harm(factor);
        let better = found > most;
        if better {
            (*best, most) = (factor, found);
        }
        better
    };
    while left > 0 {
        left -= 1;
        if !try_at(best + step, &mut best) {
            break;
        }
        step *= 2.0;
    }
    // Inwards and outwards in turn, nearer every time; below 0 there is nothing.
    let mut outwards = true;
    while left > 0 {
        left -= 1;
        step *= SHRINKING;
        let inner = if best > step { best - step } else { 0.5 * best };
        outwards = !outwards || best == 0.0;
        try_at(if outwards { best + step } else { inner }, &mut best);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::attack_from_text;
    use kith_consensus::Seed;
    use kith_consensus::charter::Declared;
    use kith_consensus::section::Section;
    use kith_consensus::topology::Graph;
    use kith_gossip::View;
    use kith_gossip::codec::codec_from_section;

    #[test]
    fn the_search_comes_near_the_maximum_within_its_evaluations() {
        for peak in [0.4, 3.0, 37.0, 900.0] {
            let count = std::cell::Cell::new(0);
            let found = maximize(|factor| {
                count.set(count.get() + 1);
                assert!(factor >= 0.0);
                -(factor - peak).abs()
            });
            assert_eq!(count.get(), EVALUATIONS);
            assert!(
                (found - peak).abs() <= 0.15 * peak + 0.2,
                "{found} where the peak is at {peak}"
            );
        }
    }

    fn charter(rule: &str, on: &str) -> Arc<Charter> {
        let text = format!(
            "[federation]\nname = \"test\"\nrounds = 3\n[topology]\nkind = \"complete\"\n[aggregation]\nrule = \"{rule}\"\n\
             byzantine = 2\non = \"{on}\"\n[codec]\nkind = \"identity\"\n[membership]\nmode = \"open\"\npeers = 12\n"
        );
        let mut codec = |section: &mut Section<'_>, _: &mut Declared| {
            drop(codec_from_section(section));
        };
        Arc::new(Charter::resolve(&text, &mut [("codec", &mut codec)]).expect("a good charter"))
    }

    #[test]
    fn the_fitted_factor_harms_every_rule_about_as_much_as_any_fixed_one() {
        let mut random = Seed::from_number(3).stream("test");
        let start: Vec<f32> = (0..20).map(|_| random.normal() as f32).collect();
        let rows: Vec<Vec<f32>> = (0..10)
            .map(|_| {
                start
                    .iter()
                    .map(|start| start + 0.5 + 0.3 * random.normal() as f32)
                    .collect()
            })
            .collect();
        let honest: Vec<(PeerId, &[f32])> = (0..10)
            .map(|peer| (PeerId([peer; 32]), &rows[usize::from(peer)][..]))
            .collect();
        let (own, graph) = (
            PeerId([99; 32]),
            Graph::new_undirected(1, []).expect("a graph of one"),
        );
        let view = View {
            own,
            round: 0,
            start: &start,
            trained: &rows[0],
            neighbours: &[],
            roster: &[own],
            graph: &graph,
        };
        let scene = Scene {
            view: &view,
            honest: &honest,
            omniscient: true,
        };
        let (means, _) = moments(&scene);
        let rules = [
            "mean",
            "median",
            "trimmed-mean",
            "krum",
            "geometric-median",
            "centered-clipping",
            "nnm+trimmed-mean",
        ];
        for (rule, on) in rules
            .iter()
            .flat_map(|rule| [(rule, "models"), (rule, "updates")])
        {
            let charter = charter(rule, on);
            for (optimal, line, fixed) in [
                ("optimal-ipm", Line::InnerProduct, "ipm"),
                ("optimal-alie", Line::Alie, "alie"),
            ] {
                let judge = Optimal {
                    line,
                    charter: Some(Arc::clone(&charter)),
                };
                let harm = |text: &str| {
                    let mut attack = attack_from_text(text).expect("a listed attack");
                    attack.study(&charter);
                    match attack.publish(&scene, &mut Seed::from_number(0).stream("test")) {
                        Publication::Same(vector) => judge.harm(&scene, &means, &vector),
                        other => panic!("it publishes one vector, not {other:?}"),
                    }
                };
                let found = harm(optimal);
                for factor in [0.25, 0.5, 1.0, 1.5, 3.0, 10.0, 100.0] {
                    let known = harm(&format!("{fixed}:{factor}"));
                    assert!(
                        found >= 0.95 * known,
                        "{rule} on {on}: {optimal} does {found}, {fixed}:{factor} does {known}"
                    );
                }
            }
        }
    }
}
