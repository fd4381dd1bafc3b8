//! The peer under bad weather: messages lost, repeated, delayed and reordered, senders restarted,
//! liars and forgers.
//!
//! The trainer is a formula, so these tests are about the protocol alone: peer i pulls towards its
//! own target, and the mean of all targets is where everyone should end.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::charter::{Charter, Declared};
use kith_consensus::{Digest, Genesis, PeerId, Section, Seed};
use kith_gossip::codec::codec_from_section;
use kith_gossip::envelope::{Authenticator, Envelope, Header, Kind, PROTOCOL_VERSION};
use kith_gossip::event::Closed;
use kith_gossip::refusal::Refusal;
use kith_gossip::{Conduct, Event, Honest, Input, Roster, Setup};
use kith_models::{Request, Trained};
use kith_simulations::attack::{Attacker, attack_from_text};
use kith_simulations::simulator::{
    Device, Ended, Links, Local, Meeting, Participant, Recorder, Simulation,
};

type Federation = Simulation<Recorder>;

const DIMENSION: usize = 40;

/// One step of gradient descent on ½‖x − target‖².
struct Pull {
    target: Vec<f32>,
}

impl Local for Pull {
    fn train(&self, request: &Request<'_>) -> Result<Trained, String> {
        let step = |(value, target): (&f32, &f32)| value + 0.5 * (target - value);
        let parameters = request.start.iter().zip(&self.target).map(step).collect();
        Ok(Trained {
            parameters,
            samples: 10,
            local_steps: 1,
            loss: 0.0,
            rate: 1.0,
            memory: None,
        })
    }

    fn loss(&self, _parameters: &[f32]) -> Option<f64> {
        None
    }

    fn evaluate(&self, _parameters: &[f32]) -> Option<(f64, f64, u64)> {
        None
    }
}

struct World {
    peers: usize,
    charter: String,
    weather: Links,
    attacks: Vec<(usize, &'static str)>,
    /// Anyone may join, four at most.
    open: bool,
    /// Trains for half a minute where the others take a millisecond.
    slow: Option<usize>,
}

impl World {
    fn new(peers: usize, topology: &str, codec: &str) -> World {
        let charter = format!(
            "[federation]\nname = \"test\"\nrounds = 12\ntestnet = true\n[topology]\n{topology}\n[round]\ndeadline_seconds = 8\n\
             start_deadline_seconds = 8\n[aggregation]\nrule = \"mean\"\n[codec]\n{codec}\n"
        );
        World {
            peers,
            charter,
            weather: Links::clear(),
            attacks: Vec::new(),
            open: false,
            slow: None,
        }
    }

    fn weather(mut self, loss: f64, duplication: f64, delay_ms: u64, seed: u64) -> World {
        self.weather = Links::bad(loss, duplication, Duration::from_millis(delay_ms), seed);
        self
    }

    fn rule(mut self, rule: &str) -> World {
        self.charter = self.charter.replace("rule = \"mean\"", rule);
        self
    }

    fn attack(mut self, member: usize, attack: &'static str) -> World {
        self.attacks.push((member, attack));
        self
    }

    fn open(mut self) -> World {
        self.open = true;
        self
    }

