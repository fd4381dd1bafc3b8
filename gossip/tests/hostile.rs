//! Bytes that only a liar sends: whatever a member signs or wraps, a peer refuses or takes it, and
//! goes on.

mod common;

use common::*;
use kith_consensus::Digest;
use kith_consensus::privacy::ledger::Total;
use kith_gossip::envelope::{Envelope, HEADER_BYTES_MAX, Header, Kind, PROTOCOL_VERSION};
use kith_gossip::{Authenticator, Input, Stored};
use proptest::prelude::*;

const KINDS: [Kind; 6] = [
    Kind::Hello,
    Kind::Update,
    Kind::Want,
    Kind::Proof,
    Kind::Goodbye,
    Kind::Skip,
];

/// The three parts of an envelope that a member signs.
fn parts(
    charter: &kith_consensus::Charter,
    kind: Kind,
    round: u64,
    payload: &[u8],
) -> [Vec<u8>; 3] {
    let authenticator = Authenticator::from_secret(&secret(2));
    let hash = Digest::of(payload);
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind,
        sender: authenticator.peer(),
        incarnation: 1,
        round,
        sequence: round,
        state: hash,
        payload: hash,
        spent: None,
    };
    let envelope = Envelope::seal(&authenticator, header, payload.to_vec());
    [envelope.header_bytes, envelope.signature, envelope.payload]
}

/// A byte string with a head of any width, as a text, behind tags, or in pieces of indefinite
/// length.
fn spelled(part: &[u8], spelling: u8, tags: usize) -> Vec<u8> {
    let mut bytes = [0xd8u8, 0x2a].repeat(tags);
    let (length, major) = (part.len(), if spelling & 8 == 0 { 0x40 } else { 0x60 });
    match spelling % 6 {
        0 if length < 24 => bytes.push(major | length as u8),
        1 if length < 256 => bytes.extend([major | 24, length as u8]),
        2 if length < 65_536 => {
            bytes.extend([&[major | 25], &(length as u16).to_be_bytes()[..]].concat())
        }
        3 => bytes.extend([&[major | 26], &(length as u32).to_be_bytes()[..]].concat()),
        4 => bytes.extend([&[major | 27], &(length as u64).to_be_bytes()[..]].concat()),
        _ => {
            bytes.push(0x5f);
            bytes.extend([&[0x59], &(length as u16).to_be_bytes()[..]].concat());
            bytes.extend(part);
            bytes.push(0xff);
            return bytes;
        }
    }
    bytes.extend(part);
    bytes
}

#[test]
fn tags_before_a_signed_header_are_junk() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let [header, signature, payload] = parts(&charter, Kind::Update, 0, b"anything");
    let mut bytes = vec![0x83];
    bytes.extend(spelled(&header, 1, 30));
    bytes.extend(spelled(&signature, 1, 0));
    bytes.extend(spelled(&payload, 0, 0));
    let effects = handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: bytes.into(),
        },
    );
    assert_eq!(refusals(&effects), ["junk"]);
}

#[test]
fn no_header_that_is_passed_on_is_longer_than_headers_may_be() {
    let charter = charter(9, "rule = \"mean\"");
    let authenticator = Authenticator::from_secret(&secret(2));
    let most = Digest([0xff; 32]);
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind: Kind::Update,
        sender: authenticator.peer(),
        incarnation: 1,
        round: u64::MAX,
        sequence: u64::MAX,
        state: most,
        payload: Digest::of(&[]),
        spent: Some(Total(u64::MAX)),
    };
    let envelope = Envelope::seal(&authenticator, header, Vec::new());
    assert!(
        envelope.header_to_bytes().len() <= HEADER_BYTES_MAX,
        "{}",
        envelope.header_to_bytes().len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// In any phase, whatever is signed and however it is wrapped.
    #[test]
    fn a_peer_outlives_any_message_of_a_member(
        messages in prop::collection::vec(
            (0usize..6, 0u64..12, prop::collection::vec(any::<u8>(), 0..60), 0u8..16, 0u8..16, 0u8..16, 0usize..3, any::<u16>(), any::<bool>()),
            1..12,
        ),
    ) {
        let charter = charter(9, "rule = \"mean\"");
        let mut peer = in_round_zero(&charter);
        for (step, (kind, round, payload, a, b, c, tags, cut, whole)) in messages.into_iter().enumerate() {
            // Payloads that begin as real ones do reach further.
            let payload = if whole { [&[[0xa1, 0, 5][kind % 3]], &payload[..]].concat() } else { payload };
            let [header, signature, payload] = parts(&charter, KINDS[kind], round, &payload);
            let mut bytes = vec![0x83];
            bytes.extend(spelled(&header, a, tags));
            bytes.extend(spelled(&signature, b, 0));
            bytes.extend(spelled(&payload, c, 0));
            if cut % 5 == 0 {
                bytes.truncate(cut as usize % (bytes.len() + 1));
            }
            handle(&mut peer, Input::Received { from: id(2 + (step % 2) as u8), bytes: bytes.into() });
            match step {
                3 => drop(handle(&mut peer, trained(0, 1.0))),
                6 => drop(handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }))),
                _ => {}
            }
        }
    }
}
