//! What a charter's privacy guarantee asks of this node: training with noise, the ledger beside its
//! rows, and settings that do not go round the guarantee. `kith check` and `kith run` ask alike.

use kith_consensus::charter::Unit;
use kith_consensus::privacy::ledger::{Account, Decision, Ledger};
use kith_models::{Dataset, PrivateTraining, rows_in_both};

use crate::agreement::Agreement;
use crate::config::DataConfig;
use crate::error::NodeError;
use crate::store::{Charging, LedgerFile};

/// A guarantee for the rows of this peer.
#[derive(Clone, Debug)]
pub struct Guarantee {
    /// How a round is trained.
    pub training: PrivateTraining,
    /// Where releases are charged.
    pub charging: Charging,
}

impl Guarantee {
    /// The guarantee that the charter gives to these rows to train on, beside those that are held out;
    /// `None` if it gives none.
    ///
    /// # Errors
    /// When these rows cannot be trained so, or a setting would show them outside the guarantee.
    pub fn of(
        agreement: &Agreement,
        data: &DataConfig,
        (rows, held_out): (&Dataset, Option<&Dataset>),
    ) -> Result<Option<Guarantee>, NodeError> {
        let file = LedgerFile::beside(&data.path);
        let Some(terms) = &agreement.charter.privacy else {
            // What is trained without noise is in no ledger, and would make each of its statements
            // false.
            return match file.path().exists() {
                false => Ok(None),
                true => Err(NodeError::Unfit(format!(
                    "{} says that these rows are trained on under a privacy guarantee, and this charter gives none; expected \
                     a [privacy] mechanism, or rows without a ledger",
                    file.path().display()
                ))),
            };
        };
        let shown = held_out.map_or(0, |held_out| rows_in_both(rows, held_out));
        if shown > 0 {
            let what = format!(
                "[data] test_path: {shown} of its rows are rows to train on, and what is measured on them is shown each round, outside \
                 the guarantee; expected rows that need no protection"
            );
            return Err(NodeError::Unfit(what));
        }
        if data.holdout > 0.0 {
            let what = "[data] holdout: under a privacy.mechanism rows that are held out of a peer's own would be \
                        evaluated outside the guarantee; expected 0, or a test_path with rows that need no protection";
            return Err(NodeError::Unfit(what.to_owned()));
        }
        let unfit = |error: kith_models::PrivateError| NodeError::Data {
            path: data.path.clone(),
            why: error.to_string(),
        };
        let training = agreement.task.private_training(terms).map_err(unfit)?;
        let units = agreement.task.units(rows).map_err(unfit)?;
        check_delta(agreement, terms, units.len())?;
        training.check_units(units.len()).map_err(unfit)?;
        Ok(Some(Guarantee {
            training,
            charging: Charging {
                file,
                account: account(agreement).expect("the charter has a guarantee"),
            },
        }))
    }

    /// Refuses to begin a run that can release nothing. A peer that is in the middle of its rounds
    /// goes on receiving instead.
    ///
    /// # Errors
    /// When the budget is spent.
    pub fn check_budget(&self, ledger: &Ledger) -> Result<(), NodeError> {
        let account = &self.charging.account;
        if account.is_undercut(ledger) {
            return Err(NodeError::Unfit(format!(
                "{} has releases that protect single rows, and this charter promises to protect all rows of the peer together, which \
                 they may have shown already; expected mechanism = \"example-level\", or rows that nothing was released of",
                self.charging.file.path().display()
            )));
        }
        let verdict = account.charge(ledger, 0);
        if verdict.decision == Decision::Charged {
            return Ok(());
        }
        let budget = account.terms().budget().get();
        Err(NodeError::Unfit(format!(
            "the privacy budget of these rows is spent: epsilon {:.4} of {budget}, and a release would exceed it; the ledger is {} \
             (`kith privacy ledger` shows it). A charter with a larger privacy.epsilon_budget would permit more, and protect less",
            verdict.spent.epsilon,
            self.charging.file.path().display()
        )))
    }
}

/// Refuses a δ that would permit to publish a unit outright.
fn check_delta(
    agreement: &Agreement,
    guarantee: &kith_consensus::charter::Guarantee,
    units: usize,
) -> Result<(), NodeError> {
    let delta = guarantee.delta().get();
    let name = guarantee.unit().name();
    let (units, what) = match guarantee.unit() {
        Unit::Row | Unit::Group => (units, format!("one of this peer's {units} {name}s")),
        Unit::Peer => {
            let peers = agreement.charter.membership.peers;
            (peers, format!("all rows of one of {peers} peers"))
        }
    };
    if delta * units as f64 >= 1.0 {
        return Err(NodeError::Unfit(format!(
            "privacy.delta {delta} permits to publish {what}; expected less than 1 in the number of {}s, {:e}",
            name,
            1.0 / units as f64
        )));
    }
    Ok(())
}

/// The account of a charter's federation; `None` without a guarantee, or if this model cannot be
/// trained under it.
pub fn account(agreement: &Agreement) -> Option<Account> {
    let terms = agreement.charter.privacy.as_ref()?;
    let training = agreement.task.private_training(terms).ok()?;
    let slack = training.slack(agreement.task.layout().dimension);
    Account::new(&agreement.charter, slack)
}
