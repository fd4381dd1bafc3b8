//! Whatever other peers send, from a corpus: see `tests/corpus.rs` at the root. Envelopes as they
//! travel, payloads that a member signs, bodies and keyframes that are pulled, and what every codec
//! decodes.
//!
//! A bit that is flipped in an envelope spoils its signature. So payloads are mutated before they
//! are signed: a file of `payload` is the number of a kind, a round, and the payload.

mod common;
#[path = "../../tests/corpus.rs"]
mod harness;

use std::sync::{Arc, OnceLock};

use common::*;
use harness::{Files, LITTLE, Target, drive};
use kith_consensus::section::Document;
use kith_consensus::{Charter, Digest, Seed};
use kith_gossip::codec::{CODECS, Codec, Randomness, TensorShape, codec_from_section};
use kith_gossip::envelope::{ENVELOPE_BYTES_MAX, Envelope, Header, Kind, PROTOCOL_VERSION};
use kith_gossip::{Authenticator, Effect, Honest, Input, Peer, Roster, Scope, Setup, Stored};

const KINDS: [Kind; 6] = [
    Kind::Hello,
    Kind::Update,
    Kind::Want,
    Kind::Proof,
    Kind::Goodbye,
    Kind::Skip,
];
const HELLO: u8 = 0;
const UPDATE: u8 = 1;
const WANT: u8 = 2;
const PROOF: u8 = 3;
const GOODBYE: u8 = 4;
const SKIP: u8 = 5;

/// What every valid update leads to.
const VALUES: [f32; 4] = [1.0, -2.0, 0.5, 4.0];

fn the_charter() -> &'static Arc<Charter> {
    static CHARTER: OnceLock<Arc<Charter>> = OnceLock::new();
    CHARTER.get_or_init(|| charter(9, "rule = \"mean\""))
}

fn start(peer: &mut Peer) {
    let start = Input::Start {
        checkpoint: None,
        intent: None,
    };
    handle(peer, start);
}

fn up(peer: &mut Peer, number: u8) -> Vec<Effect> {
    let up = Input::PeerUp {
        peer: id(number),
        addresses: vec![],
        scope: Scope::World,
    };
    handle(peer, up)
}

fn receive(peer: &mut Peer, from: u8, bytes: &[u8]) -> Vec<Effect> {
    let received = Input::Received {
        from: id(from),
        bytes: bytes.to_vec().into(),
    };
    handle(peer, received)
}

/// The handshake of a peer with peer 1.
fn hello(number: u8) -> &'static [u8] {
    static HELLOS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let made = |number| sent_to(&up(&mut peer_of(number, the_charter()), 1), 1).remove(0);
    &HELLOS.get_or_init(|| [2, 3].map(made))[usize::from(number) - 2]
}

fn codec_of(text: &str) -> Box<dyn Codec> {
    let mut document = Document::parse(&format!("[codec]\n{text}\n")).expect("toml");
    document.section("codec", codec_from_section)
}

/// Peer 1 in round 0, with both handshakes done, under a codec.
fn ready(codec: &str) -> Peer {
    let charter = the_charter();
    let mut peer = Peer::new(Setup {
        authenticator: Authenticator::from_secret(&secret(1)),
        charter: Arc::clone(charter),
        roster: Roster::new(charter.roster()),
        codec: codec_of(codec),
        layout: Digest::of(b"layout"),
        initial: Arc::new(vec![0.0; 4]),
        seed: Seed::from_number(1),
        conduct: Box::new(Honest),
        evaluate_every: 0,
        incarnation: 1,
        evidence: Vec::new(),
    });
    start(&mut peer);
    for number in [2, 3] {
        up(&mut peer, number);
        receive(&mut peer, number, hello(number));
    }
    peer
}

/// A message that a member signs.
fn signed(by: u8, kind: u8, round: u64, state: Digest, payload: &[u8]) -> Envelope {
    let authenticator = Authenticator::from_secret(&secret(by));
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: the_charter().genesis,
        kind: KINDS[usize::from(kind) % KINDS.len()],
        sender: authenticator.peer(),
        incarnation: 1,
        round,
        sequence: round,
        state,
        payload: Digest::of(payload),
        spent: None,
    };
    Envelope::seal(&authenticator, header, payload.to_vec())
}

/// A CBOR byte string of up to 65,535 bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let head = match length {
        0..24 => vec![0x40 | length as u8],
        24..256 => vec![0x58, length as u8],
        _ => [&[0x59], &(length as u16).to_be_bytes()[..]].concat(),
    };
    [&head, bytes].concat()
}

