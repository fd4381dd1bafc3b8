//! `kith privacy`: what noised releases cost, how much noise a budget needs, and what a graph tells
//! of a peer, none of which looks at rows or at a running peer. `audit` attacks training on rows, `ledger` shows what was released of a
//! peer's rows, and `report` makes documents of it.

mod audit;
mod claims;
mod ledger;
mod pages;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use kith_consensus::Graph;
use kith_consensus::charter::Weighting;
use kith_consensus::mode::Mode;
use kith_consensus::optimization::Method;
use kith_consensus::privacy::calibration::{Accountant, noise_multiplier};
use kith_consensus::privacy::graph::{Contribution, Exchange, leakage};
use kith_consensus::privacy::{
    Delta, Epsilon, Phase, PrivacyError, SampledGaussian, gaussian, pld, rdp,
};
use serde::Serialize;
use serde_json::json;

use super::done;
use super::output::{Failure, Verdict, print, print_json, table};
use crate::agreement::Agreement;

/// Account for differential privacy
#[derive(Debug, Subcommand)]
pub(crate) enum Privacy {
    /// The epsilon of training with noise
    Epsilon(Spent),
    /// The noise that a budget needs
    Calibrate(Calibrate),
    /// What one peer's view tells of another's contributions
    Graph(View),
    /// Attack the charter's own training on these rows
    Audit(audit::Audit),
    /// What has been released of a peer's rows
    Ledger(ledger::Show),
    /// Write a signed report about the privacy of a peer's rows
    Report(report::Make),
    /// Check the signature of a report
    Verify(report::Verify),
    /// Draft the record of processing activities (GDPR, Article 30)
    ProcessingRecord(report::Record),
}

/// The epsilon of training with noise
#[derive(Debug, Args)]
#[command(after_help = "\
Each step clips every unit's contribution to a norm C, adds normal noise of standard deviation S·C to their sum, and each unit
takes part in it with probability Q, independently of all others (Poisson sampling). Neighbouring data sets differ by one unit
that is added or removed. For shuffled or fixed-size batches these numbers do not hold.

Examples:
  kith privacy epsilon --noise-multiplier 1.1 --sampling-rate 0.01 --steps 10000 --delta 1e-5
  kith privacy epsilon --noise-multiplier 4 --sampling-rate 1 --steps 20 --delta 1e-6 --json     a peer whose every round is seen")]
pub(crate) struct Spent {
    /// The noise's standard deviation over the clip norm
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    noise_multiplier: f64,
    /// Probability that a unit takes part in a step; 1 if all always do
    #[arg(long, value_name = "Q", allow_negative_numbers = true)]
    sampling_rate: f64,
    /// Optimizer steps in all
    #[arg(long, value_name = "N")]
    steps: u64,
    /// Delta, well below one over the number of units
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    delta: f64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The noise that a budget needs
#[derive(Debug, Args)]
#[command(after_help = "\
The result is the smallest noise multiplier whose tight epsilon is within the budget. Steps that are chosen on the way (a
budget shared by federations, an amendment, stopping early) need the larger one of the Rényi accountant, which is shown too.

Examples:
  kith privacy calibrate --epsilon 3 --delta 1e-5 --sampling-rate 0.01 --steps 10000
  kith privacy calibrate --epsilon 1 --delta 1e-6 --sampling-rate 1 --steps 20 --json")]
pub(crate) struct Calibrate {
    /// The budget's epsilon
    #[arg(long, value_name = "E", allow_negative_numbers = true)]
    epsilon: f64,
    /// The budget's delta, well below one over the number of units
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    delta: f64,
    /// Probability that a unit takes part in a step; 1 if all always do
    #[arg(long, value_name = "Q", allow_negative_numbers = true)]
    sampling_rate: f64,
    /// Optimizer steps in all
    #[arg(long, value_name = "N")]
    steps: u64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What one peer's view tells of another's contributions
#[derive(Debug, Args)]
#[command(after_help = "\
A peer far away sees a contribution only mixed with the noise of others. The result is a guarantee for one-shot averaging:
one round of contributions, then mixing by a mean of exact models that all arrive. Training is no one-shot averaging: for it
the result is a linear estimate and no guarantee, because gradients react to messages that the observer never sees. The local
epsilon, of a peer's own releases, always holds.

Examples:
  kith privacy graph charter.toml
  kith privacy graph charter.toml --noise-multiplier 4 --delta 1e-6 --rounds 10 --json")]
pub(crate) struct View {
    /// The charter's file
    charter: PathBuf,
    /// The noise's standard deviation over the clip norm
    #[arg(
        long,
        value_name = "S",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    noise_multiplier: f64,
    /// Delta, well below one over the number of units
    #[arg(
        long,
        value_name = "D",
        default_value_t = 1e-5,
        allow_negative_numbers = true
    )]
    delta: f64,
    /// Rounds to look at, from the first on; the charter's if not given
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Privacy {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Privacy::Epsilon(spent) => spent.run(),
            Privacy::Calibrate(calibrate) => calibrate.run(),
            Privacy::Graph(view) => view.run(),
            Privacy::Audit(audit) => audit.run(),
            Privacy::Ledger(show) => show.run(),
            Privacy::Report(make) => make.run(),
            Privacy::Verify(verify) => verify.run(),
            Privacy::ProcessingRecord(record) => record.run(),
        }
    }
}

