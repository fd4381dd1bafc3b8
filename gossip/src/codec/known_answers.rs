//! Reference results of compression, from the folder named by `KITH_KNOWN_ANSWERS` or the copy in the repository.

use kith_consensus::{Seed, Stream};
use serde_json::Value;

use super::{block_int8, top_k};

/// Kinds of the file that no codec here has yet.
const PENDING: [&str; 7] =
    ["qsgd", "random_k", "sign_mean", "power_sgd", "error_feedback_ef14", "error_feedback_ef21", "choco_gossip"];

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|value| value as f32).collect()
}

fn assert_close(id: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{id}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 + 1e-6 * expected.abs(), "{id}: {found} where {expected} is known");
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

#[test]
fn known_answers_compression() {
    let folder =
        std::env::var("KITH_KNOWN_ANSWERS").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/known-answers").into());
    let text = std::fs::read_to_string(format!("{folder}/compression.json")).expect("the file of known answers");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let cases = file["cases"].as_array().expect("cases");
    let mut run = 0;
    for case in cases {
        let (id, kind) = (case["id"].as_str().expect("id"), case["kind"].as_str().expect("kind"));
        let (params, expected) = (&case["params"], &case["expected"]);
        match kind {
            "top_k" => {
                let input = floats(&case["input"]);
                let positions = top_k::largest(&input, params["k"].as_u64().expect("k") as usize);
                let indices: Vec<f64> = positions.iter().map(|position| f64::from(*position)).collect();
                assert_eq!(indices, numbers(&expected["indices"]), "{id}");
                let bytes = top_k::encode_gaps(&positions).len() + positions.len() * 4;
                assert_eq!(bytes as u64, expected["payload_bytes_gap_leb128_f32"].as_u64().expect("bytes"), "{id}");
            }
            "block_int" => {
                let input = floats(&case["input"]);
                let code_max = f64::from((1 << (params["bits"].as_u64().expect("bits") - 1)) - 1);
                let block = params["block"].as_u64().expect("block") as usize;
                let blocks: Vec<(f32, Vec<i8>)> =
                    input.chunks(block).map(|block| block_int8::quantise(block, code_max)).collect();
                let scales: Vec<f32> = blocks.iter().map(|(scale, _)| *scale).collect();
                let codes: Vec<f64> = blocks.iter().flat_map(|(_, codes)| codes.iter().map(|code| f64::from(*code))).collect();
                assert_close(id, &widen(&scales), &numbers(&expected["scales"]));
                assert_eq!(codes, numbers(&expected["codes"]), "{id}");
            }
            "prng" => {
                let text = params["seed"].as_str().expect("seed");
                let mut seed = [0u8; 32];
                for (byte, digits) in seed.iter_mut().zip(text.as_bytes().chunks(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(digits).expect("ascii"), 16).expect("hexadecimal");
                }
                let number = |key: &str| params[key].as_u64().expect("a coordinate");
                let context = params["context"].as_str().expect("context");
                let mut stream = Stream::derive(context, &Seed(seed), number("round"), number("sender"), number("tensor"));
                for word in expected["first_u64_decimal"].as_array().expect("words") {
                    assert_eq!(stream.next_u64().to_string(), word.as_str().expect("text"), "{id}");
                }
                let units = numbers(&expected["then_unit"]);
                assert_close(id, &units.iter().map(|_| stream.unit()).collect::<Vec<_>>(), &units);
                let bounded = numbers(&expected["then_bounded_10"]);
                assert_eq!(bounded.iter().map(|_| stream.bounded(10) as f64).collect::<Vec<_>>(), bounded, "{id}");
            }
            pending if PENDING.contains(&pending) => continue,
            unknown => panic!("{id}: unknown kind {unknown:?}"),
        }
        run += 1;
    }
    assert!(run > 0, "the file holds no case that can be run");
    println!("compression: {run} cases; pending: {}", PENDING.join(", "));
}
