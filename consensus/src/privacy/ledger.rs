//! The ledger of a data set: what has been released of its rows, as a chain of entries.
//!
//! A ledger belongs to rows, not to a federation: every federation that trains on them charges the
//! same one. Totals are folded from the entries and stored nowhere. An [`Account`] is one
//! federation's view: what one of its releases costs, and whether the budget of its charter can bear
//! another one beside everything that was released of these rows before, by whomever. Costs add up
//! at the Rényi order that the charter fixes, so that it does not matter on what earlier results a
//! release depended ([`super::filter`]).
//!
//! An entry is written before the training that it pays for, so that a crash can only count too
//! much. A record that was being written when the program died (the torn tail) counts as the most
//! expensive entry that is known. A ledger that cannot be read is an error, never an empty ledger.
//!
//! Encoding: [`HEADER`] and the identity of the data set, then for each entry its length (4 bytes),
//! its fields in the order of [`Entry`] (integers and the bits of numbers in little-endian order),
//! and the first 8 bytes of their BLAKE3 hash. Not here: files, locks, and when a program syncs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Delta, Phase, PrivacyError, SampledGaussian, pld, rdp};
use crate::charter::{Charter, Guarantee, Unit};
use crate::identity::{Digest, Genesis};
use crate::mutant::{Mutant, planted};

/// First bytes of a ledger; the digit is the version of the format.
pub const HEADER: &[u8; 16] = b"kith ledger v1\r\n";

/// Bytes before the first record.
const START: usize = HEADER.len() + 32;

/// Bytes of an entry: two hashes, four integers and a short one, kind and mechanism, five numbers.
const ENTRY_BYTES: usize = 2 * 32 + 4 * 8 + 4 + 2 + 5 * 8;

/// Bytes of a record: length, entry, checksum.
const RECORD_BYTES: usize = 4 + ENTRY_BYTES + CHECKSUM_BYTES;

const CHECKSUM_BYTES: usize = 8;

/// Releases that are charged in addition when a ledger turns out to be older than what others hold.
/// The newest updates may have reached liars only, which do not show them: at most one that was
/// sent and one whose training was charged.
const IN_FLIGHT: u64 = 2;

/// Why a ledger cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Something else, or a later version.
    #[error("it does not begin as a privacy ledger of version 1 does")]
    NotALedger,
    /// It belongs to other rows.
    #[error("it belongs to data set {found}, and the rows here are data set {expected}")]
    OtherDataset {
        /// The identity in the ledger.
        found: Digest,
        /// The identity beside the rows.
        expected: Digest,
    },
    /// An entry that was written in full is not what it was.
    #[error("entry {index} is damaged: {why}")]
    Damaged {
        /// Its number, from 0.
        index: u64,
        /// How that was noticed.
        why: String,
    },
}

/// Why an entry was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It pays for the training of a round.
    Release,
    /// Others hold an update that states more than the ledger knew: an older copy had been put back.
    Recovered,
    /// In place of an entry that was not written to its end.
    Torn,
}

/// What is charged: steps of the Gaussian mechanism, for neighbours that differ by one unit, with
/// noise that this peer alone has added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// What was protected.
    pub unit: Unit,
    /// What has to be accounted.
    pub release: Phase,
    /// C; it costs nothing, and is kept for the report.
    pub clip_norm: f64,
    /// What finite arithmetic adds.
    pub slack: Slack,
}

/// What has to be added to ε and δ for the arithmetic of a release.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slack {
    /// To ε.
    pub epsilon: f64,
    /// To δ.
    pub delta: f64,
}

/// One charge.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number, from 0.
    pub index: u64,
    /// Hash of the entry before; of the first one, the identity of the data set.
    pub previous: Digest,
    /// The federation that it was charged for.
    pub federation: Genesis,
    /// Amendments of that federation's charter by then.
    pub height: u64,
    /// The round.
    pub round: u64,
    /// Earlier entries of the same round: 0 unless the program died in between.
    pub attempt: u32,
    /// Why it was written.
    pub kind: Kind,
    /// What it charges.
    pub cost: Cost,
}

