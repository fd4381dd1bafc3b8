//! What Kith's peers agree on, and how: the charter, the topology and its mixing weights, the
//! aggregation rules.
//!
//! Everything here is pure: no clock, no ambient randomness, no input or output, no task, no map
//! whose order could reach a result. Equal inputs give equal bits on every machine. Learning
//! (`kith-models`) and transport (`kith-gossip`) live elsewhere.
//!
//! Start reading at [`section`] (how files are read), then [`charter`], [`aggregate`],
//! [`topology`]; [`mode`] is how peers keep step, [`selection`] is whose updates a round mixes,
//! [`optimization`] what happens to models besides their aggregation, [`privacy`] what noised
//! releases cost.

pub mod aggregate;
mod arithmetic;
pub mod charter;
pub mod identity;
pub mod mode;
#[doc(hidden)]
pub mod mutant;
pub mod optimization;
mod parameters;
pub mod privacy;
pub mod random;
pub mod registry;
pub mod section;
pub mod selection;
pub mod sorted;
pub mod topology;

pub use aggregate::{Aggregate, AggregateError, Context, Contribution, Rule};
pub use charter::Charter;
pub use identity::{Digest, Genesis, PeerId};
pub use parameters::Parameters;
pub use random::{Seed, Stream};
pub use section::{Problem, Section};
pub use sorted::Sorted;
pub use topology::Graph;
