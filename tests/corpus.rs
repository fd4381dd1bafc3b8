//! Drives decoders of bytes from outside with the files of a corpus, and with mutations of each.
//!
//! A crate that owns decoders includes this file in its `tests/corpus.rs`. The files of a decoder
//! stand in the crate's `tests/corpus/DECODER/`, one input a file, so that a fuzzer can begin with
//! the folder and call the same function. A file whose name begins with `valid` has to be accepted
//! and one with `refused` to be refused, so that a corpus that a new format has made worthless is
//! noticed; any other may be either.
//!
//! For each input, mutated or not, a decoder must return, and the process's memory must not grow by
//! more than [`Target::growth_max`]. `KITH_CORPUS=write` writes the files anew from the functions beside
//! the decoders. `KITH_FUZZ=SECONDS` goes on for so long with each decoder after the files are through:
//! mutations of mutations, and files spliced with each other; inputs that were accepted stay, and are
//! mutated further.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each suite uses its part"
)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kith_consensus::{Seed, Stream};

/// What is enough for [`Target::growth_max`] if a decoder takes no more memory than a few times its
/// input, which is at most 64 KiB; the rest is the allocator's.
pub const LITTLE: u64 = 32 << 20;
/// Every truncation of files up to this length is tried; of longer ones so many, drawn.
const TRUNCATIONS: usize = 256;
/// Every bit of so many first bytes is flipped.
const FLIPPED_BYTES: usize = 48;
/// Further mutations that are drawn for each file.
const DRAWN: usize = 192;
/// Longest input that is mutated further, in bytes.
const LENGTH_MAX: usize = 8192;

/// Names and bytes of files.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// A decoder with its corpus.
pub struct Target {
    /// Its folder in `tests/corpus/`.
    pub name: &'static str,
    /// Decodes; whether the bytes were accepted.
    pub decode: fn(&[u8]) -> bool,
    /// Files that only somebody who knows the format can make.
    pub files: fn() -> Files,
    /// Most mutations of one file: fewer for a decoder that is slow to set up.
    pub mutations: usize,
    /// Bytes by which one input may raise the peak of the process's address space.
    pub growth_max: u64,
}

/// Feeds every target its corpus, and tells which did not hold.
pub fn drive(targets: &[Target]) {
    if std::env::var_os("KITH_CORPUS").is_some_and(|value| value == "write") {
        targets.iter().for_each(write);
    }
    let seconds = std::env::var("KITH_FUZZ").ok();
    let seconds: f64 = seconds.map_or(0.0, |text| text.parse().expect("KITH_FUZZ is seconds"));
    let harmed: Vec<&str> = targets
        .iter()
        .filter(|target| {
            let all = || {
                try_all(target);
                fuzz(target, Duration::from_secs_f64(seconds));
            };
            catch_unwind(AssertUnwindSafe(all)).is_err()
        })
        .map(|target| target.name)
        .collect();
    assert!(harmed.is_empty(), "harmed: {harmed:?}; why is told above");
}

fn try_all(target: &Target) {
    let files = read(target);
    let count = |start| files.keys().filter(|name| name.starts_with(start)).count();
    assert!(
        count("valid") > 0 && count("refused") > 0,
        "{} has no file that is accepted, or none that is refused",
        target.name
    );
    let mut inputs = 0;
    for (name, bytes) in &files {
        let accepted = feed(target, name, bytes);
        let told = if accepted { "accepted" } else { "refused" };
        assert!(
            !name.starts_with(if accepted { "refused" } else { "valid" }),
            "{}/{name} is {told}",
            target.name
        );
        let mut random = Seed::from_number(1).child(target.name).stream(name);
        let mut mutated = mutations(bytes, &mut random);
        random.shuffle(&mut mutated);
        mutated.truncate(target.mutations);
        inputs += 1 + mutated.len();
        for bytes in &mutated {
            feed(target, &format!("a mutation of {name}"), bytes);
        }
    }
    println!("{}: {} files, {inputs} inputs", target.name, files.len());
}

