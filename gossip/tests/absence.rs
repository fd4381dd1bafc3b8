//! Peers that are away, late, done or silent: what the others make of it, step by step.

mod common;

use std::sync::Arc;

use common::*;
use kith_consensus::charter::Charter;
use kith_consensus::{Digest, PeerId};
use kith_gossip::envelope::{Envelope, Header, Kind, PROTOCOL_VERSION};
use kith_gossip::event::Closed;
use kith_gossip::{Authenticator, Command, Effect, Event, Input, Peer, Scope, Stored, Timer};

/// Three peers on a complete graph, where nobody may go on alone.
fn federation(rounds: u64) -> Arc<Charter> {
    charter_with("complete", rounds, "rule = \"mean\"")
}

fn events(effects: &[Effect]) -> Vec<Event> {
    let events = effects.iter().filter_map(|effect| match effect {
        Effect::Emit(event) => Some(event.clone()),
        _ => None,
    });
    events.collect()
}

fn published(peer: &mut Peer, round: u64, value: f32) -> Vec<Effect> {
    handle(peer, trained(round, value));
    handle(peer, Input::Stored(Stored::Intent { round }))
}

/// A message of this kind that `number` signs in `round`.
fn message(number: u8, charter: &Arc<Charter>, kind: Kind, round: u64, payload: &[u8]) -> Vec<u8> {
    let authenticator = Authenticator::from_secret(&secret(number));
    let hash = Digest::of(payload);
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind,
        sender: authenticator.peer(),
        incarnation: 1,
        round,
        sequence: 0,
        state: Digest::default(),
        payload: hash,
        spent: None,
    };
    Envelope::seal(&authenticator, header, payload.to_vec()).to_bytes()
}

fn goodbye(number: u8, charter: &Arc<Charter>, finished: bool) -> Input {
    const MAP_OF_ONE: u8 = 0xa1; // CBOR: the first field of a goodbye
    let round = if finished { charter.rounds } else { 0 };
    let bytes = message(
        number,
        charter,
        Kind::Goodbye,
        round,
        &[MAP_OF_ONE, 0, if finished { 0xf5 } else { 0xf4 }],
    );
    Input::Received {
        from: id(number),
        bytes: bytes.into(),
    }
}

fn skip(number: u8, charter: &Arc<Charter>, round: u64) -> Input {
    const MAP_OF_ONE: u8 = 0xa1; // CBOR: the field of a skip
    let payload = [MAP_OF_ONE, 0, u8::try_from(round).expect("below 24")];
    Input::Received {
        from: id(number),
        bytes: message(number, charter, Kind::Skip, round, &payload).into(),
    }
}

fn update(number: u8, charter: &Arc<Charter>, value: f32) -> Input {
    Input::Received {
        from: id(number),
        bytes: announcement_of(number, charter, value).into(),
    }
}

#[test]
fn a_peer_that_meets_nobody_waits_and_does_not_train() {
    let charter = federation(2);
    let mut peer = peer_of(1, &charter);
    handle(
        &mut peer,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    for _ in 0..3 {
        let effects = handle(&mut peer, Input::TimerExpired(Timer::Start));
        assert_eq!(lines(&effects), ["event waiting", "timer Start"]);
    }
    let hello = sent_to(
        &handle(
            &mut peer_of(2, &charter),
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
        Input::PeerUp {
            peer: id(2),
            addresses: vec![],
            scope: Scope::World,
        },
    );
    handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: hello.into(),
        },
    );
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Start));
    assert_eq!(
        lines(&effects),
        ["event ready", "event round-opened", "train 0"],
        "one other is enough"
    );
}

#[test]
fn a_round_waits_on_after_its_deadline_where_nobody_is_there() {
    let charter = federation(2);
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    for number in [2, 3] {
        handle(&mut peer, Input::PeerDown { peer: id(number) });
    }
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    assert_eq!(
        lines(&effects),
        ["event too-few", "timer Deadline { round: 0 }"]
    );
    let Event::TooFew {
        have: 0,
        need: 1,
        missing,
        ..
    } = &events(&effects)[0]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(missing.len(), 2);
    handle(&mut peer, update(2, &charter, 3.0));
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    assert!(events(&effects).iter().any(|event| matches!(
        event,
        Event::RoundClosed {
            why: Closed::Deadline,
            have: 1,
            ..
        }
    )));
}

