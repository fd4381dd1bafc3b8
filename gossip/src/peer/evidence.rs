//! Contradictions: peers show headers to others that should have them from their sender. So two
//! different ones meet somewhere, and a peer that signed both is expelled.
//!
//! `witness` holds what a peer remembers of headers, and says what two of them mean.

use kith_consensus::mutant::{Mutant, planted};
use kith_consensus::{Digest, PeerId};

use super::Peer;
use super::witness::{self, Testimony};
use crate::effect::Effect;
use crate::envelope::{Envelope, Kind};
use crate::event::Event;
use crate::message::Proof;
use crate::packet::Opened;
use crate::refusal::Refusal;
use crate::wire;

impl Peer {
    /// Compares the header of an update with those seen before.
    ///
    /// # Errors
    /// It contradicts one, or is the second of its round.
    pub(super) fn hear(
        &mut self,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (sender, round) = (envelope.header.sender, envelope.header.round);
        if !self.witness.keeps(self.round, round) {
            return Ok(());
        }
        match self.witness.hear(envelope) {
            Testimony::Contradiction(proof, states) => {
                self.convict(sender, round, states, Some(*proof), out);
                return Err(Refusal::Equivocator);
            }
            Testimony::Second => {
                if round == self.round {
                    self.window.remove(&sender);
                    self.close_if_complete(out);
                }
                let why = "it is the second update of its round".into();
                return Err(Refusal::Announcement { why });
            }
            Testimony::New if !envelope.is_header_only() => self.pass_on(envelope, out),
            Testimony::New | Testimony::Known => {}
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
        proof: Option<Proof>,
        out: &mut Vec<Effect>,
    ) {
        if self.overlay.is_expelled(&peer) {
            return;
        }
        self.overlay.expel(peer);
        if !planted(Mutant::CountExpelled) {
            self.window.remove(&peer);
        }
        out.push(Effect::Emit(Event::Equivocated {
            peer,
            round,
            states,
        }));
        if let Some(proof) = proof {
            let bytes = self.seal(Kind::Proof, Digest::default(), wire::encode(&proof));
            out.push(Effect::Announce { bytes });
        }
        self.close_if_complete(out);
    }

    /// Somebody shows two headers that contradict each other.
    pub(super) fn proof(
        &mut self,
        envelope: &Opened<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Proof(first, second) = wire::decode(envelope.payload())?;
        let open = |bytes: &[u8]| Ok(Envelope::open(&self.authenticator, bytes)?.header);
        let (first, second) = (open(&first)?, open(&second)?);
        let ours =
            first.federation == self.charter.genesis && self.overlay.on_roster(&first.sender);
        if !ours || !witness::contradict(&first, &second) {
            let why = "its two headers do not contradict each other".into();
            return Err(Refusal::Announcement { why });
        }
        if !planted(Mutant::IgnoreProof) {
            let states = [first.state, second.state];
            self.convict(first.sender, first.round, states, None, out);
        }
        Ok(())
    }
}