impl Entry {
    /// BLAKE3 of its encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// The record as it is appended to a file.
    pub fn record(&self) -> Vec<u8> {
        let entry = self.encode();
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend((entry.len() as u32).to_le_bytes());
        record.extend(&entry);
        record.extend(&Digest::of(&entry).0[..CHECKSUM_BYTES]);
        record
    }

    fn encode(&self) -> Vec<u8> {
        let Cost {
            unit,
            release,
            clip_norm,
            slack,
        } = self.cost;
        let mut bytes = Vec::with_capacity(ENTRY_BYTES);
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(self.previous.0);
        bytes.extend(self.federation.0.0);
        bytes.extend(self.height.to_le_bytes());
        bytes.extend(self.round.to_le_bytes());
        bytes.extend(self.attempt.to_le_bytes());
        bytes.push(match self.kind {
            Kind::Release => 0,
            Kind::Recovered => 1,
            Kind::Torn => 2,
        });
        bytes.push(match unit {
            Unit::Row => 0,
            Unit::Peer => 1,
            Unit::Group => 2,
        });
        let mechanism = release.mechanism();
        for number in [
            mechanism.noise_multiplier(),
            clip_norm,
            mechanism.sampling_rate(),
        ] {
            bytes.extend(number.to_bits().to_le_bytes());
        }
        bytes.extend(release.steps().to_le_bytes());
        bytes.extend(slack.epsilon.to_bits().to_le_bytes());
        bytes.extend(slack.delta.to_bits().to_le_bytes());
        assert_eq!(bytes.len(), ENTRY_BYTES, "every field has its place");
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Entry, String> {
        let mut fields = Fields(bytes);
        let entry = Entry {
            index: fields.integer(),
            previous: Digest(fields.take()),
            federation: Genesis(Digest(fields.take())),
            height: fields.integer(),
            round: fields.integer(),
            attempt: u32::from_le_bytes(fields.take()),
            kind: match fields.take() {
                [0] => Kind::Release,
                [1] => Kind::Recovered,
                [2] => Kind::Torn,
                [other] => return Err(format!("{other} is no kind of entry")),
            },
            cost: fields.cost()?,
        };
        match entry.encode() == bytes {
            true => Ok(entry),
            false => Err("its fields do not fill it".to_owned()),
        }
    }
}

/// The fields of an entry, one after the other; past the end they are 0.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        let (here, rest) = self.0.split_at(N.min(self.0.len()));
        field[..here.len()].copy_from_slice(here);
        self.0 = rest;
        field
    }

    fn integer(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn number(&mut self) -> f64 {
        f64::from_bits(self.integer())
    }

    fn cost(&mut self) -> Result<Cost, String> {
        let unit = match self.take() {
            [0] => Unit::Row,
            [1] => Unit::Peer,
            [2] => Unit::Group,
            [other] => return Err(format!("{other} is no mechanism")),
        };
        let (sigma, clip_norm, rate) = (self.number(), self.number(), self.number());
        let steps = self.integer();
        let slack = Slack {
            epsilon: self.number(),
            delta: self.number(),
        };
        let spends = |slack: f64| (0.0..=f64::MAX).contains(&slack);
        if !(spends(slack.epsilon) && spends(slack.delta)) {
            return Err("its slack is no number from 0 on".to_owned());
        }
        let release = SampledGaussian::new(sigma, rate)
            .and_then(|mechanism| Phase::new(mechanism, steps))
            .map_err(|error| error.to_string())?;
        Ok(Cost {
            unit,
            release,
            clip_norm,
            slack,
        })
    }
}

/// The entries of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    dataset: Digest,
    entries: Vec<Entry>,
    is_torn: bool,
}

impl Ledger {
    /// A ledger without entries, for rows of which nothing has been released.
    pub fn new(dataset: Digest) -> Ledger {
        Ledger {
            dataset,
            entries: Vec::new(),
            is_torn: false,
        }
    }