    fn charter(&self) -> Charter {
        if self.open {
            let mut codec = |section: &mut Section<'_>, declared: &mut Declared| {
                declared.codec_is_exact = codec_from_section(section).is_exact();
            };
            let membership = format!(
                "[membership]\nmode = \"open\"\npeers = {}\n",
                self.peers.min(4)
            );
            return Charter::resolve(
                &format!("{}{membership}", self.charter),
                &mut [("codec", &mut codec)],
            )
            .expect("a good charter");
        }
        let members: String = (0..self.peers)
            .map(|index| {
                format!("[[membership.member]]\nname = \"p{index}\"\norganisation = \"o{index}\"\nkey = \"{}\"\n", id(index))
            })
            .collect();
        let mut codec = |section: &mut Section<'_>, declared: &mut Declared| {
            declared.codec_is_exact = codec_from_section(section).is_exact();
        };
        Charter::resolve(
            &format!("{}{members}", self.charter),
            &mut [("codec", &mut codec)],
        )
        .expect("a good charter")
    }

    fn build(&self) -> Federation {
        let charter = Arc::new(self.charter());
        let codec = self
            .charter
            .split("[codec]")
            .nth(1)
            .expect("has a codec")
            .to_owned();
        let members = (0..self.peers).map(|index| {
            let charter = Arc::clone(&charter);
            let codec = codec.clone();
            let attack = self
                .attacks
                .iter()
                .find(|(member, _)| *member == index)
                .map(|(_, attack)| *attack);
            let setup = move || {
                let mut document =
                    kith_consensus::section::Document::parse(&format!("[codec]{codec}"))
                        .expect("toml");
                let conduct: Box<dyn Conduct> = match attack {
                    Some(attack) => Box::new(Attacker::new(
                        attack_from_text(attack).expect("a known attack"),
                        None,
                    )),
                    None => Box::new(Honest),
                };
                Setup {
                    authenticator: Authenticator::from_secret(&secret(index)),
                    charter: Arc::clone(&charter),
                    roster: Roster::new(if charter.roster().is_empty() {
                        vec![id(index)]
                    } else {
                        charter.roster()
                    }),
                    codec: document.section("codec", codec_from_section),
                    layout: Digest::of(b"layout"),
                    initial: Arc::new(vec![0.0; DIMENSION]),
                    seed: Seed::from_number(index as u64),
                    conduct,
                    evaluate_every: 0,
                    incarnation: 1,
                    evidence: Vec::new(),
                }
            };
            let duration = if self.slow == Some(index) {
                Duration::from_secs(30)
            } else {
                Duration::from_millis(1)
            };
            let target = (0..DIMENSION)
                .map(|column| ((index * 7 + column * 3) % 11) as f32 - 5.0)
                .collect();
            let mut participant = Participant::new(setup, Pull { target });
            participant.device = Device {
                step: duration,
                jitter: 0.0,
            };
            participant
        });
        Simulation::new(
            members.collect(),
            Meeting::Everyone,
            self.weather.clone(),
            0,
            Recorder::default(),
        )
    }
}

fn secret(index: usize) -> [u8; 32] {
    [index as u8 + 1; 32]
}

fn id(index: usize) -> PeerId {
    Authenticator::from_secret(&secret(index)).peer()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Largest distance between two members' models.
fn disagreement(federation: &Federation, members: &[usize]) -> f64 {
    let pairs = members
        .iter()
        .flat_map(|a| members.iter().map(move |b| (*a, *b)));
    pairs
        .map(|(a, b)| distance(federation.parameters(a), federation.parameters(b)))
        .fold(0.0, f64::max)
}

/// Events of one member.
fn events_of(federation: &Federation, member: usize) -> impl Iterator<Item = &Event> {
    let id = federation.id(member);
    federation
        .observer
        .events
        .iter()
        .filter(move |(_, peer, _)| *peer == id)
        .map(|(_, _, event)| event)
}

fn refusals(federation: &Federation, member: usize) -> Vec<&'static str> {
    let refused = events_of(federation, member).filter_map(|event| match event {
        Event::Refused { reason, .. } => Some(reason.name()),
        _ => None,
    });
    refused
        .filter(|name| *name != "duplicate" && *name != "stale-round")
        .collect()
}

const LIMIT: Duration = Duration::from_secs(3600);
const CODECS: [&str; 20] = [
    "kind = \"identity\"",
    "kind = \"f16\"",
    "kind = \"int8\"",
    "kind = \"int8\"\nreplica = true",
    "kind = \"top-k\"\nshare = 0.3",
    "kind = \"top-k\"\nshare = 0.3\nvalues = \"int8\"",
    "kind = \"int4\"",
    "kind = \"int4\"\nrounding = \"stochastic\"\nreplica = true",
    "kind = \"qsgd\"",
    "kind = \"qsgd\"\nlevels = 7\nreplica = true",
    "kind = \"sign\"",
    "kind = \"random-k\"\nshare = 0.3",
    "kind = \"random-k\"\nshare = 0.3\nsupport = \"own\"\nvalues = \"f16\"",
    "kind = \"random-k\"\nshare = 0.7\nscaled = true",
    "kind = \"power-sgd\"",
    "kind = \"power-sgd\"\nrank = 1\niterations = 1",
    "kind = \"f16\"\nreplica = true",
    "kind = \"bf16\"",
    "kind = \"top-k\"\nshare = 0.3\nvalues = \"int4\"",
    "kind = \"top-k\"\nshare = 0.3\nvalues = \"sign\"",
];

