//! The baselines of the peers: training alone, and training on everybody's rows in one place.

use kith_consensus::Seed;
use kith_models::{Dataset, Loaded, Task};
use kith_simulations::learner::Learner;
use kith_simulations::sites::{SiteRow, Sites, Together};

use super::super::output::{Failure, tell};
use super::directory::Places;
use super::plan::Plan;
use super::tally::mean;
use crate::actors::trainer::STACK_BYTES;
use crate::agreement::Agreement;

/// Splits into training and test rows over which sites are compared.
pub(super) const SPLITS: u64 = 20;

/// Accuracies on the held-out rows after as many rounds of local training as the federation had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Baselines {
    /// Mean over the honest peers, each training alone on its rows.
    pub(super) local_only: f64,
    /// One model on all honest peers' rows together.
    pub(super) pooled: f64,
    /// Mean over the honest peers of the same federation without a privacy guarantee; `None` if it
    /// has none.
    pub(super) unprotected: Option<f64>,
}

/// Trains on two threads; `None` if training failed.
pub(super) fn measure(plan: &Plan, places: &Places) -> Option<Baselines> {
    // Without noise: what the rows could teach.
    let unprotected = plan.unprotected.as_ref();
    let task = &unprotected.unwrap_or(&plan.agreement).task;
    let rounds = plan.agreement.charter.rounds;
    let shards: Vec<(Dataset, Seed)> = plan
        .honest()
        .map(|index| {
            (
                places.nodes[index].rows.clone(),
                plan.agreement.charter.peer_seed(&plan.members[index].peer),
            )
        })
        .collect();
    let all: Vec<Dataset> = shards.iter().map(|(rows, _)| rows.clone()).collect();
    let pooled_seed = Seed::from_number(plan.agreement.charter.seed).child("pooled");
    std::thread::scope(|scope| {
        let big = || std::thread::Builder::new().stack_size(STACK_BYTES);
        let pooled = big()
            .spawn_scoped(scope, move || {
                accuracy(
                    task,
                    Dataset::concat(&all),
                    pooled_seed,
                    rounds,
                    &places.test,
                )
            })
            .ok()?;
        let alone = big()
            .spawn_scoped(scope, move || {
                let count = shards.len() as f64;
                let accuracies: Option<Vec<f64>> = shards
                    .into_iter()
                    .map(|(rows, seed)| accuracy(task, rows, seed, rounds, &places.test))
                    .collect();
                accuracies.map(|accuracies| accuracies.iter().sum::<f64>() / count)
            })
            .ok()?;
        let (local_only, pooled) = (alone.join().ok()??, pooled.join().ok()??);
        let together = big().spawn_scoped(scope, move || {
            unprotected.and_then(|agreement| federated(plan, agreement, places))
        });
        Some(Baselines {
            local_only,
            pooled,
            unprotected: together.ok()?.join().ok()?,
        })
    })
}

/// Mean accuracy of the honest peers' models under another agreement, without liars, in memory.
fn federated(plan: &Plan, agreement: &Agreement, places: &Places) -> Option<f64> {
    let members = &plan.members;
    let secrets: Vec<[u8; 32]> = members.iter().map(|member| member.secret).collect();
    let rows: Vec<Dataset> = places.nodes.iter().map(|node| node.rows.clone()).collect();
    let together = Together {
        charter: &agreement.charter,
        task: &agreement.task,
        federation: &agreement.federation(),
        secrets: &secrets,
    };
    let seed = Seed::from_number(agreement.charter.seed).child("without privacy");
    let models = together.train(&rows, &seed).ok()?;
    let accuracy = |index: usize| {
        let found = agreement.task.evaluate(&models[index], &places.test);
        found.ok().map(|found| found.accuracy)
    };
    let accuracies: Option<Vec<f64>> = plan.honest().map(accuracy).collect();
    mean(accuracies?.into_iter())
}

/// Accuracy of local training alone: as a peer trains, with its optimizer's state carried from
/// round to round.
fn accuracy(task: &Task, rows: Dataset, seed: Seed, rounds: u64, test: &Dataset) -> Option<f64> {
    let parameters = Learner::new(task, rows, seed, None)
        .ok()?
        .alone(rounds)
        .ok()?;
    Some(task.evaluate(&parameters, test).ok()?.accuracy)
}

/// What each site gains: the federation again, in memory, over several splits, next to what a site
/// could do without it.
///
/// # Errors
/// When a run fails: what went wrong.
pub(super) fn compare_sites(
    plan: &Plan,
    rows: &Loaded,
    seed: u64,
) -> Result<Vec<SiteRow>, Failure> {
    tell(&format!("comparing the sites over {SPLITS} splits …"));
    let compare = || {
        let sites = Sites {
            charter: plan.agreement.charter.clone(),
            task: &plan.agreement.task,
            federation: plan.agreement.federation(),
            secrets: plan.members.iter().map(|member| member.secret).collect(),
            loaded: rows,
            seed: Seed::from_number(seed),
        };
        sites.compare(SPLITS)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, compare);
        let thread = thread
            .map_err(|error| Failure::new(format!("no thread to compare the sites on: {error}")))?;
        thread
            .join()
            .unwrap_or_else(|_| Err("it panicked".to_owned()))
            .map_err(|why| Failure::new(format!("the sites could not be compared: {why}")))
    })
}
