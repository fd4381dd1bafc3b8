//! The privacy ledger of a data set: one file beside the rows, which every federation that trains on
//! them shares, and beside it the identity of the rows.
//!
//! For `rows.csv` these are `rows.csv.ledger` and `rows.csv.identity`. They belong to the rows and not
//! to the state of a peer, so that an older copy of the state, or a state begun anew, does not forget
//! what was released. A charge reads the file, decides and appends under one lock, and returns once
//! the entry is on disk. What an entry says and costs is in [`kith_consensus::privacy::ledger`].
//!
//! A file that cannot be read is an error. It is begun anew only if there is neither an identity nor
//! an entry. The state remembers how far the ledger had come ([`Store::charge`]), so that a ledger
//! that was removed or replaced by an older copy is noticed. What nobody can notice: rows that are
//! copied, or exported again, together with a new state.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use kith_consensus::Digest;
use kith_consensus::privacy::ledger::{Account, Entry, Ledger, LedgerError, Total};
use kith_gossip::{Behind, Stored};
use redb::ReadableTable;

use super::Store;
use super::disk::{Beginning, Disk, System};
use super::error::StoreError;
use super::tables::{LEDGER, META};

/// The ledger beside a file of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerFile<D = System> {
    ledger: PathBuf,
    identity: PathBuf,
    disk: D,
}

impl LedgerFile {
    /// The ledger of the rows at `path`. Links are followed: the same rows have one ledger, however
    /// they are named.
    pub fn beside(path: &Path) -> LedgerFile {
        let rows = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let with = |ending: &str| {
            let mut name: OsString = rows.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        LedgerFile {
            ledger: with(".ledger"),
            identity: with(".identity"),
            disk: System,
        }
    }
}

impl<D: Disk> LedgerFile<D> {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.ledger
    }

    /// What it holds, without changing anything; an empty ledger if nothing has been begun.
    ///
    /// # Errors
    /// When it cannot be read, or is not that of these rows.
    pub fn read(&self) -> Result<Ledger, StoreError> {
        match self.disk.read(&self.ledger) {
            Ok(bytes) if bytes.len() < Ledger::new(Digest::default()).start().len() => {
                self.nothing_yet()
            }
            Ok(bytes) => self.parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.nothing_yet(),
            Err(source) => Err(self.io("read", &self.ledger, source)),
        }
    }

    /// Begins the ledger if there is none, so that a charge has nothing to fail on but the disk.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not that of these rows.
    pub fn begin(&self) -> Result<Ledger, StoreError> {
        let file = self.disk.open(&self.ledger, Beginning::Allowed);
        let file = file.map_err(|source| self.io("open and lock", &self.ledger, source))?;
        self.locked(file, Beginning::Allowed)
            .map(|(_, ledger)| ledger)
    }

    /// Adds the entries that `decide` returns beside its answer; they are on disk when this returns.
    /// `fault` says what is wrong with the ledger that is there, if anything is. Both are asked under
    /// the lock.
    ///
    /// # Errors
    /// When it cannot be read or written, or is gone. Then nothing may be released.
    pub fn enter<T>(
        &self,
        fault: impl FnOnce(&Ledger) -> Result<Option<String>, StoreError>,
        decide: impl FnOnce(&Ledger) -> (T, Vec<Entry>),
    ) -> Result<(T, Ledger), StoreError> {
        // A ledger that has vanished since the start is never begun anew.
        let file = self.disk.open(&self.ledger, Beginning::Refused);
        let file = file.map_err(|source| {
            let gone = self.nothing_yet().err();
            gone.unwrap_or_else(|| self.io("open and lock", &self.ledger, source))
        })?;
        let (mut file, mut ledger) = self.locked(file, Beginning::Refused)?;
        if let Some(why) = fault(&ledger)? {
            return Err(self.refused(why));
        }
        let (answer, entries) = decide(&ledger);
        for entry in entries {
            self.append(&mut file, &ledger, &entry)
                .map_err(|source| self.io("write", &self.ledger, source))?;
            ledger.append(entry);
        }
        Ok((answer, ledger))
    }

