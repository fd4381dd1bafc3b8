//! What an attack with messages has at hand: a member's key, recordings of an earlier run, and what
//! its accomplices have overheard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kith_consensus::{Charter, Digest, PeerId, Stream};
use kith_gossip::envelope::{Envelope, Header, Kind, PROTOCOL_VERSION};
use kith_gossip::{Authenticator, Effect, Packet, Publication, Roster};

use super::{Attack, Scene};
use crate::simulator;

/// Lives before this run in worlds whose liars have recordings: one run went before.
pub const LIVED: u64 = 1;

/// The vectors of a liar that tells the truth about them.
#[derive(Debug)]
pub(super) struct Truthful;

impl Attack for Truthful {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        Publication::Same(scene.view.trained.to_vec())
    }
}

/// What all liars of a world know together.
#[derive(Debug)]
pub struct Collusion {
    /// The honest peers' keys, with which nothing is signed but what they said in an earlier run.
    recorded: Vec<Authenticator>,
    /// Bodies that were announced to a liar: their lengths and the peers that have them.
    overheard: Mutex<BTreeMap<Digest, (usize, PeerId)>>,
}

impl Collusion {
    /// Liars that have recordings of these honest peers.
    pub fn new(honest: Vec<Authenticator>) -> Collusion {
        Collusion {
            recorded: honest,
            overheard: Mutex::default(),
        }
    }
}

/// A liar that speaks for itself.
#[derive(Debug)]
pub struct Speaker {
    /// Its key.
    pub key: Authenticator,
    /// The charter that it knows as everybody does.
    pub charter: Arc<Charter>,
    /// Everybody.
    pub roster: Roster,
    /// What it shares with the other liars.
    pub collusion: Arc<Collusion>,
}

impl Speaker {
    /// A message of its own. `incarnation` is the life that it claims.
    pub(super) fn says(&self, kind: Kind, round: u64, sequence: u64, said: Said<'_>) -> Packet {
        let header = Header {
            version: PROTOCOL_VERSION,
            federation: self.charter.genesis,
            kind,
            sender: self.key.peer(),
            incarnation: said.incarnation,
            round,
            sequence,
            state: Digest::default(),
            payload: Digest::of(said.payload),
            spent: None,
        };
        Envelope::seal(&self.key, header, said.payload.to_vec())
            .to_bytes()
            .into()
    }

    /// A message of its own peer with another header or payload, signed anew. `None` if the message
    /// is another peer's or of another kind.
    pub(super) fn says_instead(
        &self,
        bytes: &Packet,
        kind: Kind,
        alter: impl FnOnce(&mut Header, &mut Vec<u8>),
    ) -> Option<Packet> {
        let mut message = self.own(bytes, kind)?;
        alter(&mut message.header, &mut message.payload);
        message.header.payload = Digest::of(&message.payload);
        let again = Envelope::seal(&self.key, message.header, message.payload);
        Some(again.to_bytes().into())
    }

    /// A message of its own peer of this kind, opened.
    pub(super) fn own(&self, bytes: &Packet, kind: Kind) -> Option<Envelope> {
        let header = bytes.claimed_header()?;
        if header.sender != self.key.peer() || header.kind != kind {
            return None;
        }
        Envelope::open(&self.key, bytes).ok()
    }

    /// The header of an update that each honest peer signed in an earlier run, in this round.
    pub(super) fn recorded_updates(&self, round: u64) -> impl Iterator<Item = Packet> {
        self.recorded(Kind::Update, round, b"a recorded update")
            .map(|message| Packet::from(message.header_to_bytes()))
    }

    /// The goodbye with which each honest peer ended an earlier run.
    pub(super) fn recorded_goodbyes(&self, round: u64) -> impl Iterator<Item = Packet> {
        self.recorded(Kind::Goodbye, round, GOODBYE)
            .map(|message| Packet::from(message.to_bytes()))
    }

    fn recorded(
        &self,
        kind: Kind,
        round: u64,
        payload: &'static [u8],
    ) -> impl Iterator<Item = Envelope> {
        let federation = self.charter.genesis;
        self.collusion.recorded.iter().map(move |key| {
            let header = Header {
                version: PROTOCOL_VERSION,
                federation,
                kind,
                sender: key.peer(),
                incarnation: LIVED,
                round,
                sequence: round,
                state: match kind {
                    Kind::Update => Digest::of(b"a recorded state"),
                    _ => Digest::default(),
                },
                payload: Digest::of(payload),
                spent: None,
            };
            Envelope::seal(key, header, payload.to_vec())
        })
    }

    /// Tells the other liars of a body.
    pub(super) fn overhears(&self, digest: Digest, length: usize, source: PeerId) {
        let overheard = &self.collusion.overheard;
        let mut overheard = overheard.lock().unwrap_or_else(PoisonError::into_inner);
        overheard.insert(digest, (length, source));
    }

    /// The bodies that liars have been told of: names, lengths, sources.
    pub(super) fn overheard(&self) -> Vec<(Digest, usize, PeerId)> {
        let overheard = &self.collusion.overheard;
        let overheard = overheard.lock().unwrap_or_else(PoisonError::into_inner);
        let each = overheard.iter();
        each.map(|(digest, (length, source))| (*digest, *length, *source))
            .collect()
    }
}

/// What a message says besides its kind and round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) incarnation: u64,
    pub(super) payload: &'a [u8],
}

/// The payload of a goodbye of a peer that has gone through every round, as it travels.
const GOODBYE: &[u8] = &[0xa1, 0, 0xf5];

/// The payload of a message that names a round below 24 or up to 2³² − 1, as it travels.
pub(super) fn of_round(round: u64) -> Vec<u8> {
    let round = round.min(u64::from(u32::MAX)) as u32;
    [&[0xa1, 0, 0x1a][..], &round.to_be_bytes()].concat()
}

/// The same message for all that the liar is connected with.
pub(super) fn to_all(scene: &simulator::Scene<'_>, bytes: &Packet) -> Vec<Effect> {
    let each = scene.connected.iter();
    each.map(|to| Effect::Send {
        to: *to,
        bytes: bytes.clone(),
    })
    .collect()
}
