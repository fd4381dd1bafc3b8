//! What a round of local training takes and gives.

/// The inputs of a round of local training.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The parameters, d values.
    pub start: &'a [f32],
    /// Number of the round: it orders the batches and sets the learning rate.
    pub round: u64,
    /// What [`Trained::memory`] gave last time; `None` in the first round, or if it was lost.
    pub memory: Option<&'a [f32]>,
    /// Added to the gradient of every local step, after clipping, d values: c − c_i of SCAFFOLD, y
    /// − g of gradient tracking.
    pub correction: Option<&'a [f32]>,
}

impl<'a> Request<'a> {
    /// Training from `start` in `round`, with nothing remembered and nothing added.
    pub fn new(start: &'a [f32], round: u64) -> Request<'a> {
        Request {
            start,
            round,
            memory: None,
            correction: None,
        }
    }
}

/// The results of a round of local training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The parameters afterwards.
    pub parameters: Vec<f32>,
    /// Number of the peer's rows, the n_i of sample weights; under a privacy guarantee a constant of
    /// the charter.
    pub samples: u64,
    /// Number of optimizer steps done.
    pub local_steps: u64,
    /// The round's step size.
    pub rate: f64,
    /// Mean training loss over the rows of the round's batches, each at the parameters before its
    /// step. Not a number under a privacy guarantee, which does not cover it.
    pub loss: f64,
    /// What the optimizer carries to the next round, as many values as the momentum's scope says
    /// ([`memory_len`](crate::MomentumScope::memory_len)): the velocity, or m̂ and then the start.
    /// `None` if it carries nothing.
    pub memory: Option<Vec<f32>>,
}
