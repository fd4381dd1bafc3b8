//! Peers without a carrier, and effects as short lines that can be compared and read.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "each suite uses its part"
)]

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::charter::{Charter, Declared};
use kith_consensus::section::Document;
use kith_consensus::{Digest, PeerId, Section, Seed};
use kith_gossip::codec::codec_from_section;
use kith_gossip::effect::Record;
use kith_gossip::{
    Authenticator, Conduct, Effect, Event, Honest, Input, Peer, Roster, Scope, Setup, Stored, Timer,
};

pub(crate) fn secret(number: u8) -> [u8; 32] {
    [number; 32]
}

pub(crate) fn id(number: u8) -> PeerId {
    Authenticator::from_secret(&secret(number)).peer()
}

pub(crate) fn charter(rounds: u64, rule: &str) -> Arc<Charter> {
    charter_on("complete", rounds, rule)
}

pub(crate) fn charter_on(topology: &str, rounds: u64, rule: &str) -> Arc<Charter> {
    // Here a peer may go on alone, so that a test can look at one without the others.
    let alone = "[round]\nneighbours_min = 0\n";
    let rule = match rule.contains("[round]") {
        true => rule.replace("[round]\n", alone),
        false => format!("{rule}\n{alone}"),
    };
    charter_with(topology, rounds, &rule)
}

pub(crate) fn charter_with(topology: &str, rounds: u64, rule: &str) -> Arc<Charter> {
    let members: String = (1..=3u8)
        .map(|number| {
            format!("[[membership.member]]\nname = \"p{number}\"\norganisation = \"o{number}\"\nkey = \"{}\"\n", id(number))
        })
        .collect();
    let text = format!(
        "[federation]\nname = \"test\"\nrounds = {rounds}\n[topology]\nkind = \"{topology}\"\n[aggregation]\n{rule}\n{members}"
    );
    let mut codec = |section: &mut Section<'_>, declared: &mut Declared| {
        declared.codec_is_exact = codec_from_section(section).is_exact();
    };
    Arc::new(Charter::resolve(&text, &mut [("codec", &mut codec)]).expect("a good charter"))
}

pub(crate) fn peer_of(number: u8, charter: &Arc<Charter>) -> Peer {
    peer_with(number, charter, 4)
}

pub(crate) fn peer_with(number: u8, charter: &Arc<Charter>, dimension: usize) -> Peer {
    peer_that(number, charter, dimension, Box::new(Honest))
}

pub(crate) fn peer_that(
    number: u8,
    charter: &Arc<Charter>,
    dimension: usize,
    conduct: Box<dyn Conduct>,
) -> Peer {
    Peer::new(Setup {
        conduct,
        ..setup_of(number, charter, dimension)
    })
}

pub(crate) fn setup_of(number: u8, charter: &Arc<Charter>, dimension: usize) -> Setup {
    Setup {
        authenticator: Authenticator::from_secret(&secret(number)),
        charter: Arc::clone(charter),
        roster: Roster::new(charter.roster()),
        codec: Document::parse("")
            .expect("toml")
            .section("codec", codec_from_section),
        layout: Digest::of(b"layout"),
        initial: Arc::new(vec![0.0; dimension]),
        seed: Seed::from_number(u64::from(number)),
        conduct: Box::new(Honest),
        evaluate_every: 0,
        incarnation: 1,
        evidence: Vec::new(),
    }
}

pub(crate) fn handle(peer: &mut Peer, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    peer.handle(input, Duration::ZERO, &mut effects);
    effects
}

