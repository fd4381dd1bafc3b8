//! What every codec in the table must hold, whatever its parameters.

use kith_consensus::privacy::ledger::Total;
use kith_consensus::section::Document;
use kith_consensus::{Digest, Genesis, Seed};
use kith_gossip::codec::{CODECS, Codec, Form, Randomness, TensorShape, codec_from_section};
use kith_gossip::envelope::{
    Authenticator, ENVELOPE_BYTES_MAX, Envelope, HEADER_BYTES_MAX, Header, Kind, PROTOCOL_VERSION,
};
use proptest::prelude::*;

/// What a codec promises of its error, as a share of ‖x‖² (the bound in the header of each codec's file).
enum Promise {
    /// At most this, whatever is drawn.
    Loses(fn(&[f32]) -> f64),
    /// At most this on average, and never more than all.
    LosesOnAverage(fn(&[f32]) -> f64),
    /// At most this on average.
    Shrinks(fn(&[f32]) -> f64),
    /// At most this on average, and nothing is lost on average.
    Unbiased(fn(&[f32]) -> f64),
}
use Promise::{Loses, LosesOnAverage, Shrinks, Unbiased};

/// Sections of every codec, with what each promises.
const PROMISES: &[(&str, Promise)] = &[
    ("kind = \"identity\"", Loses(|_| 0.0)),
    ("kind = \"identity\"\nreplica = true", Loses(|_| 0.0)),
    ("kind = \"f16\"", Loses(|_| HALF)),
    ("kind = \"f16\"\nreplica = true", Loses(|_| HALF)),
    ("kind = \"bf16\"", Loses(|_| 1.0 / 65536.0)),
    ("kind = \"bf16\"\nreplica = true", Loses(|_| 1.0 / 65536.0)),
    ("kind = \"int8\"", Loses(|_| 64.0 / (4.0 * 127.0 * 127.0))),
    (
        "kind = \"int8\"\nreplica = true\nblock = 7",
        Loses(|_| 7.0 / (4.0 * 127.0 * 127.0)),
    ),
    (
        "kind = \"int8\"\nrounding = \"stochastic\"",
        Unbiased(|_| 64.0 / (4.0 * 127.0 * 127.0)),
    ),
    ("kind = \"int4\"", Loses(|_| 32.0 / 196.0)),
    ("kind = \"int4\"\nblock = 4096", Loses(|_| 1.0)),
    (
        "kind = \"int4\"\nreplica = true\nblock = 5",
        Loses(|_| 5.0 / 196.0),
    ),
    (
        "kind = \"int4\"\nrounding = \"stochastic\"",
        Unbiased(|_| 32.0 / 196.0),
    ),
    (
        "kind = \"int4\"\nrounding = \"stochastic\"\nreplica = true\nblock = 784",
        Shrinks(|_| 1.0 - 1.0 / 5.0),
    ),
    ("kind = \"qsgd\"", Unbiased(|values| qsgd(values, 127.0))),
    (
        "kind = \"qsgd\"\nlevels = 1",
        Unbiased(|values| qsgd(values, 1.0)),
    ),
    (
        "kind = \"qsgd\"\nlevels = 32767",
        Unbiased(|values| qsgd(values, 32_767.0)),
    ),
    (
        "kind = \"qsgd\"\nlevels = 4\nreplica = true",
        Shrinks(|values| 1.0 - 1.0 / (1.0 + qsgd(values, 4.0))),
    ),
    ("kind = \"sign\"", Loses(sign)),
    ("kind = \"sign\"\nreplica = false", Loses(sign)),
    (
        "kind = \"top-k\"",
        Loses(|values| 1.0 - share(0.06, values)),
    ),
    (
        "kind = \"top-k\"\nshare = 0.4\nvalues = \"f16\"",
        Loses(|values| 1.0 - share(0.4, values) + HALF),
    ),
    (
        "kind = \"top-k\"\nshare = 0.4\nvalues = \"int8\"",
        Loses(|_| 1.0),
    ),
    (
        "kind = \"top-k\"\nshare = 0.4\nvalues = \"int4\"",
        Loses(|_| 1.0),
    ),
    (
        "kind = \"top-k\"\nshare = 0.4\nvalues = \"sign\"",
        Loses(|values| 1.0 - 1.0 / values.len().max(1) as f64),
    ),
    (
        "kind = \"random-k\"",
        LosesOnAverage(|values| 1.0 - share(0.1, values)),
    ),
    (
        "kind = \"random-k\"\nsupport = \"own\"\nvalues = \"f16\"",
        LosesOnAverage(|values| 1.0 - share(0.1, values)),
    ),
    (
        "kind = \"random-k\"\nvalues = \"int8\"\nreplica = false",
        LosesOnAverage(|values| 1.001 - share(0.1, values)),
    ),
    (
        "kind = \"random-k\"\nscaled = true\nshare = 0.3",
        Unbiased(|values| 1.0 / share(0.3, values) - 1.0),
    ),
    ("kind = \"power-sgd\"", Loses(|_| 1.0)),
    (
        "kind = \"power-sgd\"\nrank = 1\niterations = 1\nreplica = false",
        Loses(|_| 1.0),
    ),
];