    /// The first bytes of its file.
    pub fn start(&self) -> Vec<u8> {
        [&HEADER[..], &self.dataset.0].concat()
    }

    /// The identity in a file, whatever comes after it.
    ///
    /// # Errors
    /// When this is no ledger.
    pub fn identity(bytes: &[u8]) -> Result<Digest, LedgerError> {
        let rest = bytes
            .strip_prefix(&HEADER[..])
            .ok_or(LedgerError::NotALedger)?;
        let identity = rest.first_chunk().ok_or(LedgerError::NotALedger)?;
        Ok(Digest(*identity))
    }

    /// Reads the file of the data set `dataset`.
    ///
    /// # Errors
    /// When it is another's ledger or none, or when an entry other than the last is damaged.
    pub fn read(bytes: &[u8], dataset: Digest) -> Result<Ledger, LedgerError> {
        let found = Ledger::identity(bytes)?;
        if found != dataset {
            return Err(LedgerError::OtherDataset {
                found,
                expected: dataset,
            });
        }
        let mut ledger = Ledger::new(dataset);
        let records = &bytes[START..];
        for (index, record) in (0..).zip(records.chunks(RECORD_BYTES)) {
            let is_last = START + (index as usize + 1) * RECORD_BYTES >= bytes.len();
            match ledger.read_record(index, record) {
                Ok(entry) => ledger.entries.push(entry),
                // Only the last record can have been cut off.
                Err(_) if is_last => ledger.is_torn = true,
                Err(why) => return Err(LedgerError::Damaged { index, why }),
            }
        }
        Ok(ledger)
    }

    fn read_record(&self, index: u64, record: &[u8]) -> Result<Entry, String> {
        let cut = || "it is cut off".to_owned();
        let (length, rest) = record.split_first_chunk::<4>().ok_or_else(cut)?;
        if u32::from_le_bytes(*length) as usize != ENTRY_BYTES {
            return Err("its length is another".to_owned());
        }
        let (entry, checksum) = rest.split_at_checked(ENTRY_BYTES).ok_or_else(cut)?;
        if checksum != &Digest::of(entry).0[..CHECKSUM_BYTES] {
            return Err("its checksum does not fit".to_owned());
        }
        let entry = Entry::decode(entry)?;
        if (entry.index, entry.previous) != (index, self.head()) {
            return Err("it does not follow from the entry before".to_owned());
        }
        Ok(entry)
    }

    /// Bytes of its file up to the end of the last whole entry.
    pub fn whole_bytes(&self) -> u64 {
        (START + self.entries.len() * RECORD_BYTES) as u64
    }

    /// The data set's identity.
    pub fn dataset(&self) -> Digest {
        self.dataset
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether an entry was being written when the program died.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Hash of the newest entry, or the data set's identity without one.
    pub fn head(&self) -> Digest {
        self.entries.last().map_or(self.dataset, Entry::digest)
    }

    /// A copy from before its newest `entries` entries; for simulations.
    pub fn without(&self, entries: usize) -> Ledger {
        let kept = self.entries.len().saturating_sub(entries);
        Ledger {
            entries: self.entries[..kept].to_vec(),
            ..Ledger::new(self.dataset)
        }
    }

    /// Leaves it as if the program had died while it wrote an entry; for simulations.
    pub fn tear(&mut self) {
        self.is_torn = true;
    }

    /// Adds an entry that follows from the last one.
    ///
    /// # Panics
    /// When it does not.
    pub fn append(&mut self, entry: Entry) {
        let expected = (self.entries.len() as u64, self.head());
        assert_eq!((entry.index, entry.previous), expected, "an entry in order");
        self.is_torn = false;
        self.entries.push(entry);
    }
}

/// What has been spent of a data set, as one federation's charter measures it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// ε at the charter's δ, by the filter; infinite if nothing of δ is left.
    pub epsilon: f64,
    /// Entries so far, all federations' together.
    pub entries: u64,
}

