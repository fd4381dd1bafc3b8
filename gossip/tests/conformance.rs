//! What every codec in the table must hold, whatever its parameters.

use kith_consensus::section::Document;
use kith_consensus::{Seed, Stream};
use kith_gossip::codec::{CODECS, Codec, Form, codec_from_section};
use kith_gossip::envelope::{Authenticator, ENVELOPE_BYTES_MAX, Envelope, HEADER_BYTES_MAX, Header, Kind, PROTOCOL_VERSION};
use proptest::prelude::*;

fn codecs() -> Vec<Box<dyn Codec>> {
    let texts = CODECS
        .iter()
        .flat_map(|entry| ["", "replica = true"].map(|extra| format!("[codec]\nkind = {:?}\n{extra}\n", entry.name)));
    let read = texts.filter_map(|text| {
        let mut document = Document::parse(&text).expect("toml");
        let codec = document.section("codec", codec_from_section);
        document.finish().is_ok().then_some(codec)
    });
    read.collect()
}

fn random() -> Stream {
    Seed::from_number(1).stream("test")
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

proptest! {
    #[test]
    fn an_encoding_has_its_length_and_decodes_to_finite_values_nearby(
        values in proptest::collection::vec(-1e4f32..1e4, 1..300),
    ) {
        for codec in codecs() {
            let bytes = codec.encode(&values, &mut random());
            prop_assert!(bytes.len() <= codec.bytes_max(values.len()), "{}", codec.name());
            let decoded = codec.decode(&bytes, values.len()).expect("its own encoding");
            prop_assert!(decoded.iter().all(|value| value.is_finite()), "{}", codec.name());
            // Every codec here is contractive: what is lost is never more than what there was.
            let norm: f64 = distance(&values, &vec![0.0; values.len()]);
            prop_assert!(distance(&values, &decoded) <= norm * (1.0 + 1e-6), "{}", codec.name());
        }
    }

    #[test]
    fn any_bytes_decode_to_the_dimension_or_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        dimension in 0usize..200,
    ) {
        for codec in codecs() {
            if let Ok(values) = codec.decode(&bytes, dimension) {
                prop_assert_eq!(values.len(), dimension, "{}", codec.name());
            }
        }
    }

    #[test]
    fn a_replica_that_is_fed_again_and_again_reaches_what_stands_still(
        values in proptest::collection::vec(-10f32..10.0, 2..60),
    ) {
        for codec in codecs().into_iter().filter(|codec| codec.form() == Form::Replica) {
            let mut replica = vec![0f32; values.len()];
            for _ in 0..80 {
                let difference: Vec<f32> = values.iter().zip(&replica).map(|(value, replica)| value - replica).collect();
                let bytes = codec.encode(&difference, &mut random());
                let decoded = codec.decode(&bytes, values.len()).expect("its own encoding");
                replica.iter_mut().zip(decoded).for_each(|(replica, change)| *replica += change);
            }
            prop_assert!(distance(&values, &replica).sqrt() < 1e-3, "{}: {}", codec.name(), distance(&values, &replica));
        }
    }

    #[test]
    fn any_flipped_bit_of_an_envelope_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..200), bit in any::<usize>()) {
        let authenticator = Authenticator::from_secret(&[5; 32]);
        let digest = kith_consensus::Digest::of(&payload);
        let header = Header(PROTOCOL_VERSION, digest, Kind::Update, authenticator.peer(), 3, 4, digest, digest);
        let envelope = Envelope::seal(&authenticator, header, payload);
        prop_assert!(envelope.header_to_bytes().len() <= HEADER_BYTES_MAX);
        let mut bytes = envelope.to_bytes();
        prop_assert_eq!(&Envelope::open(&authenticator, &bytes).expect("its own envelope"), &envelope);
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A flip may turn the payload's own length into another valid framing only if everything still verifies.
        prop_assert!(Envelope::open(&authenticator, &bytes).is_err(), "bit {bit}");
    }

    #[test]
    fn any_bytes_open_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let authenticator = Authenticator::from_secret(&[5; 32]);
        prop_assert!(Envelope::open(&authenticator, &bytes).is_err());
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_decoded() {
    let authenticator = Authenticator::from_secret(&[5; 32]);
    let refusal = Envelope::open(&authenticator, &vec![0x9f; ENVELOPE_BYTES_MAX + 1]).expect_err("too long");
    assert_eq!(refusal.name(), "oversize");
    let deep = Envelope::open(&authenticator, &vec![0x81; 60_000]).expect_err("too deep");
    assert_eq!(deep.name(), "junk");
}

#[test]
fn a_thirty_second_part_of_the_bytes_is_what_top_k_sends_at_three_percent() {
    let mut document = Document::parse("[codec]\nkind = \"top-k\"\nshare = 0.03\n").expect("toml");
    let codec = document.section("codec", codec_from_section);
    let values: Vec<f32> = (0..10_000u32).map(|index| ((index * 7919) % 10_007) as f32).collect();
    let bytes = codec.encode(&values, &mut random()).len();
    assert!(bytes < 40_000 / 25, "{bytes}");
}
