//! How fast each codec encodes and decodes 1 000 000 values on one thread, in gigabytes of dense
//! values a second and beside a copy of the same vector in the same run, and how many times smaller
//! the encoding is. Ends in a few seconds.
//!
//! `cargo bench -p kith-gossip --bench codecs` · another size: `cargo bench -p kith-gossip --bench
//! codecs -- VALUES`

use std::hint::black_box;
use std::time::{Duration, Instant};

use kith_consensus::Seed;
use kith_consensus::section::Document;
use kith_gossip::codec::{Codec, Randomness, codec_from_section};

/// Sections of `[codec]`.
const CODECS: &[&str] = &[
    "kind = \"identity\"",
    "kind = \"f16\"",
    "kind = \"int8\"",
    "kind = \"int8\"\nrounding = \"stochastic\"",
    "kind = \"int4\"",
    "kind = \"qsgd\"",
    "kind = \"qsgd\"\nlevels = 4",
    "kind = \"sign\"",
    "kind = \"top-k\"",
    "kind = \"top-k\"\nshare = 0.01",
    "kind = \"top-k\"\nshare = 0.01\nvalues = \"int8\"",
    "kind = \"random-k\"",
    "kind = \"random-k\"\nshare = 0.01",
    "kind = \"power-sgd\"",
];

fn main() {
    let values = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1_000_000);
    let mut stream = Seed::from_number(1).stream("bench");
    let values: Vec<f32> = (0..values).map(|_| stream.normal() as f32).collect();
    let mut random = Randomness {
        own: stream.clone(),
        shared: stream,
    };
    let dense = values.len() * 4;
    let copy = best_of(9, || drop(black_box(values.to_vec())));
    println!(
        "{} values; one copy into new memory {:.2} ms, {:.1} GB/s",
        values.len(),
        milliseconds(copy),
        rate(dense, copy)
    );
    println!(
        "{:<40} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "codec", "enc GB/s", "copies", "dec GB/s", "copies", "smaller"
    );
    for text in CODECS {
        let codec = read(text);
        let bytes = codec.encode(&values, &mut random);
        let encode = best_of(7, || drop(black_box(codec.encode(&values, &mut random))));
        let decode = best_of(7, || drop(black_box(codec.decode(&bytes, values.len()))));
        let name = text
            .replace("kind = ", "")
            .replace(['"', ' '], "")
            .replace('\n', ",");
        println!(
            "{name:<40} {:>8.2} {:>8.1} {:>8.2} {:>8.1} {:>7.1}x",
            rate(dense, encode),
            encode.as_secs_f64() / copy.as_secs_f64(),
            rate(dense, decode),
            decode.as_secs_f64() / copy.as_secs_f64(),
            dense as f64 / bytes.len() as f64,
        );
    }
}

fn read(text: &str) -> Box<dyn Codec> {
    let mut document = Document::parse(&format!("[codec]\n{text}\n")).expect("toml");
    document.section("codec", codec_from_section)
}

fn best_of(times: usize, mut work: impl FnMut()) -> Duration {
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..times)
        .map(|_| time(&mut work))
        .min()
        .unwrap_or_default()
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
