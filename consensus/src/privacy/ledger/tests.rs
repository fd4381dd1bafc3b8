use proptest::prelude::*;

use super::*;
use crate::charter::Declared;
use crate::privacy::pld;
use crate::section::Section;

const TEXT: &str = "[federation]\nname = \"test\"\nrounds = 10\n[topology]\nkind = \"complete\"\n\
    [membership]\nmode = \"open\"\npeers = 4\n[privacy]\nmechanism = \"example-level\"\nclip_norm = 1.0\n\
    sampling_rate = 0.01\ndelta = 1e-5\n";

/// A charter under which a release is 100 steps at q = 0.01.
fn charter(sigma: f64, budget: f64) -> Charter {
    let text = format!("{TEXT}noise_multiplier = {sigma}\nepsilon_budget = {budget}\n");
    let mut training = |section: &mut Section<'_>, declared: &mut Declared| {
        let _ = section;
        (declared.local_steps, declared.batch_size) = (Some(100), 32);
    };
    Charter::resolve(&text, &mut [("training", &mut training)]).unwrap()
}

fn account(sigma: f64, budget: f64) -> Account {
    Account::new(&charter(sigma, budget), Slack::default()).unwrap()
}

/// The account of a charter that protects all rows of a peer together.
fn account_of_peers(sigma: f64, budget: f64) -> Account {
    let text = TEXT
        .replace("example-level", "update-level")
        .replace("sampling_rate = 0.01\n", "");
    let text = format!("{text}noise_multiplier = {sigma}\nepsilon_budget = {budget}\n");
    let mut training = |section: &mut Section<'_>, declared: &mut Declared| {
        let _ = section;
        (declared.local_steps, declared.batch_size) = (Some(100), 32);
    };
    let charter = Charter::resolve(&text, &mut [("training", &mut training)]).unwrap();
    Account::new(&charter, Slack::default()).unwrap()
}

fn dataset() -> Digest {
    Digest::of(b"rows")
}

/// Charges rounds until one is refused; the ledger and the number of releases.
fn spend(account: &Account, mut ledger: Ledger) -> (Ledger, u64) {
    for round in 0.. {
        let verdict = account.charge(&ledger, round);
        verdict
            .entries
            .into_iter()
            .for_each(|entry| ledger.append(entry));
        if verdict.decision == Decision::Exhausted {
            return (ledger, round);
        }
    }
    unreachable!("a budget ends")
}

fn bytes(ledger: &Ledger) -> Vec<u8> {
    let records = ledger.entries().iter().map(Entry::record);
    records.fold(ledger.start(), |bytes, record| [bytes, record].concat())
}

/// The reference's case eps-1: 1,000 steps, σ 1, q 0.01, δ 1e-5 cost 2.1014 by Rényi accounting.
#[test]
fn releases_are_charged_until_the_budget_and_what_is_spent_is_the_reference_s() {
    let account = account(1.0, 2.2);
    let (ledger, releases) = spend(&account, Ledger::new(dataset()));
    let spent = account.spent(&ledger);
    assert!(
        releases >= 10 && spent.epsilon <= 2.2,
        "{releases}, {spent:?}"
    );
    let ten = Ledger {
        entries: ledger.entries()[..10].to_vec(),
        ..ledger.clone()
    };
    let epsilon = account.spent(&ten).epsilon;
    assert!((epsilon - 2.1014).abs() < 0.01, "{epsilon}");
    let phase = Phase::new(account.cost().release.mechanism(), 1000).unwrap();
    let tight = pld::epsilon(&[phase], Delta::new(1e-5).unwrap()).unwrap();
    let statement = account.statement(&ten).unwrap();
    assert_eq!((statement.releases, statement.epsilon_rdp), (10, epsilon));
    assert_eq!(statement.epsilon_pld, Some(tight));
    assert!(tight < epsilon, "{tight} {epsilon}");
}

#[test]
fn nothing_is_spent_of_a_new_ledger_and_a_refusal_charges_nothing() {
    let account = account(1.0, 2.2);
    let empty = Ledger::new(dataset());
    assert_eq!(account.spent(&empty).epsilon, 0.0);
    let (full, _) = spend(&account, empty);
    let verdict = account.charge(&full, 99);
    assert_eq!(
        (verdict.decision, verdict.entries.len()),
        (Decision::Exhausted, 0)
    );
    assert_eq!(verdict.spent, account.spent(&full));
}

