//! Charters from outside, and privacy ledgers as a disk may hold them, from a corpus: see
//! `tests/corpus.rs` at the root.

#[path = "../../tests/corpus.rs"]
mod harness;

use std::sync::OnceLock;

use harness::{Files, Target, drive};
use kith_consensus::charter::Declared;
use kith_consensus::privacy::ledger::{Account, Entry, Kind, Ledger, Slack, Total};
use kith_consensus::{Charter, Digest, PeerId, Section};

fn charter(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match Charter::resolve(text, &mut []) {
        Ok(charter) => {
            // What is agreed on can be written down and says the same.
            let again = Charter::resolve(&charter.to_toml(), &mut []);
            assert_eq!(again.expect("its own text").genesis, charter.genesis);
            true
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal without a reason");
            problems
                .iter()
                .for_each(|problem| drop(problem.to_string()));
            false
        }
    }
}

fn charters() -> Files {
    let open =
        "[federation]\nname = \"open\"\nrounds = 3\n[membership]\nmode = \"open\"\npeers = 5\n";
    let [a, b] = [1, 2].map(|byte| PeerId([byte; 32]));
    let members = format!(
        "\
[federation]
name = \"three\"
rounds = 10
[topology]
kind = \"tree\"
branching = 3
[aggregation]
rule = \"clipped-gossip\"
byzantine = 0
[round]
deadline_seconds = 5
[[membership.member]]
name = \"a\"
organisation = \"A\"
key = \"{a}\"
[[membership.member]]
name = \"b\"
organisation = \"B\"
key = \"{b}\"
"
    );
    let with = |more: &str| format!("{open}{more}").into_bytes();
    let deep = |open: &str, close: &str, times: usize| {
        with(&format!(
            "[topology]\nedges = {}{}\n",
            open.repeat(times),
            close.repeat(times)
        ))
    };
    vec![
        ("valid-open.toml", open.into()),
        ("valid-members.toml", members.into()),
        (
            "valid-edges.toml",
            with("[topology]\nkind = \"edges\"\nedges = [[0, 1], [1, 2], [2, 3], [3, 4]]\n"),
        ),
        ("refused-not-text", vec![0xff, 0xfe, 0, 1]),
        ("refused-unknown-key.toml", with("[round]\ndeadlin = 1\n")),
        ("refused-unknown-section.toml", with("[fedration]\n")),
        (
            "refused-wrong-types.toml",
            with("[topology]\nkind = 3\n[round]\ndeadline_seconds = [1]\n"),
        ),
        ("refused-twice.toml", [open, open].concat().into()),
        (
            "refused-peers.toml",
            open.replace("= 5", "= 99999999999999").into(),
        ),
        ("refused-negative.toml", open.replace("= 5", "= -1").into()),
        (
            "refused-beyond-integers.toml",
            open.replace("= 5", "= 99999999999999999999999999").into(),
        ),
        (
            "refused-edge-ends.toml",
            open.replace("= 5", "= 1000000")
                .into_bytes()
                .into_iter()
                .chain(*b"[topology]\nkind = \"complete\"\n")
                .collect(),
        ),
        ("refused-deep-lists.toml", deep("[", "]", 1000)),
        ("refused-deep-tables.toml", deep("{a=", "}", 500)),
        (
            "refused-deep-keys.toml",
            with(&format!("[{}z]\n", "a.".repeat(1000))),
        ),
        ("refused-not-a-number.toml", with("[round]\nquorum = nan\n")),
        (
            "refused-long-name.toml",
            with(&format!("[topology]\nkind = \"{}\"\n", "x".repeat(2000))),
        ),
        (
            "refused-controls.toml",
            with("[topology]\nkind = \"\\u001b[2J\\u0000\"\n"),
        ),
    ]
}

/// A file is accepted if all of it is whole: a torn tail is charged, and is no entry.
fn ledger(bytes: &[u8]) -> bool {
    let Ok(identity) = Ledger::identity(bytes) else {
        assert!(Ledger::read(bytes, rows()).is_err(), "never a fresh ledger");
        return false;
    };
    let Ok(ledger) = Ledger::read(bytes, identity) else {
        return false;
    };
    assert!(ledger.whole_bytes() <= bytes.len() as u64);
    let records = ledger.entries().iter().map(Entry::record);
    let whole = records.fold(ledger.start(), |bytes, record| [bytes, record].concat());
    assert_eq!(whole, bytes[..whole.len()], "an entry has one encoding");
    let behind = bytes.len() - whole.len();
    assert_eq!(ledger.is_torn(), behind > 0);
    assert!(behind <= record(), "only the last entry can be cut off");
    if identity != rows() {
        assert!(Ledger::read(bytes, rows()).is_err(), "those of other rows");
    }
    // What it comes to is a number, and never less than that of its whole entries.
    let spent = account().spent(&ledger).epsilon;
    let whole = Ledger::read(&whole, identity).expect("what it has written itself");
    let least = account().spent(&whole).epsilon;
    assert!(spent >= least && !spent.is_nan(), "{spent} {least}");
    let verdict = account().charge(&ledger, 3);
    assert!(
        verdict.spent.epsilon >= spent,
        "a charge takes nothing back"
    );
    account().cover(&ledger, 3, Total::of(5.0));
    !ledger.is_torn()
}

