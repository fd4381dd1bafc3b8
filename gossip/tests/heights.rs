//! A federation's identity and the charter in force are two things: peers under an amended charter
//! are the same federation, with the same shared randomness and the same signatures, and a peer
//! that is still under the former charter is refused by what differs.

mod common;

use std::collections::VecDeque;
use std::sync::Arc;

use common::{charter_with, handle, id, secret};
use kith_consensus::charter::Charter;
use kith_consensus::{Digest, PeerId};
use kith_gossip::effect::Record;
use kith_gossip::refusal::Refusal;
use kith_gossip::{
    Authenticator, Effect, Envelope, Event, Federation, Input, Packet, Peer, Scope, Stored,
};

/// The codec draws places that all peers share, so the shared randomness shows.
const RULE: &str = "rule = \"mean\"\n[codec]\nkind = \"random-k\"\nshare = 0.5\n";

fn charter() -> Charter {
    Arc::into_inner(charter_with("complete", 3, RULE)).expect("nobody else holds it")
}

/// The same agreement, with a section that differs.
fn changed() -> Charter {
    let rule = format!("{RULE}[round]\npatience = 3\n");
    Arc::into_inner(charter_with("complete", 3, &rule)).expect("nobody else holds it")
}

fn peer(number: u8, charter: &Arc<Charter>) -> Peer {
    let layout = Digest::of(b"layout");
    let federation = Federation::new(Arc::clone(charter), layout, vec![0.0; 8], []);
    Peer::new(federation.peer(Authenticator::from_secret(&secret(number))))
}

/// What a run of three peers came to: each one's model, and every update that was sent.
struct Ran {
    models: Vec<Vec<f32>>,
    updates: Vec<Packet>,
    refused: Vec<Refusal>,
}

/// Three peers until nothing more happens; the third may be under another charter.
fn run(charters: [&Arc<Charter>; 3]) -> Ran {
    let mut peers: Vec<Peer> = (1u8..)
        .zip(charters)
        .map(|(number, charter)| peer(number, charter))
        .collect();
    let place = |of: &PeerId| {
        (1..=3)
            .position(|number| id(number) == *of)
            .expect("one of three")
    };
    let mut inputs: VecDeque<(usize, Input)> = VecDeque::new();
    for at in 0..3 {
        inputs.push_back((
            at,
            Input::Start {
                checkpoint: None,
                intent: None,
            },
        ));
    }
    for at in 0..3usize {
        for other in (0..3).filter(|other| *other != at) {
            let peer = id(other as u8 + 1);
            inputs.push_back((
                at,
                Input::PeerUp {
                    peer,
                    addresses: Vec::new(),
                    scope: Scope::World,
                },
            ));
        }
    }
    let (mut updates, mut refused) = (Vec::new(), Vec::new());
    while let Some((at, input)) = inputs.pop_front() {
        let from = id(at as u8 + 1);
        for effect in handle(&mut peers[at], input) {
            match effect {
                Effect::Send { to, bytes } => {
                    if peers[at].announced_in(&bytes).is_some() {
                        updates.push(bytes.clone());
                    }
                    inputs.push_back((place(&to), Input::Received { from, bytes }));
                }
                Effect::Train {
                    round, parameters, ..
                } => {
                    let step = |(index, value): (usize, &f32)| value + (at + index) as f32;
                    let trained = parameters.iter().enumerate().map(step).collect();
                    let input = Input::Trained {
                        round,
                        parameters: Arc::new(trained),
                        samples: 1,
                        local_steps: 1,
                        loss: 0.0,
                        rate: 1.0,
                        memory: None,
                    };
                    inputs.push_back((at, input));
                }
                Effect::Persist(Record::Intent(intent)) => {
                    let stored = Stored::Intent {
                        round: intent.round,
                    };
                    inputs.push_back((at, Input::Stored(stored)));
                }
                Effect::Persist(Record::Checkpoint(checkpoint)) => {
                    let stored = Stored::Checkpoint {
                        round: checkpoint.round,
                    };
                    inputs.push_back((at, Input::Stored(stored)));
                }
                Effect::Evaluate { round, .. } => {
                    inputs.push_back((at, Input::NotEvaluated { round }));
                }
                Effect::Emit(Event::Refused { reason, .. }) => refused.push(reason),
                _ => {}
            }
        }
    }
    let models = peers
        .iter()
        .map(|peer| peer.parameters().to_vec())
        .collect();
    Ran {
        models,
        updates,
        refused,
    }
}

#[test]
fn an_amended_charter_leaves_identity_randomness_and_signatures_as_they_are() {
    let first = Arc::new(charter());
    let amended = Arc::new(changed().amending(first.genesis, 1));
    assert_eq!((amended.genesis, amended.height), (first.genesis, 1));
    assert_ne!(amended.id, first.id);
    let before = run([&first; 3]);
    let after = run([&amended; 3]);
    assert!(before.refused.is_empty() && after.refused.is_empty());
    assert_eq!(before.models, after.models);
    assert!(
        before.updates.len() > 6,
        "{} updates in three rounds",
        before.updates.len()
    );
    assert_eq!(
        before.updates, after.updates,
        "bit by bit, signatures included"
    );
    let header = &after.updates[0];
    let opened = Envelope::open(&Authenticator::from_secret(&secret(1)), header);
    assert_eq!(
        opened.expect("well formed").header.federation,
        first.genesis
    );
    // The same words as the first charter of another federation: nothing is the same.
    let other = run([&Arc::new(changed()); 3]);
    assert_ne!(before.updates[0], other.updates[0]);
    assert_ne!(before.models, other.models, "other places are drawn");
}

#[test]
fn a_peer_under_the_former_charter_is_refused_by_what_differs() {
    let first = Arc::new(charter());
    let amended = Arc::new(changed().amending(first.genesis, 1));
    let ran = run([&amended, &amended, &first]);
    let sections = vec!["round".to_owned()];
    let differs = Refusal::OtherCharter {
        theirs: 0,
        ours: 1,
        sections,
    };
    assert!(ran.refused.contains(&differs), "{:?}", ran.refused);
    assert_eq!(ran.models[2], [0.0; 8], "it has trained with nobody");
    // The same charter at two heights is refused too, though no section differs.
    let again = Arc::new(charter().amending(first.genesis, 2));
    let ran = run([&first, &first, &again]);
    let differs = Refusal::OtherCharter {
        theirs: 2,
        ours: 0,
        sections: Vec::new(),
    };
    assert!(ran.refused.contains(&differs), "{:?}", ran.refused);
}
