//! One input, the whole list of effects: what a peer does, step by step.

mod common;

use std::sync::Arc;

use common::*;
use kith_consensus::Digest;
use kith_consensus::charter::Charter;
use kith_consensus::selection::stream;
use kith_gossip::effect::Record;
use kith_gossip::envelope::{Envelope, Header};
use kith_gossip::event::Closed;
use kith_gossip::refusal::Refusal;
use kith_gossip::{
    Authenticator, Conduct, Effect, Event, Input, Peer, Publication, Scope, Stored, Timer, View,
};

#[test]
fn a_peer_gathers_its_neighbours_and_then_trains() {
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = peer_of(1, &charter);
    let effects = handle(
        &mut peer,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    assert_eq!(
        lines(&effects),
        [
            "event started",
            "timer Redial",
            "timer Start",
            "event waiting"
        ]
    );
    let effects = handle(
        &mut peer,
        Input::PeerUp {
            peer: id(2),
            addresses: vec![],
            scope: Scope::World,
        },
    );
    assert_eq!(lines(&effects), ["send to p2"]);
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Start));
    assert_eq!(
        lines(&effects),
        ["event ready", "event round-opened", "train 0"]
    );
}

#[test]
fn nothing_leaves_before_the_intent_is_on_disk() {
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    assert_eq!(
        lines(&handle(&mut peer, trained(0, 1.0))),
        ["event trained", "persist intent 0"]
    );
    let effects = handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let mut told = lines(&effects);
    told[..2].sort();
    assert_eq!(
        told,
        [
            "send to p2",
            "send to p3",
            "event published",
            "timer Deadline { round: 0 }",
            "timer Nudge { round: 0 }"
        ]
    );
}

#[test]
fn a_round_closes_with_the_last_awaited_neighbour_and_the_next_opens_after_the_checkpoint() {
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let bytes = announcement_of(2, &charter, 2.0);
    let effects = handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: bytes.into(),
        },
    );
    assert_eq!(
        lines(&effects),
        ["event accepted"],
        "peer 3 shows peer 2's header to this one"
    );
    let bytes = announcement_of(3, &charter, 6.0);
    let effects = handle(
        &mut peer,
        Input::Received {
            from: id(3),
            bytes: bytes.into(),
        },
    );
    // Of two receivers one shows the header, by their places in the roster.
    assert_eq!(
        lines(&effects),
        [
            "send to p2",
            "event accepted",
            "event round-closed",
            "event aggregated",
            "persist checkpoint 1"
        ]
    );
    assert_eq!(peer.parameters().as_slice(), [3.0; 4]);
    let effects = handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    assert_eq!(lines(&effects), ["event round-opened", "train 1"]);
}

#[test]
fn late_update_is_not_mixed_after_the_deadline() {
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    assert!(effects.iter().any(
        |effect| matches!(effect, Effect::Emit(Event::RoundClosed { why: Closed::Deadline, have: 0, missing, .. }) if missing.len() == 2)
    ));
    handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    let late = announcement_of(2, &charter, 9.0);
    handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: late.into(),
        },
    );
    assert_eq!(
        peer.parameters().as_slice(),
        [1.0; 4],
        "alone with its own step"
    );
}

/// Who took how many steps is scaled out by the sender, so that a lie about them moves nobody.
#[test]
fn under_fednova_claimed_steps_move_nothing() {
    let charter = charter(
        2,
        "rule = \"mean\"\nmethod = \"fednova\"\nreference_steps = 4",
    );
    for (claim, trained_to) in [(2, 3.0), (4, 6.0), (0, 6.0), (1_000_000_000, 1.5e9)] {
        let mut peer = in_round_zero(&charter);
        handle(&mut peer, trained(0, 1.5)); // two steps, so that four would have led to 3
        handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
        let bytes = announcement_claiming(2, &charter, &[trained_to, 0.0, 0.0, 0.0], claim);
        let effects = handle(
            &mut peer,
            Input::Received {
                from: id(2),
                bytes: bytes.into(),
            },
        );
        assert!(
            lines(&effects).contains(&"event accepted".into()),
            "{claim}: {:?}",
            lines(&effects)
        );
        handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
        assert_eq!(
            peer.parameters().as_slice(),
            [4.0, 2.0, 2.0, 2.0],
            "{claim}"
        );
    }
}

