//! What one member can do to the others with messages alone: contradict itself in ways that were
//! not noticed, play recordings, send junk through others, say where others are, claim to be far
//! ahead, and ask without end.

#![cfg_attr(
    feature = "mutants",
    allow(dead_code, reason = "a driver runs them one by one")
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use kith_consensus::charter::Charter;
use kith_consensus::{Digest, PeerId};
use kith_gossip::effect::Record;
use kith_gossip::envelope::{Envelope, Header, Kind, PROTOCOL_VERSION};
use kith_gossip::{
    Authenticator, Effect, Event, Input, Peer, Scope, Setup, Stored, Timer, may_be_passed_on,
};

const FIRST_LIFE: u64 = 1;

/// What a message says besides its kind and sender.
#[derive(Clone, Copy)]
struct Said {
    incarnation: u64,
    round: u64,
    sequence: u64,
    state: &'static [u8],
    payload: &'static [u8],
}

const ONE: Said = Said {
    incarnation: FIRST_LIFE,
    round: 0,
    sequence: 0,
    state: b"one",
    payload: b"payload",
};

fn sealed(number: u8, charter: &Charter, kind: Kind, said: Said) -> Envelope {
    sealed_with(number, charter, kind, said, said.payload.to_vec())
}

fn sealed_with(
    number: u8,
    charter: &Charter,
    kind: Kind,
    said: Said,
    payload: Vec<u8>,
) -> Envelope {
    let authenticator = Authenticator::from_secret(&secret(number));
    let state = match kind {
        Kind::Update => Digest::of(said.state),
        _ => Digest::default(),
    };
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind,
        sender: authenticator.peer(),
        incarnation: said.incarnation,
        round: said.round,
        sequence: said.sequence,
        state,
        payload: Digest::of(&payload),
        spent: None,
    };
    Envelope::seal(&authenticator, header, payload)
}

/// The header of an update, as another peer shows it.
fn shown(number: u8, charter: &Charter, said: Said) -> Vec<u8> {
    sealed(number, charter, Kind::Update, said).header_to_bytes()
}

fn receive(peer: &mut Peer, from: u8, bytes: Vec<u8>) -> Vec<Effect> {
    let (from, bytes) = (id(from), bytes.into());
    handle(peer, Input::Received { from, bytes })
}

fn convicts(effects: &[Effect]) -> bool {
    let lines = lines(effects);
    let said = [
        "event equivocated",
        "persist evidence against p2",
        "announce",
    ];
    said.iter().all(|line| lines.contains(&(*line).to_owned()))
}

fn started(setup: Setup) -> Peer {
    let mut peer = Peer::new(setup);
    let (checkpoint, intent) = (None, None);
    handle(&mut peer, Input::Start { checkpoint, intent });
    peer
}

/// The handshake of `number` in this life, with this peer.
fn meet(peer: &mut Peer, number: u8, charter: &Arc<Charter>, incarnation: u64) -> Vec<Effect> {
    let up = |number: u8| Input::PeerUp {
        peer: id(number),
        addresses: vec![],
        scope: Scope::World,
    };
    let mut effects = handle(peer, up(number));
    let mut other = Peer::new(Setup {
        incarnation,
        ..setup_of(number, charter, 4)
    });
    let hello = sent_to(&handle(&mut other, up(1)), 1).remove(0);
    effects.extend(receive(peer, number, hello));
    effects
}

// --- contradictions ---

#[cfg_attr(not(feature = "mutants"), test)]
fn two_updates_of_a_round_convict_whatever_else_differs() {
    let charter = charter(9, "rule = \"mean\"");
    let others = [
        (
            "another sequence",
            Said {
                sequence: 1,
                state: b"two",
                ..ONE
            },
        ),
        (
            "another state",
            Said {
                state: b"two",
                ..ONE
            },
        ),
        (
            "another payload",
            Said {
                payload: b"samples = 10^9",
                ..ONE
            },
        ),
    ];
    for (what, other) in others {
        let mut peer = in_round_zero(&charter);
        receive(&mut peer, 3, shown(2, &charter, ONE));
        let effects = receive(&mut peer, 3, shown(2, &charter, other));
        assert!(convicts(&effects), "{what}: {:?}", lines(&effects));
    }
    // The same said twice, and the same again after a restart, is no contradiction.
    for same in [
        ONE,
        Said {
            incarnation: 2,
            ..ONE
        },
    ] {
        let mut peer = in_round_zero(&charter);
        receive(&mut peer, 3, shown(2, &charter, ONE));
        let effects = receive(&mut peer, 3, shown(2, &charter, same));
        assert!(!lines(&effects).contains(&"event equivocated".to_owned()));
    }
}

#[cfg_attr(not(feature = "mutants"), test)]
fn two_lives_convict_nobody_and_the_newer_counts() {
    let charter = charter(9, "rule = \"mean\"");
    let newer = Said {
        incarnation: 2,
        state: b"two",
        ..ONE
    };
    let mut peer = in_round_zero(&charter);
    let first = small(2, &charter, 0);
    receive(&mut peer, 2, first.clone());
    let second = receive(&mut peer, 3, shown(2, &charter, newer));
    assert_eq!(refusals(&second), ["announcement"]);
    let verifier = Authenticator::from_secret(&secret(1));
    let first = Envelope::open(&verifier, &first).expect("well formed");
    let older = receive(&mut peer, 3, first.header_to_bytes());
    assert_eq!(refusals(&older), ["replayed"]);
    for effects in [second, older] {
        assert!(!lines(&effects).contains(&"event equivocated".to_owned()));
    }
}

