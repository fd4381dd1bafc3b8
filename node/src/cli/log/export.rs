//! `kith log --export FILE`: a peer's log as a file of events, for `kith view`.

use std::path::Path;

use super::read;
use crate::agreement::Agreement;
use crate::cli::output::{Failure, tell};
use crate::cli::recording::header_of_peer;
use crate::config::Config;
use crate::error::NodeError;
use crate::identity::Identity;
use crate::page::recording::{Entry, Noticed, Recorder};
use crate::telemetry::{Line, NodeEvent, What, unix_seconds};

/// Writes the last `count` lines of a peer's log. The answer is how many there were.
///
/// # Errors
/// When the log cannot be read, the file cannot be written, or the charter lists no members.
pub(super) fn export(config: &Config, count: usize, path: &Path) -> Result<usize, Failure> {
    let agreement = Agreement::load(&config.charter)?;
    let own = Identity::load(&config.key).map_err(NodeError::from)?.peer();
    let header = header_of_peer(&agreement.charter, &own)?;
    let lines: Vec<Line> = read(config, count)?
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let mut recorder = Recorder::create(path, &header).map_err(|error| failed(&error))?;
    for entry in entries(&lines) {
        if let Some(remark) = recorder.add(&entry) {
            tell(&remark);
        }
    }
    recorder.close().map_err(|error| failed(&error))?;
    Ok(lines.len())
}

/// The lines with the seconds since the first one; after the last one, that it is over if the run
/// ended then.
fn entries(lines: &[Line]) -> Vec<Entry> {
    let first = lines.first().and_then(|line| unix_seconds(&line.time));
    let seconds = |line: &Line| {
        // Lines of an older program have no time of day; their runs overlap.
        let since = first.zip(unix_seconds(&line.time));
        since.map_or(line.at_seconds, |(first, now)| (now - first).max(0.0))
    };
    let all = lines.iter().map(|line| Entry {
        seconds: seconds(line),
        what: Noticed::Line(line.clone()),
    });
    let last = lines
        .last()
        .filter(|line| matches!(&line.what, What::Node(NodeEvent::Report { .. })));
    let over = last.map(|line| Entry {
        seconds: seconds(line),
        what: Noticed::Over,
    });
    all.chain(over).collect()
}

#[cfg(test)]
mod tests {
    use kith_consensus::PeerId;
    use kith_gossip::Event;

    use super::*;

    fn line(time: &str, at_seconds: f64, what: What) -> Line {
        Line {
            time: time.to_owned(),
            at_seconds,
            node: PeerId([1; 32]),
            what,
        }
    }

    #[test]
    fn seconds_run_on_over_a_restart_and_a_report_ends_it() {
        let opened = |round| {
            What::Peer(Event::RoundOpened {
                round,
                neighbours: 1,
                selected: 1,
            })
        };
        let lines = [
            line("2026-01-02T03:04:05.000Z", 7.0, opened(0)),
            line("2026-01-02T03:04:15.500Z", 0.5, opened(1)),
        ];
        let seconds = |lines: &[Line]| -> Vec<f64> {
            entries(lines).iter().map(|entry| entry.seconds).collect()
        };
        assert_eq!(seconds(&lines), [0.0, 10.5]);
        let report = What::Node(NodeEvent::Report {
            finished: true,
            rounds: 2,
            why: "finished".to_owned(),
            wire_in_bytes: 0,
            wire_out_bytes: 0,
            restarts: 0,
            training_seconds: 0.0,
            evaluation_seconds: 0.0,
            history: Default::default(),
        });
        let ended = [
            lines[0].clone(),
            line("2026-01-02T03:04:25.000Z", 10.0, report),
        ];
        let last = entries(&ended).pop().unwrap();
        assert_eq!((last.seconds, last.what), (20.0, Noticed::Over));
    }
}
