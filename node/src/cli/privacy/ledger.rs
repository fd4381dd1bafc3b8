//! `kith privacy ledger`: what has been released of a peer's rows.

use std::path::PathBuf;

use clap::Args;
use kith_consensus::privacy::ledger::{Account, Entry, Kind, Ledger};
use serde_json::{Value, json};

use super::super::output::{Failure, Verdict, print, print_json, table};
use crate::agreement::Agreement;
use crate::cli::done;
use crate::config::{CONFIG_FILE, Config};
use crate::guarantee;
use crate::store::LedgerFile;

/// Show what has been released of a peer's rows
#[derive(Debug, Args)]
#[command(after_help = "\
The ledger stands beside the rows and is shared by every federation that trains on them. Its totals are counted from its entries,
as this peer's charter measures them. It can be read while the peer runs.

Examples:
  kith privacy ledger --dir ada
  kith privacy ledger --dir ada --json")]
pub(crate) struct Show {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Its configuration, if it is not kith.toml in that folder
    #[arg(long)]
    config: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// A peer's ledger, and its charter.
pub(super) struct Found {
    pub(super) config: Config,
    pub(super) agreement: Agreement,
    pub(super) account: Account,
    pub(super) file: LedgerFile,
    pub(super) ledger: Ledger,
}

impl Found {
    /// # Errors
    /// When the charter has no guarantee, or the ledger cannot be used.
    pub(super) fn of(dir: &std::path::Path, config: Option<&PathBuf>) -> Result<Found, Failure> {
        let path = config.cloned().unwrap_or_else(|| dir.join(CONFIG_FILE));
        let config = Config::load(&path)?;
        let agreement = Agreement::load(&config.charter)?;
        let account = guarantee::account(&agreement).ok_or_else(|| {
            Failure::with_help(
                format!("{} gives no privacy guarantee, so nothing is charged", config.charter.display()),
                "a charter with a guarantee has [privacy] mechanism = \"example-level\" (`kith charter new --privacy example-level`)",
            )
        })?;
        let file = LedgerFile::beside(&config.data.path);
        if config.state.exists() && !file.path().exists() {
            return Err(Failure::with_help(
                format!("there is no ledger at {}", file.path().display()),
                "this peer has run, so there was one: put its newest copy back",
            ));
        }
        let ledger = file.read().map_err(crate::error::NodeError::from)?;
        Ok(Found {
            config,
            agreement,
            account,
            file,
            ledger,
        })
    }
}

impl Show {
    pub(crate) fn run(self) -> Verdict {
        let found = Found::of(&self.dir, self.config.as_ref())?;
        let Found {
            account,
            file,
            ledger,
            ..
        } = &found;
        let statement = account.statement(ledger)?;
        if self.json {
            let entries: Vec<Value> = ledger.entries().iter().map(entry_json).collect();
            print_json(&json!({
                "ledger": file.path().display().to_string(),
                "data_set": ledger.dataset().to_string(),
                "head": ledger.head().to_string(),
                "torn": ledger.is_torn(),
                "entries": entries,
                "privacy": statement,
            }))?;
            return done();
        }
        let mut shown = table(&[
            "entry",
            "federation",
            "round",
            "kind",
            "unit",
            "noise",
            "rate",
            "steps",
        ]);
        for entry in ledger.entries() {
            let mechanism = entry.cost.release.mechanism();
            shown.add_row([
                entry.index.to_string(),
                entry.federation.to_string()[..8].to_owned(),
                entry.round.to_string(),
                kind(entry.kind).to_owned(),
                entry.cost.unit.name().to_owned(),
                format!("{:.4}", mechanism.noise_multiplier()),
                format!("{:.4}", mechanism.sampling_rate()),
                entry.cost.release.steps().to_string(),
            ]);
        }
        let tight = statement.epsilon_pld.map_or(String::new(), |epsilon| {
            format!("; {epsilon:.4} by privacy loss distributions, which hold for a schedule fixed beforehand")
        });
        let torn = match ledger.is_torn() {
            true => {
                "an entry was cut off as it was written; it is counted as the most expensive one\n"
            }
            false => "",
        };
        print(&format!(
            "{shown}\n{torn}ledger    {}\ndata set  {}\nspent     epsilon {:.4} of {} at delta {:e}, for each {} (Rényi{tight})\nreleases  {} of this federation\n",
            file.path().display(),
            ledger.dataset(),
            statement.epsilon_rdp,
            statement.budget,
            statement.delta,
            statement.unit.name(),
            statement.releases,
        ))?;
        done()
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Release => "release",
        Kind::Recovered => "recovered",
        Kind::Torn => "torn",
    }
}

fn entry_json(entry: &Entry) -> Value {
    let mechanism = entry.cost.release.mechanism();
    json!({
        "index": entry.index,
        "federation": entry.federation.to_string(),
        "height": entry.height,
        "round": entry.round,
        "attempt": entry.attempt,
        "kind": kind(entry.kind),
        "unit": entry.cost.unit.name(),
        "noise_multiplier": mechanism.noise_multiplier(),
        "clip_norm": entry.cost.clip_norm,
        "sampling_rate": mechanism.sampling_rate(),
        "steps": entry.cost.release.steps(),
        "slack_epsilon": entry.cost.slack.epsilon,
        "slack_delta": entry.cost.slack.delta,
        "digest": entry.digest().to_string(),
    })
}