#[cfg_attr(not(feature = "mutants"), test)]
fn at_a_free_pace_headers_of_any_round_convict() {
    let charter = charter(400, "rule = \"mean\"\n[round]\nmode = \"asynchronous\"");
    let mut peer = in_round_zero(&charter);
    let far = |state| Said {
        round: 40,
        state,
        ..ONE
    };
    receive(&mut peer, 3, shown(2, &charter, far(b"one")));
    assert!(convicts(&receive(
        &mut peer,
        3,
        shown(2, &charter, far(b"two"))
    )));
    // What is kept of one sender is bounded, however many rounds it claims.
    for round in 41..399 {
        receive(&mut peer, 3, shown(3, &charter, Said { round, ..ONE }));
    }
    assert!(peer.load().headers < 20, "{:?}", peer.load());
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_message_whose_header_came_first_is_shown_to_others_as_any_other() {
    let charter = charter(9, "rule = \"mean\"");
    // Of two receivers one shows: of these two senders, this peer shows the header of one.
    let shows = |sender: u8, shown_first: bool| {
        let other = 5 - sender;
        let update = announcement_of(sender, &charter, 2.0);
        let mut peer = in_round_zero(&charter);
        if shown_first {
            let authenticator = Authenticator::from_secret(&secret(1));
            let whole = Envelope::open(&authenticator, &update).expect("well formed");
            receive(&mut peer, other, whole.header_to_bytes());
        }
        sent_to(&receive(&mut peer, sender, update), other).len()
    };
    let all = |shown_first| [2, 3].map(|sender| shows(sender, shown_first));
    assert_eq!(all(true), all(false));
    assert_eq!(all(false).iter().sum::<usize>(), 1);
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_conviction_outlives_a_restart_and_newcomers_are_told() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    receive(&mut peer, 3, shown(2, &charter, ONE));
    let effects = receive(
        &mut peer,
        3,
        shown(
            2,
            &charter,
            Said {
                state: b"two",
                ..ONE
            },
        ),
    );
    let proof = effects.iter().find_map(|effect| match effect {
        Effect::Persist(Record::Evidence { proof, .. }) => Some(proof.clone()),
        _ => None,
    });
    let evidence = vec![proof.expect("a proof is stored"), b"a damaged one".to_vec()];
    let mut again = started(Setup {
        incarnation: 2,
        evidence,
        ..setup_of(1, &charter, 4)
    });
    meet(&mut again, 2, &charter, FIRST_LIFE);
    let refused = receive(&mut again, 2, announcement_of(2, &charter, 2.0));
    assert_eq!(refusals(&refused), ["equivocator"]);
    // A peer that was not there is told at the handshake, and believes the proof, not the teller.
    let told = sent_to(&meet(&mut again, 3, &charter, FIRST_LIFE), 3);
    let mut late = started(setup_of(3, &charter, 4));
    let up = Input::PeerUp {
        peer: id(1),
        addresses: vec![],
        scope: Scope::World,
    };
    handle(&mut late, up);
    let mut effects = Vec::new();
    for bytes in told {
        effects.extend(receive(&mut late, 1, bytes));
    }
    let lines = lines(&effects);
    assert!(
        lines.contains(&"persist evidence against p2".to_owned()),
        "{lines:?}"
    );
}

// --- recordings ---

#[cfg_attr(not(feature = "mutants"), test)]
fn what_was_signed_in_an_earlier_life_is_refused_from_others() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = started(setup_of(1, &charter, 4));
    meet(&mut peer, 2, &charter, 5);
    meet(&mut peer, 3, &charter, 5);
    let old = Said {
        incarnation: 4,
        round: 8,
        ..ONE
    };
    let goodbye = Said {
        payload: &[0xa1, 0, 0xf5],
        ..old
    };
    for recording in [
        shown(2, &charter, old),
        sealed(2, &charter, Kind::Goodbye, goodbye).to_bytes(),
    ] {
        let effects = receive(&mut peer, 3, recording);
        assert_eq!(refusals(&effects), ["replayed"]);
        assert!(!lines(&effects).iter().any(|line| line.contains("jumped")));
    }
}

#[cfg_attr(not(feature = "mutants"), test)]
fn its_own_old_headers_do_not_silence_a_peer_unless_as_many_know_them_as_may_lie() {
    let silenced = |by: &[u8]| {
        let charter = charter(9, "rule = \"trimmed-mean\"\nbyzantine = 1");
        let mut peer = started(Setup {
            incarnation: 9,
            ..setup_of(1, &charter, 4)
        });
        for number in [2, 3] {
            meet(&mut peer, number, &charter, FIRST_LIFE);
        }
        for from in by {
            let old = Said { round: 5, ..ONE };
            receive(&mut peer, *from, shown(1, &charter, old));
        }
        let effects = handle(&mut peer, trained(0, 1.0));
        !lines(&effects).contains(&"persist intent 0".to_owned())
    };
    assert!(!silenced(&[2]), "one may lie");
    assert!(!silenced(&[2, 2]));
    assert!(silenced(&[2, 3]), "two know it, and at most one lies");
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_clock_that_was_set_back_is_made_up_for() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    receive(
        &mut peer,
        2,
        shown(
            1,
            &charter,
            Said {
                incarnation: 70,
                ..ONE
            },
        ),
    );
    let up = Input::PeerUp {
        peer: id(2),
        addresses: vec![],
        scope: Scope::World,
    };
    let told = sent_to(&handle(&mut peer, up), 2);
    let verifier = Authenticator::from_secret(&secret(2));
    let hello = told
        .iter()
        .map(|bytes| Envelope::open(&verifier, bytes).expect("well formed"));
    let newest = hello.map(|hello| hello.header.incarnation).max();
    assert_eq!(newest, Some(71));
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_peer_that_comes_back_is_given_its_newest_header() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let update = small(2, &charter, 0);
    receive(&mut peer, 2, update.clone());
    let verifier = Authenticator::from_secret(&secret(1));
    let update = Envelope::open(&verifier, &update).expect("well formed");
    let known = update.header_to_bytes();
    // A header that only others have shown may be a recording, and is not given back.
    receive(&mut peer, 3, shown(2, &charter, Said { round: 2, ..ONE }));
    let up = Input::PeerUp {
        peer: id(2),
        addresses: vec![],
        scope: Scope::World,
    };
    assert!(sent_to(&handle(&mut peer, up), 2).contains(&known));
}