#[test]
fn a_release_of_another_federation_counts_and_each_keeps_its_own_budget() {
    let (small, large) = (account(1.0, 2.2), account(1.0, 4.0));
    let alone_until = |account: &Account| spend(account, Ledger::new(dataset())).1;
    let (ledger, first) = spend(&small, Ledger::new(dataset()));
    let (ledger, second) = spend(&large, ledger);
    assert!(first > 0 && second > 0 && small.federation() != large.federation());
    assert!(small.spent(&ledger).epsilon > 2.2 && large.spent(&ledger).epsilon <= 4.0);
    assert_eq!(small.charge(&ledger, 50).decision, Decision::Exhausted);
    assert_eq!(small.statement(&ledger).unwrap().epsilon_pld, None);
    assert_eq!(
        alone_until(&large),
        first + second,
        "whoever releases, it costs the same"
    );
}

/// A round is one step in which everything takes part, whatever its local steps. A row is protected
/// by what protects all rows of its peer, and not the other way.
#[test]
fn releases_of_whole_updates_protect_rows_too_and_not_the_other_way() {
    let (rows, peers) = (account(1.0, 100.0), account_of_peers(4.0, 100.0));
    assert_eq!(
        (peers.cost().unit, peers.cost().release.steps()),
        (Unit::Peer, 1)
    );
    assert_eq!(peers.cost().release.mechanism().sampling_rate(), 1.0);
    let (ledger, releases) = spend(&account_of_peers(4.0, 4.0), Ledger::new(dataset()));
    assert!(releases > 3, "{releases}");
    let read = Ledger::read(&bytes(&ledger), dataset()).unwrap();
    assert_eq!(read, ledger, "the unit is written");
    assert!(!rows.is_undercut(&ledger) && !peers.is_undercut(&ledger));
    let spent = rows.spent(&ledger).epsilon;
    assert!(spent > 1.0 && spent.is_finite(), "{spent}");
    assert_eq!(peers.statement(&ledger).unwrap().unit, Unit::Peer);

    let (ledger, _) = spend(&account(1.0, 2.2), Ledger::new(dataset()));
    assert!(peers.is_undercut(&ledger) && !rows.is_undercut(&ledger));
    assert_eq!(peers.spent(&ledger).epsilon, f64::INFINITY);
    assert_eq!(peers.charge(&ledger, 0).decision, Decision::Exhausted);
}

#[test]
fn what_is_written_reads_back_and_other_rows_are_refused() {
    let account = account(1.0, 2.2);
    let (ledger, _) = spend(&account, Ledger::new(dataset()));
    let bytes = bytes(&ledger);
    assert_eq!(Ledger::read(&bytes, dataset()).unwrap(), ledger);
    assert_eq!(ledger.whole_bytes() as usize, bytes.len());
    let other = Ledger::read(&bytes, Digest::of(b"others"));
    assert!(matches!(other, Err(LedgerError::OtherDataset { .. })));
    for junk in [&b""[..], b"kith ledger v2\r\n", &bytes[..40]] {
        assert_eq!(Ledger::read(junk, dataset()), Err(LedgerError::NotALedger));
    }
}

#[test]
fn a_torn_tail_is_charged_like_the_dearest_entry_and_writing_goes_on() {
    let (cheap, dear) = (account(4.0, 3.0), account(1.0, 3.0));
    let mut ledger = Ledger::new(dataset());
    for account in [&cheap, &dear, &cheap] {
        let entries = account.charge(&ledger, 0).entries;
        entries.into_iter().for_each(|entry| ledger.append(entry));
    }
    let bytes = bytes(&ledger);
    let torn = Ledger::read(&bytes[..bytes.len() - 1], dataset()).unwrap();
    assert!(torn.is_torn() && torn.entries().len() == 2);
    assert!(cheap.spent(&torn).epsilon > cheap.spent(&ledger).epsilon);
    let verdict = cheap.charge(&torn, 1);
    let kinds: Vec<Kind> = verdict.entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [Kind::Torn, Kind::Release]);
    assert_eq!(verdict.entries[0].cost, dear.cost());
}