/// A total as the signed header of an update states it: ε at the charter's δ by the filter, in
/// billionths and rounded up.
///
/// It is ε and not the cost at the filter's order, because ε holds what finite arithmetic adds to
/// both ε and δ too: one number then suffices to compare a ledger with a header. At a fixed order
/// and δ it grows with every release as the cost does. It is an integer, so that a header has one
/// encoding. All federations' releases of the rows are in it: a receiver can tell that others use
/// the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Total(pub u64);

impl Total {
    /// Billionths of ε.
    const PARTS: f64 = 1e9;

    /// Of an ε from 0 to infinity. What does not fit, from 1.8e10 on, is the largest total.
    pub fn of(epsilon: f64) -> Total {
        Total((epsilon * Total::PARTS).ceil() as u64)
    }

    /// ε, at most a billionth above what was spent.
    pub fn epsilon(self) -> f64 {
        self.0 as f64 / Total::PARTS
    }
}

/// Whether a release was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be made: its entries are to be durable before anything else happens.
    Charged,
    /// It would exceed the budget, and is not made.
    Exhausted,
}

/// The answer to a federation that wants to release something.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The answer.
    pub decision: Decision,
    /// Entries to append, in order. There can be some even if the release itself is refused.
    pub entries: Vec<Entry>,
    /// What is spent once they are appended.
    pub spent: Spent,
}

/// What may be said of the releases of a peer's rows, as one federation measures them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// `example-level` or `update-level`.
    pub mechanism: String,
    /// What is protected.
    pub unit: Unit,
    /// ε by the filter (Rényi, at the order of the charter), all federations' releases together.
    pub epsilon_rdp: f64,
    /// ε by privacy loss distributions, which hold for a schedule fixed beforehand; `None` if other
    /// federations use the rows too, or if something had to be recovered.
    pub epsilon_pld: Option<f64>,
    /// δ of both.
    pub delta: f64,
    /// ε that may be spent.
    pub budget: f64,
    /// Releases that were charged for this federation.
    pub releases: u64,
}

/// A federation's account with the rows of one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    federation: Genesis,
    height: u64,
    terms: Guarantee,
    cost: Cost,
    /// The filter's.
    order: f64,
}

impl Account {
    /// The account of a charter; `None` if it has no guarantee. `slack` is that of one release.
    pub fn new(charter: &Charter, slack: Slack) -> Option<Account> {
        let terms = charter.privacy.clone()?;
        Some(Account {
            federation: charter.genesis,
            height: charter.height,
            cost: Cost {
                unit: terms.unit(),
                release: terms.release(),
                clip_norm: terms.scale().clip(),
                slack,
            },
            order: terms.filter().order(),
            terms,
        })
    }

    /// What the charter says.
    pub fn terms(&self) -> &Guarantee {
        &self.terms
    }

    /// What one release of this federation charges.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The federation.
    pub fn federation(&self) -> Genesis {
        self.federation
    }

    /// Whether the ledger has releases that protected less than this federation promises to.
    pub fn is_undercut(&self, ledger: &Ledger) -> bool {
        let mut costs = ledger.entries.iter().map(|entry| entry.cost);
        costs.any(|cost| cost.unit < self.cost.unit)
    }

    /// What the entries come to.
    pub fn spent(&self, ledger: &Ledger) -> Spent {
        self.fold(ledger).spent(self)
    }

    /// The statement about the rows of a ledger.
    ///
    /// # Errors
    /// When 64-bit arithmetic cannot resolve δ.
    pub fn statement(&self, ledger: &Ledger) -> Result<Statement, PrivacyError> {
        let own =
            |entry: &&Entry| entry.federation == self.federation && entry.kind == Kind::Release;
        let releases = ledger.entries.iter().filter(own).count() as u64;
        let sum = self.fold(ledger);
        // Only a schedule that was fixed beforehand: all releases that the plan and the budget permit,
        // however many there have been, and no round twice.
        let planned = self.affordable(&Ledger::new(Digest::default()));
        let again = ledger.entries.iter().any(|entry| entry.attempt > 0);
        let is_planned = releases == sum.entries && releases <= planned && !again;
        Ok(Statement {
            mechanism: self.terms.unit().mechanism().to_owned(),
            unit: self.terms.unit(),
            epsilon_rdp: sum.spent(self).epsilon,
            epsilon_pld: is_planned.then(|| self.tight(planned)).transpose()?,
            delta: self.terms.delta().get(),
            budget: self.terms.budget().get(),
            releases,
        })
    }