#[test]
fn a_finished_neighbour_is_awaited_as_long_as_it_is_connected() {
    let charter = federation(1);
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    handle(&mut peer, update(3, &charter, 2.0));
    let effects = handle(&mut peer, goodbye(2, &charter, true));
    assert_eq!(
        lines(&effects),
        ["event departed"],
        "its last update is still to come"
    );
    let effects = handle(&mut peer, update(2, &charter, 3.0));
    assert!(events(&effects).iter().any(|event| matches!(
        event,
        Event::RoundClosed {
            why: Closed::Quorum,
            have: 2,
            ..
        }
    )));

    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    handle(&mut peer, update(3, &charter, 2.0));
    handle(&mut peer, goodbye(2, &charter, true));
    let effects = handle(&mut peer, Input::PeerDown { peer: id(2) });
    assert!(events(&effects).iter().any(|event| matches!(
        event,
        Event::RoundClosed {
            why: Closed::Quorum,
            have: 1,
            ..
        }
    )));
}

#[test]
fn a_neighbour_that_stops_before_its_last_round_is_waited_for_as_one_that_was_killed() {
    let charter = federation(9);
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    handle(&mut peer, update(3, &charter, 2.0));
    assert_eq!(
        lines(&handle(&mut peer, goodbye(2, &charter, false))),
        ["event departed"]
    );
    assert_eq!(
        lines(&handle(&mut peer, Input::PeerDown { peer: id(2) })),
        ["event disconnected"]
    );
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    assert!(events(&effects).iter().any(|event| matches!(
        event,
        Event::RoundClosed {
            why: Closed::Deadline,
            have: 1,
            ..
        }
    )));
}

#[test]
fn nobody_waits_for_a_neighbour_that_says_it_publishes_nothing() {
    let charter = federation(9);
    let mut failed = in_round_zero(&charter);
    let effects = handle(
        &mut failed,
        Input::TrainingFailed {
            round: 0,
            why: "a cell is too large".into(),
        },
    );
    assert!(
        lines(&effects).contains(&"send to p2".to_owned())
            && lines(&effects).contains(&"send to p3".to_owned())
    );

    let mut peer = in_round_zero(&charter);
    // Before its own update, and for a round that it has not opened.
    assert_eq!(
        lines(&handle(&mut peer, skip(2, &charter, 1))),
        ["event skipped"]
    );
    published(&mut peer, 0, 1.0);
    handle(&mut peer, update(3, &charter, 2.0));
    let effects = handle(&mut peer, skip(2, &charter, 0));
    let told = events(&effects);
    assert!(
        matches!(told[0], Event::Skipped { round: 0, peer } if peer == id(2)),
        "{told:?}"
    );
    assert!(
        matches!(
            told[1],
            Event::RoundClosed {
                why: Closed::Quorum,
                have: 1,
                ..
            }
        ),
        "{told:?}"
    );
    handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    let effects = published(&mut peer, 1, 1.0);
    assert!(
        !lines(&effects).contains(&"event round-closed".to_owned()),
        "peer 3 is awaited"
    );
    let effects = handle(&mut peer, skip(3, &charter, 1));
    assert!(
        lines(&effects).contains(&"event round-closed".to_owned()),
        "both are there and have said that nothing comes"
    );
}

