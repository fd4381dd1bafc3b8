//! A peer as a program: the [`Peer`](kith_gossip::Peer) with sockets, a disk, a trainer and a
//! command line around it.
//!
//! [`Node::start`] runs one peer from [`NodeSettings`]; the `kith` program is [`main`]. Decisions
//! are the peer's; the actors here carry out its effects and hand in its inputs. Only the
//! end-to-end tests import this crate.
//!
//! Start reading at [`node`], then at the files in `actors/`, which are thin, and `cli.rs`.

mod actors;
mod address;
pub mod agreement;
pub mod checkpoint;
mod cli;
pub mod config;
pub mod data;
pub mod error;
pub mod guarantee;
mod hashed;
mod http;
pub mod identity;
pub mod node;
mod page;
mod private;
pub mod problems;
pub mod readiness;
mod secrets;
pub mod store;
pub mod telemetry;
pub mod testnet;
pub mod token;

pub use agreement::Agreement;
pub use cli::main;
pub use config::Config;
pub use error::NodeError;
pub use identity::Identity;
pub use node::{Node, NodeHandle, NodeSettings, Outcome};