/// Squared relative error of half precision.
const HALF: f64 = 1.0 / (1u64 << 22) as f64;

fn qsgd(values: &[f32], levels: f64) -> f64 {
    let dimension = values.len() as f64;
    (dimension / (levels * levels)).min(dimension.sqrt() / levels)
}

fn sign(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
    1.0 - sum * sum / (values.len() as f64 * norm(values)).max(f64::MIN_POSITIVE)
}

/// k/d where k is rounded up.
fn share(share: f64, values: &[f32]) -> f64 {
    let dimension = values.len() as f64;
    (share * dimension).ceil() / dimension
}

fn codec(text: &str) -> Box<dyn Codec> {
    let mut document = Document::parse(&format!("[codec]\n{text}\n")).expect("toml");
    let codec = document.section("codec", codec_from_section);
    document
        .finish()
        .unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    codec
}

fn codecs() -> impl Iterator<Item = (&'static str, Box<dyn Codec>)> {
    let shaped = PROMISES
        .iter()
        .filter(|(text, _)| text.contains("power-sgd"))
        .map(|(text, _)| {
            let mut codec = codec(text);
            codec.shape(&[
                TensorShape {
                    offset: 20,
                    rows: 4,
                    columns: 5,
                },
                TensorShape {
                    offset: 2,
                    rows: 6,
                    columns: 3,
                },
            ]);
            (*text, codec)
        });
    PROMISES
        .iter()
        .map(|(text, _)| (*text, codec(text)))
        .chain(shaped)
}

fn random(own: u64) -> Randomness {
    Randomness {
        own: Seed::from_number(own).stream("own"),
        shared: Seed::from_number(1).stream("shared"),
    }
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}

fn normal(dimension: usize) -> Vec<f32> {
    let mut stream = Seed::from_number(2).stream("values");
    (0..dimension).map(|_| stream.normal() as f32).collect()
}

#[test]
fn every_codec_in_the_table_has_its_promises_here() {
    for entry in &CODECS {
        assert!(
            PROMISES
                .iter()
                .any(|(text, _)| codec(text).name() == entry.name),
            "{} is not tested",
            entry.name
        );
        // Its name, and nothing else, is a section too.
        assert_eq!(
            codec(&format!("kind = {:?}", entry.name)).name(),
            entry.name
        );
    }
}

