//! Stochastic gradient descent with momentum over the flat vector of parameters.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::request::Request;
use crate::model::dispatch;
use crate::training::{MomentumScope, TrainingSection};

/// Fewest parameters for which a separate thread is used.
const PART: usize = 1 << 14;

/// Stochastic gradient descent with momentum, as [`TrainingSection`] defines it.
pub(super) struct Optimizer<'a> {
    training: &'a TrainingSection,
    correction: Option<&'a [f32]>,
    rate: f32,
    /// v, or m̂ if the scope is quasi-global.
    velocity: Vec<f32>,
    /// Bits of the largest magnitude of a parameter after a step; those of infinity and NaN are
    /// above all others.
    largest: u32,
}

impl<'a> Optimizer<'a> {
    /// The optimizer of a round of `steps` local steps; `spare` is memory to use again.
    pub(super) fn new(
        training: &'a TrainingSection,
        request: &Request<'a>,
        steps: u64,
        mut spare: Vec<f32>,
    ) -> Optimizer<'a> {
        let dimension = request.start.len();
        let velocity = match (training.momentum_scope, request.memory) {
            (MomentumScope::Run, Some(velocity)) => velocity.to_vec(),
            (MomentumScope::QuasiGlobal, Some(memory)) => {
                let (mean, before) = memory.split_at(dimension);
                let momentum = training.momentum as f32;
                let share = (1.0 - training.momentum)
                    / (training.rate(request.round.saturating_sub(1)) * steps as f64);
                let path = before
                    .iter()
                    .zip(request.start)
                    .map(|(before, now)| before - now);
                mean.iter()
                    .zip(path)
                    .map(|(mean, path)| momentum * mean + share as f32 * path)
                    .collect()
            }
            _ => {
                spare.clear();
                spare.resize(dimension, 0.0);
                spare
            }
        };
        let (correction, rate) = (request.correction, training.rate(request.round) as f32);
        Optimizer {
            training,
            correction,
            rate,
            velocity,
            largest: 0,
        }
    }

    /// A step of the parameters in `range`, whose gradient is to be scaled; `gradient` is
    /// overwritten.
    pub(super) fn step(
        &mut self,
        range: Range<usize>,
        mut scale: f32,
        gradient: &mut [f32],
        parameters: &mut [f32],
    ) {
        let training = self.training;
        if let Some(correction) = self.correction {
            let correction = &correction[range.clone()];
            gradient
                .iter_mut()
                .zip(correction)
                .for_each(|(gradient, correction)| *gradient = scale * *gradient + correction);
            scale = 1.0;
        }
        let descent = Descent {
            rate: self.rate,
            momentum: training.momentum as f32,
            decay: training.weight_decay as f32,
            fresh: (1.0 - training.dampening) as f32,
            scale,
            lasts: training.momentum_scope == MomentumScope::QuasiGlobal,
        };
        let velocity = &mut self.velocity[range];
        let threads = if parameters.len() > PART {
            rayon::current_num_threads()
        } else {
            1
        };
        if threads == 1 {
            self.largest = self
                .largest
                .max(descent.step(parameters, velocity, gradient));
            return;
        }
        let each = parameters.len().div_ceil(threads).max(PART);
        let parts = parameters
            .par_chunks_mut(each)
            .zip(velocity.par_chunks_mut(each))
            .zip(gradient.par_chunks(each));
        let largest = parts
            .map(|((parameters, velocity), gradient)| descent.step(parameters, velocity, gradient))
            .max();
        self.largest = self.largest.max(largest.unwrap_or(0));
    }

    /// Whether all parameters have stayed finite.
    pub(super) fn is_finite(&self) -> bool {
        self.largest < f32::INFINITY.to_bits()
    }

    /// What the next round continues with; a velocity that nobody needs any more goes to `spare`.
    pub(super) fn memory(self, start: &[f32], spare: &mut Vec<f32>) -> Option<Vec<f32>> {
        let mut memory = self.velocity;
        match self.training.momentum_scope {
            MomentumScope::Round => {
                *spare = memory;
                return None;
            }
            MomentumScope::Run => {}
            MomentumScope::QuasiGlobal => memory.extend_from_slice(start),
        }
        Some(memory)
    }
}

/// The numbers of a step.
#[derive(Clone, Copy)]
struct Descent {
    rate: f32,
    momentum: f32,
    decay: f32,
    fresh: f32,
    scale: f32,
    /// Whether the velocity stays unchanged during a round.
    lasts: bool,
}

impl Descent {
    /// Moves these parameters; returns the bits of the largest magnitude among them afterwards.
    fn step(self, parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32]) -> u32 {
        dispatch(Moved {
            descent: self,
            parameters,
            velocity,
            gradient,
        })
    }
}

struct Moved<'a> {
    descent: Descent,
    parameters: &'a mut [f32],
    velocity: &'a mut [f32],
    gradient: &'a [f32],
}

impl WithSimd for Moved<'_> {
    type Output = u32;

    /// Loops that the compiler turns into vectors of the CPU's width.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u32 {
        let Moved {
            descent,
            parameters,
            velocity,
            gradient,
        } = self;
        let Descent {
            rate,
            momentum,
            decay,
            fresh,
            scale,
            lasts,
        } = descent;
        let values = parameters.iter_mut().zip(velocity).zip(gradient);
        // Bits without the sign order like magnitudes; an integer maximum needs no branch.
        let mut largest = 0;
        if lasts {
            for ((parameter, mean), gradient) in values {
                *parameter -=
                    rate * (momentum * *mean + fresh * (scale * *gradient + decay * *parameter));
                largest = largest.max(parameter.to_bits() & 0x7fff_ffff);
            }
        } else {
            for ((parameter, velocity), gradient) in values {
                *velocity = momentum * *velocity + fresh * (scale * *gradient + decay * *parameter);
                *parameter -= rate * *velocity;
                largest = largest.max(parameter.to_bits() & 0x7fff_ffff);
            }
        }
        largest
    }
}
