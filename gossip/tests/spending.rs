//! A peer under a privacy guarantee and what its signed headers say of its ledger: they give a peer
//! that comes back with an older copy of it what that lacks, before it releases anything more.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{handle, id, lines, peer_of, secret, sent_to, setup_of, trained};
use kith_consensus::charter::Declared;
use kith_consensus::privacy::ledger::{Decision, Spent, Total};
use kith_consensus::{Charter, Digest, Section};
use kith_gossip::envelope::{Envelope, Header, Kind};
use kith_gossip::{
    Authenticator, Behind, Checkpoint, Effect, Event, Input, Intent, Packet, Peer, Record, Scope,
    Setup, Stored, Timer,
};

/// Three members, fully connected, one of whom may lie; each round is one charged release.
fn charter() -> Arc<Charter> {
    let members: String = (1..=3u8)
        .map(|number| {
            format!(
                "[[membership.member]]\nname = \"p{number}\"\nkey = \"{}\"\n",
                id(number)
            )
        })
        .collect();
    let text = format!(
        "[federation]\nname = \"test\"\nrounds = 20\n[topology]\nkind = \"complete\"\n[aggregation]\nrule = \"median\"\n\
         byzantine = 1\n[round]\nneighbours_min = 0\n[privacy]\nmechanism = \"example-level\"\nclip_norm = 1.0\n\
         noise_multiplier = 4.0\nsampling_rate = 0.1\ndelta = 1e-5\nepsilon_budget = 8.0\n{members}"
    );
    let mut training = |section: &mut Section<'_>, declared: &mut Declared| {
        let _ = section;
        (declared.local_steps, declared.batch_size) = (Some(2), 8);
    };
    Arc::new(Charter::resolve(&text, &mut [("training", &mut training)]).expect("a good charter"))
}

/// Peer 1, started in this life.
fn started(incarnation: u64, intent: Option<Box<Intent>>) -> (Peer, Vec<Effect>) {
    let mut peer = Peer::new(Setup {
        incarnation,
        ..setup_of(1, &charter(), 4)
    });
    let start = Input::Start {
        checkpoint: None,
        intent,
    };
    let effects = handle(&mut peer, start);
    (peer, effects)
}

/// A member meets another one, and takes its handshake.
fn meets(peer: &mut Peer, number: u8) -> Vec<Effect> {
    let up = |peer| Input::PeerUp {
        scope: Scope::World,
        peer,
        addresses: vec![],
    };
    let own = peer.id();
    let mut effects = handle(peer, up(id(number)));
    let greeted = handle(&mut peer_of(number, &charter()), up(own));
    let own = (1..=3).find(|number| id(*number) == own).expect("a member");
    let hello = sent_to(&greeted, own).remove(0);
    effects.extend(receives(peer, number, hello.into()));
    effects
}

fn receives(peer: &mut Peer, from: u8, bytes: Packet) -> Vec<Effect> {
    handle(
        peer,
        Input::Received {
            from: id(from),
            bytes,
        },
    )
}

fn charged(round: u64, epsilon: f64) -> Input {
    let spent = Spent {
        epsilon,
        entries: round + 1,
    };
    let decision = Decision::Charged;
    Input::Stored(Stored::Charge {
        round,
        decision,
        spent,
    })
}

fn has(effects: &[Effect], line: &str) -> bool {
    lines(effects).iter().any(|found| found == line)
}

/// The update of round 0 of peer 1, once `epsilon` is spent, and its intent.
fn update(peer: &mut Peer, epsilon: f64) -> (Packet, Box<Intent>) {
    handle(peer, charged(0, epsilon));
    let effects = handle(peer, trained(0, 1.0));
    let intent = effects.into_iter().find_map(|effect| match effect {
        Effect::Persist(Record::Intent(intent)) => Some(intent),
        _ => None,
    });
    let intent = intent.expect("it promises its update");
    (intent.announcement.clone(), intent)
}

/// Peer 1's own header of an update of `round` in its first life.
fn header_of(round: u64, spent: Option<Total>) -> Packet {
    let payload = b"an update".to_vec();
    let header = Header {
        version: kith_gossip::envelope::PROTOCOL_VERSION,
        federation: charter().genesis,
        kind: Kind::Update,
        sender: id(1),
        incarnation: 1,
        round,
        sequence: round,
        state: Digest::of(b"state"),
        payload: Digest::of(&payload),
        spent,
    };
    let envelope = Envelope::seal(&Authenticator::from_secret(&secret(1)), header, payload);
    envelope.header_to_bytes().into()
}