#[test]
fn what_is_lost_on_average_is_what_the_bound_allows() {
    let draws = 2000;
    // One large value and many small ones is what one scale for all serves worst.
    let spiked = [&[7.0][..], &[0.25; 783]].concat();
    for values in [normal(3), normal(64), normal(150), spiked] {
        let dimension = values.len();
        for (text, promise) in PROMISES {
            let (bound, unbiased) = match promise {
                Loses(_) => continue,
                LosesOnAverage(bound) | Shrinks(bound) => (bound(&values), false),
                Unbiased(bound) => (bound(&values), true),
            };
            let (codec, mut random) = (codec(text), random(1));
            let mut sums = vec![0f64; dimension];
            let mut lost = 0.0;
            for _ in 0..draws {
                let decoded = codec
                    .decode(&codec.encode(&values, &mut random), dimension)
                    .expect("its own encoding");
                lost += distance(&values, &decoded) / f64::from(draws) / norm(&values);
                sums.iter_mut()
                    .zip(&decoded)
                    .for_each(|(sum, value)| *sum += f64::from(*value) / f64::from(draws));
            }
            // 2000 draws of one fixed seed: their mean is within a few parts in a hundred of the
            // expectation.
            assert!(
                lost <= bound * 1.05 + 1e-6,
                "{text}, {dimension} values: loses {lost} where {bound} is promised"
            );
            let bias = sums
                .iter()
                .zip(&values)
                .map(|(mean, value)| (mean - f64::from(*value)).powi(2))
                .sum::<f64>();
            let noise = bound / f64::from(draws);
            if unbiased {
                assert!(
                    bias / norm(&values) <= 3.0 * noise + 1e-12,
                    "{text}, {dimension} values: bias {bias}"
                );
            }
        }
    }
}

#[test]
fn a_body_that_is_too_short_for_its_vector_is_refused_before_anything_is_allocated_for_it() {
    // No machine has this much memory: allocating first would end the test.
    let dimension = 1 << 50;
    for (text, codec) in codecs() {
        let bytes = codec.encode(&normal(60), &mut random(1));
        for length in 0..bytes.len() {
            assert!(
                codec.decode(&bytes[..length], dimension).is_err(),
                "{text}: {length} bytes"
            );
        }
    }
    // As many places as the share names, in each form, and no bytes for them.
    let codec = codec("kind = \"top-k\"\nshare = 0.000001");
    for tag in 0..4 {
        let bytes = [&[tag, 0x80, 0x80, 0x80, 0x80, 4][..], &[7; 90]].concat(); // 2³⁰ as LEB128
        assert!(
            codec.decode(&bytes, (1 << 30) * 1_000_000).is_err(),
            "form {tag}"
        );
    }
}

#[test]
fn any_flipped_bit_decodes_to_as_many_values_or_is_refused_and_other_lengths_are_refused() {
    for dimension in [1, 8, 37, 70] {
        for (text, codec) in codecs() {
            let mut bytes = codec.encode(&normal(dimension), &mut random(1));
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(values) = codec.decode(&bytes, dimension) {
                    assert_eq!(values.len(), dimension, "{text}: bit {bit}");
                }
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            for length in 0..bytes.len() {
                assert!(
                    codec.decode(&bytes[..length], dimension).is_err(),
                    "{text}: {length} of {} bytes",
                    bytes.len()
                );
            }
            bytes.push(0);
            assert!(
                codec.decode(&bytes, dimension).is_err(),
                "{text}: a byte too many"
            );
        }
    }
}

#[test]
fn encodings_never_change_their_bytes() {
    // Peers of other builds and on other CPUs must read them and come to the same replica: a change
    // here is a change of the wire format. The values are short binary fractions, so no library's
    // logarithm or cosine has a part in them.
    let mut stream = Seed::from_number(3).stream("values");
    let values: Vec<f32> = (0..3000)
        .map(|_| (stream.bounded(1 << 20) as f32 / 1024.0 - 512.0) * stream.unit() as f32)
        .collect();
    let digests: Vec<String> = ENCODINGS
        .iter()
        .map(|(text, _)| {
            let bytes = codec(text).encode(&values, &mut random(1));
            let decoded = codec(text)
                .decode(&bytes, values.len())
                .expect("its own encoding");
            format!(
                "{:.8} {:.8}",
                Digest::of(&bytes).to_string(),
                Digest::of_values(&decoded).to_string()
            )
        })
        .collect();
    let expected: Vec<&str> = ENCODINGS.iter().map(|(_, digests)| *digests).collect();
    assert_eq!(digests, expected);
}

