//! Payloads of envelopes, and the bounds that hold before any of them is decoded.

use std::collections::BTreeMap;

use kith_consensus::Digest;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::address::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, AddressRecord};
use crate::refusal::Refusal;
use crate::wire;

/// A body up to this size travels inside its announcement; a larger one is pulled. 48 KiB leaves
/// room for the rest of a 64 KiB message.
pub(crate) const INLINE_BYTES_MAX: usize = 48 * 1024;

/// Bytes of address records that one handshake carries: with the rest of it well below the largest
/// message.
pub(crate) const RECORD_BYTES_MAX: usize = 32 * 1024;

/// Most address records of one handshake, as many as fit in [`RECORD_BYTES_MAX`].
const RECORDS_MAX: usize = RECORD_BYTES_MAX / 120;

const SECTIONS_MAX: usize = 32;

/// Largest training loss, up or down, that an announcement may claim (guess: far above what
/// trains).
pub const LOSS_MAX: f64 = 1e9;

/// Handshake: sent by both ends as soon as a connection stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Number of amendments to the first charter, and the hash of the newest.
    pub(crate) height: u64,
    pub(crate) head: Digest,
    /// Digest of each section of the charter, so that a difference can be named.
    pub(crate) sections: BTreeMap<String, Digest>,
    /// Digest of the parameters' layout.
    pub(crate) layout: Digest,
    /// Whether the sender has the receiver's handshake already; if not, it waits for one.
    pub(crate) answered: bool,
    /// Digest of the sender's roster; zeros while it forms (open membership).
    pub(crate) roster: Digest,
    /// Where the sender has reached the receiver, for the receiver to tell others.
    pub(crate) reached: Vec<String>,
    /// Where members can be dialled, as each of them has signed it.
    pub(crate) records: Vec<AddressRecord>,
}

impl Hello {
    pub(crate) fn decode(payload: &[u8]) -> Result<Hello, Refusal> {
        let hello: Hello = wire::decode(payload)?;
        let bounds = [
            (
                "address records in a handshake",
                hello.records.len(),
                RECORDS_MAX,
            ),
            (
                "sections in a handshake",
                hello.sections.len(),
                SECTIONS_MAX,
            ),
            ("addresses of one peer", hello.reached.len(), ADDRESSES_MAX),
        ];
        for (what, found, limit) in bounds {
            if found > limit {
                let what = what.into();
                return Err(Refusal::TooMany { what, limit });
            }
        }
        if hello
            .reached
            .iter()
            .any(|text| text.len() > ADDRESS_BYTES_MAX)
        {
            let why = "an address is longer than addresses are".into();
            return Err(Refusal::AddressRecord { why });
        }
        Ok(hello)
    }
}

/// What an update is, without (or with) its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Announcement<'a> {
    /// State of the sender's replica that the body builds on; none for a stateless codec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<Digest>,
    /// Values of the vector that it encodes.
    pub(crate) dimension: u64,
    /// Local examples used, as claimed.
    pub(crate) samples: u64,
    /// Optimizer steps taken, as claimed.
    pub(crate) local_steps: u64,
    /// The encoded vector.
    #[serde(borrow)]
    pub(crate) body: Body<'a>,
    /// Mean training loss, as claimed; present only if the charter's selection looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<f64>,
}

/// The encoded vector of an update, or how to get it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Body<'a> {
    /// The body itself, which is small; the payload's hash covers it.
    Inline(#[serde(borrow)] &'a Bytes),
    /// Receivers pull it. Its BLAKE3, and its length in bytes.
    Pulled(Digest, u64),
}

impl<'a> Body<'a> {
    /// The body, if it is here.
    pub(crate) fn inline(&self) -> Option<&'a Bytes> {
        match self {
            Body::Inline(bytes) => Some(bytes),
            Body::Pulled(..) => None,
        }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Body::Inline(bytes) => bytes.len(),
            Body::Pulled(_, length) => usize::try_from(*length).unwrap_or(usize::MAX),
        }
    }
}

impl Announcement<'_> {
    /// Checks what can be checked before the body is looked at: dimension, length, and that there
    /// is a loss if one is `asked` for, and only then.
    pub(crate) fn check(
        &self,
        dimension: usize,
        body_bytes_max: usize,
        asked: bool,
    ) -> Result<(), Refusal> {
        let found = usize::try_from(self.dimension).unwrap_or(usize::MAX);
        if found != dimension {
            return Err(Refusal::Dimension {
                found,
                expected: dimension,
            });
        }
        let bytes = self.body.len();
        if bytes > body_bytes_max {
            return Err(Refusal::Oversize {
                bytes,
                limit: body_bytes_max,
            });
        }
        self.check_loss(asked)
    }

    fn check_loss(&self, asked: bool) -> Result<(), Refusal> {
        match self.loss {
            None if asked => Err(Refusal::Loss {
                why: "tells none, and the charter's selection looks at it".into(),
            }),
            Some(_) if !asked => Err(Refusal::Loss {
                why: "tells one, and the charter asks for none".into(),
            }),
            Some(loss) if !(-LOSS_MAX..=LOSS_MAX).contains(&loss) => Err(Refusal::Loss {
                why: format!("{loss} is not from -{LOSS_MAX:e} to {LOSS_MAX:e}"),
            }),
            _ => Ok(()),
        }
    }
}

