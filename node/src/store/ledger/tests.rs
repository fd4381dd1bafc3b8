use std::path::Path;

use kith_consensus::privacy::ledger::{Decision, Verdict};

use super::super::tests::open;
use super::*;
use crate::agreement::Agreement;
use crate::guarantee::account;

/// A charter whose budget bears a few releases.
fn agreement() -> Agreement {
    let text = "[federation]\nname = \"test\"\nrounds = 50\n[data]\nshape = [4]\nclasses = 2\n[model]\nkind = \"softmax\"\n\
                [training]\nlocal_steps = 10\nbatch_size = 8\n[topology]\nkind = \"complete\"\n\
                [privacy]\nmechanism = \"example-level\"\nclip_norm = 1.0\nnoise_multiplier = 3.0\nsampling_rate = 0.1\n\
                delta = 1e-5\nepsilon_budget = 4.0\n[membership]\nmode = \"open\"\npeers = 4\n";
    Agreement::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn charging(folder: &Path) -> Charging {
    let rows = folder.join("rows.csv");
    if !rows.exists() {
        std::fs::write(&rows, "1,2\n").unwrap();
    }
    Charging {
        file: LedgerFile::beside(&rows),
        account: account(&agreement()).unwrap(),
    }
}

fn charge(
    file: &LedgerFile,
    account: &Account,
    round: u64,
) -> Result<(Verdict, Ledger), StoreError> {
    file.enter(
        |_| Ok(None),
        |ledger| {
            let verdict = account.charge(ledger, round);
            let entries = verdict.entries.clone();
            (verdict, entries)
        },
    )
}

fn says(error: &StoreError, words: &str) {
    let text = error.to_string();
    assert!(text.contains(words) && text.contains("ledger"), "{text}");
}

#[test]
fn charges_add_up_over_restarts_until_the_budget_is_spent_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let charging = charging(folder.path());
    assert_eq!(charging.file.read().unwrap().entries().len(), 0);
    let mut last = 0.0;
    let mut rounds = 0;
    loop {
        // A new store each time, as if the program had been killed.
        let mut store = open(folder.path()).unwrap();
        store.charge_to(charging.clone()).unwrap();
        let Stored::Charge {
            decision, spent, ..
        } = store.charge(rounds).unwrap()
        else {
            panic!("a charge is answered as one")
        };
        if decision == Decision::Exhausted {
            assert_eq!(spent.epsilon, last, "a refusal costs nothing");
            break;
        }
        assert!(spent.epsilon > last && spent.epsilon <= 4.0);
        (last, rounds) = (spent.epsilon, rounds + 1);
    }
    assert!(rounds > 2, "{rounds}");
    assert_eq!(
        charging.file.read().unwrap().entries().len(),
        rounds as usize
    );
}

#[test]
fn a_ledger_that_is_gone_changed_or_unreadable_is_refused_and_never_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let charging = charging(folder.path());
    let file = &charging.file;
    file.begin().unwrap();
    charge(file, &charging.account, 0).unwrap();
    charge(file, &charging.account, 1).unwrap();
    let (bytes, identity) = (
        std::fs::read(&file.ledger).unwrap(),
        std::fs::read(&file.identity).unwrap(),
    );
    let refuses = |words: &str| {
        says(&file.read().unwrap_err(), words);
        says(&charge(file, &charging.account, 2).unwrap_err(), words);
    };
    std::fs::remove_file(&file.ledger).unwrap();
    refuses("is gone or empty");
    for cut in [0, 20] {
        std::fs::write(&file.ledger, &bytes[..cut]).unwrap();
        refuses("is gone or empty");
    }
    let mut changed = bytes.clone();
    changed[60] ^= 1;
    std::fs::write(&file.ledger, &changed).unwrap();
    refuses("entry 0 is damaged");
    std::fs::write(&file.ledger, &bytes).unwrap();
    std::fs::write(&file.identity, "0".repeat(64)).unwrap();
    refuses("belongs to data set");
    std::fs::write(&file.identity, "nonsense").unwrap();
    refuses("does not hold an identity");
    std::fs::remove_file(&file.identity).unwrap();
    refuses("identity");
    std::fs::write(&file.identity, identity).unwrap();
    assert_eq!(file.read().unwrap().entries().len(), 2);
}