/// Sections, and how the digests of an encoding and of what it decodes to begin.
const ENCODINGS: &[(&str, &str)] = &[
    ("kind = \"identity\"", "457f9cb6 457f9cb6"),
    ("kind = \"f16\"", "42789c4d f8e9ece8"),
    ("kind = \"int8\"", "72163278 5d544971"),
    ("kind = \"int4\"", "7e6392c0 17beb400"),
    (
        "kind = \"int4\"\nrounding = \"stochastic\"",
        "6d285731 9b33535b",
    ),
    ("kind = \"qsgd\"\nlevels = 4", "8f554976 be41b053"),
    ("kind = \"sign\"", "fda30d3a 9714fcf4"),
    ("kind = \"top-k\"\nshare = 0.01", "356b88e5 aa6e37aa"),
    ("kind = \"top-k\"\nvalues = \"int8\"", "57f0924f 8c2ec1b1"),
    ("kind = \"random-k\"\nvalues = \"f16\"", "67442284 e2906035"),
    ("kind = \"power-sgd\"", "4f11f141 59fd4364"),
];

#[test]
fn bytes_that_no_encoder_writes_are_refused() {
    let one = 1f32.to_le_bytes();
    let scaled = |scale: [u8; 4], rest: &[u8]| [&scale[..], rest].concat();
    let cases: Vec<(&str, usize, Vec<u8>)> = vec![
        ("kind = \"int8\"", 2, scaled(one, &[0x80, 1])), // -128
        ("kind = \"int4\"", 2, scaled(one, &[0x18])),    // -8 in the lower half
        ("kind = \"int4\"", 2, scaled(one, &[0x81])),    // -8 in the upper half
        ("kind = \"int4\"", 1, scaled(one, &[0x11])),    // a second value
        ("kind = \"qsgd\"\nlevels = 4", 2, scaled(one, &[0x1a])), // level 5
        ("kind = \"qsgd\"\nlevels = 4", 2, scaled(one, &[0x12])), // minus zero
        ("kind = \"sign\"", 3, scaled(one, &[0x0f])),    // a fourth sign
        (
            "kind = \"top-k\"\nshare = 0.5",
            2,
            [&[0, 1, 2][..], &one].concat(),
        ), // position 2 of 2
        (
            "kind = \"top-k\"\nshare = 0.5",
            2,
            [&[0, 0x81, 0, 1][..], &one].concat(),
        ), // a longer 1
        (
            "kind = \"top-k\"\nshare = 1.0\nvalues = \"int8\"",
            1,
            [&[0, 1, 0][..], &one, &[0x80]].concat(),
        ), // -128
        (
            "kind = \"top-k\"\nshare = 1.0\nvalues = \"int4\"",
            1,
            [&[0, 1, 0][..], &one, &[0x08]].concat(),
        ), // -8
        (
            "kind = \"top-k\"\nshare = 1.0\nvalues = \"sign\"",
            1,
            [&[0, 1, 0][..], &one, &[3]].concat(),
        ), // a second sign
    ];
    for (text, dimension, bytes) in cases {
        let codec = codec(text);
        assert!(
            bytes.len() <= codec.bytes_max(dimension),
            "{text} {bytes:?} would be refused for its length alone"
        );
        assert!(codec.decode(&bytes, dimension).is_err(), "{text} {bytes:?}");
    }
    for scale in [f32::NAN, f32::INFINITY, -1.0, -0.0] {
        for (text, rest) in [
            ("kind = \"int8\"", 8),
            ("kind = \"int4\"", 4),
            ("kind = \"qsgd\"", 8),
            ("kind = \"sign\"", 1),
        ] {
            assert!(
                codec(text)
                    .decode(&scaled(scale.to_le_bytes(), &vec![0; rest]), 8)
                    .is_err(),
                "{text}: {scale}"
            );
            assert!(
                codec(text).decode(&scaled(one, &vec![0; rest]), 8).is_ok(),
                "{text}"
            );
        }
    }
}

