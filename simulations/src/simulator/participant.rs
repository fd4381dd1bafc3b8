//! A peer that takes part: how it is set up, what it trains on, on which device and line.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::privacy::ledger::Account;
use kith_gossip::Setup;
use kith_models::{Request, Trained};

use super::Adversary;
use super::network::Line;

/// What a peer trains and evaluates on: candle models or a formula. A pure function of its
/// arguments.
pub trait Local: Send + Sync {
    /// One round of local training.
    ///
    /// # Errors
    /// Why there is no result, in words for people.
    fn train(&self, request: &Request<'_>) -> Result<Trained, String>;

    /// The same by a process that has died `life` times; its noise may differ from before.
    ///
    /// # Errors
    /// See [`Local::train`].
    fn train_again(&self, request: &Request<'_>, _life: u32) -> Result<Trained, String> {
        self.train(request)
    }

    /// What its releases cost, under a privacy guarantee.
    fn account(&self) -> Option<&Account> {
        None
    }

    /// Local steps of a round; a round takes this many times the device's step time.
    fn steps(&self) -> u64 {
        1
    }

    /// Mean loss of a model on the peer's training rows, if there are rows.
    fn loss(&self, parameters: &[f32]) -> Option<f64>;

    /// Held-out (loss, accuracy, samples), if there is held-out data.
    fn evaluate(&self, parameters: &[f32]) -> Option<(f64, f64, u64)>;
}

/// How fast a peer trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// Virtual time of one local step.
    pub step: Duration,
    /// The time of a round varies by the factor e^(jitter·N), N standard normal.
    pub jitter: f64,
}

impl Default for Device {
    fn default() -> Device {
        Device {
            step: Duration::from_millis(1),
            jitter: 0.0,
        }
    }
}

/// A participant: how its peer is set up, at the start and after every restart, what it trains, and
/// on what.
pub struct Participant {
    pub(super) setup: Box<dyn Fn() -> Setup>,
    pub(super) local: Arc<dyn Local>,
    /// How fast it trains.
    pub device: Device,
    /// How it is connected.
    pub line: Line,
    /// When it first starts.
    pub starts: Duration,
    /// For liars that know what the others publish. Their training results enter after those of
    /// every peer of the same round that does not wait like this and can still come, but at most
    /// this long after the first of those.
    pub waits: Option<Duration>,
    /// What it does besides its peer, if it breaks the protocol with messages.
    pub adversary: Option<Box<dyn Adversary>>,
    /// Lives of its peer before the first of this run, from which others may have recordings.
    pub lived: u64,
}

impl Participant {
    /// A participant from a way to set its peer up and its training; starts at once on an ordinary
    /// device and line.
    pub fn new(setup: impl Fn() -> Setup + 'static, local: impl Local + 'static) -> Participant {
        Participant::sharing(Box::new(setup), Arc::new(local))
    }

    /// The same from values that are on the heap already.
    pub(crate) fn sharing(setup: Box<dyn Fn() -> Setup>, local: Arc<dyn Local>) -> Participant {
        Participant {
            setup,
            local,
            device: Device::default(),
            line: Line::default(),
            starts: Duration::ZERO,
            waits: None,
            adversary: None,
            lived: 0,
        }
    }
}
