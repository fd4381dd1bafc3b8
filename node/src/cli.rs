//! The `kith` command line. Data goes to stdout, everything else to stderr; each verb's arguments
//! are in its own file.

mod aggregate;
mod backup;
mod charter;
mod check;
mod completions;
mod guard;
mod init;
mod list;
mod log;
mod man;
mod model;
mod output;
mod privacy;
mod protobuf;
mod recording;
#[cfg(test)]
mod reference;
mod run;
mod sim;
mod status;
mod testnet;
mod text;
mod topology;
mod view;
mod watch;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kith_simulations::LARGE_PAGES;

use output::{Failure, Verdict};

/// Peer-to-peer federated learning: train one model together, share no data, trust no server.
#[derive(Debug, Parser)]
#[command(name = "kith", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Kith {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  kith testnet                     eight real peers on this machine, two of them lying
  kith testnet --rule mean         the same without a defence
  kith init --dir ada --name ada   one organisation's peer: key and configuration
  kith list rules                  what there is

Exit codes:
  0    done; for run: finished, or left when asked to; for testnet: every honest peer finished
  1    something is wrong, and the message says what
  2    the command line could not be understood
  3    the federation refused this peer (another charter, another program, or its roster is full)
  4    the state folder is in use by another process
  6    another process runs with this peer's key
  7    the federation is over: every neighbour had finished before this peer had
  70   a part of Kith itself failed; the state is safe
  71   this machine does not allow what a peer needs (memory, threads)
  74   the disk is full or fails; the state is safe, and the peer resumes once it has space
  5    sim: an invariant was broken, or a cell of a sweep failed
  130  interrupted (testnet)

Environment:
  NO_COLOR           no colours
  KITH_LOG           what `run` logs, for example \"debug\" or \"kith_node=trace\"
  RAYON_NUM_THREADS  threads for training; where it is not set, `run` takes what kith.toml says,
                     and a testnet shares the machine's cores among its peers
  _RJEM_MALLOC_CONF  of the allocator; `sim` sets it to ask for large pages where it is not set";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run real peers on this machine and show what they learn
    Testnet(Box<testnet::Testnet>),
    /// Show a testnet or a simulation that has ended, in a browser
    View(view::View),
    /// Make a peer's key and configuration
    Init(init::Init),
    /// Check charter, key, configuration and data without starting anything
    Check(check::Check),
    /// Run a peer
    Run(run::Run),
    /// Make and compare charters
    #[command(subcommand)]
    Charter(charter::Charter),
    /// Show the state of a running peer
    Status(status::Status),
    /// Follow a peer, a testnet or a file of events in the terminal
    Watch(watch::Watch),
    /// Show a peer's event log
    Log(log::Log),
    /// Copy a peer's state, also while it runs
    Backup(backup::Backup),
    /// Put a copy of `kith backup` back
    Restore(backup::Restore),
    /// Experiments under virtual time
    #[command(subcommand)]
    Sim(Box<sim::Sim>),
    /// Analyse a topology
    #[command(subcommand)]
    Topology(topology::Topology),
    /// Account for differential privacy
    #[command(subcommand)]
    Privacy(privacy::Privacy),
    /// Robustly combine model files
    Aggregate(aggregate::Aggregate),
    /// Look into a model file, evaluate it, or apply it to rows
    #[command(subcommand)]
    Model(model::Model),
    /// List rules, topologies, codecs and everything else that files can name
    List(list::List),
    /// Completions for a shell
    Completions(completions::Completions),
    /// Manual pages
    Man(man::Man),
}

/// Runs the `kith` command line.
pub fn main() -> ExitCode {
    let kith = Kith::parse();
    // Lines are not broken at a terminal's width, so that text can be searched for. It fails only
    // if a hook is set already.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())
    }));
    if let Err(failure) = with_environment(&environment(&kith.verb)) {
        return failure.report();
    }
    let verdict = match kith.verb {
        Verb::Testnet(verb) => verb.run(),
        Verb::View(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::Check(verb) => verb.run(),
        Verb::Run(verb) => verb.run(),
        Verb::Charter(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Watch(verb) => verb.run(),
        Verb::Log(verb) => verb.run(),
        Verb::Backup(verb) => verb.run(),
        Verb::Restore(verb) => verb.run(),
        Verb::Sim(verb) => verb.run(),
        Verb::Topology(verb) => verb.run(),
        Verb::Privacy(verb) => verb.run(),
        Verb::Aggregate(verb) => verb.run(),
        Verb::Model(verb) => verb.run(),
        Verb::List(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    };
    verdict.unwrap_or_else(Failure::report)
}

/// The environment variable that sets the number of training threads.
pub(crate) const THREADS: &str = "RAYON_NUM_THREADS";

/// The environment variables that libraries read, by verb. candle reads the number of its threads.
/// The allocator reads whether to use large pages (a world of ten thousand peers runs a tenth
/// faster on them; a process of one peer would only be larger).
fn environment(verb: &Verb) -> Vec<(&'static str, String)> {
    let threads = match verb {
        Verb::Run(run) => run.threads(),
        Verb::Testnet(testnet) if testnet.trains() => 1,
        Verb::Model(_) | Verb::Sim(_) => 1,
        _ => return Vec::new(),
    };
    let pages = matches!(verb, Verb::Sim(_)).then(|| (LARGE_PAGES.0, LARGE_PAGES.1.to_owned()));
    [(THREADS, threads.to_string())]
        .into_iter()
        .chain(pages)
        .collect()
}

/// Changing one's own environment is unsafe while other threads may read it. So the program
/// replaces itself, before there are any, unless everything is set already, by itself or by the
/// user.
fn with_environment(variables: &[(&str, String)]) -> Result<(), Failure> {
    let missing: Vec<_> = variables
        .iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(" and ");
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("this program cannot be found: {error}")))?;
    let variables = missing.into_iter().map(|(name, value)| (name, value));
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .envs(variables)
        .exec();
    Err(Failure::new(format!(
        "this program cannot be started again with {names} set: {error}"
    )))
}

/// A runtime with this many threads for sockets and timers.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime could not be started: {error}")))
}

/// The result of a verb that succeeded.
fn done() -> Verdict {
    Ok(ExitCode::SUCCESS)
}