    /// ε of so many of this federation's releases by privacy loss distributions.
    fn tight(&self, releases: u64) -> Result<f64, PrivacyError> {
        if releases == 0 {
            return Ok(0.0);
        }
        let mut sum = Sum::default();
        let cost = self.cost.times(releases);
        sum.add(cost, self.step_cost(cost));
        let delta = Delta::new(self.terms.delta().get() - sum.slack.delta)?;
        let epsilon = pld::epsilon(&[cost.release], delta)?;
        Ok(epsilon + sum.slack.epsilon)
    }

    /// Charges the training of `round`.
    pub fn charge(&self, ledger: &Ledger, round: u64) -> Verdict {
        let mut charged = ledger.clone();
        let first = charged.entries.len();
        self.settle_torn(&mut charged, round);
        let before = match planted(Mutant::FreshLedger) {
            true => Sum::default(),
            false => self.fold(&charged),
        };
        let mut after = before;
        after.add(self.cost, self.step_cost(self.cost));
        let spent = after.spent(self);
        let affords = spent.epsilon <= self.terms.budget().get();
        let (decision, spent) = match affords {
            true => (Decision::Charged, spent),
            false => (Decision::Exhausted, before.spent(self)),
        };
        if affords {
            let entry = self.entry(&charged, Kind::Release, round, self.cost);
            charged.append(entry);
        }
        Verdict {
            decision,
            entries: charged.entries.split_off(first),
            spent,
        }
    }

    /// How many more releases of this federation the budget bears.
    pub fn affordable(&self, ledger: &Ledger) -> u64 {
        let (mut sum, step) = (self.fold(ledger), self.step_cost(self.cost));
        let mut releases = 0;
        // A plan is what can be looked forward to.
        while releases < self.terms.releases().min(1 << 20) {
            sum.add(self.cost, step);
            if sum.spent(self).epsilon > self.terms.budget().get() {
                break;
            }
            releases += 1;
        }
        releases
    }

    /// The entries to append so that a ledger covers what a signed header of this peer states about
    /// its update of `round`: none unless the ledger is older than that header, because a copy was
    /// put back or it is gone. It then lacks at least one release of some federation on the rows.
    /// What it lacks is charged in releases of this one, rounded up, and two more.
    pub fn cover(&self, ledger: &Ledger, round: u64, stated: Total) -> Vec<Entry> {
        let mut covering = ledger.clone();
        let first = covering.entries.len();
        let sum = self.fold(ledger);
        if Total::of(sum.spent(self).epsilon) >= stated {
            return Vec::new();
        }
        self.settle_torn(&mut covering, round);
        let lacks = self.lacks(sum, stated).saturating_add(IN_FLIGHT);
        let entry = self.entry(&covering, Kind::Recovered, round, self.cost.times(lacks));
        covering.append(entry);
        covering.entries.split_off(first)
    }

    /// The releases of this federation that a sum lacks to reach a total.
    fn lacks(&self, sum: Sum, stated: Total) -> u64 {
        let step = self.step_cost(self.cost);
        let reaches = |releases: &u64| {
            let mut sum = sum;
            sum.add(self.cost.times(*releases), step);
            Total::of(sum.spent(self).epsilon) >= stated
        };
        // Doubled until they are enough, then narrowed down.
        let mut enough = 1;
        while !reaches(&enough) && enough < super::STEPS_MAX {
            enough *= 2;
        }
        let mut least = enough / 2 + 1;
        while least < enough {
            let middle = least + (enough - least) / 2;
            match reaches(&middle) {
                true => enough = middle,
                false => least = middle + 1,
            }
        }
        enough
    }

