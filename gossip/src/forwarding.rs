//! Which messages that concern everyone are passed on.
//!
//! They flood: each peer hands on what others have announced, so each checks it whole before. What
//! a peer passes on is therefore never held against it, and junk stops at the first honest peer.

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Genesis, PeerId};

use crate::envelope::{Authenticator, Envelope, Kind};
use crate::message::Goodbye;
use crate::peer::examine;
use crate::wire;

/// Whether a message is one that everyone should hear: signed by a peer that is `allowed`, of this
/// federation, a goodbye or a proof, and nothing that a receiver would refuse.
pub fn may_be_passed_on(
    bytes: &[u8],
    verifier: &Authenticator,
    federation: Genesis,
    allowed: impl Fn(&PeerId) -> bool,
) -> bool {
    let Ok(envelope) = Envelope::open(verifier, bytes) else {
        return false;
    };
    let header = &envelope.header;
    if header.federation != federation || !allowed(&header.sender) {
        return false;
    }
    match header.kind {
        Kind::Goodbye | Kind::Proof if planted(Mutant::BlameForwarder) => true,
        Kind::Goodbye => wire::decode::<Goodbye>(&envelope.payload).is_ok(),
        Kind::Proof => examine(&envelope.payload, verifier, federation).is_ok(),
        Kind::Hello | Kind::Update | Kind::Want | Kind::Skip => false,
    }
}