impl From<PrivacyError> for Failure {
    fn from(error: PrivacyError) -> Failure {
        Failure::new(error.to_string())
    }
}

/// What both accountants say.
#[derive(Serialize)]
struct Accounts {
    epsilon_rdp: f64,
    optimal_order: f64,
    epsilon_pld: f64,
}

impl Accounts {
    fn of(phase: Phase, delta: Delta) -> Result<Accounts, PrivacyError> {
        let optimum = rdp::Curve::of(&[phase], &rdp::orders())?.epsilon(delta);
        Ok(Accounts {
            epsilon_rdp: optimum.epsilon,
            optimal_order: optimum.order,
            epsilon_pld: pld::epsilon(&[phase], delta)?,
        })
    }

    fn text(&self, delta: f64) -> String {
        format!(
            "epsilon {:.4} at delta {delta:e}, tight, for steps fixed beforehand (privacy loss distributions)\n\
             epsilon {:.4} at delta {delta:e}, also for steps chosen on the way (Rényi, order {})\n\
             assumed: Poisson sampling, and neighbours that differ by one unit added or removed\n",
            self.epsilon_pld, self.epsilon_rdp, self.optimal_order
        )
    }
}

impl Spent {
    fn run(self) -> Verdict {
        let mechanism = SampledGaussian::new(self.noise_multiplier, self.sampling_rate)?;
        let phase = Phase::new(mechanism, self.steps)?;
        let accounts = Accounts::of(phase, Delta::new(self.delta)?)?;
        if self.json {
            print_json(&accounts)?;
        } else {
            print(&accounts.text(self.delta))?;
        }
        done()
    }
}

impl Calibrate {
    fn run(self) -> Verdict {
        let (epsilon, delta) = (Epsilon::new(self.epsilon)?, Delta::new(self.delta)?);
        let sigma = |accountant| {
            noise_multiplier(epsilon, delta, self.sampling_rate, self.steps, accountant)
        };
        let (tight, renyi) = (sigma(Accountant::Pld)?, sigma(Accountant::Rdp)?);
        let mechanism = SampledGaussian::new(tight, self.sampling_rate)?;
        let accounts = Accounts::of(Phase::new(mechanism, self.steps)?, delta)?;
        if self.json {
            print_json(&json!({
                "noise_multiplier": tight,
                "noise_multiplier_rdp": renyi,
                "epsilon_pld": accounts.epsilon_pld,
                "epsilon_rdp": accounts.epsilon_rdp,
                "optimal_order": accounts.optimal_order,
            }))?;
        } else {
            let first = format!(
                "noise multiplier {tight:.5}; {renyi:.5} for steps chosen on the way\n\nwith noise multiplier {tight:.5}:\n"
            );
            print(&(first + &accounts.text(self.delta)))?;
        }
        done()
    }
}

/// What is seen from one distance.
#[derive(Serialize)]
struct Distance {
    /// Rounds until a contribution can be in what the observer receives; without redrawing, hops.
    distance: u64,
    /// Ordered pairs of an observer and a peer.
    pairs: u64,
    /// The largest of all pairs; `None` if something is seen without noise.
    mu_squared: Option<f64>,
    /// The ε that belongs to it.
    epsilon: Option<f64>,
}

impl View {
    fn run(self) -> Verdict {
        let (delta, agreement) = (Delta::new(self.delta)?, Agreement::load(&self.charter)?);
        let mechanism = SampledGaussian::new(self.noise_multiplier, 1.0)?;
        let rounds = self.rounds.unwrap_or(agreement.charter.rounds);
        let exchanges = exchanges(&agreement, rounds)?;
        let trained = exchanges
            .iter()
            .filter(|exchange| exchange.contribution == Contribution::Noised)
            .count() as u64;
        let local = pld::epsilon(&[Phase::new(mechanism, trained)?], delta)?;
        let distances = self.distances(&exchanges, delta)?;
        let statement = if is_one_shot(&agreement, trained, rounds) {
            "a guarantee against one honest but curious peer, if every message arrives"
        } else {
            "linear estimate, no guarantee: in training, contributions react to messages that the observer never sees"
        };
        let peers = agreement.charter.membership.peers;
        if self.json {
            print_json(&json!({
                "peers": peers,
                "rounds": rounds,
                "noise_multiplier": self.noise_multiplier,
                "delta": self.delta,
                "epsilon_local": local,
                "guarantee": is_one_shot(&agreement, trained, rounds),
                "statement": statement,
                "distances": distances,
            }))?;
        } else {
            let head = format!(
                "{peers} peers, {rounds} rounds, noise multiplier {}, delta {:e}\nlocal epsilon {local:.4}: a peer's own releases, whoever sees them; it always holds\n\n",
                self.noise_multiplier, self.delta
            );
            print(&format!("{head}{}\n{statement}\n", text(&distances)))?;
        }
        done()
    }