#[test]
fn an_update_states_what_was_spent_and_other_messages_do_not() {
    let (mut peer, _) = started(1, None);
    let mut sent = meets(&mut peer, 2);
    sent.extend(meets(&mut peer, 3));
    let hello = sent_to(&sent, 2).remove(0);
    let header = Packet::from(hello).claimed_header().expect("a handshake");
    assert_eq!((header.kind, header.spent), (Kind::Hello, None));
    let (packet, _) = update(&mut peer, 0.75);
    let header = packet.claimed_header().expect("an update");
    assert_eq!(header.spent, Some(Total::of(0.75)));
}

/// A federation without a guarantee sends what it always sent: nine fields, and none in their place.
#[test]
fn a_header_without_a_total_has_no_field_for_it_and_one_encoding() {
    let fields = |packet: Packet| {
        let [header, _, _]: [serde_bytes::ByteBuf; 3] =
            serde_cbor::from_slice(&packet).expect("three byte strings");
        header[0]
    };
    assert_eq!(fields(header_of(3, None)), 0x80 | 9);
    assert_eq!(fields(header_of(3, Some(Total(1)))), 0x80 | 10);
    // A tenth field that is null is another spelling of the first.
    let bare = header_of(3, None).claimed_header().expect("a header");
    let mut spelled = Envelope::seal(
        &Authenticator::from_secret(&secret(1)),
        bare,
        b"an update".to_vec(),
    );
    spelled.header_bytes[0] += 1;
    spelled.header_bytes.push(0xf6);
    let key = Authenticator::from_secret(&secret(1));
    spelled.signature = key.sign_bytes(&spelled.header_bytes);
    assert!(Envelope::open(&key, &spelled.header_to_bytes()).is_err());
}

#[test]
fn nothing_is_charged_before_one_more_neighbour_has_answered_than_may_lie() {
    // Its start deadline passes with one neighbour; two have to answer.
    let (mut peer, _) = started(2, None);
    let mut effects = meets(&mut peer, 2);
    effects.extend(handle(&mut peer, Input::TimerExpired(Timer::Start)));
    assert!(has(&effects, "event round-opened") && !has(&effects, "persist charge 0"));
    assert!(has(&effects, "timer Answers { round: 0 }"), "{effects:?}");
    assert!(has(&meets(&mut peer, 3), "persist charge 0"));
    // Later rounds do not ask again.
    update(&mut peer, 0.5);
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    for number in [2, 3] {
        handle(&mut peer, Input::PeerDown { peer: id(number) });
    }
    let effects = handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    assert!(has(&effects, "persist charge 1"), "{:?}", lines(&effects));
}

#[test]
fn a_round_in_which_too_few_answer_goes_on_without_a_release() {
    let (mut peer, _) = started(2, None);
    meets(&mut peer, 2);
    handle(&mut peer, Input::TimerExpired(Timer::Start));
    let effects = handle(&mut peer, Input::TimerExpired(Timer::Answers { round: 0 }));
    let told = lines(&effects);
    assert!(
        has(&effects, "event unanswered") && has(&effects, "send to p2"),
        "{told:?}"
    );
    assert!(!has(&effects, "train 0"), "{told:?}");
    let effects = meets(&mut peer, 3);
    assert!(!has(&effects, "persist charge 0"), "the round is over");
    let skip = sent_to(&effects, 3).into_iter().map(Packet::from);
    let mut kinds = skip.filter_map(|packet| Some(packet.claimed_header()?.kind));
    assert!(
        kinds.any(|kind| kind == Kind::Skip),
        "the other hears that too"
    );
}

#[test]
fn an_older_ledger_is_charged_what_an_own_header_states_before_the_next_release() {
    let (mut peer, _) = started(2, None);
    meets(&mut peer, 2);
    let stated = Total::of(1.5);
    meets(&mut peer, 3);
    let effects = receives(&mut peer, 3, header_of(7, Some(stated)));
    let cover = effects.iter().find_map(|effect| match effect {
        Effect::Persist(Record::Cover { round, stated }) => Some((*round, *stated)),
        _ => None,
    });
    assert_eq!(cover, Some((7, stated)), "{:?}", lines(&effects));
    let again = receives(&mut peer, 2, header_of(7, Some(stated)));
    assert!(!has(&again, "persist cover 7"), "once is enough");
    let (before, after) = (
        Spent {
            epsilon: 0.5,
            entries: 3,
        },
        Spent {
            epsilon: 1.75,
            entries: 4,
        },
    );
    let behind = Some(Behind {
        stated,
        before,
        after,
    });
    let effects = handle(
        &mut peer,
        Input::Stored(Stored::Covered { round: 7, behind }),
    );
    let told = effects.iter().find_map(|effect| match effect {
        Effect::Emit(Event::LedgerBehind {
            round,
            entries,
            stated,
            charged,
            ..
        }) => Some((*round, *entries, *stated, *charged)),
        _ => None,
    });
    assert_eq!(told, Some((7, 3, 1.5, 1.75)));
}

