//! The same lines in words, for people who read the log.

use std::sync::PoisonError;

use kith_consensus::PeerId;
use kith_gossip::{Event, History, Refusal};

use super::Telemetry;
use super::denials::Denial;
use super::line::{NodeEvent, What};

/// What a person has to know about irregular rounds; `None` if there were none.
pub fn irregular(history: &History) -> Option<String> {
    let mixed: u64 = history.mixed.values().sum();
    let parts = [
        (
            history.alone(),
            format!(
                "{} of {mixed} rounds were mixed with nobody: this peer was alone in them",
                history.alone()
            ),
        ),
        (
            history.training_failed,
            format!("its training failed in {} rounds", history.training_failed),
        ),
        (
            history.listened,
            format!(
                "{} rounds of listening, behind the others",
                history.listened
            ),
        ),
        (
            history.passed_over,
            format!("{} rounds passed over", history.passed_over),
        ),
    ];
    let reported: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, text)| text)
        .collect();
    (!reported.is_empty()).then(|| reported.join("; "))
}

impl Telemetry {
    /// Logs a line for people. A degraded state is a warning, a round's facts are info, a message
    /// is debug.
    pub(super) fn log(&self, what: &What) {
        match what {
            What::Peer(event) => self.log_peer(event),
            What::Node(NodeEvent::RunStarted { version, process }) => {
                tracing::debug!("kith {version}, process {process}")
            }
            What::Node(NodeEvent::Listening { address }) => {
                tracing::info!("listening at {address}")
            }
            What::Node(NodeEvent::Serving { address }) => {
                tracing::info!("status and metrics at http://{address}")
            }
            What::Node(NodeEvent::Denied {
                peer,
                why,
                address,
                count,
            }) => self.log_denied(*peer, address.as_deref(), why, *count),
            What::Node(NodeEvent::DialFailed {
                peer,
                address,
                why,
                detail,
            }) => {
                let who = peer.map_or("a bootstrap address".to_owned(), |peer| self.name_of(&peer));
                let at = address
                    .as_ref()
                    .map_or(String::new(), |address| format!(" at {address}"));
                tracing::warn!(
                    "cannot reach {who}{at}: {why} ({detail}); it is tried again every few seconds"
                );
            }
            What::Node(NodeEvent::OwnKeyElsewhere { address }) => {
                tracing::error!(
                    "another process runs with this peer's key at {address}: stop one of the two; two updates of one round would be \
                     taken for a lie"
                );
            }
            What::Node(NodeEvent::Warning { text }) => tracing::warn!("{text}"),
            What::Node(NodeEvent::Restarted { actor }) => {
                tracing::error!("the {actor} panicked and was started again")
            }
            What::Node(NodeEvent::Report {
                why,
                wire_in_bytes,
                wire_out_bytes,
                history,
                ..
            }) => {
                tracing::info!("stopped: {why} ({wire_in_bytes} bytes in, {wire_out_bytes} out)");
                if let Some(text) = irregular(history) {
                    tracing::warn!("{text}");
                }
            }
            What::Other(_) => {}
        }
    }

    fn log_denied(&self, peer: Option<PeerId>, address: Option<&str>, why: &str, count: u64) {
        // A stranger's id is shown in full: a person who admits members needs it.
        let who = peer.map_or("a stranger".to_owned(), |peer| {
            self.facts
                .names
                .get(&peer)
                .cloned()
                .unwrap_or(peer.to_string())
        });
        let from = address.map_or(String::new(), |address| format!(" from {address}"));
        match count {
            0 | 1 => tracing::warn!("denied a connection of {who}{from}: {why}"),
            more => {
                tracing::warn!("denied {more} more connections, the last of {who}{from}: {why}")
            }
        }
    }