#[test]
fn stale_timers_and_results_are_ignored() {
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    assert_eq!(
        lines(&handle(
            &mut peer,
            Input::TimerExpired(Timer::Deadline { round: 0 })
        )),
        [""; 0],
        "still training"
    );
    assert_eq!(lines(&handle(&mut peer, trained(7, 1.0))), [""; 0]);
    assert_eq!(
        lines(&handle(
            &mut peer,
            Input::Stored(Stored::Checkpoint { round: 5 })
        )),
        [""; 0]
    );
}

#[test]
fn too_few_contributions_skip_mixing_and_say_so() {
    let charter = charter(2, "rule = \"median\"\nbyzantine = 1");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    assert!(
        effects.iter().any(|effect| matches!(
            effect,
            Effect::Emit(Event::MixingSkipped {
                have: 1,
                need: 3,
                ..
            })
        )),
        "{effects:?}"
    );
    assert_eq!(peer.parameters().as_slice(), [1.0; 4]);
}

#[test]
fn another_charter_is_dismissed_with_the_section_named() {
    let ours = charter(2, "rule = \"mean\"");
    let theirs = charter(2, "rule = \"median\"");
    let mut peer = in_round_zero(&ours);
    let mut other = peer_of(2, &theirs);
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
    let effects = handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: hello.into(),
        },
    );
    assert_eq!(
        lines(&effects),
        [
            "event dismissed",
            "disconnect p2: wrong-federation",
            "event refused"
        ]
    );
    let Effect::Disconnect { reason, .. } = &effects[1] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        reason.to_string(),
        "belongs to another federation; its charter differs in aggregation"
    );
}

#[test]
fn only_published_bodies_are_given_away() {
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    let ask = |peer: &mut Peer, digest| {
        lines(&handle(
            peer,
            Input::BodyRequested {
                from: id(2),
                digest,
                request: 1,
            },
        ))
    };
    assert_eq!(
        ask(&mut peer, Digest::of_values(&[1.0; 4])),
        ["provide body"]
    );
    assert_eq!(
        ask(&mut peer, Digest::of_values(&[5.0; 4])),
        ["provide nothing"]
    );
    let stranger = handle(
        &mut peer,
        Input::BodyRequested {
            from: id(9),
            digest: Digest::of_values(&[1.0; 4]),
            request: 2,
        },
    );
    assert_eq!(lines(&stranger), ["provide nothing"]);
}