#[cfg_attr(not(feature = "mutants"), test)]
fn recordings_that_come_before_their_signer_do_not_silence_it() {
    let charter = charter(400, "rule = \"mean\"\n[round]\nmode = \"asynchronous\"");
    let mut peer = started(setup_of(1, &charter, 4));
    meet(&mut peer, 3, &charter, FIRST_LIFE);
    for round in 40..60 {
        let old = Said {
            incarnation: 0,
            round,
            ..ONE
        };
        receive(&mut peer, 3, shown(2, &charter, old));
    }
    let old = Said {
        incarnation: 0,
        ..ONE
    };
    receive(&mut peer, 3, shown(2, &charter, old));
    let goodbye = Said {
        incarnation: 0,
        round: 60,
        payload: &[0xa1, 0, 0xf5],
        ..ONE
    };
    let effects = receive(
        &mut peer,
        3,
        sealed(2, &charter, Kind::Goodbye, goodbye).to_bytes(),
    );
    assert!(!lines(&effects).contains(&"event departed".to_owned()));
    meet(&mut peer, 2, &charter, FIRST_LIFE);
    for round in 0..2 {
        let effects = receive(&mut peer, 2, small(2, &charter, round));
        assert!(
            refusals(&effects).is_empty(),
            "{round}: {:?}",
            refusals(&effects)
        );
    }
}

// --- junk that others pass on ---

#[cfg_attr(not(feature = "mutants"), test)]
fn nobody_is_sent_away_for_what_others_repeat_or_flood() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let header = |state| shown(2, &charter, Said { state, ..ONE });
    let text = |bytes: Vec<u8>| [&[0x58, bytes.len() as u8], &bytes[..]].concat();
    let headers = [text(header(b"one")), text(header(b"two"))].concat();
    let proof = sealed_with(
        3,
        &charter,
        Kind::Proof,
        ONE,
        [&[0x82], &headers[..]].concat(),
    );
    let mut effects = Vec::new();
    for sequence in 0..1_000 {
        let said = Said {
            sequence,
            payload: &[0xa1, 0, 0xf4],
            ..ONE
        };
        let goodbye = sealed(2, &charter, Kind::Goodbye, said).to_bytes();
        effects.extend(receive(&mut peer, 3, goodbye));
        effects.extend(receive(&mut peer, 2, proof.to_bytes()));
    }
    let lines = lines(&effects);
    assert!(
        lines.contains(&"event equivocated".to_owned()),
        "the proof is one"
    );
    assert!(!lines.iter().any(|line| line.starts_with("disconnect")));
}

#[cfg_attr(not(feature = "mutants"), test)]
fn junk_counts_against_its_signer_and_never_against_the_peer_that_passed_it_on() {
    let charter = charter(9, "rule = \"mean\"");
    let junk = |round| Said {
        round,
        payload: b"no goodbye",
        ..ONE
    };
    let mut peer = started(setup_of(1, &charter, 4));
    meet(&mut peer, 3, &charter, FIRST_LIFE);
    for round in 0..9 {
        let bytes = sealed(2, &charter, Kind::Goodbye, junk(round)).to_bytes();
        let verifier = Authenticator::from_secret(&secret(1));
        assert!(!may_be_passed_on(
            &bytes,
            &verifier,
            charter.genesis,
            |_| true
        ));
        let effects = receive(&mut peer, 3, bytes);
        assert_eq!(refusals(&effects), ["junk"]);
        assert!(
            !lines(&effects)
                .iter()
                .any(|line| line.starts_with("disconnect"))
        );
    }
    // The signer itself is sent away once it is there.
    meet(&mut peer, 2, &charter, FIRST_LIFE);
    let all = (0..9).flat_map(|round| {
        receive(
            &mut peer,
            3,
            sealed(2, &charter, Kind::Goodbye, junk(round)).to_bytes(),
        )
    });
    let all: Vec<Effect> = all.collect();
    assert!(lines(&all).contains(&"disconnect p2: too-many".to_owned()));
}

/// Others may have met it before it misbehaved, and wait for nobody's start any more.
#[cfg_attr(not(feature = "mutants"), test)]
fn a_start_does_not_wait_for_a_peer_that_was_sent_away() {
    let charter = charter(9, "rule = \"mean\"");
    let begins = |effects: &[Effect]| lines(effects).contains(&"event round-opened".to_owned());
    let misbehaves = |peer: &mut Peer| {
        comes_from(peer, 3, Scope::World);
        let junk = (0..9).flat_map(|_| receive(peer, 3, b"junk".to_vec()));
        begins(&junk.collect::<Vec<_>>())
    };
    let mut late = in_round_zero_alone(1, &charter);
    meet(&mut late, 2, &charter, FIRST_LIFE);
    assert!(misbehaves(&mut late), "all others are there");
    let mut early = in_round_zero_alone(1, &charter);
    assert!(!misbehaves(&mut early), "nobody is there");
    assert!(begins(&meet(&mut early, 2, &charter, FIRST_LIFE)));
    let mut waiting = in_round_zero_alone(1, &charter);
    let met = meet(&mut waiting, 2, &charter, FIRST_LIFE);
    assert!(!begins(&met), "the third may still come");
}

/// The third may have met the second, which waits for this peer's update.
#[cfg_attr(not(feature = "mutants"), test)]
fn a_start_ends_in_time_for_those_that_have_begun() {
    let has = |effects: &[Effect], line: &str| lines(effects).contains(&line.to_owned());
    let charter = charter(9, "rule = \"mean\"");
    let asks = Said {
        payload: &[0xa1, 0, 0],
        ..ONE
    };
    let asks = sealed(2, &charter, Kind::Want, asks).to_bytes();
    let header = shown(2, &charter, ONE);
    for (from, begins) in [(2, small(2, &charter, 0)), (2, asks), (3, header.clone())] {
        let mut peer = in_round_zero_alone(1, &charter);
        comes_from(&mut peer, 3, Scope::World);
        let effects = meet(&mut peer, 2, &charter, FIRST_LIFE);
        assert!(!has(&effects, "timer Start"), "it may wait itself");
        let effects = receive(&mut peer, from, begins);
        assert!(has(&effects, "timer Start") && !has(&effects, "event round-opened"));
        let effects = handle(&mut peer, Input::TimerExpired(Timer::Start));
        assert!(has(&effects, "event round-opened"));
    }
    let mut peer = in_round_zero_alone(1, &charter);
    comes_from(&mut peer, 3, Scope::World);
    let effects = receive(&mut peer, 3, header);
    assert!(!has(&effects, "timer Start"), "it may be a recording");
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_peer_that_was_sent_away_is_dialled_again_once_its_ban_is_over() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    for _ in 0..9 {
        receive(&mut peer, 2, b"junk".to_vec());
    }
    handle(&mut peer, Input::PeerDown { peer: id(2) });
    let dials = |peer: &mut Peer, now: u64| {
        let mut effects = Vec::new();
        let redial = Input::TimerExpired(Timer::Redial);
        peer.handle(redial, Duration::from_secs(now), &mut effects);
        lines(&effects).contains(&"connect p2".to_owned())
    };
    assert!(!dials(&mut peer, 2));
    assert!(dials(&mut peer, 11));
}

