//! How many peer-rounds a second the simulator makes on one core, at which sizes, and what an idle
//! peer costs in memory.
//!
//! Softmax regression on digits, 18 rows a peer drawn by index from one table, random-regular(4),
//! ten rounds of one step, identity codec; with keyed-hash signatures and with ed25519. Rates of
//! other machines say nothing here: what is to be compared has to run beside it. Small worlds are
//! run several times, so that every rate is that of at least 20,000 peer-rounds. Ends in about a
//! minute; `cargo bench -p kith-simulations --bench scale -- large` also runs 10,000 peers × 20
//! rounds and 100,000 peers of a formula, numbers in place of `large` run only worlds of those
//! sizes.

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use kith_simulations::LARGE_PAGES;
use kith_simulations::experiment::{Experiment, setting};
use kith_simulations::simulator::Ended;

/// As in the `kith` program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SOFTMAX: &str = r#"
[federation]
name = "scale"
rounds = 10
[topology]
kind = "random-regular"
degree = 4
[model]
kind = "softmax"
[training]
batch_size = 18
local_steps = 1
local_epochs = 0
learning_rate = 0.1
momentum = 0.0
[world]
dataset = "digits"
partition = "draw:18"
evaluating = 1
"#;

const FORMULA: &str = r#"
[federation]
name = "formula"
rounds = 10
[topology]
kind = "random-regular"
degree = 4
[world.trainer]
kind = "quadratic"
dimension = 16
"#;

/// Fewer are measured too coarsely by the clock of processor time.
const PEER_ROUNDS_MIN: u64 = 20_000;

/// Processor time of this thread in seconds: what other work on the machine does not change.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ')
        .next()
        .and_then(|nanoseconds| nanoseconds.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1e9
}

/// Resident memory of this process.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok())
        .unwrap_or(0.0)
        * 4096.0
}

fn experiment(text: &str, settings: &[String]) -> Experiment {
    let settings: Vec<_> = settings
        .iter()
        .map(|text| setting(text).expect("a good setting"))
        .collect();
    Experiment::parse(text, &settings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn row(text: &str, peers: usize, rounds: u64, signatures: &str) {
    let settings = [
        format!("world.peers={peers}"),
        format!("world.signatures={signatures}"),
        format!("federation.rounds={rounds}"),
    ];
    let experiment = experiment(text, &settings);
    let mut first = None;
    let (mut wall, mut seconds, mut done) = (0.0, 0.0, 0);
    while done < PEER_ROUNDS_MIN {
        let before = resident();
        let began = Instant::now();
        let mut run = experiment.begin(0).expect("it begins");
        let setup = began.elapsed().as_secs_f64();
        // Connected and greeted, the first round's training begun and nothing published.
        run.run_until(Duration::from_micros(2500), &mut |_, _| {});
        let idle = (resident() - before) / peers as f64;
        let (began, processor_before) = (Instant::now(), processor());
        run.run_until(Duration::from_secs(3600), &mut |_, _| {});
        wall += began.elapsed().as_secs_f64();
        seconds += processor() - processor_before;
        first = first.or_else(|| Some((idle, resident(), setup)));
        let outcome = run.finish();
        assert!(
            outcome.checks.failed.is_empty(),
            "{:?}",
            outcome.checks.failed
        );
        assert_eq!(outcome.ended, Ended::Stopped);
        done += outcome.peer_rounds;
    }
    let (idle, memory, setup) = first.expect("it ran once");
    let (rate, per_second) = (done as f64 / seconds, done as f64 / wall);
    let (idle, memory) = (idle / 1e3, memory / 1e9);
    println!(
        "{peers:>8} {rounds:>7} {signatures:>11} {rate:>14.0} {per_second:>9.0} {idle:>8.1} {memory:>7.2} {setup:>8.2}"
    );
}

/// The allocator asks for large pages only where the environment says so, as `kith sim` sees to.
fn with_large_pages() {
    let (variable, value) = LARGE_PAGES;
    if std::env::var_os(variable).is_none() {
        let program = std::env::current_exe().expect("this program has a path");
        let error = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(variable, value)
            .exec();
        panic!("this program cannot be started again: {error}");
    }
}

fn main() {
    with_large_pages();
    println!("peer-rounds a second of processor time, of wall time; setup beside them");
    println!("   peers  rounds  signatures   a core second  a second  kB idle      GB  setup s");
    println!("softmax on digits: a model is 2.6 kB");
    let sizes: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    if !sizes.is_empty() {
        return sizes
            .into_iter()
            .for_each(|peers| row(SOFTMAX, peers, 10, "keyed-hash"));
    }
    for peers in [100, 1000, 10_000] {
        row(SOFTMAX, peers, 10, "keyed-hash");
    }
    row(SOFTMAX, 1000, 10, "ed25519");
    if std::env::args().any(|argument| argument == "large") {
        row(SOFTMAX, 10_000, 20, "keyed-hash");
        println!("parabolas in 16 dimensions");
        row(FORMULA, 100_000, 10, "keyed-hash");
    }
}