    /// The first of a peer and a reason at once, then how many a minute: a late peer, or a bad one,
    /// does not fill the log.
    fn log_refusal(&self, peer: &PeerId, reason: &Refusal) {
        let who = self.name_of(peer);
        if *reason == Refusal::Duplicate {
            // Updates are sent again over each further connection, since the line of an older one
            // may be dead.
            return tracing::debug!("heard an update of {who} once more");
        }
        let refusal = Denial {
            peer: Some(*peer),
            address: Some(who.clone()),
            why: reason.name().to_owned(),
            count: 1,
        };
        let reported = self
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(self.now(), refusal);
        match reported.map(|reported| reported.count) {
            None => tracing::debug!("refused a message of {who}: {reason}"),
            Some(0 | 1) => tracing::warn!("refused a message of {who}: {reason}"),
            Some(more) => {
                tracing::warn!("refused {more} more messages, the last of {who}: {reason}")
            }
        }
    }

    fn log_peer(&self, event: &Event) {
        let names = |peers: &[PeerId]| {
            peers
                .iter()
                .map(|peer| self.name_of(peer))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match event {
            Event::Started {
                round,
                resumed: true,
                ..
            } => tracing::info!("resuming at round {round}"),
            Event::Started { federation, .. } => {
                tracing::info!("started in federation {}", federation.short())
            }
            Event::Waiting {
                ready,
                needed,
                missing,
            } => {
                tracing::info!(
                    "waiting for neighbours: {ready} of {needed} are here, missing {}",
                    names(missing)
                );
            }
            Event::RosterFormed { peers } => {
                tracing::warn!(
                    "the roster is complete with {peers} peers; membership is open, so byzantine is an assumption"
                );
            }
            Event::Connected { peer } => tracing::info!("connected to {}", self.name_of(peer)),
            Event::Disconnected { peer } => {
                tracing::info!("connection to {} ended", self.name_of(peer))
            }
            Event::Departed {
                peer,
                finished: true,
            } => tracing::info!("{} has finished", self.name_of(peer)),
            Event::Departed {
                peer,
                finished: false,
            } => tracing::info!("{} has stopped; it may come back", self.name_of(peer)),
            Event::Skipped { peer, round } => {
                tracing::warn!("{} publishes nothing in round {round}", self.name_of(peer))
            }
            Event::NoLongerAwaited { peer, missed, late } => {
                let why = if *late {
                    "its updates come too late"
                } else {
                    "nothing comes of it"
                };
                tracing::warn!(
                    "no longer waits for {}: it missed {missed} deadlines in a row, {why}",
                    self.name_of(peer)
                );
            }
            Event::AwaitedAgain { peer } => {
                tracing::info!("waits for {} again: it was on time", self.name_of(peer))
            }
            Event::CatchingUp { round } => {
                tracing::warn!(
                    "round {round}: behind the others; it does not train, and takes what they have"
                );
            }
            Event::CaughtUp { round, models, .. } => {
                tracing::info!("round {round}: caught up with the models of {models} neighbours");
            }
            Event::TooFew {
                round,
                have,
                need,
                missing,
            } => {
                let missing = names(missing);
                tracing::warn!(
                    "round {round} waits: {have} others are there, the charter wants {need} (round.neighbours_min); missing {missing}"
                );
            }
            Event::Over { round } => tracing::warn!(
                "round {round}: every neighbour has finished; the federation is over"
            ),
            Event::Dismissed { peer, reason } => {
                tracing::warn!("sent {} away: {reason}", self.name_of(peer))
            }
            Event::Ready {
                neighbours,
                connected,
            } => tracing::info!("ready: {connected} of {neighbours} neighbours connected"),
            Event::RoundOpened { round, .. } => tracing::debug!("round {round} opened"),
            Event::Trained {
                round,
                loss,
                samples,
                local_steps,
            } => match loss {
                Some(loss) => tracing::info!(
                    "round {round}: trained {local_steps} steps on {samples} rows, loss {loss:.4}"
                ),
                None => tracing::info!(
                    "round {round}: trained {local_steps} steps with noise, lots of {samples}"
                ),
            },
            Event::PrivacySpent {
                round,
                epsilon,
                budget,
            } => tracing::info!(
                "round {round}: charged; epsilon {epsilon:.4} of {budget} is spent of these rows"
            ),
            Event::BudgetExhausted {
                round,
                epsilon,
                budget,
            } => tracing::warn!(
                "round {round}: another release would exceed the privacy budget (epsilon {epsilon:.4} of {budget} is spent); \
                 nothing is released, and others' updates are still taken"
            ),
            Event::LedgerBehind {
                round,
                entries,
                epsilon,
                stated,
                charged,
                ..
            } => tracing::warn!(
                "this peer's privacy ledger ends at entry {entries} with epsilon {epsilon:.4}, but its own signed update of round \
                 {round} says {stated:.4}: an older copy was put back. What it lacks is charged, with two releases more: \
                 epsilon {charged:.4}"
            ),
            Event::Unanswered {
                round,
                answered,
                needed,
            } => tracing::warn!(
                "round {round}: nothing is released, because {answered} of the {needed} neighbours have answered that have to say \
                 what this peer had spent before its start"
            ),
            Event::TrainingFailed { round, why } => {
                tracing::error!("round {round}: training failed: {why}")
            }
            Event::Published {
                round,
                body_bytes,
                receivers,
                ..
            } => {
                tracing::debug!(
                    "round {round}: published {body_bytes} bytes to {receivers} neighbours"
                );
            }
            Event::Accepted {
                round,
                peer,
                payload_bytes,
                ..
            } => {
                tracing::debug!(
                    "round {round}: update of {} accepted, {payload_bytes} bytes",
                    self.name_of(peer)
                );
            }
            Event::Refused { peer, reason, .. } => self.log_refusal(peer, reason),
            Event::KeyframeWanted { round, peer } => {
                tracing::debug!(
                    "round {round}: asking {} for a keyframe",
                    self.name_of(peer)
                )
            }
            Event::RoundClosed {
                round,
                have,
                awaited,
                missing,
                ..
            } if !missing.is_empty() => {
                tracing::warn!(
                    "round {round} closed with {have} of {awaited} updates, missing {}",
                    names(missing)
                );
            }
            Event::RoundClosed {
                round,
                have,
                awaited,
                ..
            } => {
                tracing::info!("round {round} closed with {have} of {awaited} updates")
            }
            Event::Aggregated {
                round,
                models,
                spread,
                dropped,
                ..
            } => {
                let filtered = dropped.iter().filter(|dropped| dropped.share > 0.5).count();
                tracing::info!(
                    "round {round}: {models} models combined, {filtered} filtered, spread {spread:.4}"
                );
            }
            Event::MixingSkipped { round, have, need } => {
                tracing::warn!(
                    "round {round}: {have} models, the rule needs {need}; keeping the own step"
                );
            }
            Event::Adopted { round, peer, .. } => {
                tracing::info!("round {round}: took the model of {}", self.name_of(peer))
            }
            Event::Kept {
                round,
                expected: true,
            } => {
                tracing::warn!(
                    "round {round}: the model to take over has not come; keeping the own one"
                );
            }
            Event::Kept {
                round,
                expected: false,
            } => tracing::debug!("round {round}: nobody sends to this peer"),
            Event::Suspected { peer, score } => {
                tracing::warn!("{} is suspected (score {score:.2})", self.name_of(peer))
            }
            Event::Equivocated { peer, round, .. } => {
                tracing::error!(
                    "{} signed two different updates for round {round}",
                    self.name_of(peer)
                )
            }
            Event::Jumped { from, to } => {
                tracing::warn!("behind: went on from round {from} at round {to}")
            }
            Event::Stalled { round, missing } => {
                tracing::warn!("round {round} waits for {}", names(missing))
            }
            Event::Evaluated {
                round,
                loss,
                accuracy,
                samples,
            } => {
                tracing::info!(
                    "after {round} rounds: accuracy {accuracy:.4}, loss {loss:.4} on {samples} held-out rows"
                );
            }
            Event::Finished { rounds, state } => {
                tracing::info!("finished {rounds} rounds, model {}", state.short())
            }
            Event::Left { why, .. } => tracing::info!("left: {why}"),
        }
    }
}