#[test]
fn a_shared_support_is_the_same_for_all_senders_and_an_own_one_is_not() {
    let places = |text: &str, own: u64| {
        let (codec, values) = (codec(text), normal(100));
        let decoded = codec
            .decode(&codec.encode(&values, &mut random(own)), 100)
            .expect("its own encoding");
        decoded
            .iter()
            .map(|value| *value != 0.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        places("kind = \"random-k\"", 1),
        places("kind = \"random-k\"", 2)
    );
    assert_ne!(
        places("kind = \"random-k\"\nsupport = \"own\"", 1),
        places("kind = \"random-k\"\nsupport = \"own\"", 2)
    );
}

#[test]
fn scaled_values_are_refused_in_a_replica_and_as_signs() {
    for (other, why) in [
        ("replica = true", "stand alone"),
        ("values = \"sign\"", "right on average"),
        ("values = \"int4\"", "right on average"),
    ] {
        let text = format!("[codec]\nkind = \"random-k\"\nscaled = true\n{other}\n");
        let mut document = Document::parse(&text).expect("toml");
        document.section("codec", codec_from_section);
        let problems = document.finish().expect_err("a contradiction");
        assert!(problems[0].to_string().contains(why), "{problems:?}");
    }
}

proptest! {
    #[test]
    fn an_encoding_has_its_length_and_decodes_to_finite_values_nearby(
        values in proptest::collection::vec(-1e4f32..1e4, 0..300),
        seed in any::<u64>(),
    ) {
        for (text, codec) in codecs() {
            let bytes = codec.encode(&values, &mut random(seed));
            prop_assert!(bytes.len() <= codec.bytes_max(values.len()), "{}", text);
            let decoded = codec.decode(&bytes, values.len()).expect("its own encoding");
            prop_assert_eq!(decoded.len(), values.len());
            prop_assert!(decoded.iter().all(|value| value.is_finite()), "{}", text);
            let bound = match PROMISES.iter().find(|(known, _)| *known == text).map(|(_, promise)| promise) {
                Some(Loses(bound)) => bound(&values),
                Some(LosesOnAverage(_)) => 1.0,
                _ => continue,
            };
            // Slack for the rounding of scales, and for half floats below their normal range.
            let most = norm(&values) * (bound + 1e-6) + 1e-12;
            prop_assert!(values.is_empty() || distance(&values, &decoded) <= most, "{}", text);
        }
    }

    #[test]
    fn magnitudes_at_the_ends_of_the_range_stay_finite(
        values in proptest::collection::vec(any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |value| value.is_finite()), 1..40),
    ) {
        // A vector's norm is capped far below; what a codec makes of the largest floats is still no
        // infinity.
        let values: Vec<f32> = values.iter().map(|value| value / 256.0).collect();
        for (text, codec) in codecs() {
            let bytes = codec.encode(&values, &mut random(1));
            let decoded = codec.decode(&bytes, values.len()).expect("its own encoding");
            prop_assert!(decoded.iter().all(|value| value.is_finite()), "{}", text);
        }
    }

    #[test]
    fn any_bytes_decode_to_the_dimension_or_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        dimension in 0usize..200,
    ) {
        for (text, codec) in codecs() {
            // As they are, and cut to a length that gets further.
            for bytes in [&bytes[..], &bytes[..bytes.len().min(codec.bytes_max(dimension))]] {
                if let Ok(values) = codec.decode(bytes, dimension) {
                    prop_assert_eq!(values.len(), dimension, "{}", text);
                }
            }
        }
    }

    #[test]
    fn a_replica_that_is_fed_again_and_again_reaches_what_stands_still(
        values in proptest::collection::vec(-10f32..10.0, 2..60),
    ) {
        for (text, codec) in codecs().filter(|(_, codec)| codec.form() == Form::Replica) {
            let mut replica = vec![0f32; values.len()];
            let mut random = random(1);
            // Each sheds some share of the error, which the worst vectors make small; most are
            // there after a few dozen.
            for _ in 0..4000 {
                if distance(&values, &replica).sqrt() < 1e-3 {
                    break;
                }
                let difference: Vec<f32> = values.iter().zip(&replica).map(|(value, replica)| value - replica).collect();
                let bytes = codec.encode(&difference, &mut random);
                let decoded = codec.decode(&bytes, values.len()).expect("its own encoding");
                replica.iter_mut().zip(decoded).for_each(|(replica, change)| *replica += change);
            }
            prop_assert!(distance(&values, &replica).sqrt() < 1e-3, "{}: {}", text, distance(&values, &replica));
        }
    }

    #[test]
    fn any_flipped_bit_of_an_envelope_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..200), spent in any::<Option<u64>>(), bit in any::<usize>()) {
        let authenticator = Authenticator::from_secret(&[5; 32]);
        let digest = kith_consensus::Digest::of(&payload);
        let header = Header { version: PROTOCOL_VERSION, federation: Genesis(digest), kind: Kind::Update, sender: authenticator.peer(), incarnation: 1, round: 3, sequence: 4, state: digest, payload: digest, spent: spent.map(Total) };
        let envelope = Envelope::seal(&authenticator, header, payload);
        prop_assert!(envelope.header_to_bytes().len() <= HEADER_BYTES_MAX);
        let mut bytes = envelope.to_bytes();
        prop_assert_eq!(&Envelope::open(&authenticator, &bytes).expect("its own envelope"), &envelope);
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A flip may turn the payload's own length into another valid framing only if everything
        // still verifies.
        prop_assert!(Envelope::open(&authenticator, &bytes).is_err(), "bit {bit}");
    }

    #[test]
    fn any_bytes_open_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let authenticator = Authenticator::from_secret(&[5; 32]);
        prop_assert!(Envelope::open(&authenticator, &bytes).is_err());
    }
}

