//! `kith testnet`: real peers on this machine, each its own process, and their results.

mod answer;
mod baseline;
mod control;
mod directory;
mod ending;
mod live;
mod partition;
mod plan;
mod record;
mod report;
mod show;
mod stdin;
mod supervisor;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::guard::Guard;
use super::output::{Failure, Verdict, print, tell};
use super::text;
use crate::page::server::PORT;
use baseline::Baselines;
use control::Request;
pub(super) use control::{Order, ask_status, carry_out};
use directory::{Directory, Places};
use plan::Plan;
use record::Record;
use report::Report;
use show::Show;
use supervisor::{Ended, Ends, TableTo};

/// Run real peers on this machine and show what they learn
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(crate) struct Testnet {
    #[command(subcommand)]
    command: Option<TestnetCommand>,
    #[command(flatten)]
    up: Up,
}

const AFTER_HELP: &str = "\
Examples:
  kith testnet                                          eight peers, two of them lying, on handwritten digits
  kith testnet --page                                   the same, to be watched in a browser
  kith testnet --rule mean                              what the liars do to plain averaging
  kith testnet --adversaries 0                          what the defence costs when nobody lies
  kith testnet --peers 12 --topology random-regular:7 --byzantine 3 --adversaries 3
  kith testnet --dataset fashion-mnist --peers 10 --topology ring
  kith testnet --dataset heart                          four hospitals as four peers
  kith testnet --privacy example-level --epsilon 4      each row protected by noise, and what that costs
  kith testnet --charter charter.toml                   rehearse a real agreement with keys of a testnet
  kith testnet --dir net --detach && kith testnet kill peer-3 --dir net

Exit codes: 0 every honest peer went through all rounds, 1 it did not or could not start, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum TestnetCommand {
    /// Start one (the same as no verb)
    Up(Box<Up>),
    /// Show the state of a detached testnet
    Status(Where),
    /// Kill a peer's process at once (SIGKILL)
    Kill(Named),
    /// Start a killed peer again: it resumes
    Restart(Named),
    /// Stop a peer's process for a while (SIGSTOP): the others see a straggler
    Pause(Named),
    /// Let a paused peer run again
    Resume(Named),
    /// Let a peer lie from its next update on
    Attack(Attacked),
    /// Let a peer be honest from its next update on
    Honest(Named),
    /// Cut some peers off from all others, as if the network between them had failed
    Partition(Parted),
    /// End the partition: the peers find each other again
    Heal(Where),
    /// Stop a detached testnet
    Down(Where),
}

/// Which testnet.
#[derive(Debug, Args)]
struct Where {
    /// The testnet's folder
    #[arg(long)]
    dir: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Which peer of which testnet.
#[derive(Debug, Args)]
struct Named {
    /// The peer's name, for example peer-3
    node: String,
    #[command(flatten)]
    place: Where,
}

/// Which peer is to lie, and how.
#[derive(Debug, Args)]
struct Attacked {
    #[command(flatten)]
    named: Named,
    /// What it does (`kith list attacks`)
    #[arg(long, default_value = "sign-flip:10")]
    attack: String,
}

/// Which peers are cut off from the others.
#[derive(Debug, Args)]
struct Parted {
    /// Their names, for example peer-1 peer-2 peer-3; they still reach each other
    #[arg(required = true)]
    nodes: Vec<String>,
    #[command(flatten)]
    place: Where,
}

/// What to start. Options that are not given follow from the data set.
#[derive(Clone, Debug, Args)]
struct Up {
    /// How many peers
    #[arg(long)]
    peers: Option<usize>,
    /// How many of them lie, placed at random by the seed
    #[arg(long)]
    adversaries: Option<usize>,
    /// What liars do (`kith list attacks`)
    #[arg(long, default_value = "sign-flip:10")]
    attack: String,
    /// Rounds to train
    #[arg(long, conflicts_with = "charter")]
    rounds: Option<u64>,
    /// Aggregation rule (`kith list rules`), for example nnm+trimmed-mean
    #[arg(long, conflicts_with = "charter")]
    rule: Option<String>,
    /// Liars to tolerate in every neighbourhood
    #[arg(long, conflicts_with = "charter")]
    byzantine: Option<usize>,
    /// Which peers exchange updates (`kith list topologies`), for example random-regular:5
    #[arg(long, conflicts_with = "charter")]
    topology: Option<String>,
    /// Encoding of updates (`kith list codecs`), for example top-k:0.06
    #[arg(long, conflicts_with = "charter")]
    codec: Option<String>,
    /// The kind of model (`kith list models`), for example mlp:64,32
    #[arg(long, conflicts_with = "charter")]
    model: Option<String>,
    /// Passes over a peer's rows in a round
    #[arg(long, conflicts_with = "charter")]
    local_epochs: Option<u64>,
    /// Seconds that a round waits for updates
    #[arg(long, conflicts_with = "charter")]
    deadline: Option<f64>,
    #[command(flatten)]
    guard: Guard,
    /// The rows (`kith list datasets`)
    #[arg(long, default_value = "digits")]
    dataset: String,
    /// Folder with the data set's files, if it does not come with Kith
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// How rows are dealt to peers (`kith list partitions`), for example dirichlet:0.5
    #[arg(long)]
    partition: Option<String>,
    /// A charter to rehearse; its members' keys are replaced by a testnet's
    #[arg(long)]
    charter: Option<PathBuf>,
    /// Folder for the peers' files; without it a temporary one is removed at the end
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keep the temporary folder
    #[arg(long)]
    keep: bool,
    /// Seed of keys, graph, shards, liars and initial parameters
    #[arg(long, default_value_t = 0, value_parser = text::seed)]
    seed: u64,
    /// Evaluate after every this many rounds; 0: after the last one only [default: 0, with --page 1]
    #[arg(long)]
    evaluate_every: Option<u64>,
    /// Show it in a browser while it runs, from this port on loopback; if it is in use, a free one
    /// is taken and named
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, conflicts_with = "detach")]
    page: Option<Option<u16>>,
    /// Run although some honest peer has more liars around it than the rule tolerates
    #[arg(long)]
    allow_overload: bool,
    /// Do not train alone and pooled for comparison
    #[arg(long)]
    no_baselines: bool,
    /// End with one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Start it in the background and return when all peers are connected
    #[arg(long)]
    detach: bool,
}