/// Bytes of an entry in a file.
fn record() -> usize {
    let entries = account().cover(&Ledger::new(rows()), 0, Total::of(1.0));
    entries[0].record().len()
}

fn rows() -> Digest {
    Digest::of(b"rows")
}

/// The account of a charter with a budget of a few releases.
fn account() -> &'static Account {
    static ACCOUNT: OnceLock<Account> = OnceLock::new();
    ACCOUNT.get_or_init(|| {
        let text = "[federation]\nname = \"ledger\"\nrounds = 10\n[topology]\nkind = \"complete\"\n[membership]\n\
                    mode = \"open\"\npeers = 4\n[privacy]\nmechanism = \"example-level\"\nclip_norm = 1.0\n\
                    sampling_rate = 0.01\ndelta = 1e-5\nnoise_multiplier = 1.0\nepsilon_budget = 2.2\n";
        let mut training = |section: &mut Section<'_>, declared: &mut Declared| {
            let _ = section;
            (declared.local_steps, declared.batch_size) = (Some(100), 32);
        };
        let charter = Charter::resolve(text, &mut [("training", &mut training)]);
        Account::new(&charter.expect("a good charter"), Slack::default()).expect("a guarantee")
    })
}

fn ledgers() -> Files {
    let mut ledger = Ledger::new(rows());
    let begun = ledger.start();
    let mut all = begun.clone();
    let mut add = |entry: Entry| {
        all.extend(entry.record());
        ledger.append(entry);
        all.clone()
    };
    let charge = |ledger: &Ledger, round| account().charge(ledger, round).entries.remove(0);
    let fresh = Ledger::new(rows());
    let one = add(charge(&fresh, 0));
    let record = one.len() - begun.len();
    let second = charge(&Ledger::read(&one, rows()).expect("whole"), 1);
    let two = add(second);
    let torn = Ledger::read(&two[..two.len() - 9], rows()).expect("torn");
    let [torn_entry, recovered]: [Entry; 2] = account()
        .cover(&torn, 7, Total::of(2.1))
        .try_into()
        .expect("both kinds");
    assert_eq!(
        [torn_entry.kind, recovered.kind],
        [Kind::Torn, Kind::Recovered]
    );
    let mut mended = one.clone();
    mended.extend(torn_entry.record());
    mended.extend(recovered.record());
    let changed = |at: usize, byte: u8| {
        let mut bytes = two.clone();
        bytes[at] = byte;
        bytes
    };
    // A record that says of itself that it is as long as an address space, with nothing behind it.
    let mut endless = one.clone();
    endless.extend([0xff; 4]);
    // The same entry twice, and the second without the first.
    let [first, next] = [&two[begun.len()..one.len()], &two[one.len()..]];
    let twice = [&begun[..], first, first, next].concat();
    let skipped = [&begun[..], next, next].concat();
    // A checksum that fits an entry of no kind there is.
    let mut no_kind = next.to_vec();
    let kind = 4 + 8 + 32 + 32 + 8 + 8 + 4;
    no_kind[kind] = 9;
    let digest = Digest::of(&no_kind[4..record - 8]).0;
    no_kind[record - 8..].copy_from_slice(&digest[..8]);
    let no_kind = [&one[..], &no_kind, next].concat();
    vec![
        ("valid-begun", begun.clone()),
        ("valid-one", one.clone()),
        ("valid-two", two.clone()),
        ("valid-mended", mended),
        ("refused-empty", Vec::new()),
        (
            "refused-version",
            [&b"kith ledger v2\r\n"[..], &begun[16..]].concat(),
        ),
        ("refused-half-an-identity", begun[..30].to_vec()),
        ("refused-torn", two[..two.len() - 9].to_vec()),
        ("refused-zeros", [&one[..], &vec![0; record]].concat()),
        ("refused-endless", endless),
        ("refused-first-damaged", changed(begun.len() + 20, 0xee)),
        ("refused-twice", twice),
        ("refused-skipped", skipped),
        ("refused-no-kind", no_kind),
    ]
}

#[test]
fn no_bytes_harm_a_decoder() {
    let charters = Target {
        name: "charter",
        decode: charter,
        files: charters,
        mutations: 400,
        // A graph of 2²⁴ edge ends is the largest that a charter may ask for.
        growth_max: 1 << 30,
    };
    let ledgers = Target {
        name: "ledger",
        decode: ledger,
        files: ledgers,
        mutations: 300,
        growth_max: harness::LITTLE,
    };
    drive(&[charters, ledgers]);
}