#[test]
fn what_is_on_its_way_is_no_stall_and_a_body_is_asked_for_several_times() {
    const DIMENSION: usize = 20_000; // a body that is pulled
    let charter = federation(9);
    let mut peer = peer_with(1, &charter, DIMENSION);
    handle(
        &mut peer,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    for number in [2, 3] {
        handle(
            &mut peer,
            Input::PeerUp {
                peer: id(number),
                addresses: vec![],
                scope: Scope::World,
            },
        );
        let mut other = peer_with(number, &charter, DIMENSION);
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
    let parameters = Arc::new(vec![1.0; DIMENSION]);
    let done = Input::Trained {
        round: 0,
        parameters,
        samples: 1,
        local_steps: 1,
        loss: 0.5,
        rate: 0.1,
        memory: None,
    };
    handle(&mut peer, done);
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Nudge { round: 0 }));
    assert!(
        lines(&effects).contains(&"event stalled".to_owned()),
        "of nobody anything has come: {:?}",
        lines(&effects)
    );
    let mut fetches = Vec::new();
    for number in [2, 3] {
        let bytes = announcement_with(number, &charter, &vec![f32::from(number); DIMENSION]);
        let effects = handle(
            &mut peer,
            Input::Received {
                from: id(number),
                bytes: bytes.into(),
            },
        );
        fetches.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Fetch {
                digest, sources, ..
            } => Some((*digest, sources.clone())),
            _ => None,
        }));
    }
    assert_eq!(fetches.len(), 2);
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Nudge { round: 0 }));
    assert_eq!(
        lines(&effects),
        ["timer Nudge { round: 0 }"],
        "both are announced"
    );
    let (digest, sources) = fetches.remove(0);
    let failed = || Input::FetchFailed {
        digest,
        sources: sources.clone(),
        why: "reset".into(),
    };
    for _ in 0..2 {
        assert_eq!(lines(&handle(&mut peer, failed())), ["fetch from p2"]);
    }
    assert_eq!(
        lines(&handle(&mut peer, failed())),
        ["event refused"],
        "three times in vain"
    );

    // While its source is away a body is not asked for; when it is back, it is.
    let (digest, sources) = fetches.remove(0);
    handle(&mut peer, Input::PeerDown { peer: id(3) });
    let failed = Input::FetchFailed {
        digest,
        sources,
        why: "the connection ended".into(),
    };
    assert_eq!(lines(&handle(&mut peer, failed)), [""; 0]);
    let effects = handle(
        &mut peer,
        Input::PeerUp {
            peer: id(3),
            addresses: vec![],
            scope: Scope::World,
        },
    );
    assert!(
        lines(&effects).contains(&"fetch from p3".to_owned()),
        "{:?}",
        lines(&effects)
    );
}

#[test]
fn a_neighbour_that_has_not_heard_the_handshake_is_told_everything_again() {
    let charter = federation(9);
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    // Started again behind a connection that still stands here.
    let hello = sent_to(
        &handle(
            &mut peer_of(2, &charter),
            Input::PeerUp {
                peer: id(1),
                addresses: vec![],
                scope: Scope::World,
            },
        ),
        1,
    )
    .remove(0);
    let effects = handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: hello.into(),
        },
    );
    assert_eq!(
        lines(&effects),
        ["send to p2", "send to p2"],
        "the handshake and the update"
    );
    // A further connection: what went over an older one may be lost.
    let effects = handle(
        &mut peer,
        Input::PeerUp {
            peer: id(2),
            addresses: vec![],
            scope: Scope::World,
        },
    );
    assert_eq!(lines(&effects), ["send to p2", "send to p2"]);
}

#[test]
fn a_peer_that_is_behind_listens_before_it_publishes() {
    let charter = charter_with("complete", 30, "rule = \"median\"\nbyzantine = 0");
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 100.0);
    let mut told = Vec::new();
    for number in [2, 3] {
        // Any signed message of a later round claims that round.
        told.extend(handle(&mut peer, skip(number, &charter, 20)));
    }
    assert!(
        lines(&told).contains(&"persist checkpoint 1".to_owned()),
        "{:?}",
        lines(&told)
    );
    let effects = handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    let names = lines(&effects);
    assert_eq!(
        names[..3],
        ["event jumped", "event round-opened", "event catching-up"]
    );
    assert!(
        !names
            .iter()
            .any(|line| line.starts_with("train") || line.starts_with("persist")),
        "{names:?}"
    );
    assert_eq!(
        names
            .iter()
            .filter(|line| line.starts_with("send to"))
            .count(),
        2,
        "nobody has to wait for it: {names:?}"
    );
    let (mut closed, round) = (Vec::new(), peer.round());
    for (number, value) in [(2, 1.0), (3, 3.0)] {
        let mut other = peer_of(number, &charter);
        let bytes = announcement_in_round(&mut other, number, &charter, round, value);
        closed.extend(handle(
            &mut peer,
            Input::Received {
                from: id(number),
                bytes: bytes.into(),
            },
        ));
    }
    assert!(
        lines(&closed).contains(&"event caught-up".to_owned()),
        "{:?}",
        lines(&closed)
    );
    assert_eq!(
        peer.parameters().as_slice(),
        [2.0; 4],
        "nothing of its old model is left"
    );
    let effects = handle(
        &mut peer,
        Input::Stored(Stored::Checkpoint { round: round + 1 }),
    );
    assert!(
        lines(&effects).contains(&format!("train {}", round + 1)),
        "{:?}",
        lines(&effects)
    );
}