#[test]
fn what_a_header_states_and_an_old_copy_lacks_is_charged_with_two_releases_in_flight() {
    let account = account(1.0, 2.2);
    let mut ledger = Ledger::new(dataset());
    let (mut copies, mut stated) = (Vec::new(), Vec::new());
    for round in 0..6 {
        copies.push(ledger.clone());
        let verdict = account.charge(&ledger, round);
        let append = |entry| ledger.append(entry);
        verdict.entries.into_iter().for_each(append);
        stated.push(Total::of(verdict.spent.epsilon));
    }
    for round in 0..6 {
        assert_eq!(account.cover(&ledger, round, stated[round as usize]), []);
    }
    let lacking = |copy: usize, stated| {
        let entries = account.cover(&copies[copy], 5, stated);
        let [entry] = &entries[..] else {
            panic!("{entries:?}")
        };
        assert_eq!((entry.kind, entry.round), (Kind::Recovered, 5));
        let mut covering = copies[copy].clone();
        covering.append(entry.clone());
        assert!(Total::of(account.spent(&covering).epsilon) >= stated);
        assert_eq!(account.cover(&covering, 5, stated), [], "it is covered now");
        entry.cost.release.steps() / 100
    };
    assert_eq!(lacking(5, stated[5]), 1 + 2);
    assert_eq!(lacking(3, stated[5]), 3 + 2);
    assert_eq!(lacking(0, stated[5]), 6 + 2, "it is gone");
    // A torn tail counts, and becomes an entry before what is missing.
    let mut torn = copies[4].clone();
    torn.tear();
    assert_eq!(account.cover(&torn, 5, stated[4]), []);
    let kinds = account.cover(&torn, 5, stated[5]);
    let kinds: Vec<Kind> = kinds.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [Kind::Torn, Kind::Recovered]);
}

/// What another federation released of the rows is in the total, so it is recovered by whichever
/// federation is the first to hear of it.
#[test]
fn another_federation_s_releases_that_an_old_copy_lacks_are_covered_too() {
    let (mine, other) = (account(4.0, 50.0), account(1.0, 50.0));
    let mut ledger = Ledger::new(dataset());
    let copy = ledger.clone();
    for account in [&other, &other, &mine] {
        let entries = account.charge(&ledger, 0).entries;
        entries.into_iter().for_each(|entry| ledger.append(entry));
    }
    let stated = Total::of(mine.spent(&ledger).epsilon);
    let mut covering = copy;
    let entries = mine.cover(&covering, 0, stated);
    entries.into_iter().for_each(|entry| covering.append(entry));
    assert!(mine.spent(&covering).epsilon >= mine.spent(&ledger).epsilon);
}

#[test]
fn a_total_is_rounded_up_and_infinity_is_the_largest() {
    assert_eq!(Total::of(0.0), Total(0));
    assert_eq!(Total::of(1.000_000_000_1), Total(1_000_000_001));
    assert_eq!(Total::of(f64::INFINITY), Total(u64::MAX));
    assert!(Total::of(2.5).epsilon() == 2.5 && Total::of(0.1) < Total::of(0.2));
}

#[test]
fn an_account_needs_a_guarantee_and_slack_is_spent_too() {
    let without = TEXT.split("[privacy]").next().unwrap();
    let plain = Charter::resolve(without, &mut []).unwrap();
    assert!(Account::new(&plain, Slack::default()).is_none());
    let charter = charter(1.0, 2.2);
    let slack = |epsilon, delta| Account::new(&charter, Slack { epsilon, delta }).unwrap();
    let mut ledger = Ledger::new(dataset());
    let entries = slack(0.0, 0.0).charge(&ledger, 0).entries;
    entries.into_iter().for_each(|entry| ledger.append(entry));
    let bare = slack(0.0, 0.0).spent(&ledger).epsilon;
    ledger.entries[0].cost.slack = Slack {
        epsilon: 0.5,
        delta: 0.0,
    };
    assert_eq!(slack(0.0, 0.0).spent(&ledger).epsilon, bare + 0.5);
    ledger.entries[0].cost.slack.delta = 1e-5;
    assert_eq!(slack(0.0, 0.0).spent(&ledger).epsilon, f64::INFINITY);
}

proptest! {
    /// Whatever is cut off or changed, a ledger never shows less than what its whole records say:
    /// it is refused, or at most its last record is taken for torn.
    #[test]
    fn no_damage_makes_a_ledger_cheaper(at in 0usize..2000, bit in 0u8..8, cut in 0usize..400) {
        let account = account(1.0, 2.2);
        let (ledger, _) = spend(&account, Ledger::new(dataset()));
        let all = bytes(&ledger);
        let whole = account.spent(&ledger).epsilon;
        let mut flipped = all.clone();
        let place = at % flipped.len();
        flipped[place] ^= 1 << bit;
        if let Ok(read) = Ledger::read(&flipped, dataset()) {
            prop_assert!(read.is_torn() && place >= all.len() - RECORD_BYTES);
            prop_assert!(account.spent(&read).epsilon >= whole);
        }
        // Cut within the last record.
        let kept = all.len() - (1 + cut % (RECORD_BYTES - 1));
        let read = Ledger::read(&all[..kept], dataset()).unwrap();
        prop_assert!(read.is_torn() && account.spent(&read).epsilon >= whole);
    }
}
