//! How long each rule takes on 20 models of 1 000 000 values, one thread, in multiples of one pass
//! over the models (reading and summing all of them once), and how much memory it needs beside
//! them. Ends in a few seconds.
//!
//! `cargo bench -p kith-consensus` · another size: `cargo bench -p kith-consensus -- MODELS VALUES
//! BYZANTINE` · beside numpy and byzfl, in the same run: `experiments/reference/rules.py`

use std::hint::black_box;
use std::time::{Duration, Instant};

use kith_consensus::aggregate::{Context, Contribution, rule_from_text};
use kith_consensus::{PeerId, Seed};

/// The rules that are measured.
const RULES: &[&str] = &[
    "mean",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "geometric-median",
    "meamed",
    "bulyan",
    "mda",
    "cge",
    "centered-clipping",
    "nna",
    "bridge",
    "clipped-gossip",
    "balance",
    "fltrust",
    "choco",
    "bucketing+geometric-median",
    "arc+mean",
    "nnm+mean",
    "nnm+trimmed-mean",
    "nnm+krum",
];

fn main() {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let [models, values, byzantine] = sizes[..] else {
        return run(20, 1_000_000, 4);
    };
    run(models, values, byzantine);
}

fn run(models: usize, values: usize, byzantine: usize) {
    let rows = draw(models, values);
    let contributions: Vec<Contribution<'_>> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| Contribution {
            is_finite: true,
            ..Contribution::of(sender(index), row)
        })
        .collect();
    let pass = best_of(5, || {
        black_box(rows.iter().map(|row| sum(row)).sum::<f64>());
    });
    let before = status("VmRSS:");
    println!(
        "{models} models of {values} values, byzantine = {byzantine}; one pass {:.1} ms",
        milliseconds(pass)
    );
    let context = Context {
        own: Some(0),
        ..Context::offline()
    };
    println!(
        "{:<26} {:>9} {:>8} {:>12}",
        "rule", "ms", "passes", "extra MB"
    );
    for name in RULES {
        let rule = rule_from_text(name, byzantine, &[]).expect("the benched rules exist");
        let aggregate = || {
            black_box(
                rule.aggregate(&context, &contributions)
                    .expect("enough finite models"),
            );
        };
        let extra = before
            .zip(peak_bytes(aggregate))
            .map(|(before, peak)| peak.saturating_sub(before) as f64 / 1e6);
        let extra = extra.map_or("?".to_owned(), |megabytes| format!("{megabytes:.1}"));
        let time = best_of(3, aggregate);
        println!(
            "{name:<26} {:>9.1} {:>8.1} {extra:>12}",
            milliseconds(time),
            time.as_secs_f64() / pass.as_secs_f64()
        );
    }
}

fn sender(index: usize) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(index as u64).to_be_bytes());
    PeerId(key)
}

fn draw(models: usize, values: usize) -> Vec<Vec<f32>> {
    let mut stream = Seed::from_number(1).stream("bench");
    (0..models)
        .map(|_| (0..values).map(|_| stream.unit() as f32 - 0.5).collect())
        .collect()
}

/// Sums with enough independent partial sums to be bound by memory alone.
fn sum(row: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 64];
    for chunk in row.chunks_exact(64) {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().map(|lane| f64::from(*lane)).sum()
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

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Largest resident set while `work` runs, where the system tells (Linux). Memory that an earlier
/// rule took and the allocator kept is part of it, so what is more than before the first rule is an
/// upper bound.
fn peak_bytes(work: impl FnOnce()) -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    work();
    status("VmHWM:")
}

fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}