/// The sender misses an update of the receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Want {
    /// The round of the missing update.
    pub(crate) round: u64,
}

/// The sender has no update of a round: its training failed, it listened, or it was away. Nobody
/// needs to wait for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Skip {
    /// The round of which there is no update.
    pub(crate) round: u64,
}

/// Two signed headers, each as an envelope without payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Proof(pub(crate) ByteBuf, pub(crate) ByteBuf);

/// The sender stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Goodbye {
    /// Whether it went through every round.
    pub(crate) finished: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Kind;

    fn announcement<'a>(
        base: Option<Digest>,
        body: Body<'a>,
        loss: Option<f64>,
    ) -> Announcement<'a> {
        Announcement {
            base,
            dimension: 25_450,
            samples: 600,
            local_steps: 40,
            body,
            loss,
        }
    }

    #[test]
    fn an_announcement_comes_back_as_it_was_whatever_it_leaves_out() {
        let body = vec![7; 300];
        for base in [None, Some(Digest([1; 32]))] {
            for body in [
                Body::Inline(Bytes::new(&body)),
                Body::Pulled(Digest([2; 32]), 1 << 20),
            ] {
                for loss in [None, Some(0.5)] {
                    let announcement = announcement(base, body, loss);
                    let bytes = wire::encode(&announcement);
                    assert_eq!(wire::decode::<Announcement<'_>>(&bytes), Ok(announcement));
                }
            }
        }
    }

    /// The order of fields and variants is the protocol. These bytes were written by hand, from
    /// CBOR (RFC 8949) and the types above. A change to them is a change of the protocol's version.
    #[test]
    fn messages_are_spelled_as_the_protocol_says() {
        let kinds = [
            Kind::Hello,
            Kind::Update,
            Kind::Want,
            Kind::Proof,
            Kind::Goodbye,
            Kind::Skip,
        ];
        assert_eq!(
            kinds.map(|kind| wire::encode(&kind)),
            [[0], [1], [2], [3], [4], [5]]
        );
        assert_eq!(wire::encode(&Skip { round: 5 }), [0xa1, 0, 5]);
        assert_eq!(wire::encode(&Want { round: 5 }), [0xa1, 0, 5]);
        assert_eq!(wire::encode(&Goodbye { finished: true }), [0xa1, 0, 0xf5]);
        assert_eq!(
            wire::encode(&Proof(ByteBuf::from([7]), ByteBuf::from([8]))),
            [0x82, 0x41, 7, 0x41, 8]
        );
        let inline = Announcement {
            base: None,
            dimension: 3,
            samples: 2,
            local_steps: 1,
            body: Body::Inline(Bytes::new(&[9])),
            loss: None,
        };
        assert_eq!(
            wire::encode(&inline),
            [0xa4, 1, 3, 2, 2, 3, 1, 4, 0x82, 0, 0x41, 9]
        );
        let digest = |byte| [&[0x58, 32][..], &[byte; 32]].concat();
        let pulled = Announcement {
            base: Some(Digest([1; 32])),
            body: Body::Pulled(Digest([2; 32]), 4),
            loss: Some(0.5),
            ..inline
        };
        let head = [
            &[0xa6, 0][..],
            &digest(1),
            &[1, 3, 2, 2, 3, 1, 4, 0x83, 1],
            &digest(2),
            &[4, 5, 0xf9, 0x38, 0],
        ]
        .concat();
        assert_eq!(wire::encode(&pulled), head);
        let hello = Hello {
            height: 1,
            head: Digest([1; 32]),
            sections: BTreeMap::from([("a".to_owned(), Digest([2; 32]))]),
            layout: Digest([3; 32]),
            answered: false,
            roster: Digest([4; 32]),
            reached: Vec::new(),
            records: Vec::new(),
        };
        let parts = [
            &[0xa8, 0, 1, 1][..],
            &digest(1),
            &[2, 0xa1, 0x61, b'a'],
            &digest(2),
            &[3],
            &digest(3),
            &[4, 0xf4, 5],
            &digest(4),
            &[6, 0x80, 7, 0x80],
        ];
        assert_eq!(wire::encode(&hello), parts.concat());
    }

    #[test]
    fn what_is_said_of_a_small_body_takes_few_bytes() {
        let body = vec![7; 300];
        let bytes = wire::encode(&announcement(None, Body::Inline(Bytes::new(&body)), None));
        assert!(
            bytes.len() <= body.len() + 20,
            "{} bytes beside the body",
            bytes.len() - body.len()
        );
    }
}
