//! `quadratic`: ½ aᵢ ‖x − bᵢ‖², with its own curvature aᵢ and its own place bᵢ for every peer.
//!
//! The optimum of the mean is Σ aᵢ bᵢ / Σ aᵢ over the peers that do not lie. `spread` sets how
//! unlike the peers are: the standard deviation of bᵢ.

use std::sync::Arc;

use kith_consensus::{Section, Seed, Stream};

use super::{Family, Objective, TrainerEntry};

pub(super) const ENTRY: TrainerEntry = TrainerEntry {
    name: "quadratic",
    help: "each peer has its own parabola: ½ a ‖x − b‖²",
    source: "own",
    main_key: None,
    new: |section: &mut Section<'_>| {
        // Guess: small, but large enough to be realistic.
        let dimension = section.integer("dimension", Some(16), 1..=1 << 24) as usize;
        let lowest = section.number("curvature_min", Some(0.5), 1e-6..=1e6);
        // The reference cases' range.
        let highest = section.number("curvature_max", Some(2.0), 1e-6..=1e6);
        if highest < lowest {
            section.note(
                "curvature_max",
                format!("expected at least curvature_min, {lowest}, found {highest}"),
            );
        }
        let spread = section.number("spread", Some(1.0), 0.0..=1e6);
        Arc::new(Quadratics {
            dimension,
            lowest,
            highest: highest.max(lowest),
            spread,
        })
    },
};

#[derive(Debug)]
struct Quadratics {
    dimension: usize,
    lowest: f64,
    highest: f64,
    spread: f64,
}

struct Quadratic {
    curvature: f64,
    place: Vec<f32>,
}

impl Family for Quadratics {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn draw(&self, lies: &[bool], seed: &Seed) -> (Vec<Arc<dyn Objective>>, Vec<f64>) {
        let (mut weighted, mut total) = (vec![0.0; self.dimension], 0.0);
        let mut objectives: Vec<Arc<dyn Objective>> = Vec::with_capacity(lies.len());
        for (peer, lies) in (0..).zip(lies) {
            let objective = self.one(peer, seed);
            let counts = if *lies { 0.0 } else { objective.curvature };
            weighted
                .iter_mut()
                .zip(&objective.place)
                .for_each(|(sum, place)| *sum += counts * f64::from(*place));
            total += counts;
            objectives.push(Arc::new(objective));
        }
        assert!(total > 0.0, "somebody does not lie");
        (
            objectives,
            weighted.into_iter().map(|sum| sum / total).collect(),
        )
    }

    /// The box around zero and the honest places: with η·a ≤ 1 a step ends between its start and
    /// the peer's own place.
    fn hull(&self, learning_rate: f64, lies: &[bool], seed: &Seed) -> Option<(f32, f32)> {
        let honest = lies
            .iter()
            .zip(0..)
            .filter(|(lies, _)| !**lies)
            .map(|(_, peer)| self.one(peer, seed));
        let places = honest.flat_map(|objective| objective.place);
        let (low, high) = places.fold((0f32, 0f32), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (learning_rate * self.highest <= 1.0).then_some((low, high))
    }
}

impl Quadratics {
    fn one(&self, peer: u64, seed: &Seed) -> Quadratic {
        let mut random = Stream::derive("kith.v1 quadratic", seed, 0, peer, 0);
        let curvature = self.lowest + (self.highest - self.lowest) * random.unit();
        Quadratic {
            curvature,
            place: (0..self.dimension)
                .map(|_| (self.spread * random.normal()) as f32)
                .collect(),
        }
    }
}

impl Objective for Quadratic {
    fn gradient(&self, at: &[f64], gradient: &mut [f64]) -> f64 {
        let mut squares = 0.0;
        for ((gradient, at), place) in gradient.iter_mut().zip(at).zip(&self.place) {
            let difference = at - f64::from(*place);
            *gradient = self.curvature * difference;
            squares += difference * difference;
        }
        0.5 * self.curvature * squares
    }
}
