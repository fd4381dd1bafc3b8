//! Counts bytes that their receiver has been sent before: an announcement that goes out once more,
//! because it was asked for or its receiver came back, and a body that the same peer pulls again.

use std::collections::BTreeMap;

use kith_consensus::{Digest, PeerId};
use kith_gossip::Packet;

use crate::simulator::Moment;

/// What a receiver has been sent by one sender.
#[derive(Clone, Debug, Default)]
struct Sent {
    /// The newest round whose update was announced to it.
    newest: Option<u64>,
    /// The body that it pulled last.
    body: Option<Digest>,
}

/// Watches every sender.
#[derive(Debug)]
pub(super) struct Retransmissions {
    /// Per sender, by receiver.
    sent: Vec<BTreeMap<PeerId, Sent>>,
    /// Pulls of a body that its asker has pulled before, and the newest round that was announced to
    /// it.
    again: BTreeMap<u64, u64>,
}

impl Retransmissions {
    pub(super) fn new(peers: usize) -> Retransmissions {
        Retransmissions {
            sent: vec![BTreeMap::new(); peers],
            again: BTreeMap::new(),
        }
    }

    /// A message goes out: the round of the update that it announces, if the receiver has been sent
    /// that or a later one.
    pub(super) fn sent(&mut self, moment: &Moment<'_>, to: &PeerId, bytes: &Packet) -> Option<u64> {
        let round = moment.peer.announced_in(bytes)?;
        let sent = self.sent[moment.member].entry(*to).or_default();
        if sent.newest.is_some_and(|newest| newest >= round) {
            return Some(round);
        }
        sent.newest = Some(round);
        None
    }

    /// A body is asked for.
    pub(super) fn requested(
        &mut self,
        moment: &Moment<'_>,
        from: &PeerId,
        digest: Digest,
        request: u64,
    ) {
        let sent = self.sent[moment.member].entry(*from).or_default();
        if sent.body == Some(digest) {
            self.again
                .insert(request, sent.newest.unwrap_or(moment.peer.round()));
        }
        sent.body = Some(digest);
    }

    /// A body goes out: the round of its update, if the asker has been sent it before.
    pub(super) fn provided(&mut self, request: u64) -> Option<u64> {
        self.again.remove(&request)
    }

    /// A sender has lost its disk and begins anew.
    pub(super) fn forgets(&mut self, sender: usize) {
        self.sent[sender].clear();
    }
}