#[test]
fn a_clear_run_closes_every_round_by_quorum_and_ends_in_agreement() {
    let mut federation = World::new(5, "kind = \"complete\"", CODECS[0]).build();
    assert!(
        federation.run(LIMIT) == Ended::Stopped,
        "everyone stops by itself"
    );
    assert!(disagreement(&federation, &[0, 1, 2, 3, 4]) < 1e-5);
    for member in 0..5 {
        let closed: Vec<Closed> = events_of(&federation, member)
            .filter_map(|event| match event {
                Event::RoundClosed { why, .. } => Some(*why),
                _ => None,
            })
            .collect();
        assert_eq!(closed, [Closed::Quorum; 12]);
        assert_eq!(refusals(&federation, member), [""; 0]);
    }
    assert!(
        federation.now() < Duration::from_secs(10),
        "nobody waited for a deadline"
    );
}

#[test]
fn every_codec_survives_loss_repetition_delay_reordering_and_a_restart_of_the_sender() {
    for codec in CODECS {
        for seed in 0..4 {
            let world = World::new(6, "kind = \"random-regular\"\ndegree = 3", codec)
                .weather(0.15, 0.2, 900, seed);
            let mut federation = world.build();
            federation.restart_at((seed % 6) as usize, Duration::from_secs(7), true);
            assert!(
                federation.run(LIMIT) == Ended::Stopped,
                "codec {codec}, seed {seed}: everyone stops by itself"
            );
            for member in 0..6 {
                assert_eq!(federation.parameters(member).len(), DIMENSION);
                let refused = refusals(&federation, member);
                let only: Vec<_> = refused
                    .iter()
                    .filter(|name| !["unavailable", "future-round"].contains(name))
                    .collect();
                assert!(
                    only.is_empty(),
                    "codec {codec}, seed {seed}: honest peers are refused {only:?}"
                );
                assert!(
                    !events_of(&federation, member)
                        .any(|event| matches!(event, Event::Equivocated { .. })),
                    "{codec} {seed}"
                );
            }
            // The mean of the targets is the fixed point; half of each step leads there, mixing
            // spreads it.
            assert!(
                disagreement(&federation, &[0, 1, 2, 3, 4, 5]) < 25.0,
                "codec {codec}, seed {seed}"
            );
        }
    }
}

#[test]
fn every_method_survives_loss_repetition_delay_reordering_and_a_restart_of_the_sender() {
    for entry in &kith_consensus::optimization::METHODS {
        for seed in 0..4 {
            let world = World::new(6, "kind = \"random-regular\"\ndegree = 3", CODECS[0])
                .weather(0.15, 0.2, 900, seed);
            let more = if entry.name == "fednova" {
                "\nreference_steps = 1"
            } else {
                ""
            };
            let mut federation = world
                .rule(&format!(
                    "rule = \"mean\"\nmethod = \"{}\"{more}",
                    entry.name
                ))
                .build();
            federation.restart_at((seed % 6) as usize, Duration::from_secs(7), true);
            // In every other run somebody loses its disk too, and with its own headers lost on the
            // way may contradict itself.
            let forgets = seed % 2 == 1;
            if forgets {
                federation.restart_at(((seed + 2) % 6) as usize, Duration::from_secs(20), false);
            }
            assert!(
                federation.run(LIMIT) == Ended::Stopped,
                "{}, seed {seed}: everyone stops by itself",
                entry.name
            );
            for member in 0..6 {
                let refused = refusals(&federation, member);
                let only: Vec<_> = refused
                    .iter()
                    .filter(|name| !["unavailable", "future-round"].contains(name))
                    .collect();
                assert!(
                    forgets || only.is_empty(),
                    "{}, seed {seed}: honest peers are refused {only:?}",
                    entry.name
                );
                let contradicted = events_of(&federation, member)
                    .any(|event| matches!(event, Event::Equivocated { .. }));
                assert!(forgets || !contradicted, "{}, seed {seed}", entry.name);
                // Targets lie within 5 of zero in each of 40 values.
                let norm = distance(federation.parameters(member), &[0.0; DIMENSION]);
                println!("{}, seed {seed}, member {member}: {norm:.1}", entry.name);
                assert!(
                    norm < 60.0,
                    "{}, seed {seed}: member {member} ends {norm} from where all began",
                    entry.name
                );
            }
        }
    }
}