/// An announcement of four values, spelled as `messages_are_spelled_as_the_protocol_says` has it.
fn announcement(base: Option<Digest>, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xa4 + u8::from(base.is_some())];
    bytes.extend(
        base.iter()
            .flat_map(|base| [vec![0], string(&base.0)].concat()),
    );
    bytes.extend([1, 4, 2, 10, 3, 2, 4]);
    bytes.extend(body);
    bytes
}

fn inline(body: &[u8]) -> Vec<u8> {
    [vec![0x82, 0], string(body)].concat()
}

fn pulled(digest: Digest, length: u8) -> Vec<u8> {
    [vec![0x83, 1], string(&digest.0), vec![0x18, length]].concat()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

// --- envelopes ---

fn envelope(bytes: &[u8]) -> bool {
    let mut peer = ready("");
    receive(&mut peer, 2, bytes);
    Envelope::open(&Authenticator::from_secret(&secret(1)), bytes).is_ok()
}

fn envelopes() -> Files {
    let update = || announcement(None, &inline(&little_endian(&VALUES)));
    let good = signed(2, UPDATE, 0, Digest::of_values(&VALUES), &update());
    let bytes = good.to_bytes();
    let other_version = {
        // The version is the header's first field, behind the heads of two arrays and a string.
        let mut bytes = bytes.clone();
        assert_eq!(bytes[4..5], [PROTOCOL_VERSION as u8], "the version's place");
        bytes[4] += 1;
        bytes
    };
    let parts = |header: &[u8], signature: &[u8], payload: &[u8]| {
        [
            vec![0x83],
            string(header),
            string(signature),
            string(payload),
        ]
        .concat()
    };
    let (header, signature) = (&good.header_bytes, &good.signature);
    let deep = |head: u8, times: usize| [vec![head; times], vec![0]].concat();
    vec![
        ("valid-update", bytes.clone()),
        ("valid-header-alone", good.header_to_bytes()),
        ("valid-hello", hello(2).to_vec()),
        (
            "valid-goodbye",
            signed(2, GOODBYE, 0, Digest([0; 32]), &[0xa1, 0, 0xf5]).to_bytes(),
        ),
        ("refused-version", other_version),
        (
            "refused-other-payload",
            parts(header, signature, b"another"),
        ),
        ("refused-no-signature", parts(header, &[], &good.payload)),
        (
            "refused-short-signature",
            parts(header, &signature[..63], &good.payload),
        ),
        (
            "refused-long-signature",
            parts(header, &[&signature[..], &[0]].concat(), &good.payload),
        ),
        (
            "refused-zero-signature",
            parts(header, &[0; 64], &good.payload),
        ),
        (
            "refused-two-parts",
            [vec![0x82], string(header), string(signature)].concat(),
        ),
        (
            "refused-length-of-string",
            [vec![0x83, 0x5b], vec![0xff; 8], header.clone()].concat(),
        ),
        (
            "refused-length-of-array",
            [vec![0x9b], vec![0xff; 8]].concat(),
        ),
        (
            "refused-length-of-map",
            [vec![0xbb], vec![0x7f; 8]].concat(),
        ),
        (
            "refused-indefinite",
            [vec![0x9f], bytes[1..].to_vec(), vec![0xff]].concat(),
        ),
        ("refused-indefinite-strings", vec![0x5f; 1000]),
        ("refused-deep-arrays", deep(0x81, 2000)),
        ("refused-deep-maps", deep(0xa1, 1000)),
        ("refused-tags", [vec![0xc0; 1000], bytes.clone()].concat()),
    ]
}

// --- payloads ---

fn payload(bytes: &[u8]) -> bool {
    let [kind, round, payload @ ..] = bytes else {
        return false;
    };
    let (kind, round) = (kind % KINDS.len() as u8, u64::from(*round));
    let state = match kind {
        UPDATE => Digest::of_values(&VALUES),
        _ => Digest([0; 32]),
    };
    let mut peer = if kind == HELLO {
        let mut peer = peer_of(1, the_charter());
        start(&mut peer);
        up(&mut peer, 2);
        peer
    } else {
        ready("")
    };
    let message = signed(2, kind, round, state, payload).to_bytes();
    let effects = receive(&mut peer, 2, &message);
    // What it left behind must not harm the rest of the round either.
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    refusals(&effects).is_empty()
}

fn payloads() -> Files {
    let of = |kind: u8, payload: &[u8]| [&[kind, 0], payload].concat();
    let update = |body: &[u8]| of(UPDATE, &announcement(None, body));
    let handshake = Envelope::open(&Authenticator::from_secret(&secret(1)), hello(2));
    let handshake = handshake.expect("our own").payload;
    // The last fields: where it has reached the receiver, and a list of address records.
    assert_eq!(
        handshake[handshake.len() - 4..],
        [6, 0x80, 7, 0x80],
        "no addresses"
    );
    let front = &handshake[..handshake.len() - 4];
    let introduces =
        |reached: &[u8], records: &[u8]| of(HELLO, &[front, &[6], reached, &[7], records].concat());
    // A record by its fields in order: peer, incarnation, version, scope, addresses, signature.
    let record = |peer: u8, addresses: &[u8], signature: &[u8]| {
        let peer = string(&[peer; 32]);
        [
            &[0xa6, 0],
            &peer[..],
            &[1, 1, 2, 0, 3, 2, 4],
            addresses,
            &[5],
            signature,
        ]
        .concat()
    };
    let unsigned = string(&[7; 64]);
    let crowd = |peers: u16, addresses: &[u8]| {
        let records = (0..peers).flat_map(|peer| record(peer as u8, addresses, &unsigned));
        let [high, low] = peers.to_be_bytes();
        introduces(
            &[0x80],
            &[vec![0x99, high, low], records.collect()].concat(),
        )
    };
    let [one, other] = [b"one", b"two"].map(|what| {
        let state = Digest::of(what);
        string(&signed(3, UPDATE, 0, state, what).header_to_bytes())
    });
    let proof = |one: &[u8], other: &[u8]| of(PROOF, &[&[0x82], one, other].concat());
    let digest = Digest::of(b"a body");
    let loss = |head: &[u8]| {
        let mut payload = announcement(None, &inline(&little_endian(&VALUES)));
        payload[0] += 1;
        of(UPDATE, &[&payload[..], &[5], head].concat())
    };
    let huge = [0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let not_finite = little_endian(&[f32::NAN, f32::INFINITY, 0.0, 0.0]);
    vec![
        ("valid-hello", of(HELLO, &handshake)),
        (
            "valid-hello-reached",
            introduces(&[0x81, 0x63, b'/', b'i', b'p'], &[0x80]),
        ),
        ("refused-hello-of-a-crowd", crowd(300, &[0x80])),
        (
            "refused-hello-unsigned-record",
            crowd(1, &[0x81, 0x63, b'/', b'i', b'p']),
        ),
        (
            "refused-hello-short-signature",
            introduces(
                &[0x80],
                &[&[0x81], &record(2, &[0x80], &string(&[7; 3]))[..]].concat(),
            ),
        ),
        (
            "refused-hello-many-addresses",
            crowd(1, &[vec![0x98, 200], [0x61, b'x'].repeat(200)].concat()),
        ),
        (
            "refused-hello-long-address",
            crowd(1, &[vec![0x81, 0x79, 0x08, 0], vec![b'x'; 0x800]].concat()),
        ),
        (
            "refused-hello-reached-long",
            introduces(
                &[vec![0x81, 0x79, 0x08, 0], vec![b'x'; 0x800]].concat(),
                &[0x80],
            ),
        ),
        (
            "refused-hello-length-of-list",
            introduces(&[0x80], &[0x9b, 0, 0, 0, 1, 0, 0, 0, 0]),
        ),
        ("valid-update", update(&inline(&little_endian(&VALUES)))),
        ("valid-update-pulled", update(&pulled(digest, 16))),
        ("refused-update-not-finite", update(&inline(&not_finite))),
        ("refused-update-other-values", update(&inline(&[0; 16]))),
        ("refused-update-short", update(&inline(&[0; 15]))),
        ("refused-update-long", update(&inline(&[0; 17]))),
        ("refused-update-empty", update(&inline(&[]))),
        (
            "refused-update-pulls-too-much",
            update(&[vec![0x83, 1], string(&digest.0), huge.to_vec()].concat()),
        ),
        (
            "refused-update-length-of-body",
            update(&[vec![0x82, 0, 0x5b], vec![0x7f; 8]].concat()),
        ),
        ("refused-update-unknown-body", update(&[0x82, 2, 0x40])),
        (
            "refused-update-dimension",
            of(
                UPDATE,
                &[
                    vec![0xa4, 1],
                    huge.to_vec(),
                    vec![2, 10, 3, 2, 4],
                    inline(&[]),
                ]
                .concat(),
            ),
        ),
        ("refused-update-loss", loss(&[0xf9, 0x7e, 0])),
        ("refused-update-deep", of(UPDATE, &vec![0xa1; 1000])),
        (
            "update-of-a-later-round",
            [vec![UPDATE, 7], announcement(None, &pulled(digest, 16))].concat(),
        ),
        ("valid-want", of(WANT, &[0xa1, 0, 0])),
        ("want-far", of(WANT, &[&[0xa1, 0], &huge[..]].concat())),
        ("refused-want-text", of(WANT, &[0xa1, 0, 0x61, b'x'])),
        ("valid-skip", of(SKIP, &[0xa1, 0, 0])),
        ("skip-far", of(SKIP, &[&[0xa1, 0], &huge[..]].concat())),
        ("refused-skip-twice", of(SKIP, &[0xa2, 0, 5, 0, 6])),
        ("valid-goodbye", of(GOODBYE, &[0xa1, 0, 0xf4])),
        ("goodbye-finished", of(GOODBYE, &[0xa1, 0, 0xf5])),
        ("refused-goodbye-number", of(GOODBYE, &[0xa1, 0, 2])),
        ("valid-proof", proof(&one, &other)),
        ("refused-proof-of-nothing", proof(&one, &one)),
        ("refused-proof-empty", proof(&[0x40], &[0x40])),
        (
            "refused-proof-deep",
            proof(&string(&[0x82; 900]), &string(&[0x82; 900])),
        ),
    ]
}

// --- what is pulled ---

/// An update whose body is `bytes`, pulled under one of three codecs.
fn body(bytes: &[u8]) -> bool {
    let [codec, bytes @ ..] = bytes else {
        return false;
    };
    let (codec, base) = match codec % 3 {
        0 => ("", None),
        1 => ("kind = \"int8\"", None),
        _ => (
            "kind = \"top-k\"\nshare = 1",
            Some(Digest::of_values(&[0.0; 4])),
        ),
    };
    let length = codec_of(codec).bytes_max(4) as u8;
    let state = Digest::of_values(&VALUES);
    let payload = announcement(base, &pulled(Digest::of(bytes), length));
    pull(codec, state, &payload, Digest::of(bytes), bytes)
}

/// A replica that a peer asks for because an update builds on one that it does not have.
fn keyframe(bytes: &[u8]) -> bool {
    // The sender signs that this is its state, whatever it is.
    let state = Digest::of(bytes);
    let unknown = Some(Digest([9; 32]));
    let payload = announcement(unknown, &inline(&[0; 8]));
    pull("kind = \"top-k\"", state, &payload, state, bytes)
}

fn pull(codec: &str, state: Digest, payload: &[u8], digest: Digest, bytes: &[u8]) -> bool {
    let mut peer = ready(codec);
    let message = signed(2, UPDATE, 0, state, payload).to_bytes();
    let announced = receive(&mut peer, 2, &message);
    let asked =
        |effect: &Effect| matches!(effect, Effect::Fetch { digest: of, .. } if *of == digest);
    if !announced.iter().any(asked) {
        // Nothing is pulled for a state that is there already, which may be the initial one.
        assert_eq!(
            state,
            Digest::of_values(&[0.0; 4]),
            "{:?}",
            lines(&announced)
        );
        return lines(&announced).contains(&"event accepted".to_owned());
    }
    let fetched = Input::Fetched {
        digest,
        bytes: Arc::new(bytes.to_vec()),
    };
    let effects = handle(&mut peer, fetched);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    lines(&effects).contains(&"event accepted".to_owned())
}

fn encoded(codec: &str, values: &[f32]) -> Vec<u8> {
    let mut random = Randomness {
        own: Seed::from_number(2).stream("own"),
        shared: Seed::from_number(1).stream("shared"),
    };
    codec_of(codec).encode(values, &mut random)
}

fn bodies() -> Files {
    let under = |codec: u8, body: &[u8]| [&[codec], body].concat();
    vec![
        ("valid-identity", under(0, &little_endian(&VALUES))),
        (
            "valid-top-k",
            under(2, &encoded("kind = \"top-k\"\nshare = 1", &VALUES)),
        ),
        ("int8", under(1, &encoded("kind = \"int8\"", &VALUES))),
        ("refused-identity-other", under(0, &[0; 16])),
        ("refused-identity-not-finite", under(0, &[0xff; 16])),
        ("refused-identity-long", under(0, &[0; 2000])),
        ("refused-int8-not-finite", under(1, &[0xff; 8])),
        ("refused-int8-long", under(1, &[1; 2000])),
        ("refused-top-k-ones", under(2, &[0xff; 24])),
        ("refused-top-k-zeros", under(2, &[0; 24])),
        ("refused-top-k-long", under(2, &[0x55; 2000])),
    ]
}

fn keyframes() -> Files {
    vec![
        ("valid-values", little_endian(&VALUES)),
        ("valid-zeros", vec![0; 16]),
        ("refused-not-finite", little_endian(&[f32::NAN; 4])),
        ("refused-infinite", little_endian(&[f32::INFINITY; 4])),
        ("refused-short", vec![0; 15]),
        ("refused-other-dimension", vec![0; 20]),
        ("refused-long", vec![0; 2000]),
    ]
}

// --- codecs ---

const DIMENSION: usize = 40;

fn shaped(name: &str) -> Box<dyn Codec> {
    let mut codec = codec_of(&format!("kind = {name:?}"));
    let tensor = |[offset, rows, columns]: [usize; 3]| TensorShape::from([offset, rows, columns]);
    codec.shape(&[[2, 6, 3], [20, 4, 5]].map(tensor));
    codec
}

fn decode(name: &str, bytes: &[u8]) -> bool {
    let decoded = shaped(name).decode(bytes, DIMENSION);
    decoded.is_ok_and(|values| {
        assert_eq!(values.len(), DIMENSION, "{name}");
        true
    })
}

fn encodings(name: &str) -> Files {
    let codec = shaped(name);
    let mut stream = Seed::from_number(2).stream("values");
    let values: Vec<f32> = (0..DIMENSION).map(|_| stream.normal() as f32).collect();
    let mut encode = |values: &[f32]| {
        let mut random = Randomness {
            own: stream.clone(),
            shared: Seed::from_number(1).stream("shared"),
        };
        stream.next_u64();
        codec.encode(values, &mut random)
    };
    let most = codec.bytes_max(DIMENSION);
    vec![
        ("valid-values", encode(&values)),
        ("valid-zeros", encode(&[0.0; DIMENSION])),
        (
            "valid-one",
            encode(&[[1e30].as_slice(), &[0.0; DIMENSION - 1]].concat()),
        ),
        ("ones", vec![0xff; most]),
        ("alternating", vec![0x55; most]),
        ("refused-longer", vec![0; most + 1]),
        ("refused-ones-longer", vec![0xff; most + 1]),
        ("refused-long", vec![0x7f; 1000]),
    ]
}

macro_rules! codecs {
    ($($name:literal = $function:ident),* $(,)?) => {
        $(fn $function(bytes: &[u8]) -> bool {
            decode($name, bytes)
        })*

        fn codecs() -> Vec<Target> {
            vec![$(Target {
                name: concat!("codec-", $name),
                decode: $function,
                files: || encodings($name),
                mutations: 1000,
                growth_max: LITTLE,
            }),*]
        }
    };
}

codecs! {
    "identity" = identity,
    "f16" = half_precision,
    "bf16" = bfloat16,
    "int8" = int8,
    "int4" = int4,
    "qsgd" = qsgd,
    "sign" = sign,
    "top-k" = top_k,
    "random-k" = random_k,
    "power-sgd" = power_sgd,
}

#[test]
fn no_bytes_harm_a_decoder() {
    let mut targets: Vec<Target> = [
        (
            "envelope",
            envelope as fn(&[u8]) -> bool,
            envelopes as fn() -> Files,
        ),
        ("payload", payload, payloads),
        ("body", body, bodies),
        ("keyframe", keyframe, keyframes),
    ]
    .map(|(name, decode, files)| Target {
        name,
        decode,
        files,
        mutations: 150,
        growth_max: LITTLE,
    })
    .into();
    targets.extend(codecs());
    for entry in &CODECS {
        let name = format!("codec-{}", entry.name);
        assert!(
            targets.iter().any(|target| target.name == name),
            "{name} has no corpus"
        );
    }
    drive(&targets);
    // Too large to stand among the files.
    assert!(!envelope(&vec![0x81; ENVELOPE_BYTES_MAX + 1]));
    assert!(!envelope(&vec![0x81; ENVELOPE_BYTES_MAX]));
}