#[test]
fn after_the_last_round_it_says_goodbye_and_leaves_when_nobody_needs_it() {
    let charter = charter(1, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    let effects = handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    let mut told = lines(&effects);
    told[2..4].sort();
    assert_eq!(
        told,
        [
            "evaluate 1",
            "event finished",
            "send to p2",
            "send to p3",
            "timer Linger"
        ]
    );
    handle(&mut peer, Input::PeerDown { peer: id(2) });
    let effects = handle(&mut peer, Input::PeerDown { peer: id(3) });
    assert_eq!(
        lines(&effects),
        ["event disconnected"],
        "its evaluation is still to come"
    );
    let effects = handle(&mut peer, Input::NotEvaluated { round: 1 });
    assert_eq!(lines(&effects), ["event left", "stop"]);
}

#[test]
fn an_update_of_another_dimension_is_refused_by_name() {
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let bytes = announcement_with(2, &charter, &[1.0; 5]);
    assert_eq!(
        refusals(&handle(
            &mut peer,
            Input::Received {
                from: id(2),
                bytes: bytes.into()
            }
        )),
        ["dimension"]
    );
}

#[test]
fn a_replayed_update_is_refused_by_name_and_counted_once() {
    let charter = charter(20, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let bytes = announcement_of(2, &charter, 3.0);
    let receive = |peer: &mut Peer| {
        handle(
            peer,
            Input::Received {
                from: id(2),
                bytes: bytes.clone().into(),
            },
        )
    };
    assert_eq!(refusals(&receive(&mut peer)), [""; 0]);
    assert_eq!(refusals(&receive(&mut peer)), ["duplicate"]);
    for round in 0..10 {
        // A deadline may be put off.
        for _ in 0..2 {
            handle(&mut peer, Input::TimerExpired(Timer::Deadline { round }));
        }
        handle(
            &mut peer,
            Input::Stored(Stored::Checkpoint { round: round + 1 }),
        );
        handle(&mut peer, trained(round + 1, 1.0));
        handle(
            &mut peer,
            Input::Stored(Stored::Intent { round: round + 1 }),
        );
    }
    assert_eq!(refusals(&receive(&mut peer)), ["stale-round"]);
}

#[test]
fn a_contribution_that_goes_while_losses_are_awaited_is_judged_without_it() {
    let charter = charter(2, "rule = \"ubar\"");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    for (number, value) in [(2, 2.0), (3, 6.0)] {
        let bytes = announcement_of(number, &charter, value);
        handle(
            &mut peer,
            Input::Received {
                from: id(number),
                bytes: bytes.into(),
            },
        );
    }
    // Peer 2 contradicts itself: what it sent is taken out of the round whose losses are on their
    // way.
    let bytes = announcement_of(2, &charter, 9.0);
    handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: bytes.into(),
        },
    );
    let effects = handle(
        &mut peer,
        Input::Judged {
            round: 0,
            losses: Some(vec![0.3, 0.2, 0.1]),
        },
    );
    assert_eq!(
        lines(&effects),
        ["judge 0"],
        "three losses are no longer those of the models there are"
    );
    let effects = handle(
        &mut peer,
        Input::Judged {
            round: 0,
            losses: Some(vec![0.3, 0.1]),
        },
    );
    assert!(
        lines(&effects).contains(&"persist checkpoint 1".to_owned()),
        "{:?}",
        lines(&effects)
    );
}

/// Two peers that have trained and sent (by number, value and rows), and the third, in whose round
/// they are combined.
fn hub_and_leaves(charter: &Arc<Charter>, hub: u8, leaves: &[(u8, f32, u64)]) -> Peer {
    let trained = |value: f32, samples: u64| Input::Trained {
        round: 0,
        parameters: Arc::new(vec![value; 4]),
        samples,
        local_steps: 2,
        loss: 0.5,
        rate: 0.1,
        memory: None,
    };
    let mut centre = peer_of(hub, charter);
    handle(
        &mut centre,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    let mut sent = Vec::new();
    for (number, value, samples) in leaves {
        let mut leaf = peer_of(*number, charter);
        handle(
            &mut leaf,
            Input::Start {
                checkpoint: None,
                intent: None,
            },
        );
        let up = |peer: u8| Input::PeerUp {
            peer: id(peer),
            addresses: vec![],
            scope: Scope::World,
        };
        let hello = sent_to(&handle(&mut centre, up(*number)), *number).remove(0);
        let back = sent_to(&handle(&mut leaf, up(hub)), hub).remove(0);
        handle(
            &mut leaf,
            Input::Received {
                from: id(hub),
                bytes: hello.into(),
            },
        );
        handle(
            &mut centre,
            Input::Received {
                from: id(*number),
                bytes: back.into(),
            },
        );
        handle(&mut leaf, Input::TimerExpired(Timer::Start));
        handle(&mut leaf, trained(*value, *samples));
        let effects = handle(&mut leaf, Input::Stored(Stored::Intent { round: 0 }));
        // Nobody sends to a leaf: its round is over, and its model stays.
        assert!(effects.iter().any(|effect| matches!(
            effect,
            Effect::Emit(Event::Kept {
                round: 0,
                expected: false
            })
        )));
        sent.push((*number, sent_to(&effects, hub).remove(0)));
        let effects = handle(&mut leaf, Input::Stored(Stored::Checkpoint { round: 1 }));
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Train { .. })),
            "nobody trains in round 1"
        );
    }
    handle(&mut centre, trained(0.0, 60));
    handle(&mut centre, Input::Stored(Stored::Intent { round: 0 }));
    for (number, bytes) in sent {
        handle(
            &mut centre,
            Input::Received {
                from: id(number),
                bytes: bytes.into(),
            },
        );
    }
    centre
}