#[test]
fn the_same_weather_gives_the_same_run_to_the_bit() {
    let run = |seed| {
        let mut federation = World::new(6, "kind = \"ring\"", CODECS[4])
            .weather(0.2, 0.2, 700, seed)
            .build();
        federation.run(LIMIT);
        (
            federation.observer.events.clone(),
            (0..6)
                .map(|member| Digest::of_values(federation.parameters(member)))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).1, run(2).1, "other weather, other run");
}

#[test]
fn a_restart_with_disk_repeats_the_promised_bytes_and_is_never_proved_a_liar() {
    for milliseconds in (0..40).step_by(1) {
        let mut federation = World::new(4, "kind = \"complete\"", CODECS[4]).build();
        federation.restart_at(1, Duration::from_millis(milliseconds), true);
        assert!(federation.run(LIMIT) == Ended::Stopped);
        assert!(
            !federation
                .observer
                .events
                .iter()
                .any(|(_, _, event)| matches!(event, Event::Equivocated { .. })),
            "at {milliseconds} ms"
        );
        assert!(events_of(&federation, 1).any(|event| matches!(event, Event::Finished { .. })));
    }
}

#[test]
fn a_restart_without_disk_publishes_nothing_that_contradicts_what_it_signed_before() {
    for milliseconds in 0..30 {
        let mut federation = World::new(4, "kind = \"complete\"", CODECS[0])
            .weather(0.0, 0.0, 3, milliseconds)
            .build();
        federation.restart_at(2, Duration::from_millis(milliseconds), false);
        assert!(federation.run(LIMIT) == Ended::Stopped);
        assert!(
            !federation
                .observer
                .events
                .iter()
                .any(|(_, _, event)| matches!(event, Event::Equivocated { .. })),
            "at {milliseconds} ms"
        );
    }
}

#[test]
fn a_peer_that_never_comes_delays_the_others_only_as_long_as_their_patience() {
    let mut federation = World::new(4, "kind = \"complete\"", CODECS[0]).build();
    // Member 3 dies in the first instant and every time it comes back.
    for second in 0..400 {
        federation.restart_at(3, Duration::from_millis(second * 500), false);
    }
    federation.run(LIMIT);
    for member in 0..3 {
        assert!(
            events_of(&federation, member).any(|event| matches!(event, Event::Finished { .. })),
            "member {member} finished"
        );
    }
}

#[test]
fn liars_break_the_mean_and_not_the_defence_in_four_cells_over_five_seeds() {
    let honest_target = |members: &[usize]| -> Vec<f32> {
        (0..DIMENSION)
            .map(|column| {
                members
                    .iter()
                    .map(|index| ((index * 7 + column * 3) % 11) as f32 - 5.0)
                    .sum::<f32>()
                    / members.len() as f32
            })
            .collect()
    };
    for seed in 0..5usize {
        let liars = [seed, (seed * 2 + 3) % 8].map(|liar| {
            if seed == (seed * 2 + 3) % 8 && liar == seed {
                (liar + 1) % 8
            } else {
                liar
            }
        });
        let honest: Vec<usize> = (0..8).filter(|member| !liars.contains(member)).collect();
        let target = honest_target(&honest);
        let error = |attacked: bool, defended: bool| {
            let mut world = World::new(8, "kind = \"complete\"", CODECS[0]);
            if defended {
                world = world.rule("rule = \"nnm+trimmed-mean\"\nbyzantine = 2");
            }
            if attacked {
                world = world
                    .attack(liars[0], "sign-flip:10")
                    .attack(liars[1], "sign-flip:10");
            }
            let mut federation = world.build();
            assert!(federation.run(LIMIT) == Ended::Stopped);
            honest
                .iter()
                .map(|member| distance(federation.parameters(*member), &target))
                .fold(0.0, f64::max)
        };
        let (clean, cost, broken, saved) = (
            error(false, false),
            error(false, true),
            error(true, false),
            error(true, true),
        );
        assert!(
            clean < 8.0,
            "seed {seed}: plain mean without liars ends near the target: {clean}"
        );
        assert!(
            cost < 12.0,
            "seed {seed}: the defence costs little without liars: {cost}"
        );
        assert!(
            broken > 100.0,
            "seed {seed}: the attack works against the plain mean: {broken}"
        );
        assert!(saved < 15.0, "seed {seed}: the defence holds: {saved}");
    }
}

