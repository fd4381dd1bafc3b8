//! A testnet's events: into its folder, and to its page if it has one.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kith_consensus::topology::Graph;
use kith_simulations::plot::graph::places;

use super::super::output::{Failure, tell};
use super::baseline::Baselines;
use super::plan::Plan;
use crate::page::Page;
use crate::page::recording::{Entry, Header, Member, Noticed, Recorder, Role};

/// Takes every notice of the supervisor.
pub(super) struct Record {
    recorder: Recorder,
    page: Option<Arc<Page>>,
    started: Instant,
}

impl Record {
    /// A new file of events in the testnet's folder; the same goes to the page.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn create(
        folder: &Path,
        header: &Header,
        page: Option<Arc<Page>>,
    ) -> Result<Record, Failure> {
        let recorder = Recorder::create(folder, header);
        Ok(Record {
            recorder: recorder.map_err(|error| Failure::new(error.to_string()))?,
            page,
            started: Instant::now(),
        })
    }

    /// Adds what was noticed now.
    pub(super) fn add(&mut self, what: Noticed) {
        let seconds = self.started.elapsed().as_secs_f64();
        let entry = Entry { seconds, what };
        if let Some(page) = &self.page {
            page.add(&entry);
        }
        if let Some(remark) = self.recorder.add(&entry) {
            tell(&remark);
        }
    }

    /// Adds how it ended.
    pub(super) fn end(mut self, baselines: Option<Baselines>) {
        if let Some(Baselines {
            local_only, pooled, ..
        }) = baselines
        {
            self.add(Noticed::Baselines { local_only, pooled });
        }
        self.add(Noticed::Over);
    }

    /// Hands what was added to the operating system, so that a reader finds it.
    pub(super) fn flush(&mut self) {
        self.recorder.flush();
    }
}

/// What is known of a testnet before it starts.
///
/// # Errors
/// When its links are no graph.
pub(super) fn header(plan: &Plan) -> Result<Header, Failure> {
    let charter = &plan.agreement.charter;
    let links: Vec<(usize, usize)> = plan
        .members
        .iter()
        .enumerate()
        .flat_map(|(index, member)| {
            let later = member.neighbours.range(index + 1..);
            later.map(move |other| (index, *other))
        })
        .collect();
    let graph = Graph::new_undirected(plan.members.len(), links.iter().copied())
        .map_err(|error| Failure::new(error.to_string()))?;
    let topology = charter.topology.kind.name();
    let members = plan.members.iter().zip(places(topology, &graph));
    let lies = plan.members.iter().any(|member| member.lies);
    Ok(Header {
        kith_events: Header::VERSION,
        charter: charter.to_toml(),
        name: charter.name.clone(),
        rounds: charter.rounds,
        rule: charter.aggregation.rule.name().to_owned(),
        topology: topology.to_owned(),
        codec: plan.agreement.codec.name().to_owned(),
        attack: lies.then(|| plan.attack.clone()),
        peers: members
            .map(|(member, place)| Member {
                name: member.name.clone(),
                peer: member.peer,
                role: if member.lies {
                    Role::Adversary
                } else {
                    Role::Honest
                },
                place,
            })
            .collect(),
        links,
    })
}
