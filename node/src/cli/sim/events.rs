//! `kith sim run --events FILE`: everything that the peers of a world report, for `kith view`.

use std::path::Path;
use std::time::Duration;

use kith_consensus::PeerId;
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
        if let Some(remark) = recorder.add(&entry(now, peers[member].1, member, &happened)) {
            tell(&remark);
        }
    });
    run.listen(listener);
    Ok(())
}

/// What a simulated peer, by its position, reported at a virtual time.
fn entry(now: Duration, node: PeerId, member: usize, happened: &Happened<'_>) -> Entry {
    let seconds = now.as_secs_f64();
    let what = match happened {
        Happened::Event(event) => Noticed::Line(Line {
            time: String::new(),
            at_seconds: seconds,
            node,
            what: What::Peer((*event).clone()),
        }),
        Happened::Crashed => Noticed::Gone(member),
        Happened::Ended => Noticed::Over,
    };
    Entry { seconds, what }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use kith_gossip::Event;

    use super::*;
    use crate::page::Page;

    /// Eight peers with unlike rows, each of which may go on alone.
    const WORLD: &str = "\
[federation]
name = \"anomalies\"
rounds = 40
[topology]
kind = \"complete\"
[aggregation]
rule = \"trimmed-mean\"
byzantine = 1
[round]
neighbours_min = 0
deadline_seconds = 1.0
[world]
peers = 8
partition = \"dirichlet:0.5\"
evaluate_every = 1
";

    const CUT: &str = "\
[[world.fault]]
kind = \"partition\"
at_seconds = 0.5
group = [2]
lasts_seconds = 100000
";

    /// Whom a run's anomalies are about, by position.
    #[derive(Debug, Default, PartialEq)]
    struct Reported {
        drifted: BTreeSet<usize>,
        suspected: BTreeSet<usize>,
        stalled: BTreeSet<usize>,
    }

    /// What a run of the world reports, and who lies in it.
    fn reported(world: &str, seed: i64) -> (Reported, BTreeSet<usize>) {
        let setting = ("world.seed".to_owned(), toml::Value::Integer(seed));
        let experiment = Experiment::parse(world, &[setting]).expect("an experiment");
        let mut run = experiment.begin(1).expect("it begins");
        let peers: Vec<Named> = run.peers().collect();
        let liars = peers.iter().enumerate().filter(|(_, (_, _, lies))| *lies);
        let liars = liars.map(|(place, _)| place).collect();
        let charter = &experiment.charter;
        let header = header(charter, experiment.to_toml(), "", &peers);
        let page = Arc::new(Page::new(
            header.unwrap_or_else(|failure| panic!("{failure}")),
        ));
        let found = Arc::new(Mutex::new(Reported::default()));
        let (shown, noted) = (page.clone(), found.clone());
        run.listen(Box::new(move |now, member, happened| {
            shown.add(&entry(now, peers[member].1, member, &happened));
            let place = |id: &PeerId| peers.iter().position(|(_, peer, _)| peer == id);
            let mut noted = noted.lock().expect("nobody panicked");
            match happened {
                Happened::Event(Event::Suspected { peer, .. }) => {
                    noted.suspected.extend(place(peer));
                }
                Happened::Event(Event::Stalled { missing, .. }) => {
                    noted.stalled.extend(missing.iter().filter_map(place));
                }
                _ => {}
            }
        }));
        run.run_until(Duration::MAX, &mut |_, _| {});
        run.finish();
        let mut found = std::mem::take(&mut *found.lock().expect("nobody panicked"));
        found.drifted.extend(page.drifted());
        (found, liars)
    }

    #[test]
    fn a_peer_that_is_cut_off_drifts_and_stalls_and_nobody_else_does() {
        for seed in 1..=5 {
            let (cut, _) = reported(&[WORLD, CUT].concat(), seed);
            assert_eq!(cut.drifted, BTreeSet::from([2]), "seed {seed}");
            assert!(cut.stalled.contains(&2), "seed {seed}: {cut:?}");
            let (calm, _) = reported(WORLD, seed);
            assert_eq!(calm.drifted, BTreeSet::new(), "seed {seed}");
            assert_eq!(calm.stalled, BTreeSet::new(), "seed {seed}");
        }
    }

    #[test]
    fn a_liar_is_suspected_and_nobody_else_is() {
        let lies = "adversaries = 1\nattack = \"sign-flip:10\"\n";
        // Rows that are alike: with unlike ones an honest peer may look like a liar.
        let alike = WORLD.replace("dirichlet:0.5", "iid");
        for seed in 1..=5 {
            let (lied_to, liars) = reported(&[&alike, lies].concat(), seed);
            assert_eq!((lied_to.suspected, liars.len()), (liars, 1), "seed {seed}");
            let (calm, _) = reported(&alike, seed);
            assert_eq!(calm.suspected, BTreeSet::new(), "seed {seed}");
        }
    }
}