#[test]
fn hostile_bytes_are_refused_by_name_and_the_peer_lives() {
    let world = World::new(3, "kind = \"complete\"", CODECS[0]);
    let charter = world.charter();
    let liar = Authenticator::from_secret(&secret(1));
    let stranger = Authenticator::from_secret(&[99; 32]);
    let seal = |authenticator: &Authenticator,
                federation: Genesis,
                kind: Kind,
                round: u64,
                payload: Vec<u8>| {
        let state = Digest::of(&payload);
        let header = Header {
            version: PROTOCOL_VERSION,
            federation,
            kind,
            sender: authenticator.peer(),
            incarnation: 1,
            round,
            sequence: 0,
            state,
            payload: Digest::of(&payload),
            spent: None,
        };
        Envelope::seal(authenticator, header, payload).to_bytes()
    };
    let good = seal(
        &liar,
        charter.genesis,
        Kind::Want,
        0,
        vec![0xa1, 0x65, b'r', b'o', b'u', b'n', b'd', 0],
    );
    // The same header spelled in another way, and signed so: a longer integer.
    let respelled = {
        let Envelope {
            header,
            header_bytes,
            payload,
            ..
        } = Envelope::open(&liar, &good).expect("good");
        let version = PROTOCOL_VERSION as u8;
        assert_eq!(
            header_bytes[1], version,
            "the version is the first item, one byte"
        );
        let mut bytes = header_bytes;
        bytes.splice(1..2, [0x18, version]);
        Envelope {
            signature: liar.sign_bytes(&bytes),
            header,
            header_bytes: bytes,
            payload,
        }
        .to_bytes()
    };
    let mut flipped = good.clone();
    let last = flipped.len() - 2; // inside the payload
    flipped[last] ^= 1;
    let mut forged = good.clone();
    forged[10] ^= 1;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("oversize", vec![0; 70_000]),
        ("junk", b"hello there".to_vec()),
        ("junk", forged),
        ("payload-hash", flipped),
        ("junk", respelled),
        (
            "unknown-sender",
            seal(&stranger, charter.genesis, Kind::Update, 0, vec![1, 2, 3]),
        ),
        (
            "wrong-federation",
            seal(
                &liar,
                Genesis(Digest::of(b"other")),
                Kind::Update,
                0,
                vec![1, 2, 3],
            ),
        ),
        (
            "junk",
            seal(&liar, charter.genesis, Kind::Update, 0, vec![1, 2, 3]),
        ),
        (
            "future-round",
            seal(&liar, charter.genesis, Kind::Update, 9, vec![1, 2, 3]),
        ),
    ];
    for (name, bytes) in cases {
        let mut federation = world.build();
        federation.inject(
            0,
            Input::Received {
                from: id(1),
                bytes: bytes.into(),
            },
            Duration::ZERO,
        );
        assert!(
            federation.run(LIMIT) == Ended::Stopped,
            "{name}: everyone still finishes"
        );
        let told: Vec<&str> = refusals(&federation, 0);
        assert!(
            told.contains(&name) || (name == "junk" && told.contains(&"signature")),
            "expected {name}, the event list has {told:?}"
        );
        assert!(
            events_of(&federation, 0).any(|event| matches!(event, Event::Finished { .. })),
            "{name}: the peer lives"
        );
    }
}