impl Named {
    fn order(self, request: impl FnOnce(String) -> Request) -> Verdict {
        control::order(&self.place.dir, &request(self.node), self.place.json)
    }
}

impl Up {
    /// Rounds between two evaluations. A page shows how accuracy grows, so it has one each round.
    fn evaluate_every(&self) -> u64 {
        self.evaluate_every
            .unwrap_or(u64::from(self.page.is_some()))
    }
}

impl Testnet {
    /// Whether this process trains itself (for comparison).
    pub(crate) fn trains(&self) -> bool {
        matches!(self.command, None | Some(TestnetCommand::Up(_)))
    }

    pub(crate) fn run(self) -> Verdict {
        match self.command {
            None => up(&self.up),
            Some(TestnetCommand::Up(up_arguments)) => up(&up_arguments),
            Some(TestnetCommand::Status(place)) => control::status(&place.dir, place.json),
            Some(TestnetCommand::Down(place)) => {
                control::order(&place.dir, &Request::Down, place.json)
            }
            Some(TestnetCommand::Kill(named)) => named.order(|node| Request::Kill { node }),
            Some(TestnetCommand::Restart(named)) => named.order(|node| Request::Restart { node }),
            Some(TestnetCommand::Pause(named)) => named.order(|node| Request::Pause { node }),
            Some(TestnetCommand::Resume(named)) => named.order(|node| Request::Resume { node }),
            Some(TestnetCommand::Honest(named)) => named.order(|node| Request::Honest { node }),
            Some(TestnetCommand::Partition(Parted { nodes, place })) => {
                control::order(&place.dir, &Request::Partition { nodes }, place.json)
            }
            Some(TestnetCommand::Heal(place)) => {
                control::order(&place.dir, &Request::Heal, place.json)
            }
            Some(TestnetCommand::Attack(Attacked { named, attack })) => {
                named.order(|node| Request::Attack { node, attack })
            }
        }
    }
}

fn up(up: &Up) -> Verdict {
    if up.detach {
        return control::detach(up);
    }
    let (plan, rows) = Plan::new(up)?;
    plan.check_overload(up.allow_overload)?;
    let ending = ending::Ending::new()?;
    let directory = Directory::create(up.dir.as_deref(), up.keep)?;
    if directory.is_temporary() {
        ending.remove_at_end(directory.path.clone());
    }
    let places = directory.fill(&plan, &rows)?;
    // Only sites that are peers are compared afterwards; otherwise the rows need not all stay in
    // memory.
    let rows = (plan.partition == "natural" && !up.no_baselines).then_some(rows);
    let table = if up.json {
        TableTo::Stderr
    } else {
        TableTo::Stdout
    };
    let (mut record, mut show) = watched(up, &plan, &directory)?;
    let ends = Ends {
        table,
        record: &mut record,
        orders: show.as_mut().map(|show| &mut show.orders),
    };
    let ended = supervisor::supervise(&plan, &places, &directory.path, ends, &ending)?;
    if ended.interrupted {
        record.end(None);
        tell("interrupted; every peer has stopped");
        return Ok(ExitCode::from(130));
    }
    let report = Report {
        baselines: baselines(up, &plan, &places, &ended),
        sites: rows
            .map(|rows| baseline::compare_sites(&plan, &rows, up.seed))
            .transpose()?,
        plan: &plan,
        places: &places,
        ended: &ended,
        seed: up.seed,
    };
    record.end(report.baselines);
    let verdict = print_report(&report, up.json, &directory);
    if show.is_some() {
        show::stay(&ending);
    }
    verdict
}

/// The record of a testnet's events, and its page if one is asked for.
fn watched(up: &Up, plan: &Plan, directory: &Directory) -> Result<(Record, Option<Show>), Failure> {
    let header = record::header(plan)?;
    let port = up.page.map(|port| port.unwrap_or(PORT));
    let show = port.map(|port| Show::start(port, &header, directory));
    let show = show.transpose()?;
    let page = show.as_ref().map(|show| show.page.clone());
    let record = Record::create(&directory.path, &header, page)?;
    Ok((record, show))
}

fn print_report(report: &Report<'_>, json: bool, directory: &Directory) -> Verdict {
    if json {
        print(&format!("{}\n", report.to_json()))?;
    } else {
        let kept = (!directory.is_temporary()).then_some(directory.path.as_path());
        print(&report.to_text(kept))?;
    }
    if report.finished() {
        super::done()
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// What each honest peer reaches alone, and all of them with their rows pooled, if the run ended
/// normally and they were asked for.
fn baselines(up: &Up, plan: &Plan, places: &Places, ended: &Ended) -> Option<Baselines> {
    if up.no_baselines || !ended.tally.finished() {
        return None;
    }
    tell("training alone and pooled, for comparison …");
    baseline::measure(plan, places)
}