    /// What is seen from each distance, the nearest first.
    fn distances(
        &self,
        exchanges: &[Exchange<Arc<Graph>>],
        delta: Delta,
    ) -> Result<Vec<Distance>, Failure> {
        let variance = self.noise_multiplier * self.noise_multiplier;
        let arrivals = arrivals(exchanges);
        let mut largest: std::collections::BTreeMap<u64, (u64, f64)> = Default::default();
        for (observer, arrivals) in arrivals.iter().enumerate() {
            let seen =
                leakage(exchanges, &[observer]).map_err(|error| Failure::new(error.to_string()))?;
            for (seen, arrival) in seen.iter().zip(arrivals) {
                if let (Some(seen), Some(arrival)) = (seen, arrival) {
                    let (pairs, most) = largest.entry(*arrival).or_default();
                    *pairs += 1;
                    *most = most.max(seen / variance);
                }
            }
        }
        let distance = |(distance, (pairs, most)): (u64, (u64, f64))| Distance {
            distance,
            pairs,
            mu_squared: most.is_finite().then_some(most),
            epsilon: most
                .is_finite()
                .then(|| gaussian::epsilon(most.sqrt(), delta)),
        };
        Ok(largest.into_iter().map(distance).collect())
    }
}

fn exchanges(agreement: &Agreement, rounds: u64) -> Result<Vec<Exchange<Arc<Graph>>>, Failure> {
    let (topology, peers) = (
        &agreement.charter.topology,
        agreement.charter.membership.peers,
    );
    let exchange = |round| {
        let graph = topology
            .graph(peers, round)
            .map_err(|error| Failure::new(error.to_string()))?;
        let contribution = if topology.trains(round) {
            Contribution::Noised
        } else {
            Contribution::Nothing
        };
        Ok(Exchange {
            graph,
            contribution,
        })
    };
    (0..rounds).map(exchange).collect()
}

/// For each observer and each peer, how many rounds it takes until something of the peer can be in
/// what the observer receives; `None` if that does not happen.
fn arrivals(exchanges: &[Exchange<Arc<Graph>>]) -> Vec<Vec<Option<u64>>> {
    let peers = exchanges
        .first()
        .map_or(0, |exchange| exchange.graph.peers());
    let mut held: Vec<Vec<bool>> = (0..peers)
        .map(|peer| (0..peers).map(|other| other == peer).collect())
        .collect();
    let mut arrivals = vec![vec![None; peers]; peers];
    for (round, exchange) in (1..).zip(exchanges) {
        let before = held.clone();
        for observer in 0..peers {
            for from in exchange.graph.receives_from(observer) {
                for (peer, _) in before[*from]
                    .iter()
                    .enumerate()
                    .filter(|(_, holds)| **holds)
                {
                    held[observer][peer] = true;
                    arrivals[observer][peer].get_or_insert(round);
                }
            }
        }
    }
    arrivals
}

/// Whether contributions cannot react to messages, and mixing is what the accountant assumes.
fn is_one_shot(agreement: &Agreement, trained: u64, rounds: u64) -> bool {
    let (charter, aggregation) = (&agreement.charter, &agreement.charter.aggregation);
    trained <= 1
        && rounds == charter.rounds
        && charter.round.mode == Mode::Synchronous
        && charter.declared.codec_is_exact
        && aggregation.rule.name() == "mean"
        && aggregation.method == Method::Plain
        && aggregation.momentum == 0.0
        && aggregation.weighting == Weighting::Mixing
}

fn text(distances: &[Distance]) -> String {
    let mut lines = table(&["distance", "pairs", "mu²", "epsilon"]);
    let number = |number: Option<f64>| number.map_or("unbounded".to_owned(), |n| format!("{n:.4}"));
    for one in distances {
        lines.add_row([
            one.distance.to_string(),
            one.pairs.to_string(),
            number(one.mu_squared),
            number(one.epsilon),
        ]);
    }
    format!("{lines}\n")
}