// --- meeting again, and leaving ---

#[cfg_attr(not(feature = "mutants"), test)]
fn a_handshake_that_waits_for_one_is_answered_over_a_standing_connection() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    handle(&mut peer, trained(0, 1.0));
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    // The other peer has started again, and nobody noticed that its connection had ended.
    let mut restarted = Peer::new(Setup {
        incarnation: 2,
        ..setup_of(2, &charter, 4)
    });
    let up = Input::PeerUp {
        peer: id(1),
        addresses: vec![],
        scope: Scope::World,
    };
    let hello = sent_to(&handle(&mut restarted, up), 1).remove(0);
    let told = sent_to(&receive(&mut peer, 2, hello), 2);
    let verifier = Authenticator::from_secret(&secret(2));
    let kinds = told
        .iter()
        .map(|bytes| Envelope::open(&verifier, bytes).expect("well formed"));
    let kinds: Vec<Kind> = kinds.map(|message| message.header.kind).collect();
    assert!(
        kinds.contains(&Kind::Hello) && kinds.contains(&Kind::Update),
        "{kinds:?}"
    );
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_goodbye_that_others_pass_on_does_not_undo_what_came_after_it() {
    let charter = charter(50, "rule = \"mean\"");
    let departs = |round: u64| {
        let mut peer = in_round_zero(&charter);
        receive(&mut peer, 2, shown(2, &charter, Said { round: 3, ..ONE }));
        handle(&mut peer, Input::PeerDown { peer: id(2) });
        let said = Said {
            round,
            payload: &[0xa1, 0, 0xf5],
            ..ONE
        };
        let effects = receive(
            &mut peer,
            3,
            sealed(2, &charter, Kind::Goodbye, said).to_bytes(),
        );
        lines(&effects).contains(&"event departed".to_owned())
    };
    assert!(departs(4), "the newest that is known of it");
    assert!(!departs(2), "an old one");
}

// --- spelling and hearsay ---

#[cfg_attr(not(feature = "mutants"), test)]
fn an_envelope_has_one_spelling() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let whole = sealed(
        2,
        &charter,
        Kind::Skip,
        Said {
            payload: &[0xa1, 0, 0],
            ..ONE
        },
    );
    let canonical = whole.to_bytes();
    // The same parts, with a tag that the decoder skips.
    let tagged = [&canonical[..1], &[0xd8, 0x2a], &canonical[1..]].concat();
    assert_eq!(refusals(&receive(&mut peer, 2, tagged)), ["junk"]);
    assert!(refusals(&receive(&mut peer, 2, canonical)).is_empty());
}

#[cfg_attr(not(feature = "mutants"), test)]
fn nobody_says_where_another_peer_is() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let up = Input::PeerUp {
        peer: id(1),
        addresses: vec![],
        scope: Scope::World,
    };
    let hello = sent_to(&handle(&mut peer_of(2, &charter), up), 1).remove(0);
    let verifier = Authenticator::from_secret(&secret(1));
    let honest = Envelope::open(&verifier, &hello)
        .expect("well formed")
        .payload;
    let front = honest
        .strip_suffix(&[7, 0x80])
        .expect("a list of records, last");
    let mut payload = [front, &[7, 0x81, 0xa6, 0, 0x58, 32], &id(3).0].concat();
    payload.extend([1, 9, 2, 0, 3, 2, 4, 0x81, 0x64]);
    payload.extend(*b"/x/y");
    payload.extend([5, 0x58, 64]);
    payload.extend([7; 64]);
    let forged = sealed_with(2, &charter, Kind::Hello, ONE, payload).to_bytes();
    assert_eq!(refusals(&receive(&mut peer, 2, forged)), ["address-record"]);
}

/// A peer that listens on its machine, in its private network, and where everybody reaches it.
fn listening(number: u8, charter: &Arc<Charter>) -> Peer {
    let mut peer = in_round_zero_alone(number, charter);
    for place in ["127.0.0", "10.0.0", "203.0.113"] {
        let address = format!("/ip4/{place}.{number}/tcp/1");
        handle(&mut peer, Input::Listening { address });
    }
    peer
}

fn in_round_zero_alone(number: u8, charter: &Arc<Charter>) -> Peer {
    started(setup_of(number, charter, 4))
}

fn comes_from(peer: &mut Peer, number: u8, scope: Scope) -> Vec<Effect> {
    let up = Input::PeerUp {
        peer: id(number),
        addresses: vec![],
        scope,
    };
    handle(peer, up)
}

/// Which of these texts the messages to a peer contain.
fn told<'a>(effects: &[Effect], to: u8, texts: &[&'a str]) -> Vec<&'a str> {
    let messages = sent_to(effects, to);
    let contains = |text: &&&str| {
        let is_in = |bytes: &Vec<u8>| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        messages.iter().any(is_in)
    };
    texts.iter().filter(contains).copied().collect()
}