/// What `number` announces in `round`, where nobody was before it.
fn announcement_in_round(
    other: &mut Peer,
    number: u8,
    charter: &Arc<Charter>,
    round: u64,
    value: f32,
) -> Vec<u8> {
    announced_in_round(other, number, charter, round, value).remove(0)
}

/// The same; nothing where it is not for peer 1.
fn announced_in_round(
    other: &mut Peer,
    number: u8,
    charter: &Arc<Charter>,
    round: u64,
    value: f32,
) -> Vec<Vec<u8>> {
    start_at(other, charter, round, 0.0);
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
        other,
        Input::PeerUp {
            peer: id(1),
            addresses: vec![],
            scope: Scope::World,
        },
    );
    handle(
        other,
        Input::Received {
            from: id(1),
            bytes: hello.into(),
        },
    );
    sent_to(&published(other, round, value), 1)
}

/// Starts a peer with what it stored when it had completed so many rounds.
fn start_at(peer: &mut Peer, charter: &Arc<Charter>, round: u64, value: f32) -> Vec<Effect> {
    let checkpoint = kith_gossip::Checkpoint {
        round,
        sequence: round,
        roster: kith_gossip::Roster::new(charter.roster()),
        parameters: Arc::new(vec![value; 4]),
        replicas: Default::default(),
        carried: Default::default(),
        history: Default::default(),
        headers: Default::default(),
    };
    handle(
        peer,
        Input::Start {
            checkpoint: Some(Box::new(checkpoint)),
            intent: None,
        },
    )
}

/// The effects when the others, who are in `round`, come up and say hello.
fn meet_others_in(peer: &mut Peer, charter: &Arc<Charter>, round: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    for number in [2, 3] {
        let mut other = peer_of(number, charter);
        start_at(&mut other, charter, round, 0.0);
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
        effects.extend(handle(
            peer,
            Input::PeerUp {
                peer: id(number),
                addresses: vec![],
                scope: Scope::World,
            },
        ));
        effects.extend(handle(
            peer,
            Input::Received {
                from: id(number),
                bytes: hello.into(),
            },
        ));
    }
    effects
}

/// The effects when `number` publishes in `round`; nothing where that is not for peer 1.
fn hears(
    peer: &mut Peer,
    charter: &Arc<Charter>,
    number: u8,
    round: u64,
    value: f32,
) -> Vec<Effect> {
    let announced =
        announced_in_round(&mut peer_of(number, charter), number, charter, round, value);
    announced
        .into_iter()
        .flat_map(|bytes| {
            handle(
                peer,
                Input::Received {
                    from: id(number),
                    bytes: bytes.into(),
                },
            )
        })
        .collect()
}

fn is_skip(bytes: &[u8]) -> bool {
    let opened =
        Envelope::open(&Authenticator::from_secret(&secret(1)), bytes).expect("a good message");
    opened.header.kind == Kind::Skip
}

#[test]
fn where_nobody_keeps_step_a_peer_without_its_state_listens_before_it_publishes() {
    for mode in ["asynchronous", "pairwise"] {
        let charter = charter_with(
            "complete",
            30,
            &format!("rule = \"mean\"\n[round]\nmode = \"{mode}\""),
        );
        let mut peer = peer_of(1, &charter);
        handle(
            &mut peer,
            Input::Start {
                checkpoint: None,
                intent: None,
            },
        );
        let effects = meet_others_in(&mut peer, &charter, 20);
        let names = lines(&effects);
        assert!(
            names.contains(&"event catching-up".to_owned()),
            "{mode}: {names:?}"
        );
        assert!(
            !names
                .iter()
                .any(|line| line.starts_with("train") || line.starts_with("persist intent")),
            "{mode}: {names:?}"
        );
        // They publish whenever they are done, and it hears whom they tell.
        let mut heard = Vec::new();
        for round in 20..26 {
            for (number, value) in [(2, 1.0), (3, 1.0)] {
                heard.extend(hears(&mut peer, &charter, number, round, value));
                if lines(&heard).contains(&"event caught-up".to_owned()) {
                    break;
                }
            }
        }
        assert!(
            lines(&heard).contains(&"event caught-up".to_owned()),
            "{mode}: {:?}",
            lines(&heard)
        );
        let told = heard
            .iter()
            .any(|effect| matches!(effect, Effect::Send { bytes, .. } if is_skip(bytes)));
        assert_eq!(
            told,
            mode == "pairwise",
            "who asks it is told not to wait: {:?}",
            lines(&heard)
        );
        assert_eq!(
            peer.parameters().as_slice(),
            [1.0; 4],
            "{mode}: nothing of the initial model is left"
        );
        let round = peer.round();
        let effects = handle(&mut peer, Input::Stored(Stored::Checkpoint { round }));
        assert!(
            lines(&effects).contains(&format!("train {round}")),
            "{mode}: {:?}",
            lines(&effects)
        );
    }
}

