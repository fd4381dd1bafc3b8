//! Contradictions: peers show headers to others that should have them from their sender. So two
//! different ones meet somewhere, and a peer that signed both is expelled.
//!
//! `witness` holds what a peer remembers of headers, and says what two of them mean.

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, Genesis, PeerId};

use super::Peer;
use super::witness::{self, Testimony};
use crate::effect::{Effect, Record};
use crate::envelope::{Authenticator, Envelope, Header, Kind};
use crate::event::Event;
use crate::message::Proof;
use crate::packet::Opened;
use crate::refusal::Refusal;
use crate::wire;

/// Most proofs that a newcomer is told: there are as many as peers have lied, one for each.
const SHOWN_MAX: usize = 64;

/// Where a contradiction came to light.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// This peer held both headers, and tells everyone.
    Here,
    /// Another peer tells, and whoever told it has told everyone.
    Told,
}

impl Peer {
    /// Compares the header of an update with those seen before.
    ///
    /// # Errors
    /// It contradicts one, is the second of its round, or older than what is known.
    pub(super) fn hear(
        &mut self,
        from: PeerId,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (sender, round) = (envelope.header.sender, envelope.header.round);
        self.witness.note_spent(envelope);
        if !self.witness.keeps(self.round, round) {
            return Ok(());
        }
        match self.witness.hear(envelope) {
            Testimony::Contradiction(proof, states) => {
                self.convict(sender, round, states, *proof, Found::Here, out);
                return Err(Refusal::Equivocator);
            }
            Testimony::Second(is_first) => {
                if round == self.round {
                    self.window.remove(&sender);
                    self.close_if_complete(out);
                }
                if is_first && !envelope.is_header_only() {
                    self.pass_on(envelope, out);
                }
                let why = "it is the second update of its round".into();
                return Err(Refusal::Announcement { why });
            }
            Testimony::Older(newer) => {
                // The peer that shows it may hold it for the newest.
                let told = self.overlay.is_ready(&from).then_some(newer);
                out.extend(told.map(|bytes| Effect::Send { to: from, bytes }));
                return Err(Refusal::Replayed);
            }
            Testimony::Forgotten(ours) => {
                return Err(Refusal::StaleRound {
                    theirs: round,
                    ours,
                });
            }
            Testimony::New => self.pass_on(envelope, out),
            Testimony::Known => {}
        }
        Ok(())
    }

    /// Shows a header to others that should have it from its sender.
    fn pass_on(&mut self, envelope: &Opened<'_>, out: &mut Vec<Effect>) {
        if planted(Mutant::PassNothingOn) {
            return;
        }
        let header = envelope.header;
        for to in self.overlay.shown(&header.sender, header.round) {
            out.push(Effect::Send {
                to,
                bytes: envelope.header_alone(),
            });
        }
    }

    fn convict(
        &mut self,
        peer: PeerId,
        round: u64,
        states: [Digest; 2],
        proof: Proof,
        found: Found,
        out: &mut Vec<Effect>,
    ) {
        if self.overlay.is_expelled(&peer) {
            return;
        }
        self.overlay.expel(peer);
        let payload = wire::encode(&proof);
        if !planted(Mutant::CountExpelled) {
            self.window.remove(&peer);
        }
        out.push(Effect::Emit(Event::Equivocated {
            peer,
            round,
            states,
        }));
        // Whoever restarts or comes late must not begin to believe it again.
        let proof = payload.clone();
        out.push(Effect::Persist(Record::Evidence { peer, proof }));
        if found == Found::Here {
            let bytes = self.seal(Kind::Proof, Digest::default(), payload.clone());
            out.push(Effect::Announce { bytes });
        }
        self.evidence.insert(peer, payload);
        self.close_if_complete(out);
    }

    /// Tells a peer that has just been met which peers have contradicted themselves.
    pub(super) fn show_evidence(&self, to: PeerId, out: &mut Vec<Effect>) {
        for proof in self.evidence.values().take(SHOWN_MAX) {
            let bytes = self.seal(Kind::Proof, Digest::default(), proof.clone());
            out.push(Effect::Send { to, bytes });
        }
    }

    /// Takes proofs back from the store. One that proves nothing is left out: the file may be
    /// damaged. While a roster forms, the peer need not be on it yet.
    pub(super) fn take_evidence(&mut self, proofs: Vec<Vec<u8>>) {
        if planted(Mutant::ForgetExpulsion) {
            return;
        }
        for proof in proofs {
            let examined = examine(&proof, &self.authenticator, self.charter.genesis);
            if let Ok((_, [first, _])) = examined {
                self.overlay.expel(first.sender);
                self.evidence.insert(first.sender, proof);
            }
        }
    }

    /// The two headers of a proof, which contradict each other.
    fn examine(&self, payload: &[u8]) -> Result<(Proof, [Header; 2]), Refusal> {
        let (proof, headers) = examine(payload, &self.authenticator, self.charter.genesis)?;
        match self.overlay.on_roster(&headers[0].sender) {
            true => Ok((proof, headers)),
            false => Err(Refusal::UnknownSender),
        }
    }

    /// Somebody shows two headers that contradict each other.
    pub(super) fn proof(
        &mut self,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (proof, [first, second]) = self.examine(envelope.payload())?;
        if !planted(Mutant::IgnoreProof) {
            let states = [first.state, second.state];
            self.convict(first.sender, first.round, states, proof, Found::Told, out);
        }
        Ok(())
    }
}

/// The two headers of a proof, after it has been checked that they contradict each other. So a
/// message that is passed on to everyone has been checked by each that passes it on.
///
/// # Errors
/// It is not a proof, or it proves nothing.
pub(crate) fn examine(
    payload: &[u8],
    authenticator: &Authenticator,
    genesis: Genesis,
) -> Result<(Proof, [Header; 2]), Refusal> {
    let proof: Proof = wire::decode(payload)?;
    let open = |bytes: &[u8]| Ok(Envelope::open(authenticator, bytes)?.header);
    let headers = [open(&proof.0)?, open(&proof.1)?];
    let [first, second] = &headers;
    if first.federation != genesis || !witness::contradict(first, second) {
        let why = "its two headers do not contradict each other".into();
        return Err(Refusal::Announcement { why });
    }
    Ok((proof, headers))
}