#[cfg_attr(not(feature = "mutants"), test)]
fn addresses_of_a_private_network_are_told_inside_it_alone() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = listening(1, &charter);
    let own = ["127.0.0.1", "10.0.0.1", "203.0.113.1"];
    let from_afar = comes_from(&mut peer, 3, Scope::World);
    assert_eq!(told(&from_afar, 3, &own), own[2..]);
    let from_site = comes_from(&mut peer, 2, Scope::Site);
    assert_eq!(told(&from_site, 2, &own), own[1..]);
    // The handshake of 3 completes, then that of 2 brings addresses.
    let greeting = |number: u8, scope: Scope| {
        let effects = comes_from(&mut listening(number, &charter), 1, scope);
        sent_to(&effects, 1).remove(0)
    };
    receive(&mut peer, 3, greeting(3, Scope::World));
    let passed_on = receive(&mut peer, 2, greeting(2, Scope::Site));
    let others = ["127.0.0.2", "10.0.0.2", "203.0.113.2"];
    assert_eq!(told(&passed_on, 3, &others), others[2..]);
    // Another that is connected, and has not greeted yet, would never hear of it otherwise.
    let mut early = listening(1, &charter);
    comes_from(&mut early, 3, Scope::World);
    comes_from(&mut early, 2, Scope::Site);
    let passed_on = receive(&mut early, 2, greeting(2, Scope::Site));
    assert_eq!(
        told(&passed_on, 3, &others),
        others[2..],
        "its handshake is on its way"
    );
    // A further connection, from inside.
    let from_inside = comes_from(&mut peer, 3, Scope::Machine);
    assert_eq!(told(&from_inside, 3, &own), own);
    assert_eq!(told(&from_inside, 3, &others), others[1..], "what it knows");
    // Once it has gone, the next connection counts anew.
    handle(&mut peer, Input::PeerDown { peer: id(3) });
    let again = comes_from(&mut peer, 3, Scope::World);
    assert_eq!(told(&again, 3, &own), own[2..]);
}

#[cfg_attr(not(feature = "mutants"), test)]
fn an_address_at_which_another_key_answers_is_not_dialled_for_a_while() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = in_round_zero_alone(1, &charter);
    let at = |place: &str| format!("/ip4/203.0.113.{place}/tcp/1");
    let up = Input::PeerUp {
        peer: id(2),
        addresses: vec![at("2"), at("9")],
        scope: Scope::World,
    };
    handle(&mut peer, up);
    handle(&mut peer, Input::PeerDown { peer: id(2) });
    let dials = |peer: &mut Peer, seconds: u64| {
        let (mut effects, now) = (Vec::new(), Duration::from_secs(seconds));
        peer.handle(Input::TimerExpired(Timer::Redial), now, &mut effects);
        let dialled = effects.into_iter().find_map(|effect| match effect {
            Effect::Connect { peer, addresses } if peer == id(2) => Some(addresses),
            _ => None,
        });
        dialled.map(|mut addresses| {
            addresses.sort_unstable();
            addresses
        })
    };
    let elsewhere = |peer: &mut Peer, address: String, seconds: u64| {
        let input = Input::AnotherKeyAt {
            peer: id(2),
            address,
        };
        peer.handle(input, Duration::from_secs(seconds), &mut Vec::new());
    };
    assert_eq!(dials(&mut peer, 0), Some(vec![at("2"), at("9")]));
    elsewhere(&mut peer, at("9"), 0);
    assert_eq!(dials(&mut peer, 2), Some(vec![at("2")]));
    elsewhere(&mut peer, at("2"), 2);
    assert_eq!(dials(&mut peer, 4), None, "nothing is left to dial");
    assert_eq!(dials(&mut peer, 61), Some(vec![at("9")]), "a minute later");
    assert_eq!(dials(&mut peer, 63), Some(vec![at("2"), at("9")]));
}

// --- claims ---

#[cfg_attr(not(feature = "mutants"), test)]
fn one_neighbour_cannot_make_a_peer_jump_when_another_could_confirm_it() {
    let charter = charter(50, "rule = \"mean\"");
    let far = Said { round: 49, ..ONE };
    let jumps = |confirmed: bool| {
        let mut peer = in_round_zero(&charter);
        handle(&mut peer, trained(0, 1.0));
        handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
        let mut effects = receive(&mut peer, 2, shown(2, &charter, far));
        if confirmed {
            effects.extend(receive(&mut peer, 3, shown(3, &charter, far)));
        }
        effects.extend(handle(
            &mut peer,
            Input::Stored(Stored::Checkpoint { round: 1 }),
        ));
        lines(&effects).contains(&"event jumped".to_owned())
    };
    assert!(!jumps(false));
    assert!(jumps(true));
    let mut peer = in_round_zero(&charter);
    let beyond = Said {
        round: u64::MAX,
        ..ONE
    };
    let effects = receive(&mut peer, 2, shown(2, &charter, beyond));
    assert_eq!(refusals(&effects), ["future-round"]);
}

// --- floods ---