    /// Each entry is synced before the next is written, so that at most the last one can be torn.
    fn append(&self, file: &mut D::File, ledger: &Ledger, entry: &Entry) -> io::Result<()> {
        let end = ledger.whole_bytes();
        self.disk.cut(file, end)?;
        self.disk.write(file, end, &entry.record())?;
        self.disk.sync(file)
    }

    /// The file, open and locked until it is dropped, and what it holds. Other processes wait for a
    /// charge, which takes milliseconds.
    fn locked(
        &self,
        mut file: D::File,
        beginning: Beginning,
    ) -> Result<(D::File, Ledger), StoreError> {
        let bytes = self.disk.contents(&mut file);
        let bytes = bytes.map_err(|source| self.io("read", &self.ledger, source))?;
        // Shorter than its first bytes: it was just made, or the program died while it wrote them.
        let is_begun = bytes.len() >= Ledger::new(Digest::default()).start().len();
        let ledger = match (is_begun, beginning) {
            (true, _) => self.parse(&bytes)?,
            (false, Beginning::Allowed) => self.begin_in(&mut file)?,
            (false, Beginning::Refused) => {
                self.nothing_yet()?;
                return Err(self.refused("it is empty".to_owned()));
            }
        };
        if self.known_identity()?.is_none() {
            // The program died before it wrote this. Nothing has been charged yet.
            self.write_identity(ledger.dataset())?;
        }
        Ok((file, ledger))
    }

    fn begin_in(&self, file: &mut D::File) -> Result<Ledger, StoreError> {
        self.nothing_yet()?;
        let mut identity = [0; 32];
        getrandom::fill(&mut identity).map_err(|error| {
            self.refused(format!(
                "the operating system gives no random bytes: {error}"
            ))
        })?;
        let ledger = Ledger::new(Digest(identity));
        let written = self
            .disk
            .cut(file, 0)
            .and_then(|()| self.disk.write(file, 0, &ledger.start()))
            .and_then(|()| self.disk.sync(file))
            .and_then(|()| self.disk.sync_name(&self.ledger));
        written.map_err(|source| self.io("write", &self.ledger, source))?;
        Ok(ledger)
    }

    fn write_identity(&self, identity: Digest) -> Result<(), StoreError> {
        let text = format!("{identity}\n");
        let written = self.disk.replace(&self.identity, text.as_bytes());
        written.map_err(|source| self.io("write", &self.identity, source))
    }

    /// An empty ledger, unless the rows have an identity already.
    fn nothing_yet(&self) -> Result<Ledger, StoreError> {
        match self.known_identity()? {
            None => Ok(Ledger::new(Digest::default())),
            Some(_) => Err(self.refused(format!(
                "it is gone or empty, and {} says that there was one",
                self.identity.display()
            ))),
        }
    }

