//! `mimic`: every liar copies one honest peer, which then counts more than once: harmless if all
//! peers are alike, and enough to mislead selectors if they are not. Nothing distinguishes the copy
//! from the original.
//!
//! With `target` it copies the honest peer of that place. Without, it looks for the direction in
//! which honest rows differ most and copies the peer that is furthest out there ([`Direction`]):
//! one step of power iteration a round, on steps from the start.
//!
//! On digits of two classes a peer, two copies of one peer take a geometric median of nine from
//! 0.81 to 0.44, the changing ones to 0.74; centred clipping loses 0.04 and 0.05 (measured). With
//! evenly dealt rows it is harmless.

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "mimic",
    help: "publishes one honest peer's vector: that of place `target`, else that of the peer furthest out",
    source: "Karimireddy, He and Jaggi, ICLR 2022",
    main_key: Some("target"),
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            let target = section
                .has("target")
                .then(|| section.integer("target", Some(0), 0..=u64::from(u32::MAX)) as usize);
            Box::new(Mimic {
                target,
                direction: None,
            })
        },
    },
};

#[derive(Debug)]
struct Mimic {
    target: Option<usize>,
    direction: Option<Direction>,
}

impl Attack for Mimic {
    fn publish(&mut self, scene: &Scene<'_>, random: &mut Stream) -> Publication {
        let target = match self.target {
            Some(target) => target.min(scene.honest.len() - 1),
            None => {
                let steps: Vec<Vec<f64>> = scene
                    .honest
                    .iter()
                    .map(|(_, row)| step(scene.view.start, row))
                    .collect();
                let guess =
                    || Direction::new(scene.view.start.iter().map(|_| random.normal()).collect());
                self.direction.get_or_insert_with(guess).turn(&steps)
            }
        };
        Publication::Same(scene.honest[target].1.to_vec())
    }
}

fn step(start: &[f32], row: &[f32]) -> Vec<f64> {
    start
        .iter()
        .zip(row)
        .map(|(start, value)| f64::from(*value) - f64::from(*start))
        .collect()
}

/// A running estimate of the direction in which rows differ most, over rounds in which everything
/// moves.
///
/// With μ the mean of all rounds' means and c = Σ ⟨g − μ, z⟩ (g − μ): z becomes t/(t+1) · z +
/// 1/(t+1) · c/‖c‖ in round t from 0, renormalised.
#[derive(Clone, Debug)]
pub struct Direction {
    towards: Vec<f64>,
    mean: Vec<f64>,
    rounds: f64,
}

impl Direction {
    /// Begins with a guess, `d` values; a random one will do.
    pub fn new(guess: Vec<f64>) -> Direction {
        Direction {
            mean: vec![0.0; guess.len()],
            towards: guess,
            rounds: 0.0,
        }
    }

    /// Takes in a round's rows; returns the place of the row that is furthest out in the new
    /// direction.
    pub fn turn(&mut self, rows: &[Vec<f64>]) -> usize {
        let (old, new) = (self.rounds / (self.rounds + 1.0), 1.0 / (self.rounds + 1.0));
        self.rounds += 1.0;
        for (index, mean) in self.mean.iter_mut().enumerate() {
            *mean = old * *mean
                + new * rows.iter().map(|row| row[index]).sum::<f64>() / rows.len() as f64;
        }
        let mut turned = vec![0.0; self.mean.len()];
        for row in rows {
            let centred: Vec<f64> = row
                .iter()
                .zip(&self.mean)
                .map(|(value, mean)| value - mean)
                .collect();
            let along = dot(&centred, &self.towards);
            turned
                .iter_mut()
                .zip(centred)
                .for_each(|(turned, value)| *turned += along * value);
        }
        let length = dot(&turned, &turned).sqrt();
        // If rows do not differ along the guess, there is nothing to turn to.
        if length > 0.0 {
            self.towards
                .iter_mut()
                .zip(turned)
                .for_each(|(towards, turned)| *towards = old * *towards + new * turned / length);
        }
        let length = dot(&self.towards, &self.towards).sqrt();
        if length > 0.0 {
            self.towards
                .iter_mut()
                .for_each(|towards| *towards /= length);
        }
        let out = rows.iter().map(|row| dot(row, &self.towards)).enumerate();
        out.fold((0, f64::NEG_INFINITY), |best, (place, along)| {
            if along > best.1 { (place, along) } else { best }
        })
        .0
    }

    /// The direction, of length 1 after a round.
    pub fn towards(&self) -> &[f64] {
        &self.towards
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