#[cfg_attr(not(feature = "mutants"), test)]
fn a_peer_that_asks_without_end_is_sent_away_and_one_that_asks_as_rounds_need_is_not() {
    let charter = charter(9, "rule = \"mean\"");
    let want = |round: u64| {
        let said = Said {
            round,
            payload: &[0xa1, 0, 0],
            ..ONE
        };
        sealed(2, &charter, Kind::Want, said).to_bytes()
    };
    let mut peer = in_round_zero(&charter);
    let mut sent = 0;
    let away = (0..10_000).position(|_| {
        let effects = receive(&mut peer, 2, want(0));
        sent += sent_to(&effects, 2).len();
        lines(&effects).contains(&"disconnect p2: too-many".to_owned())
    });
    assert!(away.is_some_and(|times| times < 100), "{away:?}");
    assert!(sent <= 100, "{sent} answers");
    // Four times in a deadline, for as long as it takes.
    let mut peer = in_round_zero(&charter);
    for time in 0..1_000u64 {
        let mut effects = Vec::new();
        let (from, bytes) = (id(2), want(0).into());
        let now = charter.round.deadline / 4 * u32::try_from(time).expect("few");
        peer.handle(Input::Received { from, bytes }, now, &mut effects);
        assert!(refusals(&effects).is_empty(), "{time}");
    }
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_peer_that_plays_recordings_without_end_is_sent_away_and_one_that_shows_headers_is_not() {
    let charter = charter(60, "rule = \"mean\"");
    let greeting = sealed(2, &charter, Kind::Hello, ONE).to_bytes();
    let plays = |recording: &[u8], times: usize| {
        let mut peer = in_round_zero(&charter);
        let mut away = |_: &usize| {
            let effects = receive(&mut peer, 3, recording.to_vec());
            lines(&effects).contains(&"disconnect p3: too-many".to_owned())
        };
        (0..times).find(&mut away)
    };
    assert!(
        plays(&greeting, 100).is_some_and(|times| times < 10),
        "others' handshakes"
    );
    // An old header of another, as each neighbour shows one to a peer that is back.
    let earlier = Said {
        incarnation: FIRST_LIFE - 1,
        ..ONE
    };
    let header = sealed(2, &charter, Kind::Update, earlier).header_to_bytes();
    assert_eq!(plays(&header, 50), None);
    assert!(
        plays(&header, 10_000).is_some_and(|times| times < 200),
        "old headers"
    );
}

#[cfg_attr(not(feature = "mutants"), test)]
fn bodies_are_for_those_that_an_update_is_for() {
    // A star: the hub's update is for everyone, a leaf's for the hub alone.
    let charter = charter_on("star", 9, "rule = \"mean\"");
    let mut leaf = 1;
    let neighbours = |number: u8| peer_of(number, &charter).neighbours().len();
    while neighbours(leaf) > 1 {
        leaf += 1;
    }
    let hub: PeerId = peer_of(leaf, &charter)
        .neighbours()
        .into_iter()
        .next()
        .expect("one");
    let other = (1..=3)
        .map(id)
        .find(|peer| *peer != hub && *peer != id(leaf));
    let mut peer = started(setup_of(leaf, &charter, 40_000));
    let addresses = vec![];
    handle(
        &mut peer,
        Input::PeerUp {
            peer: hub,
            addresses,
            scope: Scope::World,
        },
    );
    handle(&mut peer, Input::TimerExpired(Timer::Start));
    let Input::Trained {
        samples,
        local_steps,
        loss,
        rate,
        memory,
        ..
    } = trained(0, 1.0)
    else {
        unreachable!("it is a result of training")
    };
    let parameters = Arc::new(vec![1.0; 40_000]);
    let result = Input::Trained {
        round: 0,
        parameters,
        samples,
        local_steps,
        loss,
        rate,
        memory,
    };
    let effects = handle(&mut peer, result);
    let body = effects.iter().find_map(|effect| match effect {
        Effect::Persist(Record::Intent(intent)) => Some(Digest::of(&intent.body)),
        _ => None,
    });
    let digest = body.expect("an update with a body");
    handle(&mut peer, Input::Stored(Stored::Intent { round: 0 }));
    let mut asks = |from: PeerId| {
        let request = Input::BodyRequested {
            from,
            digest,
            request: 1,
        };
        lines(&handle(&mut peer, request))
    };
    assert_eq!(asks(hub), ["provide body"]);
    assert_eq!(asks(other.expect("three peers")), ["provide nothing"]);
    let served = (0..1_000).filter(|_| asks(hub) == ["provide body"]).count();
    assert!(served < 100, "{served} times");
}

// --- bodies that are slow ---

/// The announcement of an update all of whose values are `round`, with a body to be pulled, and that
/// body.
fn large(number: u8, charter: &Charter, round: u64, dimension: u32) -> (Vec<u8>, Digest, Vec<u8>) {
    let values = vec![round as f32; dimension as usize];
    let body: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let digest = Digest::of(&body);
    let length = u32::try_from(body.len()).expect("small");
    let mut payload = vec![0xa4, 1, 0x1a];
    payload.extend(dimension.to_be_bytes());
    payload.extend([2, 10, 3, 2, 4, 0x83, 1, 0x58, 32]);
    payload.extend(digest.0);
    payload.push(0x1a);
    payload.extend(length.to_be_bytes());
    let bytes = update(number, charter, round, &values, payload);
    (bytes, digest, body)
}

fn update(number: u8, charter: &Charter, round: u64, values: &[f32], payload: Vec<u8>) -> Vec<u8> {
    let authenticator = Authenticator::from_secret(&secret(number));
    let header = Header {
        version: PROTOCOL_VERSION,
        federation: charter.genesis,
        kind: Kind::Update,
        sender: authenticator.peer(),
        incarnation: FIRST_LIFE,
        round,
        sequence: round,
        state: Digest::of_values(values),
        payload: Digest::of(&payload),
        spent: None,
    };
    Envelope::seal(&authenticator, header, payload).to_bytes()
}

/// An update of four values that travel inside it.
fn small(number: u8, charter: &Charter, round: u64) -> Vec<u8> {
    let values = [round as f32; 4];
    let mut payload = vec![0xa4, 1, 4, 2, 10, 3, 2, 4, 0x82, 0, 0x50];
    payload.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    update(number, charter, round, &values, payload)
}

const LARGE: u32 = 40_000;

/// A peer of the large model that has met peers 2 and 3 and trained in round 0.
fn large_peer(charter: &Arc<Charter>) -> Peer {
    let mut peer = started(setup_of(1, charter, LARGE as usize));
    for number in [2, 3] {
        meet(&mut peer, number, charter, FIRST_LIFE);
    }
    peer
}

fn train_large(peer: &mut Peer, round: u64) -> Vec<Effect> {
    let parameters = Arc::new(vec![1.0; LARGE as usize]);
    let (samples, local_steps, loss, rate, memory) = (10, 2, 0.5, 0.1, None);
    let result = Input::Trained {
        round,
        parameters,
        samples,
        local_steps,
        loss,
        rate,
        memory,
    };
    let mut effects = handle(peer, result);
    effects.extend(handle(peer, Input::Stored(Stored::Intent { round })));
    effects
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_sender_that_is_faster_than_its_bodies_is_heard() {
    let charter = charter(400, "rule = \"mean\"\n[round]\nmode = \"asynchronous\"");
    let mut peer = large_peer(&charter);
    let (first, digest, body) = large(2, &charter, 0, LARGE);
    let mut effects = receive(&mut peer, 2, first);
    for round in 1..40 {
        effects.extend(receive(&mut peer, 2, large(2, &charter, round, LARGE).0));
    }
    let fetches = |effects: &[Effect]| {
        let all = lines(effects);
        all.iter().filter(|line| *line == "fetch from p2").count()
    };
    assert_eq!(fetches(&effects), 1, "one at a time");
    let bytes = Arc::new(body);
    let effects = handle(&mut peer, Input::Fetched { digest, bytes });
    assert!(
        lines(&effects).contains(&"event accepted".to_owned()),
        "{:?}",
        lines(&effects)
    );
    // Then the newest, and none of those between.
    let next = effects.iter().find_map(|effect| match effect {
        Effect::Fetch { digest, .. } => Some(*digest),
        _ => None,
    });
    assert_eq!(next, Some(large(2, &charter, 39, LARGE).1));
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_pull_makes_room_for_the_next_round_s() {
    let charter = charter(9, "rule = \"mean\"");
    let mut peer = large_peer(&charter);
    receive(&mut peer, 2, large(2, &charter, 0, LARGE).0);
    train_large(&mut peer, 0);
    handle(&mut peer, Input::TimerExpired(Timer::Deadline { round: 0 }));
    let mut effects = handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    assert!(
        !lines(&effects).contains(&"abandon p2".to_owned()),
        "nothing waits behind it"
    );
    effects = receive(&mut peer, 2, large(2, &charter, 1, LARGE).0);
    let lines = lines(&effects);
    assert!(
        lines.ends_with(&["abandon p2".to_owned(), "fetch from p2".to_owned()]),
        "{lines:?}"
    );
}

// --- deadlines ---

#[cfg_attr(not(feature = "mutants"), test)]
fn a_neighbour_that_is_late_every_other_time_is_not_waited_for_in_the_end() {
    let charter = charter(60, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let mut lost = 0;
    for round in 0..40u64 {
        handle(&mut peer, trained(round, 1.0));
        handle(&mut peer, Input::Stored(Stored::Intent { round }));
        let mut effects = receive(&mut peer, 3, small(3, &charter, round));
        if round % 2 == 0 {
            effects.extend(receive(&mut peer, 2, small(2, &charter, round)));
        }
        // A deadline may be put off.
        for _ in 0..2 {
            let expired = Input::TimerExpired(Timer::Deadline { round });
            effects.extend(handle(&mut peer, expired));
        }
        effects.extend(handle(
            &mut peer,
            Input::Stored(Stored::Checkpoint { round: round + 1 }),
        ));
        lost += effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Emit(Event::NoLongerAwaited { .. })))
            .count();
    }
    assert!(lost >= 1, "never");
}

/// How many updates in time it takes to be waited for again, after one loss after another.
#[cfg_attr(not(feature = "mutants"), test)]
fn amends_double_with_each_loss_and_halve_with_a_long_time_without_one() {
    let charter = charter(1000, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let mut rounds = 0..;
    // Plays a round, in which peer 3 is in time or misses it; says what changes.
    let mut play = |is_in_time: bool| {
        let round = rounds.next().expect("one more");
        let mut effects = handle(&mut peer, trained(round, 1.0));
        effects.extend(handle(&mut peer, Input::Stored(Stored::Intent { round })));
        let from_it = is_in_time.then(|| receive(&mut peer, 3, small(3, &charter, round)));
        effects.extend(from_it.into_iter().flatten());
        effects.extend(receive(&mut peer, 2, small(2, &charter, round)));
        // A deadline may be put off.
        for _ in 0..2 {
            let expired = Input::TimerExpired(Timer::Deadline { round });
            effects.extend(handle(&mut peer, expired));
        }
        let stored = Input::Stored(Stored::Checkpoint { round: round + 1 });
        effects.extend(handle(&mut peer, stored));
        let has = |event: &str| lines(&effects).contains(&format!("event {event}"));
        (has("no-longer-awaited"), has("awaited-again"))
    };
    let amends = |kept: u64| {
        (0..kept).for_each(|_| assert_eq!(play(true), (false, false)));
        while !play(false).0 {}
        (1..)
            .find(|_| play(true).1)
            .expect("it is waited for again")
    };
    let each: Vec<u64> = [0, 0, 0, 63, 64, 3 * 64, 0].map(amends).to_vec();
    assert_eq!(each, [1, 2, 4, 8, 8, 2, 4]);
}

/// A peer that is back and a little behind: what it sends is in time for its round, and comes while a
/// later one is open that had ceased to wait for it.
#[cfg_attr(not(feature = "mutants"), test)]
fn a_round_that_does_not_wait_for_a_peer_is_none_that_it_misses() {
    for behind in [1, 2] {
        comes_back(behind);
    }
}

fn comes_back(behind: u64) {
    let charter = charter(60, "rule = \"mean\"");
    let mut peer = in_round_zero(&charter);
    let own = |peer: &mut Peer, round: u64| {
        let mut effects = handle(peer, trained(round, 1.0));
        effects.extend(handle(peer, Input::Stored(Stored::Intent { round })));
        effects
    };
    let stored = |round: u64| Input::Stored(Stored::Checkpoint { round: round + 1 });
    let has = |effects: &[Effect], event: &str| lines(effects).contains(&format!("event {event}"));
    let open = 2 + behind;
    for round in 0..open {
        own(&mut peer, round);
        let effects = receive(&mut peer, 2, small(2, &charter, round));
        if round < 2 {
            handle(&mut peer, Input::TimerExpired(Timer::Deadline { round }));
        } else {
            assert!(has(&effects, "aggregated"), "nobody waits for it any more");
        }
        handle(&mut peer, stored(round));
    }
    let effects = receive(&mut peer, 3, small(3, &charter, 2));
    assert!(has(&effects, "awaited-again"), "{behind} behind");
    own(&mut peer, open);
    let effects = receive(&mut peer, 2, small(2, &charter, open));
    assert!(has(&effects, "aggregated"));
    assert!(!has(&effects, "no-longer-awaited"));
    handle(&mut peer, stored(open));
    own(&mut peer, open + 1);
    let effects = receive(&mut peer, 2, small(2, &charter, open + 1));
    assert!(!has(&effects, "aggregated"), "the next round waits for it");
    let effects = receive(&mut peer, 3, small(3, &charter, open + 1));
    assert!(has(&effects, "aggregated"));
}

/// A neighbour that is still in the round before may wait there for a liar.
#[cfg_attr(not(feature = "mutants"), test)]
fn a_neighbour_that_waits_for_another_is_given_time_as_often_as_it_may_be_late() {
    let charter = charter(60, "rule = \"mean\"");
    let closes = |effects: &[Effect]| lines(effects).contains(&"event aggregated".to_owned());
    let mut peer = in_round_zero(&charter);
    let mut granted = 0;
    for round in 0..9 {
        handle(&mut peer, trained(round, 1.0));
        handle(&mut peer, Input::Stored(Stored::Intent { round }));
        receive(&mut peer, 2, small(2, &charter, round));
        let mut ends = || {
            closes(&handle(
                &mut peer,
                Input::TimerExpired(Timer::Deadline { round }),
            ))
        };
        // It is late in every second round.
        let was_over = round % 2 == 1 && ends();
        granted += u64::from(round % 2 == 1 && !was_over);
        let over = closes(&receive(&mut peer, 3, small(3, &charter, round)));
        assert!(was_over != over, "round {round}");
        let round = round + 1;
        handle(&mut peer, Input::Stored(Stored::Checkpoint { round }));
    }
    assert_eq!(granted, charter.round.patience);
}

#[cfg_attr(not(feature = "mutants"), test)]
fn a_deadline_is_put_off_once() {
    let charter = charter(60, "rule = \"mean\"");
    let closes = |effects: &[Effect]| lines(effects).contains(&"event aggregated".to_owned());
    let mut peer = in_round_zero(&charter);
    let mut ends = Vec::new();
    for round in 0..2 {
        handle(&mut peer, trained(round, 1.0));
        handle(&mut peer, Input::Stored(Stored::Intent { round }));
        for number in 2..4 - round as u8 {
            receive(&mut peer, number, small(number, &charter, round));
        }
        let expired = || Input::TimerExpired(Timer::Deadline { round });
        ends = [expired(), expired()]
            .map(|input| closes(&handle(&mut peer, input)))
            .to_vec();
        handle(&mut peer, Input::Stored(Stored::Checkpoint { round: 1 }));
    }
    assert_eq!(ends, [false, true]);
}

// --- the same faults, put back ---

/// Each fault that these tests were written for makes one of them fail.
#[cfg(feature = "mutants")]
#[test]
fn every_fault_that_is_put_back_is_found() {
    use kith_gossip::mutant::{Mutant, plant};
    let faults: [(Mutant, fn()); 26] = [
        (
            Mutant::WaitToTheEnd,
            a_start_ends_in_time_for_those_that_have_begun,
        ),
        (
            Mutant::GrantNoTime,
            a_neighbour_that_waits_for_another_is_given_time_as_often_as_it_may_be_late,
        ),
        (
            Mutant::KeepHeaders,
            a_peer_that_comes_back_is_given_its_newest_header,
        ),
        (
            Mutant::ForgetSigned,
            its_own_old_headers_do_not_silence_a_peer_unless_as_many_know_them_as_may_lie,
        ),
        (Mutant::AcceptAnySpelling, an_envelope_has_one_spelling),
        (Mutant::BelieveHearsay, nobody_says_where_another_peer_is),
        (
            Mutant::TellAllAddresses,
            addresses_of_a_private_network_are_told_inside_it_alone,
        ),
        (
            Mutant::BlameSpared,
            a_round_that_does_not_wait_for_a_peer_is_none_that_it_misses,
        ),
        (
            Mutant::DialRefuted,
            an_address_at_which_another_key_answers_is_not_dialled_for_a_while,
        ),
        (
            Mutant::IgnoreUnanswered,
            a_handshake_that_waits_for_one_is_answered_over_a_standing_connection,
        ),
        (
            Mutant::BelieveOldGoodbye,
            a_goodbye_that_others_pass_on_does_not_undo_what_came_after_it,
        ),
        (
            Mutant::ForgetExpulsion,
            a_conviction_outlives_a_restart_and_newcomers_are_told,
        ),
        (
            Mutant::ForgiveOtherSequence,
            two_updates_of_a_round_convict_whatever_else_differs,
        ),
        (
            Mutant::CompareStateOnly,
            two_updates_of_a_round_convict_whatever_else_differs,
        ),
        (
            Mutant::ForgetFarRounds,
            at_a_free_pace_headers_of_any_round_convict,
        ),
        (
            Mutant::PassOnFirstOnly,
            a_message_whose_header_came_first_is_shown_to_others_as_any_other,
        ),
        (
            Mutant::BelieveRecordings,
            what_was_signed_in_an_earlier_life_is_refused_from_others,
        ),
        (
            Mutant::BlameForwarder,
            junk_counts_against_its_signer_and_never_against_the_peer_that_passed_it_on,
        ),
        (
            Mutant::DismissForever,
            a_peer_that_was_sent_away_is_dialled_again_once_its_ban_is_over,
        ),
        (
            Mutant::BelieveSoleClaim,
            one_neighbour_cannot_make_a_peer_jump_when_another_could_confirm_it,
        ),
        (
            Mutant::AllowFloods,
            a_peer_that_asks_without_end_is_sent_away_and_one_that_asks_as_rounds_need_is_not,
        ),
        (
            Mutant::AllowFloods,
            a_peer_that_plays_recordings_without_end_is_sent_away_and_one_that_shows_headers_is_not,
        ),
        (
            Mutant::ServeAnybody,
            bodies_are_for_those_that_an_update_is_for,
        ),
        (
            Mutant::ForgiveAtOnce,
            a_neighbour_that_is_late_every_other_time_is_not_waited_for_in_the_end,
        ),
        (
            Mutant::EvictFetched,
            a_sender_that_is_faster_than_its_bodies_is_heard,
        ),
        (Mutant::KeepPulls, a_pull_makes_room_for_the_next_round_s),
    ];
    let missed = faults.iter().filter(|(fault, test)| {
        plant(Some(*fault));
        let found = std::panic::catch_unwind(test).is_err();
        plant(None);
        test();
        !found
    });
    let missed: Vec<Mutant> = missed.map(|(fault, _)| *fault).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