#[test]
fn where_nobody_keeps_step_a_peer_that_is_slow_or_was_away_for_a_moment_goes_on() {
    let charter = charter_with(
        "complete",
        90,
        "rule = \"mean\"\n[round]\nmode = \"asynchronous\"",
    );
    // Away for a moment: the others are hardly further than it was.
    let mut peer = peer_of(1, &charter);
    start_at(&mut peer, &charter, 20, 5.0);
    let effects = meet_others_in(&mut peer, &charter, 21);
    assert!(
        lines(&effects).contains(&"train 20".to_owned()),
        "{:?}",
        lines(&effects)
    );
    // Away for long.
    let mut peer = peer_of(1, &charter);
    start_at(&mut peer, &charter, 20, 5.0);
    let effects = meet_others_in(&mut peer, &charter, 60);
    assert!(
        lines(&effects).contains(&"event catching-up".to_owned()),
        "{:?}",
        lines(&effects)
    );
    // Slow: at work with the others since the beginning.
    let mut peer = in_round_zero(&charter);
    hears(&mut peer, &charter, 2, 1, 1.0);
    published(&mut peer, 0, 5.0);
    let mut effects = Vec::new();
    for round in 2..60 {
        effects.extend(hears(&mut peer, &charter, 2, round, 1.0));
        effects.extend(hears(&mut peer, &charter, 3, round, 1.0));
    }
    effects.extend(handle(
        &mut peer,
        Input::Stored(Stored::Checkpoint { round: 1 }),
    ));
    assert!(
        lines(&effects).contains(&"train 1".to_owned()),
        "it is only slow: {:?}",
        lines(&effects)
    );
}

#[test]
fn a_peer_whose_neighbours_have_all_finished_and_gone_ends_and_says_so() {
    let charter = federation(9);
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    let mut told: Vec<Effect> = Vec::new();
    for number in [2, 3] {
        told.extend(handle(&mut peer, goodbye(number, &charter, true)));
        told.extend(handle(&mut peer, Input::PeerDown { peer: id(number) }));
    }
    // They have claimed the last round: it goes there, to listen, and nobody is there.
    told.extend(handle(
        &mut peer,
        Input::Stored(Stored::Checkpoint { round: 1 }),
    ));
    let names = lines(&told);
    assert!(
        names.contains(&"event over".to_owned()) && names.contains(&"stop".to_owned()),
        "{names:?}"
    );
    let left = |event: &Event| {
        matches!(
            event,
            Event::Left {
                finished: false,
                ..
            }
        )
    };
    assert!(events(&told).iter().any(left), "{told:?}");
}

#[test]
fn a_finished_peer_stays_while_a_neighbour_that_has_not_is_heard() {
    let charter = federation(1);
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    handle(&mut peer, update(2, &charter, 2.0));
    handle(&mut peer, update(3, &charter, 2.0));
    handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    handle(&mut peer, Input::NotEvaluated { round: 1 });
    handle(
        &mut peer,
        Input::BodyRequested {
            from: id(2),
            digest: Digest::default(),
            request: 1,
        },
    );
    assert_eq!(
        lines(&handle(&mut peer, Input::TimerExpired(Timer::Linger))),
        ["timer Linger"],
        "peer 2 is at it"
    );
    assert_eq!(
        lines(&handle(&mut peer, Input::TimerExpired(Timer::Linger))),
        ["event left", "stop"],
        "nobody was heard since"
    );
}