#[test]
fn a_hub_weighs_models_by_their_samples_up_to_the_cap() {
    let charter = charter_on(
        "centralised",
        2,
        "rule = \"mean\"\nweighting = \"samples\"\nsample_cap = 40",
    );
    let order = charter.roster();
    let number = |place: usize| {
        (1..=3u8)
            .find(|number| id(*number) == order[place])
            .expect("one of three")
    };
    let leaves = [(number(1), 1.0, 10), (number(2), 2.0, 30)];
    let hub = hub_and_leaves(&charter, number(0), &leaves);
    // 0 by 40 of its 60 samples, 1 by 10 and 2 by 30.
    assert_eq!(
        (hub.round(), hub.parameters().as_slice()),
        (1, &[70.0 / 80.0; 4][..])
    );
}

/// Trains honestly and claims this loss.
#[derive(Debug)]
struct Claims(f64);

impl Conduct for Claims {
    fn publish(&mut self, view: &View<'_>, _random: &mut kith_consensus::Stream) -> Publication {
        Publication::Same(view.trained.to_vec())
    }

    fn claims(&self, _loss: f64) -> f64 {
        self.0
    }
}

/// The announcement of a peer that claims this loss.
fn claim(number: u8, charter: &Arc<Charter>, value: f32, loss: f64) -> Vec<u8> {
    announcement_by(
        peer_that(number, charter, 4, Box::new(Claims(loss))),
        number,
        charter,
        &[value; 4],
        2,
    )
}

fn refused(effects: &[Effect]) -> Vec<&Refusal> {
    let refused = effects.iter().filter_map(|effect| match effect {
        Effect::Emit(Event::Refused { reason, .. }) => Some(reason),
        _ => None,
    });
    refused.collect()
}

const POWER_OF_CHOICE: &str =
    "rule = \"mean\"\n[round]\nselection = \"power-of-choice\"\ncandidates = 2\nselected = 1";

#[test]
fn the_highest_claimed_loss_is_mixed_with_the_weight_of_those_that_are_not() {
    let charter = charter(2, POWER_OF_CHOICE);
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: claim(2, &charter, 2.0, 0.5).into(),
        },
    );
    let effects = handle(
        &mut peer,
        Input::Received {
            from: id(3),
            bytes: claim(3, &charter, 7.0, 0.9).into(),
        },
    );
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Emit(Event::RoundClosed { why: Closed::Quorum, have: 2, awaited: 2, missing, .. }) if missing.is_empty()
    )));
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Emit(Event::Aggregated { models: 2, dropped, .. }) if dropped[0].peer == id(3)
    )));
    // A third of the own model, two thirds of the one that was chosen.
    assert_eq!(peer.parameters().as_slice(), [5.0; 4]);
}

