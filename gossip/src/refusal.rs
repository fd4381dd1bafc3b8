//! Why something from outside was refused: one list, so that logs, metrics and tests name it alike.

use kith_consensus::Digest;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Why something from outside was refused. The text is for people, [`Refusal::name`] for programs.
#[allow(
    missing_docs,
    reason = "each field stands in the variant's own message"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error, IntoStaticStr)]
#[serde(tag = "refused", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Refusal {
    /// The message is longer than its kind may be.
    #[error("{bytes} bytes, more than the {limit} allowed")]
    Oversize { bytes: usize, limit: usize },
    /// Not one well-formed message.
    #[error("not a well-formed message: {why}")]
    Junk { why: String },
    /// Another protocol version.
    #[error("speaks protocol version {theirs}, this peer speaks {ours}")]
    Version { theirs: u16, ours: u16 },
    /// The signature does not hold.
    #[error("the signature does not verify")]
    Signature,
    /// The payload is not the one that was signed.
    #[error("the payload is not the one that was signed")]
    PayloadHash,
    /// Another charter.
    #[error("belongs to another federation; its charter differs in {}", if sections.is_empty() { "its id".to_owned() } else { sections.join(", ") })]
    WrongFederation { sections: Vec<String> },
    /// The same federation, and another charter of it in force.
    #[error("is under amendment {theirs} of the charter, this peer is under {ours}{}", if sections.is_empty() { String::new() } else { format!("; they differ in {}", sections.join(", ")) })]
    OtherCharter {
        theirs: u64,
        ours: u64,
        sections: Vec<String>,
    },
    /// Another layout of parameters under the same charter.
    #[error(
        "its model has another layout ({theirs}, ours is {ours}); both run the same charter, so one program is out of date"
    )]
    Layout { theirs: Digest, ours: Digest },
    /// Another roster under the same open charter.
    #[error(
        "has another roster of the same charter; more peers than it has places tried to join, start again with fewer"
    )]
    Roster,
    /// Not on the roster.
    #[error("is not on the roster")]
    UnknownSender,
    /// Signed by one peer and handed over by another, which this kind of message does not allow.
    #[error("was handed over by a peer that did not sign it")]
    NotTheSigner,
    /// Not a neighbour in that round.
    #[error("is not a neighbour in round {round}")]
    NotANeighbour { round: u64 },
    /// In pairwise rounds: the update neither asks this peer nor answers it.
    #[error("its update of round {round} neither asks this peer nor answers it")]
    NotAPartner { round: u64 },
    /// The update belongs to a round that is over.
    #[error("round {theirs} is over; this peer is in round {ours}")]
    StaleRound { theirs: u64, ours: u64 },
    /// The update belongs to a round that is too far ahead.
    #[error("round {theirs} is too far ahead of round {ours}")]
    FutureRound { theirs: u64, ours: u64 },
    /// The same update came before.
    #[error("this update is here already")]
    Duplicate,
    /// Signed in an earlier life of its sender: an old recording, or news that has been overtaken.
    #[error("was signed before its sender's last start")]
    Replayed,
    /// A record of where a peer can be dialled is not what it should be.
    #[error("its address record: {why}")]
    AddressRecord { why: String },
    /// The announcement contradicts its own header or the charter.
    #[error("the announcement is inconsistent: {why}")]
    Announcement { why: String },
    /// The training loss that it claims is missing, superfluous, or no loss.
    #[error("the loss it claims: {why}")]
    Loss { why: String },
    /// The body could not be decoded.
    #[error("the body does not decode: {why}")]
    Body { why: String },
    /// Another number of values than the model has.
    #[error("has {found} values, the model has {expected}")]
    Dimension { found: usize, expected: usize },
    /// A value is NaN or infinite.
    #[error("value {index} is not finite")]
    NotFinite { index: usize },
    /// The vector's norm is above the cap.
    #[error("has norm {norm:e}, above the cap of {cap:e}")]
    Norm { norm: f64, cap: f64 },
    /// The resulting vector is not the announced one.
    #[error("the result is not the announced state")]
    StateMismatch,
    /// The body could not be pulled.
    #[error("its body could not be pulled: {why}")]
    Unavailable { why: String },
    /// It has signed contradicting updates.
    #[error("has signed contradicting updates")]
    Equivocator,
    /// More than a peer may send.
    #[error("sends more than {limit} {what}")]
    TooMany { what: String, limit: usize },
}

impl Refusal {
    /// The stable name that metrics and logs use.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}