#[test]
fn a_liar_with_a_nan_is_refused_and_the_others_agree() {
    let mut federation = World::new(4, "kind = \"complete\"", CODECS[0])
        .attack(2, "not-a-number")
        .build();
    assert!(federation.run(LIMIT) == Ended::Stopped);
    for member in [0, 1, 3] {
        assert!(
            events_of(&federation, member)
                .any(|event| matches!(event, Event::Refused { peer, reason: Refusal::NotFinite { .. }, .. } if *peer == id(2)))
        );
        assert!(
            federation
                .parameters(member)
                .iter()
                .all(|value| value.is_finite())
        );
    }
}

#[test]
fn two_different_updates_of_one_round_are_proved_and_the_liar_is_expelled_everywhere() {
    let world = World::new(5, "kind = \"complete\"", CODECS[0]);
    let charter = world.charter();
    let liar = Authenticator::from_secret(&secret(1));
    let mut federation = world.build();
    // Beside its honest update, member 1 also signs another one for round 0 and shows it to member
    // 3 only.
    let payload = vec![7; 10];
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind: Kind::Update,
        sender: liar.peer(),
        incarnation: 1,
        round: 0,
        sequence: 0,
        state: Digest::of(b"another"),
        payload: Digest::of(&payload),
        spent: None,
    };
    let bytes = Envelope::seal(&liar, header, payload).to_bytes();
    federation.inject(
        3,
        Input::Received {
            from: liar.peer(),
            bytes: bytes.into(),
        },
        Duration::from_millis(2),
    );
    assert!(federation.run(LIMIT) == Ended::Stopped);
    for member in [0, 2, 3, 4] {
        let convicted: Vec<&PeerId> = events_of(&federation, member)
            .filter_map(|event| match event {
                Event::Equivocated { peer, .. } => Some(peer),
                _ => None,
            })
            .collect();
        assert_eq!(convicted, [&liar.peer()], "member {member} holds the proof");
    }
}

#[test]
fn an_open_federation_forms_its_roster_from_who_comes_and_resumes_with_it() {
    let mut federation = World::new(4, "kind = \"ring\"", CODECS[4])
        .open()
        .weather(0.0, 0.1, 20, 3)
        .build();
    federation.restart_at(2, Duration::from_millis(150), true);
    assert!(
        federation.run(LIMIT) == Ended::Stopped,
        "everyone stops by itself"
    );
    for member in 0..4 {
        assert!(
            events_of(&federation, member).any(|event| matches!(event, Event::Finished { .. })),
            "member {member}"
        );
        assert!(
            events_of(&federation, member)
                .any(|event| matches!(event, Event::RosterFormed { peers: 4 })),
            "member {member}"
        );
        assert!(
            !events_of(&federation, member).any(|event| matches!(event, Event::Dismissed { .. })),
            "member {member}"
        );
    }
}

#[test]
fn who_comes_after_an_open_roster_is_full_is_refused_by_name() {
    let world = World::new(4, "kind = \"complete\"", CODECS[0]).open();
    let charter = world.charter();
    let mut federation = world.build();
    let late = Authenticator::from_secret(&[99; 32]);
    let payload = vec![0xa0];
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind: Kind::Hello,
        sender: late.peer(),
        incarnation: 1,
        round: 0,
        sequence: 0,
        state: Digest::default(),
        payload: Digest::of(&payload),
        spent: None,
    };
    let bytes = Envelope::seal(&late, header, payload).to_bytes();
    federation.inject(
        0,
        Input::Received {
            from: late.peer(),
            bytes: bytes.into(),
        },
        Duration::from_millis(3),
    );
    assert!(federation.run(LIMIT) == Ended::Stopped);
    assert!(
        refusals(&federation, 0).contains(&"unknown-sender"),
        "{:?}",
        refusals(&federation, 0)
    );
}