/// The last version spelled kinds as words: who still speaks it learns that, and not that it speaks
/// nonsense.
#[test]
fn another_version_is_refused_by_name_also_where_its_headers_are_spelled_otherwise() {
    let authenticator = Authenticator::from_secret(&[5; 32]);
    let digest = kith_consensus::Digest::of(b"");
    let header = Header {
        version: PROTOCOL_VERSION - 1,
        federation: Genesis(digest),
        kind: Kind::Update,
        sender: authenticator.peer(),
        incarnation: 1,
        round: 3,
        sequence: 4,
        state: digest,
        payload: digest,
        spent: None,
    };
    let header_bytes = serde_cbor::to_vec(&header).expect("words in place of numbers");
    let signature = authenticator.sign_bytes(&header_bytes);
    let envelope = Envelope {
        header,
        header_bytes,
        signature,
        payload: Vec::new(),
    };
    let refusal =
        Envelope::open(&authenticator, &envelope.to_bytes()).expect_err("another version");
    assert_eq!(refusal.name(), "version");
}

#[test]
fn a_bomb_is_refused_before_it_is_decoded() {
    let authenticator = Authenticator::from_secret(&[5; 32]);
    let refusal =
        Envelope::open(&authenticator, &vec![0x9f; ENVELOPE_BYTES_MAX + 1]).expect_err("too long");
    assert_eq!(refusal.name(), "oversize");
    let deep = Envelope::open(&authenticator, &vec![0x81; 60_000]).expect_err("too deep");
    assert_eq!(deep.name(), "junk");
}

#[test]
fn a_thirty_second_part_of_the_bytes_is_what_top_k_sends_at_three_percent() {
    let values: Vec<f32> = (0..10_000u32)
        .map(|index| ((index * 7919) % 10_007) as f32)
        .collect();
    let bytes = codec("kind = \"top-k\"\nshare = 0.03")
        .encode(&values, &mut random(1))
        .len();
    assert!(bytes < 40_000 / 25, "{bytes}");
    let bytes = codec("kind = \"top-k\"\nshare = 0.01\nvalues = \"int8\"")
        .encode(&values, &mut random(1))
        .len();
    assert!(bytes < 40_000 / 180, "{bytes}");
}