/// The ledger is put back from an older copy, the state is not: what it promised says so.
#[test]
fn a_promised_update_is_paid_before_it_goes_out_again() {
    let (mut peer, _) = started(1, None);
    meets(&mut peer, 2);
    meets(&mut peer, 3);
    let (_, intent) = update(&mut peer, 0.5);
    let (mut again, effects) = started(2, Some(intent));
    assert!(has(&effects, "persist cover 0"));
    meets(&mut again, 2);
    let effects = meets(&mut again, 3);
    assert!(
        !has(&effects, "event published"),
        "the ledger has not answered"
    );
    let effects = handle(
        &mut again,
        Input::Stored(Stored::Covered {
            round: 0,
            behind: None,
        }),
    );
    assert!(has(&effects, "event published"), "{:?}", lines(&effects));
}

/// A peer that is restored signs its update anew; that another total stands in it proves nothing.
#[test]
fn totals_that_differ_contradict_nothing() {
    let (mut peer, _) = started(1, None);
    meets(&mut peer, 2);
    meets(&mut peer, 3);
    let header = |spent| {
        let header = Header {
            sender: id(2),
            round: 0,
            ..header_of(0, Some(Total(spent)))
                .claimed_header()
                .expect("one")
        };
        let key = Authenticator::from_secret(&secret(2));
        Envelope::seal(&key, header, b"an update".to_vec())
            .header_to_bytes()
            .into()
    };
    let effects = [
        receives(&mut peer, 3, header(5)),
        receives(&mut peer, 3, header(6)),
    ];
    let effects = effects.concat();
    assert!(!has(&effects, "event equivocated") && !has(&effects, "announce"));
}

/// A peer comes back after more rounds than others keep headers of: its newest total is still there.
#[test]
fn the_largest_total_of_a_peer_is_given_back_however_long_ago() {
    let (mut peer, _) = started(1, None);
    meets(&mut peer, 2);
    meets(&mut peer, 3);
    let mut other = Peer::new(setup_of(2, &charter(), 4));
    handle(
        &mut other,
        Input::Start {
            checkpoint: None,
            intent: None,
        },
    );
    for number in [1, 3] {
        meets(&mut other, number);
    }
    let (update, _) = update(&mut other, 0.25);
    receives(&mut peer, 2, update.clone());
    let mut stored = None;
    for round in 0..15 {
        handle(&mut peer, charged(round, 0.1));
        handle(&mut peer, trained(round, 1.0));
        handle(&mut peer, Input::Stored(Stored::Intent { round }));
        let mut effects = Vec::new();
        let late = Duration::from_secs(60 * round);
        // A deadline may be put off.
        for _ in 0..2 {
            let expired = Input::TimerExpired(Timer::Deadline { round });
            peer.handle(expired, late, &mut effects);
        }
        stored = effects.into_iter().find_map(|effect| match effect {
            Effect::Persist(Record::Checkpoint(checkpoint)) => Some(checkpoint),
            _ => None,
        });
        handle(
            &mut peer,
            Input::Stored(Stored::Checkpoint { round: round + 1 }),
        );
    }
    assert!(peer.round() > 10, "{}", peer.round());
    handle(&mut peer, Input::PeerDown { peer: id(2) });
    assert_eq!(given_back(&mut peer), Some(Total::of(0.25)));

    // It has been restarted as well: its checkpoint holds that header.
    let stored = *stored.expect("a checkpoint");
    let again = |headers: Vec<Packet>| {
        let checkpoint = Some(Box::new(Checkpoint {
            headers,
            ..stored.clone()
        }));
        let mut peer = Peer::new(Setup {
            incarnation: 2,
            ..setup_of(1, &charter(), 4)
        });
        let intent = None;
        handle(&mut peer, Input::Start { checkpoint, intent });
        given_back(&mut peer)
    };
    assert_eq!(again(stored.headers.clone()), Some(Total::of(0.25)));
    assert_eq!(again(Vec::new()), None);
    let [header] = &stored.headers[..] else {
        panic!("{} headers, expected one", stored.headers.len());
    };
    let mut forged = header.to_vec();
    let place = forged.len() - 10;
    forged[place] ^= 1;
    assert_eq!(again(vec![forged.into()]), None);
}

/// What the headers of peer 2 state that it is given when it meets a peer.
fn given_back(peer: &mut Peer) -> Option<Total> {
    let given = sent_to(&meets(peer, 2), 2).into_iter();
    let headers = given.filter_map(|bytes| Packet::from(bytes).claimed_header());
    let own = headers.filter(|header| header.sender == id(2));
    own.filter_map(|header| header.spent).max()
}
