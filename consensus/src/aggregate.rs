//! Aggregation rules: from the models of a neighbourhood to one.
//!
//! [`RULES`] and [`PRE_AGGREGATORS`] list them; [`rule_from_section`] and
//! [`rule_from_text`] build one, for example `nnm+trimmed-mean`. [`Rule::aggregate`] checks its
//! input once for all rules (empty, dimensions, finite, enough models) and then calls the rule's
//! own [`Rule::combine`] on [`Rows`], which are read block by block so that pre-aggregated models
//! are never held in memory.
//!
//! This holds for every rule: vectors are f32, all sums and distances are f64, and nothing is
//! fused. The senders' order fixes every order, and every tie goes to the lower index. So equal
//! contributions give equal bits on every machine.
//!
//! Not here: which peers contribute, when a round closes, what happens to a peer whose model was
//! dropped.

mod arc;
mod balance;
mod bridge;
mod bucketing;
mod bulyan;
mod centered_clipping;
mod cge;
mod chain;
mod choco;
mod clipped_gossip;
mod contribution;
mod error;
mod fltrust;
mod geometric_median;
mod gram;
mod kernel;
mod krum;
mod mda;
mod meamed;
mod mean;
mod median;
mod nna;
mod nnm;
mod offline;
mod rows;
mod rule;
mod static_clip;
mod table;
mod trimmed_mean;
mod ubar;
mod weighted_mean;

pub use contribution::{Aggregate, Context, Contribution, spread};
pub use error::AggregateError;
pub use offline::rule_from_text;
pub use rows::{Mixing, Rows};
pub use rule::{NewPreAggregator, NewRule, PreAggregator, PreEntry, Rule, RuleEntry};
pub use table::{PRE_AGGREGATORS, RULES, rule_from_section};
