//! The `kith` command line. Data goes to stdout, everything else to stderr; each verb's arguments are in its own file.

mod aggregate;
mod charter;
mod check;
mod completions;
mod init;
mod list;
mod log;
mod model;
mod output;
mod run;
mod sim;
mod status;
mod testnet;
mod text;
mod topology;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
  3    the federation refused this peer (another charter, another program)
  4    the state folder is in use by another process
  70   a part of Kith itself failed; the state is safe
  5    sim: a promise was broken, or a cell of a sweep failed
  130  interrupted (testnet)

Environment:
  NO_COLOR           no colours
  KITH_LOG           what `run` logs, for example \"debug\" or \"kith_node=trace\"
  RAYON_NUM_THREADS  threads for training; Kith sets it to 1 where it is not set";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run real peers on this machine and show what they learn
    Testnet(Box<testnet::Testnet>),
    /// Make a peer's key and configuration
    Init(init::Init),
    /// Check charter, key, configuration and data without starting anything
    Check(check::Check),
    /// Run a peer
    Run(run::Run),
    /// Make and compare charters
    #[command(subcommand)]
    Charter(charter::Charter),
    /// Ask a running peer where it stands
    Status(status::Status),
    /// Show a peer's event log
    Log(log::Log),
    /// Experiments under virtual time
    #[command(subcommand)]
    Sim(Box<sim::Sim>),
    /// What a graph is worth
    #[command(subcommand)]
    Topology(topology::Topology),
    /// Robustly combine model files
    Aggregate(aggregate::Aggregate),
    /// Look into a model file, or evaluate it
    #[command(subcommand)]
    Model(model::Model),
    /// What there is to choose from
    List(list::List),
    /// Completions for a shell
    Completions(completions::Completions),
}

/// Runs the `kith` command line.
pub fn main() -> ExitCode {
    let kith = Kith::parse();
    // Lines are not broken at a terminal's width: what is searched for should stand in one piece. It fails only where one is set.
    let _ = miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())));
    if let Some(threads) = training_threads(&kith.verb)
        && let Err(failure) = fix_threads(threads)
    {
        return failure.report();
    }
    let verdict = match kith.verb {
        Verb::Testnet(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::Check(verb) => verb.run(),
        Verb::Run(verb) => verb.run(),
        Verb::Charter(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Log(verb) => verb.run(),
        Verb::Sim(verb) => verb.run(),
        Verb::Topology(verb) => verb.run(),
        Verb::Aggregate(verb) => verb.run(),
        Verb::Model(verb) => verb.run(),
        Verb::List(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
    };
    verdict.unwrap_or_else(Failure::report)
}

/// Threads for the verbs that train or evaluate.
fn training_threads(verb: &Verb) -> Option<usize> {
    match verb {
        Verb::Run(run) => Some(run.threads()),
        Verb::Testnet(testnet) if testnet.trains() => Some(1),
        Verb::Model(_) | Verb::Sim(_) => Some(1),
        _ => None,
    }
}

/// candle reads its number of threads from the environment, and changing one's own environment is unsafe while other threads
/// may read it. So the program replaces itself, before there are any.
fn fix_threads(threads: usize) -> Result<(), Failure> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| Failure::new(format!("this program cannot be found: {error}")))?;
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(VARIABLE, threads.to_string()).exec();
    Err(Failure::new(format!("this program cannot be started again with {VARIABLE} set: {error}")))
}

/// A runtime with this many threads for sockets and timers.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime could not be started: {error}")))
}

/// What a verb returns when all went well.
fn done() -> Verdict {
    Ok(ExitCode::SUCCESS)
}