/// Mutates on for some time.
fn fuzz(target: &Target, time: Duration) {
    /// Inputs that are kept to be mutated further.
    const KEPT: usize = 4096;
    /// Inputs between two looks at the process's memory and the clock.
    const BETWEEN: usize = 1024;
    let began = Instant::now();
    let drawn = began.elapsed().subsec_nanos() as u64 ^ u64::from(std::process::id());
    let mut random = Seed::from_number(drawn).child(target.name).stream("fuzz");
    let mut pool: Vec<Vec<u8>> = read(target).into_values().collect();
    let files = pool.len();
    let (mut inputs, mut accepted) = (0_u64, 0_u64);
    while began.elapsed() < time {
        let before = peak();
        for _ in 0..BETWEEN {
            let mut input = pool[random.bounded(pool.len() as u64) as usize].clone();
            if random.bounded(8) == 0 {
                let other = &pool[random.bounded(pool.len() as u64) as usize];
                let from = random.bounded(other.len() as u64 + 1) as usize;
                let to = random.bounded(input.len() as u64 + 1) as usize;
                input.truncate(to);
                input.extend(&other[from..]);
            }
            input = changed(&input, &mut random);
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.decode)(&input)));
            let is_accepted =
                outcome.unwrap_or_else(|_| panic!("a panic at {}", shown(target, "fuzz", &input)));
            inputs += 1;
            if is_accepted && input.len() <= LENGTH_MAX {
                accepted += 1;
                match pool.len() < files + KEPT {
                    true => pool.push(input),
                    false => {
                        let place = files + random.bounded(KEPT as u64) as usize;
                        pool[place] = input;
                    }
                }
            }
        }
        let growth = peak().saturating_sub(before);
        // The pool grows too.
        let most = target.growth_max + (BETWEEN * LENGTH_MAX) as u64;
        assert!(
            growth <= most,
            "{}: {growth} bytes more in {BETWEEN} inputs",
            target.name
        );
    }
    if inputs > 0 {
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{}: fuzzed {inputs} inputs in {seconds:.0} s, {accepted} accepted",
            target.name
        );
    }
}

fn shown(target: &Target, name: &str, bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}: {name}, {} bytes: {digits}", target.name, bytes.len())
}

/// Decodes one input; whether it was accepted.
fn feed(target: &Target, name: &str, bytes: &[u8]) -> bool {
    let shown = || shown(target, name, bytes);
    let before = peak();
    let accepted = catch_unwind(AssertUnwindSafe(|| (target.decode)(bytes)))
        .unwrap_or_else(|_| panic!("a panic at {}", shown()));
    let growth = peak().saturating_sub(before);
    assert!(
        growth <= target.growth_max,
        "{growth} bytes more for {}",
        shown()
    );
    accepted
}

/// Most address space that this process had, in bytes; 0 where the system does not tell.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn mutations(bytes: &[u8], random: &mut Stream) -> Vec<Vec<u8>> {
    let length = bytes.len();
    let mut mutated: Vec<Vec<u8>> = match length {
        0..=TRUNCATIONS => (0..length).map(|end| bytes[..end].to_vec()).collect(),
        _ => (0..TRUNCATIONS)
            .map(|_| bytes[..random.bounded(length as u64) as usize].to_vec())
            .collect(),
    };
    for place in 0..length.min(FLIPPED_BYTES) {
        for bit in 0..8 {
            let mut flipped = bytes.to_vec();
            flipped[place] ^= 1 << bit;
            mutated.push(flipped);
        }
    }
    for _ in 0..if length == 0 { 0 } else { DRAWN } {
        mutated.push(changed(bytes, random));
    }
    mutated
}

/// One to four random changes.
fn changed(bytes: &[u8], random: &mut Stream) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    if changed.is_empty() {
        changed.push(random.next_u64() as u8);
    }
    for _ in 0..=random.bounded(3) {
        let place = random.bounded(changed.len() as u64) as usize;
        let word = random.next_u64();
        match random.bounded(6) {
            0 => changed[place] ^= 1 << (word % 8),
            1 => changed[place] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][word as usize % 6],
            2 => changed.insert(place, word as u8),
            3 => {
                // A length, perhaps, that is far too large.
                let end = (place + [2, 4, 8][word as usize % 3]).min(changed.len());
                changed[place..end].fill(if word & 8 == 0 { 0xff } else { 0x7f });
            }
            4 => {
                let end = (place + 1 + word as usize % 16).min(changed.len());
                let part = changed[place..end].to_vec();
                changed.splice(place..place, part);
            }
            _ => {
                changed.remove(place);
                if changed.is_empty() {
                    changed.push(word as u8);
                }
            }
        }
    }
    changed
}

fn folder(target: &Target) -> PathBuf {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    corpus.join(target.name)
}

fn read(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let folder = folder(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("{}: {error}; KITH_CORPUS=write writes it", folder.display())
    });
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    entries.map(read).collect()
}

/// Writes a target's files, and of each valid one the beginning, one with a flipped bit, and one
/// that goes on.
fn write(target: &Target) {
    let folder = folder(target);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    put("empty", &[]);
    for (name, bytes) in (target.files)() {
        put(name, &bytes);
        if let Some(of) = name.strip_prefix("valid-")
            && !bytes.is_empty()
        {
            put(&format!("cut-{of}"), &bytes[..bytes.len() / 2]);
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 0x10;
            put(&format!("flipped-{of}"), &flipped);
            put(
                &format!("longer-{of}"),
                &[&bytes[..], &bytes[..bytes.len().min(9)]].concat(),
            );
        }
    }
}