#[test]
fn a_neighbour_that_is_asked_for_what_it_does_not_have_says_so() {
    let charter = federation(9);
    let mut peer = in_round_zero(&charter);
    published(&mut peer, 0, 1.0);
    handle(&mut peer, update(2, &charter, 2.0));
    handle(&mut peer, update(3, &charter, 2.0));
    handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    let want = |round: u8| Input::Received {
        from: id(2),
        bytes: message(2, &charter, Kind::Want, 0, &[0xa1, 0, round]).into(),
    };
    let kind = |bytes: &[u8]| {
        Envelope::open(&Authenticator::from_secret(&secret(1)), bytes)
            .expect("well formed")
            .header
            .kind
    };
    let answers = |effects: &[Effect]| {
        sent_to(effects, 2)
            .iter()
            .map(|bytes| kind(bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        answers(&handle(&mut peer, want(0))),
        [Kind::Update],
        "of round 0 it has one"
    );
    assert_eq!(
        answers(&handle(&mut peer, want(1))),
        [],
        "of round 1 it will have one"
    );
    handle(
        &mut peer,
        Input::TrainingFailed {
            round: 1,
            why: "a cell is too large".into(),
        },
    );
    assert_eq!(answers(&handle(&mut peer, want(1))), [Kind::Skip]);
}

#[test]
fn a_peer_looks_for_its_double_only_at_addresses_that_are_not_its_own() {
    let charter = federation(9);
    let told = |seen_at: &str| {
        let mut peer = peer_of(1, &charter);
        handle(
            &mut peer,
            Input::Start {
                checkpoint: None,
                intent: None,
            },
        );
        handle(
            &mut peer,
            Input::Listening {
                address: format!("/ip4/10.0.0.1/tcp/4701/p2p/{}", id(1)),
            },
        );
        handle(
            &mut peer,
            Input::PeerUp {
                peer: id(2),
                addresses: vec![],
                scope: Scope::World,
            },
        );
        let up = Input::PeerUp {
            peer: id(1),
            addresses: vec![seen_at.to_owned()],
            scope: Scope::World,
        };
        let hello = sent_to(&handle(&mut peer_of(2, &charter), up), 1).remove(0);
        lines(&handle(
            &mut peer,
            Input::Received {
                from: id(2),
                bytes: hello.into(),
            },
        ))
    };
    let looks = "connect p1".to_owned();
    assert!(
        !told("/ip4/10.0.0.1/tcp/4701").contains(&looks),
        "others name it without the peer's id"
    );
    assert!(told("/ip4/10.0.0.2/tcp/4701").contains(&looks));
}

#[test]
fn it_is_said_by_name_whom_rounds_no_longer_wait_for() {
    let charter = federation(9);
    let mut peer = in_round_zero(&charter);
    let mut told = Vec::new();
    for round in 0..2 {
        published(&mut peer, round, 1.0);
        if round == 0 {
            handle(&mut peer, update(2, &charter, 2.0));
        } else {
            handle(&mut peer, skip(2, &charter, 1));
        }
        told.extend(events(&handle(
            &mut peer,
            Input::TimerExpired(Timer::Deadline { round }),
        )));
        handle(
            &mut peer,
            Input::Stored(Stored::Checkpoint { round: round + 1 }),
        );
    }
    let lost: Vec<(PeerId, u64, bool)> = told
        .iter()
        .filter_map(|event| match event {
            Event::NoLongerAwaited { peer, missed, late } => Some((*peer, *missed, *late)),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [(id(3), 2, false)], "{told:?}");
}

#[test]
fn a_peer_that_is_asked_to_leave_says_that_it_may_come_back() {
    let charter = federation(9);
    let mut peer = in_round_zero(&charter);
    let up = |number| Input::PeerUp {
        peer: id(number),
        addresses: vec![],
        scope: Scope::World,
    };
    let hello = sent_to(&handle(&mut peer, up(2)), 2);
    let effects = handle(&mut peer, Input::Command(Command::Leave));
    let bytes = sent_to(&effects, 2).remove(0);
    let mut other = peer_of(2, &charter);
    handle(
        &mut other,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    handle(&mut other, up(1));
    for bytes in hello {
        let (from, bytes) = (id(1), bytes.into());
        handle(&mut other, Input::Received { from, bytes });
    }
    let told = events(&handle(
        &mut other,
        Input::Received {
            from: id(1),
            bytes: bytes.into(),
        },
    ));
    assert!(
        matches!(
            told[..],
            [
                Event::Departed {
                    finished: false,
                    ..
                },
                ..
            ]
        ),
        "{told:?}"
    );
}
