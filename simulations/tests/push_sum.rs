//! Push-sum's invariant: the mass in all peers and on its way is as many as there are peers, whatever
//! happens to messages, and whoever starts again with its disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::charter::{Charter, Declared};
use kith_consensus::section::Document;
use kith_consensus::{Digest, PeerId, Section, Seed};
use kith_gossip::codec::codec_from_section;
use kith_gossip::{Authenticator, Carried, Event, Honest, Record, Roster, Setup};
use kith_models::{Request, Trained};
use kith_simulations::simulator::{
    Ended, Links, Local, Meeting, Moment, Observer, Participant, Simulation,
};

const PEERS: usize = 6;
const DIMENSION: usize = 5;
/// Sender and receiver: far from balanced.
const EDGES: [[usize; 2]; 12] = [
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 4],
    [4, 5],
    [5, 0],
    [4, 0],
    [4, 1],
    [5, 1],
    [5, 2],
    [3, 1],
    [3, 0],
];

fn id(peer: usize) -> PeerId {
    PeerId([peer as u8 + 1; 32])
}

/// Learns nothing: so the sum of all numerators stays as well.
struct Still;

impl Local for Still {
    fn train(&self, request: &Request<'_>) -> Result<Trained, String> {
        let parameters = request.start.to_vec();
        Ok(Trained {
            parameters,
            samples: 1,
            local_steps: 1,
            loss: 0.0,
            rate: 0.1,
            memory: None,
        })
    }

    fn loss(&self, _: &[f32]) -> Option<f64> {
        None
    }

    fn evaluate(&self, _: &[f32]) -> Option<(f64, f64, u64)> {
        None
    }
}

/// What everybody has on disk, and whether the balance was right whenever something was written.
#[derive(Default)]
struct Auditor {
    disks: BTreeMap<usize, (Vec<f32>, Carried)>,
    audits: usize,
    worst: f64,
    worst_numerator: f64,
}

fn start(peer: usize) -> Vec<f32> {
    (0..DIMENSION)
        .map(|column| (peer * 31 + column * 7) as f32 / 10.0)
        .collect()
}

/// A number that is written as two.
fn joined(parts: &[f32]) -> f64 {
    f64::from(parts[0]) + f64::from(parts[1])
}

impl Auditor {
    /// Mass, and the first value's numerator, in all peers and on its way.
    fn balance(&self) -> (f64, f64) {
        let (mut mass, mut numerator) = (0.0, 0.0);
        for peer in 0..PEERS {
            let Some((model, carried)) = self.disks.get(&peer) else {
                mass += 1.0;
                numerator += f64::from(start(peer)[0]);
                continue;
            };
            let own = joined(&carried["mass"]);
            mass += own;
            numerator += own * f64::from(model[0]);
            let receivers = EDGES.iter().filter(|[from, _]| *from == peer).count() as f64;
            if let Some(given) = carried.get("given") {
                mass += receivers * joined(&given[DIMENSION..]);
                numerator += receivers * f64::from(given[0]);
            }
            for taken in carried
                .iter()
                .filter(|(name, _)| name.starts_with("taken."))
                .map(|(_, taken)| taken)
            {
                mass -= joined(&taken[DIMENSION..]);
                numerator -= f64::from(taken[0]);
            }
        }
        (mass, numerator)
    }
}

impl Observer for Auditor {
    fn event(&mut self, _: &Moment<'_>, _: &Event) {}

    fn stored(&mut self, moment: &Moment<'_>, record: &Record) {
        let Record::Checkpoint(checkpoint) = record else {
            return;
        };
        self.disks.insert(
            moment.member,
            (checkpoint.parameters.to_vec(), checkpoint.carried.clone()),
        );
        let (mass, numerator) = self.balance();
        let expected: f64 = (0..PEERS).map(|peer| f64::from(start(peer)[0])).sum();
        self.worst = self.worst.max((mass - PEERS as f64).abs());
        self.worst_numerator = self.worst_numerator.max((numerator - expected).abs());
        self.audits += 1;
    }
}

/// Nobody waits beyond a deadline: what others give meanwhile would be on its way, until they have
/// next to nothing left.
fn federation(links: Links) -> Simulation<Auditor> {
    let members: String = (0..PEERS)
        .map(|peer| {
            format!(
                "[[membership.member]]\nname = \"p{peer}\"\nkey = \"{}\"\n",
                id(peer)
            )
        })
        .collect();
    let text = format!(
        "[federation]\nname = \"mass\"\nrounds = 150\n[topology]\nkind = \"edges\"\ndirected = true\nedges = {EDGES:?}\n\
         [round]\ndeadline_seconds = 0.5\nneighbours_min = 0\n[aggregation]\nrule = \"mean\"\nmethod = \"push-sum\"\n{members}"
    );
    let mut codec = |section: &mut Section<'_>, declared: &mut Declared| {
        declared.codec_is_exact = codec_from_section(section).is_exact();
    };
    let charter =
        Arc::new(Charter::resolve(&text, &mut [("codec", &mut codec)]).expect("a good charter"));
    let participants = (0..PEERS).map(|peer| {
        let charter = Arc::clone(&charter);
        let setup = move || Setup {
            authenticator: Authenticator::KeyedHash {
                peer: id(peer),
                secret: [7; 32],
            },
            charter: Arc::clone(&charter),
            roster: Roster::new(charter.roster()),
            codec: Document::parse("")
                .expect("toml")
                .section("codec", codec_from_section),
            layout: Digest::of(b"layout"),
            // Unlike each other, so that there is something to average.
            initial: Arc::new(start(peer)),
            seed: Seed::from_number(peer as u64),
            conduct: Box::new(Honest),
            evaluate_every: 0,
            incarnation: 1,
            evidence: Vec::new(),
        };
        Participant::new(setup, Still)
    });
    Simulation::new(
        participants.collect(),
        Meeting::Everyone,
        links,
        0,
        Auditor::default(),
    )
}

const LIMIT: Duration = Duration::from_secs(36_000);

#[test]
fn mass_is_neither_lost_nor_made_by_loss_repetition_reordering_and_restarts() {
    for seed in 0..12 {
        let mut federation = federation(Links::bad(0.25, 0.3, Duration::from_millis(300), seed));
        // Wherever in a round it strikes: before, between and after promise and checkpoint.
        for (number, peer) in [4usize, 2, 4, 0, 5].into_iter().enumerate() {
            federation.restart_at(
                peer,
                Duration::from_millis(3_000 + 4_000 * number as u64 + 37 * seed),
                true,
            );
        }
        assert!(federation.run(LIMIT) == Ended::Stopped, "seed {seed}");
        let auditor = &federation.observer;
        println!(
            "seed {seed}: {} audits, off by {:.1e}, numerator {:.1e}",
            auditor.audits, auditor.worst, auditor.worst_numerator
        );
        assert!(auditor.audits > 100 * PEERS);
        assert!(
            auditor.worst < 1e-9,
            "seed {seed}: the mass was off by {}",
            auditor.worst
        );
        assert!(
            auditor.worst_numerator < 1e-2,
            "seed {seed}: the numerator was off by {}",
            auditor.worst_numerator
        );
        // They agree on the mean, as far as what is still on its way lets them.
        let mean: f32 = (0..PEERS).map(|peer| start(peer)[0]).sum::<f32>() / PEERS as f32;
        for peer in 0..PEERS {
            let found = federation.parameters(peer)[0];
            assert!(
                (found - mean).abs() < 0.5,
                "seed {seed}: peer {peer} ends at {found}, the mean is {mean}"
            );
        }
    }
}