    fn known_identity(&self) -> Result<Option<Digest>, StoreError> {
        match self.disk.read(&self.identity) {
            Ok(bytes) => match String::from_utf8_lossy(&bytes).trim().parse() {
                Ok(identity) => Ok(Some(identity)),
                Err(_) => Err(self.refused(format!(
                    "{} does not hold an identity of 64 hexadecimal digits",
                    self.identity.display()
                ))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.io("read", &self.identity, source)),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Ledger, StoreError> {
        let of_ledger = |error: LedgerError| self.refused(error.to_string());
        let known = self.known_identity()?;
        let identity = match known {
            Some(identity) => identity,
            None => Ledger::identity(bytes).map_err(of_ledger)?,
        };
        let ledger = Ledger::read(bytes, identity).map_err(of_ledger)?;
        if known.is_none() && (ledger.is_torn() || !ledger.entries().is_empty()) {
            return Err(self.refused(format!(
                "the rows' identity, {}, is gone",
                self.identity.display()
            )));
        }
        Ok(ledger)
    }

    fn io(&self, act: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Ledger {
            path: self.ledger.clone(),
            why: format!("cannot {act} {}", path.display()),
            source: Some(source),
        }
    }

    fn refused(&self, why: String) -> StoreError {
        StoreError::Ledger {
            path: self.ledger.clone(),
            why,
            source: None,
        }
    }
}

/// A ledger, and what this peer's federation may charge it.
#[derive(Clone, Debug)]
pub struct Charging {
    /// The file.
    pub file: LedgerFile,
    /// The account.
    pub account: Account,
}

impl Store {
    /// Charges releases to this ledger from now on.
    ///
    /// # Errors
    /// When the ledger cannot be used, or is not the one, or an older copy of the one, that this
    /// peer has charged before.
    pub fn charge_to(&mut self, charging: Charging) -> Result<(), StoreError> {
        let ledger = charging.file.begin()?;
        if let Some(why) = self.remembers_more(&ledger)? {
            return Err(charging.file.refused(why));
        }
        self.remember(&ledger)?;
        self.charging = Some(charging);
        Ok(())
    }

    /// Charges the training of a round.
    pub(super) fn charge(&self, round: u64) -> Result<Stored, StoreError> {
        self.enter(|account, ledger| charged(account, ledger, round))
    }

    /// Charges what the ledger lacks of a total that a header of this peer states.
    pub(super) fn cover(&self, round: u64, stated: Total) -> Result<Stored, StoreError> {
        self.enter(|account, ledger| covered(account, ledger, round, stated))
    }

    fn enter(
        &self,
        decide: impl FnOnce(&Account, &Ledger) -> (Stored, Vec<Entry>),
    ) -> Result<Stored, StoreError> {
        let charging = self.charging.as_ref();
        let charging = charging.expect("a peer charges under a guarantee, and then has a ledger");
        let fault = |ledger: &Ledger| self.remembers_more(ledger);
        let decide = |ledger: &Ledger| decide(&charging.account, ledger);
        let (stored, ledger) = charging.file.enter(fault, decide)?;
        self.remember(&ledger)?;
        Ok(stored)
    }

    /// How the ledger lacks what this peer has charged, if it does.
    fn remembers_more(&self, ledger: &Ledger) -> Result<Option<String>, StoreError> {
        let remembered = self.transact(|transaction| {
            let meta = transaction.open_table(META)?;
            let value = meta.get(LEDGER)?.map(|value| value.value().to_vec());
            Ok(value)
        })?;
        Ok(remembered.and_then(|remembered| lacks(ledger, &remembered)))
    }

    fn remember(&self, ledger: &Ledger) -> Result<(), StoreError> {
        let value = place(ledger);
        self.transact(|transaction| {
            transaction
                .open_table(META)?
                .insert(LEDGER, value.as_slice())?;
            Ok(())
        })
    }
}

/// The answer to [`kith_gossip::Record::Charge`], and the entries that make it true.
fn charged(account: &Account, ledger: &Ledger, round: u64) -> (Stored, Vec<Entry>) {
    let verdict = account.charge(ledger, round);
    let (decision, spent) = (verdict.decision, verdict.spent);
    let stored = Stored::Charge {
        round,
        decision,
        spent,
    };
    (stored, verdict.entries)
}

/// The answer to [`kith_gossip::Record::Cover`], and the entries that make it true.
fn covered(account: &Account, ledger: &Ledger, round: u64, stated: Total) -> (Stored, Vec<Entry>) {
    let entries = account.cover(ledger, round, stated);
    let mut covering = ledger.clone();
    let append = |entry: &Entry| covering.append(entry.clone());
    entries.iter().for_each(append);
    let behind = (!entries.is_empty()).then(|| Behind {
        stated,
        before: account.spent(ledger),
        after: account.spent(&covering),
    });
    (Stored::Covered { round, behind }, entries)
}

/// How far a ledger has come, as a state remembers it: the data set's identity and the newest entry.
fn place(ledger: &Ledger) -> Vec<u8> {
    [ledger.dataset().0, ledger.head().0].concat()
}

/// How a ledger lacks what a state remembers, if it does.
fn lacks(ledger: &Ledger, remembered: &[u8]) -> Option<String> {
    let (identity, head) = remembered.split_at(remembered.len().min(32));
    if identity != ledger.dataset().0 {
        return Some(
            "it is the ledger of another data set than this peer has charged; a peer's state belongs to its rows".to_owned(),
        );
    }
    let mut heads = ledger.entries().iter().rev().map(Entry::digest);
    let is_there = head == ledger.dataset().0 || heads.any(|entry| head == entry.0);
    (!is_there)
        .then(|| "it is an older copy: it lacks entries that this peer has charged".to_owned())
}

#[cfg(test)]
mod campaign;
#[cfg(test)]
mod tests;
