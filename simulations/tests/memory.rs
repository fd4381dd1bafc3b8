//! What peers hold does not grow with the rounds: vectors are counted by references that keep
//! nothing alive.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kith_consensus::charter::{Charter, Declared};
use kith_consensus::section::Document;
use kith_consensus::{Digest, PeerId, Section, Seed};
use kith_gossip::codec::codec_from_section;
use kith_gossip::effect::Record;
use kith_gossip::{Authenticator, Effect, Event, Honest, Input, Roster, Setup};
use kith_models::{Request, Trained};
use kith_simulations::simulator::{
    Ended, Links, Local, Meeting, Moment, Observer, Participant, Simulation,
};

const PEERS: usize = 4;
/// So large that bodies are pulled and that none is kept for those that are late.
const DIMENSION: usize = (5 << 20) / 4;
const ROUNDS: u64 = 12;

fn id(peer: usize) -> PeerId {
    PeerId([peer as u8 + 1; 32])
}

struct Learner;

impl Local for Learner {
    fn train(&self, request: &Request<'_>) -> Result<Trained, String> {
        let parameters = request.start.iter().map(|value| value + 0.5).collect();
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

/// Something of the model's size.
enum Held {
    Values(Weak<Vec<f32>>),
    Bytes(Weak<Vec<u8>>),
}

impl Held {
    fn is_alive(&self) -> bool {
        match self {
            Held::Values(values) => values.strong_count() > 0,
            Held::Bytes(bytes) => bytes.strong_count() > 0,
        }
    }
}

/// All vectors and bodies that went in or out, by where they lie; and how many were alive when a
/// round opened.
#[derive(Default)]
struct Counter {
    seen: BTreeMap<usize, Held>,
    alive: BTreeMap<u64, usize>,
}

impl Counter {
    fn values(&mut self, values: &Arc<Vec<f32>>) {
        if values.len() >= DIMENSION {
            self.seen.insert(
                Arc::as_ptr(values) as usize,
                Held::Values(Arc::downgrade(values)),
            );
        }
    }

    fn bytes(&mut self, bytes: &Arc<Vec<u8>>) {
        if bytes.len() > DIMENSION {
            self.seen.insert(
                Arc::as_ptr(bytes) as usize,
                Held::Bytes(Arc::downgrade(bytes)),
            );
        }
    }
}

impl Observer for Counter {
    fn event(&mut self, _: &Moment<'_>, event: &Event) {
        if let Event::RoundOpened { round, .. } = event {
            self.seen.retain(|_, held| held.is_alive());
            let alive = self.alive.entry(*round).or_default();
            *alive = self.seen.len().max(*alive);
        }
    }

    fn input(&mut self, _: &Moment<'_>, input: &Input) {
        if let Input::Trained { parameters, .. } = input {
            self.values(parameters);
        }
    }

    fn effect(&mut self, _: &Moment<'_>, effect: &Effect) {
        match effect {
            Effect::Train { parameters, .. } => self.values(parameters),
            Effect::Persist(Record::Intent(intent)) => {
                self.values(&intent.own);
                self.bytes(&intent.body);
            }
            Effect::Persist(Record::Checkpoint(checkpoint)) => {
                self.values(&checkpoint.parameters);
                checkpoint
                    .replicas
                    .values()
                    .for_each(|replica| self.values(replica));
            }
            Effect::Provide {
                body: Some(body), ..
            } => self.bytes(body),
            _ => {}
        }
    }
}

fn federation(codec: &str) -> Simulation<Counter> {
    let members: String = (0..PEERS)
        .map(|peer| {
            format!(
                "[[membership.member]]\nname = \"p{peer}\"\nkey = \"{}\"\n",
                id(peer)
            )
        })
        .collect();
    let text = format!(
        "[federation]\nname = \"memory\"\nrounds = {ROUNDS}\n[topology]\nkind = \"complete\"\n\
         [aggregation]\nrule = \"mean\"\n[codec]\nkind = \"{codec}\"\n{members}"
    );
    let mut read = |section: &mut Section<'_>, _: &mut Declared| {
        drop(codec_from_section(section));
    };
    let charter =
        Arc::new(Charter::resolve(&text, &mut [("codec", &mut read)]).expect("a good charter"));
    let initial = Arc::new(vec![0.0; DIMENSION]);
    let participants = (0..PEERS).map(|peer| {
        let (charter, initial, codec) =
            (Arc::clone(&charter), Arc::clone(&initial), codec.to_owned());
        let setup = move || Setup {
            authenticator: Authenticator::KeyedHash {
                peer: id(peer),
                secret: [7; 32],
            },
            charter: Arc::clone(&charter),
            roster: Roster::new(charter.roster()),
            codec: Document::parse(&format!("[codec]\nkind = \"{codec}\""))
                .expect("toml")
                .section("codec", codec_from_section),
            layout: Digest::of(b"layout"),
            initial: Arc::clone(&initial),
            seed: Seed::from_number(peer as u64),
            conduct: Box::new(Honest),
            evaluate_every: 0,
            incarnation: 1,
            evidence: Vec::new(),
        };
        Participant::new(setup, Learner)
    });
    Simulation::new(
        participants.collect(),
        Meeting::Everyone,
        Links::clear(),
        0,
        Counter::default(),
    )
}

#[test]
fn what_peers_hold_does_not_grow_with_the_rounds() {
    for codec in ["identity", "top-k", "int8"] {
        let mut federation = federation(codec);
        assert!(
            federation.run(Duration::from_secs(36_000)) == Ended::Stopped,
            "{codec}"
        );
        let alive = &federation.observer.alive;
        let (early, late) = (alive[&3], alive[&(ROUNDS - 1)]);
        println!(
            "{codec}: {} vectors and bodies in round 3, {} in the last",
            early, late
        );
        assert!(late <= early, "{codec}: {alive:?}");
        // What is seen here of each: its model, its body, its replica, and those of the others,
        // which they share.
        assert!(late <= 5 * PEERS, "{codec}: {alive:?}");
    }
}
