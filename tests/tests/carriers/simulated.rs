//! The simulated carrier as a stage: the peers of a federation's folders under virtual time.

use std::rc::Rc;
use std::time::Duration;

use kith_gossip::Event;
use kith_models::{Request, Trained};
use kith_node::{Agreement, Config, Identity};
use kith_simulations::simulator::{
    Cut, Device, Fault, Line, Links, Local, Meeting, Participant, Reach, Recorder, Simulation,
};
use serde_json::Value;

use super::common::PATIENCE;
use super::{Act, Scenario, Stage, Told, processes};

/// Local training of a round, such that a round takes as long as one of real processes (27 ms, measured).
const TRAINING: Duration = Duration::from_millis(25);
/// One way, as in a data centre.
const LATENCY_NANOSECONDS: u64 = 200_000;
/// Longer than any scenario.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// Training that takes time and moves the model: scenarios are about the carrier alone.
struct Step;

impl Local for Step {
    fn train(&self, request: &Request<'_>) -> Result<Trained, String> {
        Ok(Trained {
            parameters: request.start.iter().map(|value| value + 0.01).collect(),
            samples: 10,
            local_steps: 1,
            loss: 0.0,
            rate: 1.0,
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

struct Simulated {
    simulation: Simulation<Recorder>,
    peers: usize,
    /// By peer, how many of the recorded events were looked at.
    read: Vec<usize>,
}

pub(crate) fn play(scenario: &Scenario) {
    let federation = processes::federation(scenario, &vec!["127.0.0.1".to_owned(); scenario.peers]);
    let charter = federation.dir(federation.names[0]).join("charter.toml");
    let agreement = Agreement::load(&charter).expect("a good charter");
    let shared = Rc::new(agreement.federation());
    let participants = federation.names.iter().enumerate().map(|(peer, name)| {
        let config = Config::load(&federation.dir(name).join("kith.toml")).expect("a good file");
        let key = Identity::load(&config.key).expect("a key").authenticator();
        let shared = Rc::clone(&shared);
        let mut participant = Participant::new(move || shared.peer(key.clone()), Step);
        participant.device = Device {
            step: TRAINING,
            jitter: 0.0,
        };
        let rates = scenario.begin.iter().filter_map(|act| match act {
            Act::Slow {
                peer: slow,
                bytes_per_second,
            } if *slow == peer => Some(*bytes_per_second as f64),
            _ => None,
        });
        let rate = rates.sum::<f64>();
        participant.line = Line {
            up: rate,
            down: rate,
            latency: 0,
        };
        participant
    });
    let mut links = Links {
        latency: LATENCY_NANOSECONDS,
        ..Links::clear()
    };
    // The system closes a killed process's sockets.
    links.carrier.silent_deaths = 0.0;
    let participants: Vec<Participant> = participants.collect();
    let peers = participants.len();
    let mut stage = Simulated {
        simulation: Simulation::new(
            participants,
            Meeting::Everyone,
            links,
            0,
            Recorder::default(),
        ),
        peers,
        read: vec![0; peers],
    };
    for act in scenario.begin {
        stage.act(*act);
    }
    (scenario.play)(&mut stage);
}

impl Simulated {
    fn fault(&mut self, fault: Fault) {
        let now = self.simulation.now();
        self.simulation.fault_at(now, fault);
    }

    fn cut(&mut self, group: &[usize], one_way: bool) {
        let group = group.to_vec();
        self.fault(Fault::Partition {
            cut: Cut { group, one_way },
            lasts: FOR_EVER,
        });
    }
}

fn line(event: &Event) -> Value {
    serde_json::to_value(event).expect("events are JSON")
}

impl Stage for Simulated {
    fn until(&mut self, peer: usize, what: &str, wanted: &dyn Fn(&Value) -> bool) -> Value {
        let id = self.simulation.id(peer);
        let deadline = self.simulation.now() + PATIENCE;
        loop {
            let events = &self.simulation.observer.events;
            for (place, (_, of, event)) in events.iter().enumerate().skip(self.read[peer]) {
                let event = line(event);
                if *of == id && wanted(&event) {
                    self.read[peer] = place + 1;
                    return event;
                }
            }
            self.read[peer] = events.len();
            let ended = self.simulation.run_some(deadline, 1);
            let own = self.simulation.observer.events.iter().rev();
            let own = own.filter(|(_, of, _)| *of == id).take(8);
            assert_eq!(
                ended,
                None,
                "waited in vain for {what} of peer {peer}; seen: {:#?}",
                own.collect::<Vec<_>>()
            );
        }
    }

    fn seen(&mut self, peer: usize) -> Vec<Value> {
        let id = self.simulation.id(peer);
        let events = self.simulation.observer.events[..self.read[peer]].iter();
        let own = events.filter(|(_, of, _)| *of == id);
        own.map(|(_, _, event)| line(event)).collect()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Kill { peer, back } => self.fault(Fault::Crash {
                peer,
                back: Some(back),
                keeps_disk: true,
            }),
            Act::Pause { peer, lasts } => self.fault(Fault::Pause { peer, lasts }),
            Act::Cut { from, .. } => self.cut(from, true),
            Act::Part { some, .. } => self.cut(some, false),
            Act::Heal => self.fault(Fault::Heal),
            Act::Break { peer, told, .. } => self.fault(Fault::Break {
                peer,
                silent: told == Told::Nobody,
            }),
            Act::BehindRouter { peer } => self.fault(Fault::Address {
                peer,
                reach: Reach::BehindRouter,
                lasts: FOR_EVER,
            }),
            // Lines are what they are from the beginning.
            Act::Slow { .. } => {}
        }
    }

    fn now(&mut self) -> Duration {
        self.simulation.now()
    }

    fn is_timed(&self) -> bool {
        true
    }

    fn peers(&self) -> usize {
        self.peers
    }

    fn name(&self) -> &'static str {
        "simulated"
    }
}