/// The program can die at every byte that it writes.
#[test]
fn a_program_that_dies_while_it_writes_never_counts_less() {
    let folder = tempfile::tempdir().unwrap();
    let charging = charging(folder.path());
    let file = &charging.file;
    file.begin().unwrap();
    let empty = std::fs::read(&file.ledger).unwrap();
    charge(file, &charging.account, 0).unwrap();
    let one = std::fs::read(&file.ledger).unwrap();
    charge(file, &charging.account, 1).unwrap();
    let two = std::fs::read(&file.ledger).unwrap();
    for written in empty.len()..=two.len() {
        std::fs::write(&file.ledger, &two[..written]).unwrap();
        let entries = if written <= empty.len() {
            0
        } else if written <= one.len() {
            1
        } else {
            2
        };
        let spent = charging.account.spent(&file.read().unwrap());
        assert_eq!(spent.entries, entries, "{written}");
        let (verdict, ledger) = charge(file, &charging.account, 2).unwrap();
        assert_eq!(verdict.spent.entries, entries + 1, "{written}");
        assert_eq!(file.read().unwrap(), ledger, "{written}");
    }
    // While it begins the file nothing is charged yet.
    std::fs::remove_file(&file.identity).unwrap();
    for written in 0..=empty.len() {
        std::fs::write(&file.ledger, &empty[..written]).unwrap();
        assert!(file.begin().unwrap().entries().is_empty(), "{written}");
        std::fs::remove_file(&file.identity).unwrap();
    }
}

#[test]
fn a_state_notices_another_ledger_and_an_older_copy_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let charging = charging(folder.path());
    let mut store = open(folder.path()).unwrap();
    store.charge_to(charging.clone()).unwrap();
    store.charge(0).unwrap();
    let copy = std::fs::read(&charging.file.ledger).unwrap();
    store.charge(1).unwrap();
    std::fs::write(&charging.file.ledger, &copy).unwrap();
    // Also while it runs.
    says(&store.charge(2).unwrap_err(), "older copy");
    std::fs::remove_file(&charging.file.ledger).unwrap();
    says(&store.charge(2).unwrap_err(), "is gone or empty");
    std::fs::write(&charging.file.ledger, &copy).unwrap();
    let mut reopened = |charging: &Charging| store.charge_to(charging.clone());
    says(&reopened(&charging).unwrap_err(), "older copy");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = super::tests::charging(elsewhere.path());
    says(&reopened(&other).unwrap_err(), "another data set");
    // Another one that went on from the older copy.
    charge(&charging.file, &charging.account, 2).unwrap();
    says(&reopened(&charging).unwrap_err(), "older copy");
}

#[test]
fn a_link_to_the_rows_has_the_ledger_of_the_rows_and_a_folder_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let charging = charging(folder.path());
    let link = folder.path().join("link.csv");
    std::os::unix::fs::symlink(folder.path().join("rows.csv"), &link).unwrap();
    assert_eq!(LedgerFile::beside(&link), charging.file);
    std::fs::create_dir(&charging.file.ledger).unwrap();
    says(&charging.file.begin().unwrap_err(), "cannot open");
}

#[test]
fn processes_that_charge_one_ledger_at_a_time_lose_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let charging = charging(folder.path());
    charging.file.begin().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..5 {
                    charge(&charging.file, &charging.account, round).unwrap();
                }
            });
        }
    });
    let ledger = charging.file.read().unwrap();
    let spent = charging.account.spent(&ledger);
    assert!(spent.epsilon <= 4.0 && !ledger.entries().is_empty());
    let verdict = charging.account.charge(&ledger, 9);
    assert!(ledger.entries().len() == 20 || verdict.decision == Decision::Exhausted);
}
