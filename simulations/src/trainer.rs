//! Trainers whose optimum is known, for worlds that test the protocol or an algorithm's arithmetic.
//!
//! Each peer has a smooth strongly convex objective; the federation's is the mean of the honest
//! peers' objectives, and [`Family::draw`] returns where it is least. So an algorithm's result can
//! be compared with the true optimum, without a data set.

use std::sync::Arc;

use kith_consensus::registry::{Entry, Registry};
use kith_consensus::{Section, Seed, Stream};
use kith_models::{Request, Trained};

use crate::simulator::Local;

mod logistic;
mod quadratic;

/// Reads the keys of a kind and builds it.
pub type NewFamily = fn(&mut Section<'_>) -> Arc<dyn Family>;

/// A kind of objective in the table; `new` reads its keys.
pub type TrainerEntry = Entry<NewFamily>;

/// Every kind of objective with a known optimum.
pub static TRAINERS: Registry<NewFamily> =
    Registry::new("trainer", &[quadratic::ENTRY, logistic::ENTRY]);

/// Objectives for any number of peers.
pub trait Family: std::fmt::Debug + Send + Sync {
    /// Values of the vector that is learned.
    fn dimension(&self) -> usize;

    /// The objective of each peer, and the point at which the mean over honest peers is least.
    ///
    /// # Panics
    /// When everybody lies.
    fn draw(&self, lies: &[bool], seed: &Seed) -> (Vec<Arc<dyn Objective>>, Vec<f64>);

    /// The values between which every coordinate of an honest model stays if it starts at zero and
    /// descends with steps of `learning_rate`. `None` if the objectives give no such bounds.
    fn hull(&self, _learning_rate: f64, _lies: &[bool], _seed: &Seed) -> Option<(f32, f32)> {
        None
    }
}

/// One peer's objective.
pub trait Objective: Send + Sync {
    /// Writes its gradient at `at`; returns its value there.
    fn gradient(&self, at: &[f64], gradient: &mut [f64]) -> f64;
}

/// The section `[world.trainer]`: which objective, and how a round of local training goes.
#[derive(Clone, Debug)]
pub struct TrainerSection {
    /// The kind of objective, with its parameters.
    pub family: Arc<dyn Family>,
    /// Step size η of local gradient descent in round 0.
    pub learning_rate: f64,
    /// Factor of the step size from round to round, in (0, 1].
    pub learning_rate_decay: f64,
    /// Local steps of a round.
    pub local_steps: u64,
    /// Standard deviation of Gaussian noise on every coordinate of every gradient; 0 is the exact
    /// gradient.
    pub noise: f64,
}

impl TrainerSection {
    /// Reads the section. Problems are noted in it.
    pub fn read(section: &mut Section<'_>) -> TrainerSection {
        let kind = section.text("kind", None);
        let entry = TRAINERS.find(&kind);
        if let Err(what) = &entry
            && !kind.is_empty()
        {
            let beside = "without [world.trainer] the charter's model is trained";
            section.note("kind", format!("{what}; {beside}"));
        }
        let family = (entry.unwrap_or(&TRAINERS[0]).new)(section);
        TrainerSection {
            family,
            // The reference cases' value.
            learning_rate: section.number("learning_rate", Some(0.1), 1e-9..=1e3),
            // A constant step, theirs too.
            learning_rate_decay: section.number("learning_rate_decay", Some(1.0), 1e-9..=1.0),
            local_steps: section.integer("local_steps", Some(1), 1..=1_000_000),
            noise: section.number("noise", Some(0.0), 0.0..=1e6),
        }
    }
}

impl TrainerSection {
    /// See [`Family::hull`]; `None` if gradients are noisy.
    pub fn hull(&self, lies: &[bool], seed: &Seed) -> Option<(f32, f32)> {
        if self.noise > 0.0 {
            None
        } else {
            self.family.hull(self.learning_rate, lies, seed)
        }
    }

    /// The step size η · `learning_rate_decay`^k of round k.
    fn rate(&self, round: u64) -> f64 {
        // By squaring: the same bits on every machine, which powf does not guarantee.
        let (mut rate, mut factor, mut exponent) =
            (self.learning_rate, self.learning_rate_decay, round);
        while exponent > 0 {
            if exponent % 2 == 1 {
                rate *= factor;
            }
            factor *= factor;
            exponent /= 2;
        }
        rate
    }
}

/// A peer's objective with the way it descends.
pub struct Descent {
    section: TrainerSection,
    objective: Arc<dyn Objective>,
    seed: Seed,
}

impl Descent {
    /// Descends `objective` as the section says; `seed` is the noise's.
    pub fn new(section: &TrainerSection, objective: Arc<dyn Objective>, seed: Seed) -> Descent {
        Descent {
            section: section.clone(),
            objective,
            seed,
        }
    }
}

impl Local for Descent {
    fn train(&self, request: &Request<'_>) -> Result<Trained, String> {
        self.train_again(request, 0)
    }

    fn train_again(&self, request: &Request<'_>, life: u32) -> Result<Trained, String> {
        let TrainerSection {
            local_steps, noise, ..
        } = self.section;
        let rate = self.section.rate(request.round);
        let mut at: Vec<f64> = request
            .start
            .iter()
            .map(|value| f64::from(*value))
            .collect();
        let mut gradient = vec![0.0; at.len()];
        let mut random = (noise > 0.0).then(|| {
            Stream::derive(
                "kith.v1 gradient noise",
                &self.seed,
                request.round,
                u64::from(life),
                0,
            )
        });
        let mut loss = 0.0;
        for _ in 0..local_steps {
            loss += self.objective.gradient(&at, &mut gradient);
            if let Some(random) = &mut random {
                gradient
                    .iter_mut()
                    .for_each(|value| *value += noise * random.normal());
            }
            for (index, value) in at.iter_mut().enumerate() {
                let correction = request
                    .correction
                    .map_or(0.0, |correction| f64::from(correction[index]));
                *value -= rate * (gradient[index] + correction);
            }
        }
        if !at.iter().all(|value| (*value as f32).is_finite()) {
            return Err(format!(
                "the descent diverged in round {}; lower world.trainer.learning_rate",
                request.round
            ));
        }
        Ok(Trained {
            parameters: at.into_iter().map(|value| value as f32).collect(),
            samples: 1,
            local_steps,
            loss: loss / local_steps as f64,
            rate,
            memory: None,
        })
    }

    fn steps(&self) -> u64 {
        self.section.local_steps
    }

    fn loss(&self, parameters: &[f32]) -> Option<f64> {
        let at: Vec<f64> = parameters.iter().map(|value| f64::from(*value)).collect();
        Some(self.objective.gradient(&at, &mut vec![0.0; at.len()]))
    }

    fn evaluate(&self, _: &[f32]) -> Option<(f64, f64, u64)> {
        None // the optimum is known, and the world measures the distance to it
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::section::Document;

    #[test]
    fn with_decay_round_zero_puts_a_peer_at_its_place_and_later_rounds_leave_it_where_it_is() {
        let text = "[trainer]\nkind = \"quadratic\"\ncurvature_min = 1.0\ncurvature_max = 1.0\nlearning_rate = 1.0\n\
                    learning_rate_decay = 1e-9\n";
        let mut document = Document::parse(text).expect("toml");
        let section = document.section("trainer", TrainerSection::read);
        document.finish().expect("known keys");
        let (objectives, place) = section.family.draw(&[false], &Seed::from_number(3));
        let descent = Descent::new(&section, objectives[0].clone(), Seed::from_number(4));
        let train = |round, start: &[f32]| {
            descent
                .train(&Request::new(start, round))
                .expect("it converges")
        };
        let place: Vec<f32> = place.iter().map(|value| *value as f32).collect();
        let first = train(0, &vec![0.0; place.len()]);
        assert_eq!((first.parameters, first.rate), (place.clone(), 1.0));
        let elsewhere: Vec<f32> = place.iter().map(|value| value + 1.0).collect();
        let later = train(3, &elsewhere);
        assert_eq!(later.parameters, elsewhere);
        assert!((later.rate / 1e-27 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_mean_gradient_is_zero_at_every_family_s_optimum_and_a_difference_quotient_elsewhere() {
        for entry in &TRAINERS {
            let family = Document::parse("")
                .expect("toml")
                .section("trainer", entry.new);
            // Two of seven peers lie: their objectives do not count.
            let lies = [false, true, false, false, true, false, false];
            let (objectives, optimum) = family.draw(&lies, &Seed::from_number(3));
            let objectives: Vec<_> = objectives
                .iter()
                .zip(lies)
                .filter(|(_, lies)| !lies)
                .map(|(objective, _)| objective)
                .collect();
            assert_eq!(optimum.len(), family.dimension());
            let mean = |at: &[f64]| {
                let (mut sum, mut value) = (vec![0.0; at.len()], 0.0);
                for objective in &objectives {
                    let mut gradient = vec![0.0; at.len()];
                    value += objective.gradient(at, &mut gradient) / 5.0;
                    sum.iter_mut()
                        .zip(gradient)
                        .for_each(|(sum, value)| *sum += value / 5.0);
                }
                (value, sum)
            };
            let norm = mean(&optimum)
                .1
                .iter()
                .map(|value| value * value)
                .sum::<f64>()
                .sqrt();
            assert!(
                norm < 1e-9,
                "{}: the gradient at the optimum is {norm}",
                entry.name
            );
            let mut at = optimum.clone();
            at[1] += 0.3;
            let (slope, h) = (mean(&at).1[1], 1e-6);
            let (mut left, mut right) = (at.clone(), at.clone());
            (left[1], right[1]) = (left[1] - h, right[1] + h);
            assert!(
                (slope - (mean(&right).0 - mean(&left).0) / (2.0 * h)).abs() < 1e-6,
                "{}",
                entry.name
            );
        }
    }
}
