//! What a testnet may ask of its running peers and nobody may ask of others: to lie, and to have
//! nothing to do with some peers, as if the network between them had failed.

use std::collections::BTreeSet;
use std::sync::Arc;

use kameo::actor::ActorRef;
use kith_consensus::{Charter, PeerId};
use kith_gossip::Conduct;

use crate::actors::network::{KeepApart, NetworkActor};
use crate::actors::peer::{Behave, PeerActor};
use crate::agreement::Agreement;
use crate::config::Config;
use crate::error::NodeError;

/// Whether the peer of this configuration belongs to a testnet: its charter is marked as one's, and
/// it listens on loopback only.
///
/// # Errors
/// When it does not.
pub(crate) fn may_lie(config: &Config, agreement: &Agreement) -> Result<(), NodeError> {
    if agreement.charter.testnet && config.is_loopback() {
        return Ok(());
    }
    let what = "[testnet] attack: a peer may only lie on loopback and under a charter that says testnet = true";
    Err(NodeError::Unfit(what.to_owned()))
}

/// Gives orders to a running peer of a testnet. There is none for another peer:
/// [`NodeHandle::testnet_handle`](crate::NodeHandle::testnet_handle).
#[derive(Clone, Debug)]
pub struct TestnetHandle {
    pub(crate) charter: Arc<Charter>,
    pub(crate) peer: ActorRef<PeerActor>,
    pub(crate) network: ActorRef<NetworkActor>,
}

impl TestnetHandle {
    /// The federation's charter.
    pub fn charter(&self) -> &Arc<Charter> {
        &self.charter
    }

    /// From its next update on the peer behaves in this way.
    pub async fn behave(&self, conduct: Box<dyn Conduct>) {
        // A peer that has stopped needs no orders.
        let _ = self.peer.tell(Behave(conduct)).send().await;
    }

    /// From now on the peer neither dials nor answers these peers, and it does both for all others.
    pub async fn keep_apart(&self, peers: BTreeSet<PeerId>) {
        let _ = self.network.tell(KeepApart(peers)).send().await;
    }
}
