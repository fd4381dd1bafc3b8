//! A testnet's events: into its folder, and to its page if it has one.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::super::output::{Failure, tell};
use super::super::recording::Named;
use super::baseline::Baselines;
use super::plan::{Member, Plan};
use crate::page::Page;
use crate::page::recording::{EVENTS_FILE, Entry, Header, Noticed, Recorder};

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
        let recorder = Recorder::create(&folder.join(EVENTS_FILE), header);
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
/// When its topology has no graph.
pub(super) fn header(plan: &Plan) -> Result<Header, Failure> {
    let member = |member: &Member| (member.name.clone(), member.peer, member.lies);
    let peers: Vec<Named> = plan.members.iter().map(member).collect();
    let charter = &plan.agreement.charter;
    super::super::recording::header(charter, charter.to_toml(), &plan.attack, &peers)
}