    /// A torn tail becomes the entry that it counts as.
    fn settle_torn(&self, ledger: &mut Ledger, round: u64) {
        if ledger.is_torn {
            let cost = self.most_expensive(ledger);
            let entry = self.entry(ledger, Kind::Torn, round, cost);
            ledger.append(entry);
        }
    }

    fn entry(&self, ledger: &Ledger, kind: Kind, round: u64, cost: Cost) -> Entry {
        let earlier = ledger.entries.iter().filter(|entry| {
            entry.federation == self.federation && entry.round == round && entry.kind == kind
        });
        Entry {
            index: ledger.entries.len() as u64,
            previous: ledger.head(),
            federation: self.federation,
            height: self.height,
            round,
            attempt: earlier.count() as u32,
            kind,
            cost,
        }
    }

    /// The cost of this federation's release, or of an entry if that costs more.
    fn most_expensive(&self, ledger: &Ledger) -> Cost {
        let costs = ledger.entries.iter().map(|entry| entry.cost);
        let of = |cost: &Cost| self.step_cost(*cost) * cost.release.steps() as f64;
        costs.fold(
            self.cost,
            |most, cost| {
                if of(&cost) > of(&most) { cost } else { most }
            },
        )
    }

    /// What a step of it costs this account's unit. A row is protected by what protects all rows of
    /// its peer, but not the other way: then nothing is left to be protected.
    fn step_cost(&self, cost: Cost) -> f64 {
        if cost.unit < self.cost.unit {
            return f64::INFINITY;
        }
        rdp::step_cost(cost.release.mechanism(), self.order).expect("the filter's order is one")
    }

    fn fold(&self, ledger: &Ledger) -> Sum {
        let mut sum = Sum::default();
        // Entries of a federation are all alike, and the cost of a step takes a while.
        let mut step_costs: BTreeMap<(Unit, u64, u64), f64> = BTreeMap::new();
        let torn = ledger.is_torn.then(|| self.most_expensive(ledger));
        for cost in ledger.entries.iter().map(|entry| entry.cost).chain(torn) {
            let mechanism = cost.release.mechanism();
            let key = (
                cost.unit,
                mechanism.noise_multiplier().to_bits(),
                mechanism.sampling_rate().to_bits(),
            );
            let step = *step_costs
                .entry(key)
                .or_insert_with(|| self.step_cost(cost));
            sum.add(cost, step);
        }
        sum
    }
}

impl Cost {
    /// So many of it.
    fn times(self, releases: u64) -> Cost {
        let Cost { release, slack, .. } = self;
        let steps = release.steps().saturating_mul(releases);
        let most = Phase::new(release.mechanism(), super::STEPS_MAX);
        let release = Phase::new(release.mechanism(), steps).or(most);
        Cost {
            release: release.unwrap_or(self.release),
            slack: Slack {
                epsilon: slack.epsilon * releases as f64,
                delta: slack.delta * releases as f64,
            },
            ..self
        }
    }
}

/// What entries come to at the filter's order.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    cost: f64,
    slack: Slack,
    entries: u64,
}

impl Sum {
    fn add(&mut self, cost: Cost, step_cost: f64) {
        self.cost += step_cost * cost.release.steps() as f64;
        self.slack.epsilon += cost.slack.epsilon;
        self.slack.delta += cost.slack.delta;
        self.entries += 1;
    }

    fn spent(self, account: &Account) -> Spent {
        let delta = Delta::new(account.terms.delta().get() - self.slack.delta);
        let epsilon = match delta {
            _ if self.entries == 0 => 0.0,
            Ok(delta) => rdp::epsilon(account.order, self.cost, delta) + self.slack.epsilon,
            Err(_) => f64::INFINITY,
        };
        Spent {
            epsilon,
            entries: self.entries,
        }
    }
}

#[cfg(test)]
mod tests;
