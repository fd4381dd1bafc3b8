//! How an update travels between peers.
//!
//! The core is pure: [`Peer`] turns inputs into effects and knows no clock, no socket, no task.
//! Codecs, envelopes, the round window and the exchange of bodies are small machines inside it.
//! Feature `net` adds `net`, libp2p as the carrier of those effects. This crate does not know what
//! the vectors mean: training lives in `kith-models`.
//!
//! Start reading at [`peer`], then [`effect`] and [`event`].

mod address;
pub mod codec;
pub mod conduct;
pub mod effect;
pub mod envelope;
pub mod event;
mod forwarding;
pub mod limits;
mod message;
#[cfg(feature = "net")]
pub mod net;
mod packet;
pub mod peer;
pub mod refusal;
mod roster;
mod setup;
mod wire;

#[doc(hidden)]
#[cfg(feature = "mutants")]
pub use kith_consensus::mutant;

pub use address::Scope;
pub use conduct::{Conduct, Honest, Publication, View};
pub use effect::{
    Behind, Carried, Checkpoint, Command, Effect, Input, Intent, Record, Stored, Timer,
};
pub use envelope::{Authenticator, Envelope};
pub use event::{Event, History};
pub use forwarding::may_be_passed_on;
pub use kith_consensus::Parameters;
pub use packet::Packet;
pub use peer::{Load, Peer};
pub use refusal::Refusal;
pub use roster::Roster;
pub use setup::{Federation, Setup};