#[test]
fn a_loss_that_is_none_is_missing_or_superfluous_is_refused_by_name() {
    let asking = charter(2, POWER_OF_CHOICE);
    for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.1e9] {
        let mut peer = in_round_zero(&asking);
        let effects = handle(
            &mut peer,
            Input::Received {
                from: id(2),
                bytes: claim(2, &asking, 2.0, loss).into(),
            },
        );
        assert!(
            matches!(refused(&effects)[..], [Refusal::Loss { .. }]),
            "{loss}: {:?}",
            lines(&effects)
        );
        assert_eq!(refused(&effects)[0].name(), "loss");
    }
    let mut peer = in_round_zero(&asking);
    let effects = handle(
        &mut peer,
        Input::Received {
            from: id(2),
            bytes: claim(2, &asking, 2.0, 1e9).into(),
        },
    );
    assert!(refused(&effects).is_empty());
    // The same update with the field taken out of the payload, signed anew.
    let plain = charter(2, "rule = \"mean\"");
    assert!(announcement_of(2, &plain, 2.0).len() < announcement_of(2, &asking, 2.0).len());
    for (charter, other) in [(&asking, &plain), (&plain, &asking)] {
        let said = Envelope::open(
            &Authenticator::from_secret(&secret(2)),
            &announcement_of(2, other, 2.0),
        )
        .expect("well formed");
        let header = Header {
            federation: charter.genesis,
            ..said.header
        };
        let bytes = Envelope::seal(
            &Authenticator::from_secret(&secret(2)),
            header,
            said.payload,
        )
        .to_bytes();
        let mut peer = in_round_zero(charter);
        let effects = handle(
            &mut peer,
            Input::Received {
                from: id(2),
                bytes: bytes.into(),
            },
        );
        assert!(
            matches!(refused(&effects)[..], [Refusal::Loss { .. }]),
            "{:?}",
            lines(&effects)
        );
    }
}

#[test]
fn who_is_not_drawn_is_neither_awaited_nor_mixed_and_leaves_its_weight_to_who_is() {
    let charter = charter(
        2,
        "rule = \"mean\"\n[round]\nselection = \"uniform\"\ncount = 1",
    );
    let mut order = [2, 3];
    order.sort_by_key(|number| id(*number));
    let drawn = charter.round.selection.awaits(
        &[Default::default(); 2],
        1,
        &mut stream(charter.seed, 0, &id(1)),
    );
    let (drawn, other) = (order[drawn[0]], order[1 - drawn[0]]);
    for first in [drawn, other] {
        let mut peer = in_round_zero(&charter);
        handle(&mut peer, trained(0, 1.0));
        handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
        for number in [first, drawn + other - first] {
            let bytes = announcement_of(number, &charter, f32::from(number) * 10.0);
            let closes = number == drawn;
            let effects = handle(
                &mut peer,
                Input::Received {
                    from: id(number),
                    bytes: bytes.into(),
                },
            );
            assert_eq!(
                lines(&effects).contains(&"event round-closed".to_owned()),
                closes
            );
        }
        let expected = (1.0 + 2.0 * f32::from(drawn) * 10.0) / 3.0;
        assert!(
            peer.parameters()
                .iter()
                .all(|value| (value - expected).abs() < 1e-4),
            "{:?}",
            peer.parameters()
        );
    }
    // Drawn and absent: its weight, with all that it was given, is the own model's.
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Emit(Event::RoundClosed { have: 0, awaited: 1, missing, .. }) if *missing == [id(drawn)]
    )));
    assert_eq!(peer.parameters().as_slice(), [1.0; 4]);
}

#[test]
fn a_loss_that_is_not_a_number_is_not_announced() {
    let charter = charter(2, POWER_OF_CHOICE);
    let mut peer = in_round_zero(&charter);
    let parameters = Arc::new(vec![1.0; 4]);
    let input = Input::Trained {
        round: 0,
        parameters,
        samples: 10,
        local_steps: 2,
        loss: f64::NAN,
        rate: 0.1,
        memory: None,
    };
    let told = lines(&handle(&mut peer, input));
    assert_eq!(
        told[..2],
        ["event trained", "event training-failed"],
        "{told:?}"
    );
}