/// Effects as short lines, so that a whole list can be compared and read.
pub(crate) fn lines(effects: &[Effect]) -> Vec<String> {
    let name = |peer: &PeerId| {
        (1..=9)
            .find(|number| id(*number) == *peer)
            .map_or("?".into(), |number| format!("p{number}"))
    };
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Train { round, .. } => format!("train {round}"),
            Effect::Evaluate { round, .. } => format!("evaluate {round}"),
            Effect::Judge { round, .. } => format!("judge {round}"),
            Effect::Send { to, .. } => format!("send to {}", name(to)),
            Effect::Announce { .. } => "announce".into(),
            Effect::Fetch { sources, .. } => format!("fetch from {}", name(&sources[0])),
            Effect::Abandon { source, .. } => format!("abandon {}", name(source)),
            Effect::Provide { body, .. } => format!(
                "provide {}",
                if body.is_some() { "body" } else { "nothing" }
            ),
            Effect::Connect { peer, .. } => format!("connect {}", name(peer)),
            Effect::Disconnect { peer, reason } => {
                format!("disconnect {}: {}", name(peer), reason.name())
            }
            Effect::SetTimer { timer, .. } => format!("timer {timer:?}"),
            Effect::Persist(Record::Charge { round }) => format!("persist charge {round}"),
            Effect::Persist(Record::Cover { round, .. }) => format!("persist cover {round}"),
            Effect::Persist(Record::Intent(intent)) => format!("persist intent {}", intent.round),
            Effect::Persist(Record::Checkpoint(checkpoint)) => {
                format!("persist checkpoint {}", checkpoint.round)
            }
            Effect::Persist(Record::Evidence { peer, .. }) => {
                format!("persist evidence against {}", name(peer))
            }
            Effect::Emit(event) => {
                let json = serde_json::to_value(event).expect("events are plain");
                format!("event {}", json["event"].as_str().expect("a name"))
            }
            Effect::Stop => "stop".into(),
        })
        .collect()
}

pub(crate) fn sent_to(effects: &[Effect], to: u8) -> Vec<Vec<u8>> {
    let sends = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to: peer, bytes } if *peer == id(to) => Some(bytes.to_vec()),
        _ => None,
    });
    sends.collect()
}

/// Peer 1 with the handshakes of peers 2 and 3 done, in round 0.
pub(crate) fn in_round_zero(charter: &Arc<Charter>) -> Peer {
    let mut peer = peer_of(1, charter);
    handle(
        &mut peer,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    for number in [2, 3] {
        let mut other = peer_of(number, charter);
        handle(
            &mut peer,
            Input::PeerUp {
                peer: id(number),
                addresses: vec![],
                scope: Scope::World,
            },
        );
        let hello = sent_to(
            &handle(
                &mut other,
                Input::PeerUp {
                    peer: id(1),
                    addresses: vec![],
                    scope: Scope::World,
                },
            ),
            1,
        )
        .remove(0);
        handle(
            &mut peer,
            Input::Received {
                from: id(number),
                bytes: hello.into(),
            },
        );
    }
    peer
}

pub(crate) fn trained(round: u64, value: f32) -> Input {
    Input::Trained {
        round,
        parameters: Arc::new(vec![value; 4]),
        samples: 10,
        local_steps: 2,
        loss: 0.5,
        rate: 0.1,
        memory: None,
    }
}

/// The announcement that another peer sends for round 0 after training to `value`.
pub(crate) fn announcement_of(number: u8, charter: &Arc<Charter>, value: f32) -> Vec<u8> {
    announcement_with(number, charter, &[value; 4])
}

pub(crate) fn announcement_with(number: u8, charter: &Arc<Charter>, values: &[f32]) -> Vec<u8> {
    announcement_claiming(number, charter, values, 2)
}

pub(crate) fn announcement_claiming(
    number: u8,
    charter: &Arc<Charter>,
    values: &[f32],
    local_steps: u64,
) -> Vec<u8> {
    announcement_by(
        peer_with(number, charter, values.len()),
        number,
        charter,
        values,
        local_steps,
    )
}

pub(crate) fn announcement_by(
    mut other: Peer,
    number: u8,
    charter: &Arc<Charter>,
    values: &[f32],
    local_steps: u64,
) -> Vec<u8> {
    handle(
        &mut other,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    let hello = sent_to(
        &handle(
            &mut peer_of(1, charter),
            Input::PeerUp {
                peer: id(number),
                addresses: vec![],
                scope: Scope::World,
            },
        ),
        number,
    )
    .remove(0);
    handle(
        &mut other,
        Input::Received {
            from: id(1),
            bytes: hello.into(),
        },
    );
    handle(&mut other, Input::TimerExpired(Timer::Start));
    let parameters = Arc::new(values.to_vec());
    handle(
        &mut other,
        Input::Trained {
            round: 0,
            parameters,
            samples: 10,
            local_steps,
            loss: 0.5,
            rate: 0.1,
            memory: None,
        },
    );
    sent_to(
        &handle(&mut other, Input::Stored(Stored::Intent { round: 0 })),
        1,
    )
    .remove(0)
}

/// Names of what was refused.
pub(crate) fn refusals(effects: &[Effect]) -> Vec<&'static str> {
    let refused = effects.iter().filter_map(|effect| match effect {
        Effect::Emit(Event::Refused { reason, .. }) => Some(reason.name()),
        _ => None,
    });
    refused.collect()
}
