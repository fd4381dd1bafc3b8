//! `kith sim run --events FILE`: everything that the peers of a world report, for `kith view`.

use std::path::Path;

use kith_simulations::experiment::{Experiment, Happened, Listener, Run};

use super::super::output::{Failure, tell};
use super::super::recording::{Named, header};
use crate::page::recording::{Entry, Noticed, PEERS_MAX, Recorder};
use crate::telemetry::{Line, What};

/// Writes what happens in a run into a file, from here on.
///
/// # Errors
/// When the file cannot be written, or there are more peers than a page shows.
pub(super) fn record(
    path: &Path,
    experiment: &Experiment,
    run: &mut Run<'_>,
) -> Result<(), Failure> {
    let peers: Vec<Named> = run.peers().collect();
    if peers.len() > PEERS_MAX {
        return Err(Failure::with_help(
            format!(
                "--events: {} peers, and a page shows {PEERS_MAX}",
                peers.len()
            ),
            "leave --events out; the report of the results' folder shows any number",
        ));
    }
    let header = header(
        &experiment.charter,
        experiment.to_toml(),
        &experiment.world.attack,
        &peers,
    )?;
    let recorder = Recorder::create(path, &header);
    let mut recorder = recorder.map_err(|error| Failure::new(error.to_string()))?;
    let listener: Listener = Box::new(move |now, member, happened| {
        let seconds = now.as_secs_f64();
        let what = match happened {
            Happened::Event(event) => Noticed::Line(Line {
                time: String::new(),
                at_seconds: seconds,
                node: peers[member].1,
                what: What::Peer(event.clone()),
            }),
            Happened::Crashed => Noticed::Gone(member),
            Happened::Ended => Noticed::Over,
        };
        if let Some(remark) = recorder.add(&Entry { seconds, what }) {
            tell(&remark);
        }
    });
    run.listen(listener);
    Ok(())
}