/// Says less than it was asked for.
#[derive(Debug)]
struct Short;

impl Conduct for Short {
    fn publish(&mut self, view: &View<'_>, _random: &mut kith_consensus::Stream) -> Publication {
        Publication::Same(view.trained[1..].to_vec())
    }
}

/// In one process a receiver takes the vector that its sender has left in the packet: not without
/// looking.
#[test]
fn a_vector_of_another_length_is_refused_also_where_its_sender_lends_it() {
    let charter = charter(2, "rule = \"mean\"");
    let mut liar = peer_that(2, &charter, 4, Box::new(Short));
    handle(
        &mut liar,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    handle(&mut liar, Input::TimerExpired(Timer::Start));
    let mut honest = in_round_zero(&charter);
    handle(
        &mut liar,
        Input::PeerUp {
            peer: id(1),
            addresses: vec![],
            scope: Scope::World,
        },
    );
    let hello = sent_to(
        &handle(
            &mut honest,
            Input::PeerUp {
                peer: id(2),
                addresses: vec![],
                scope: Scope::World,
            },
        ),
        2,
    )
    .pop()
    .expect("a handshake");
    handle(
        &mut liar,
        Input::Received {
            from: id(1),
            bytes: hello.into(),
        },
    );
    handle(&mut liar, trained(0, 1.0));
    let sent = handle(&mut liar, Input::Stored(Stored::Intent { round: 0 }))
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Send { bytes, .. } => Some(bytes),
            _ => None,
        });
    let effects = handle(
        &mut honest,
        Input::Received {
            from: id(2),
            bytes: sent.expect("an update"),
        },
    );
    assert!(
        matches!(refused(&effects)[..], [Refusal::Body { .. }]),
        "{:?}",
        lines(&effects)
    );
}

#[test]
fn an_update_that_another_version_has_stored_is_not_sent() {
    const DIMENSION: usize = 20_000; // a body that is pulled
    let charter = charter(2, "rule = \"mean\"");
    let mut peer = peer_with(1, &charter, DIMENSION);
    handle(
        &mut peer,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    handle(&mut peer, Input::TimerExpired(Timer::Start));
    let Input::Trained {
        samples,
        local_steps,
        loss,
        rate,
        ..
    } = trained(0, 1.0)
    else {
        unreachable!()
    };
    let parameters = Arc::new(vec![1.0; DIMENSION]);
    let effects = handle(
        &mut peer,
        Input::Trained {
            round: 0,
            parameters,
            samples,
            local_steps,
            loss,
            rate,
            memory: None,
        },
    );
    let mut intent = effects.into_iter().find_map(|effect| match effect {
        Effect::Persist(Record::Intent(intent)) => Some(intent),
        _ => None,
    });
    let resumed = |intent| {
        let mut peer = peer_with(1, &charter, DIMENSION);
        let mut effects = handle(
            &mut peer,
            Input::Start {
                checkpoint: None,
                intent,
            },
        );
        effects.extend(handle(&mut peer, Input::TimerExpired(Timer::Start)));
        lines(&effects)
    };
    assert!(
        resumed(intent.clone()).contains(&"event published".to_owned()),
        "{:?}",
        resumed(intent.clone())
    );
    let stored = intent.as_mut().expect("a promise");
    let said = Envelope::open(
        &Authenticator::from_secret(&secret(1)),
        &stored.announcement,
    )
    .expect("well formed");
    let older = Header {
        version: said.header.version - 1,
        ..said.header
    };
    stored.announcement =
        Envelope::seal(&Authenticator::from_secret(&secret(1)), older, said.payload)
            .to_bytes()
            .into();
    let told = resumed(intent);
    assert!(
        told.contains(&"event training-failed".to_owned())
            && !told.contains(&"event published".to_owned()),
        "{told:?}"
    );
}