#[test]
fn a_peer_slower_than_everybody_s_patience_still_completes_rounds_and_ends() {
    let mut world = World::new(5, "kind = \"complete\"", CODECS[4]);
    world.slow = Some(4);
    let mut federation = world.build();
    assert!(
        federation.run(LIMIT) == Ended::Stopped,
        "everyone stops by itself"
    );
    let mixed = events_of(&federation, 4)
        .filter(|event| matches!(event, Event::Aggregated { models, .. } if *models > 1))
        .count();
    assert!(mixed >= 1, "what it trained is mixed");
    // It goes through every round, or comes when all the others have gone and says so.
    assert!(
        events_of(&federation, 4)
            .any(|event| matches!(event, Event::Finished { .. } | Event::Over { .. }))
    );
}

#[test]
fn a_peer_that_is_cut_off_does_not_run_ahead_of_everybody() {
    // Nothing arrives at all: each is alone, and waits.
    let mut federation = World::new(3, "kind = \"complete\"", CODECS[0])
        .weather(1.0, 0.0, 0, 1)
        .build();
    assert!(federation.run(Duration::from_secs(3600)) == Ended::Limit);
    assert!(
        !events_of(&federation, 0).any(|event| matches!(event, Event::Trained { .. })),
        "alone it does not train"
    );
    // Where the charter lets a peer go on alone.
    let mut world = World::new(3, "kind = \"complete\"", CODECS[0]).weather(1.0, 0.0, 0, 1);
    world.charter = world
        .charter
        .replace("[round]\n", "[round]\nneighbours_min = 0\n");
    let mut federation = world.build();
    assert!(federation.run(LIMIT) == Ended::Stopped);
    // Twelve rounds, each waiting for its deadline of eight seconds.
    assert!(
        federation.now() >= Duration::from_secs(12 * 8),
        "they ended after {:?}",
        federation.now()
    );
}

#[test]
fn an_old_goodbye_in_another_s_hands_sends_nobody_away() {
    let world = World::new(3, "kind = \"complete\"", CODECS[0]);
    let charter = world.charter();
    let honest = Authenticator::from_secret(&secret(2));
    let payload = vec![
        0xa1, 0x68, b'f', b'i', b'n', b'i', b's', b'h', b'e', b'd', 0xf4,
    ];
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind: Kind::Goodbye,
        sender: honest.peer(),
        incarnation: 1,
        round: 0,
        sequence: 0,
        state: Digest::default(),
        payload: Digest::of(&payload),
        spent: None,
    };
    let bytes = Envelope::seal(&honest, header, payload).to_bytes();
    let mut federation = world.build();
    for after in 1..20 {
        federation.inject(
            0,
            Input::Received {
                from: id(1),
                bytes: bytes.clone().into(),
            },
            Duration::from_millis(after),
        );
    }
    assert!(federation.run(LIMIT) == Ended::Stopped);
    let alone = |event: &&Event| matches!(event, Event::RoundClosed { awaited: 1, .. });
    assert_eq!(
        events_of(&federation, 0).filter(alone).count(),
        0,
        "it waits for both in every round"
    );
}

#[test]
fn two_updates_of_one_round_under_two_sequences_are_not_mixed() {
    let world = World::new(4, "kind = \"complete\"", CODECS[0]);
    let charter = world.charter();
    let liar = Authenticator::from_secret(&secret(1));
    let mut federation = world.build();
    let payload = vec![7; 10];
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind: Kind::Update,
        sender: liar.peer(),
        incarnation: 1,
        round: 1,
        sequence: 77,
        state: Digest::of(b"b"),
        payload: Digest::of(&payload),
        spent: None,
    };
    let bytes = Envelope::seal(&liar, header, payload).to_bytes();
    // Member 2 hears the other update first; whichever it hears second is refused, and neither is
    // mixed.
    federation.inject(
        2,
        Input::Received {
            from: liar.peer(),
            bytes: bytes.into(),
        },
        Duration::from_millis(1),
    );
    assert!(federation.run(LIMIT) == Ended::Stopped);
    let mixed = events_of(&federation, 2).any(
        |event| matches!(event, Event::Aggregated { round: 1, dropped, .. } if dropped.iter().any(|share| share.peer == liar.peer())),
    );
    assert!(!mixed);
}
