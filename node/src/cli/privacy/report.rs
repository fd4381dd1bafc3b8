//! `kith privacy report`, `verify` and `processing-record`: what may be said about the privacy of a
//! peer's rows, for its board, its partners and its data protection officer.
//!
//! The fields follow "How to DP-fy ML" (Ponomareva et al. 2023, arXiv 2303.00654, section 5.3) and the
//! layers of NIST SP 800-226, each as covered or not covered. The signature file names the three
//! forms of the report by their BLAKE3 hashes, so that none can be changed alone.

use std::path::{Path, PathBuf};

use clap::Args;
use kith_consensus::charter::Mechanism;
use kith_consensus::privacy::ledger::{Kind, Statement};
use kith_consensus::{Digest, PeerId};
use kith_gossip::Authenticator;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::guard::TRUST;
use super::super::output::{Failure, Verdict, print, print_json};
use super::claims::{ACCESSES, claims};
use super::ledger::Found;
use super::pages::{Block, html, markdown};
use crate::cli::done;
use crate::error::NodeError;
use crate::identity::Identity;
use crate::telemetry::time_of_day;

/// Names of the report's files, without their endings.
const NAME: &str = "privacy-report";

/// What a signature of this kind covers.
const DOMAIN: &[u8] = b"kith.v1 privacy report";

/// Write a signed report about the privacy of a peer's rows
#[derive(Debug, Args)]
#[command(after_help = "\
Writes privacy-report.md, .html and .json, and privacy-report.signature.json, which `kith privacy verify` checks.

Examples:
  kith privacy report --dir ada
  kith privacy report --dir ada --out for-the-board --json")]
pub(crate) struct Make {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Its configuration, if it is not kith.toml in that folder
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder for the files; the peer's folder if not given
    #[arg(long)]
    out: Option<PathBuf>,
    /// The report as one JSON document on stdout as well
    #[arg(long)]
    json: bool,
}

/// Check the signature of a report
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 if all three files are as they were signed.

Examples:
  kith privacy verify for-the-board")]
pub(crate) struct Verify {
    /// Folder with the report's files
    folder: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Draft the record of processing activities (GDPR, Article 30)
#[derive(Debug, Args)]
#[command(after_help = "\
Blanks are what only the operator knows. Markdown goes to stdout.

Examples:
  kith privacy processing-record --dir ada > record.md")]
pub(crate) struct Record {
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

/// Who signed which files.
#[derive(Serialize, Deserialize)]
struct Signature {
    peer: PeerId,
    /// Name to BLAKE3 hash.
    files: std::collections::BTreeMap<String, Digest>,
    /// In hexadecimal.
    signature: String,
}

impl Signature {
    fn of(identity: &Identity, files: &[(String, String)]) -> Signature {
        let files = files
            .iter()
            .map(|(name, text)| (name.clone(), Digest::of(text.as_bytes())))
            .collect();
        let mut signature = Signature {
            peer: identity.peer(),
            files,
            signature: String::new(),
        };
        let bytes = identity.authenticator().sign(DOMAIN, &signature.said());
        signature.signature = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        signature
    }

    fn said(&self) -> Vec<u8> {
        let files = self.files.iter();
        let lines = files.map(|(name, digest)| format!("{digest} {name}\n"));
        lines.collect::<String>().into_bytes()
    }

    fn is_true(&self) -> bool {
        let digits = self.signature.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        // Any key verifies others' signatures.
        let verifier = Authenticator::from_secret(&[0; 32]);
        bytes.is_some_and(|bytes| verifier.verify(&self.peer, DOMAIN, &self.said(), &bytes))
    }
}

impl Make {
    pub(crate) fn run(self) -> Verdict {
        let found = Found::of(&self.dir, self.config.as_ref())?;
        let identity = Identity::load(&found.config.key)
            .map_err(|error| Failure::from(NodeError::from(error)))?;
        let statement = found.account.statement(&found.ledger)?;
        let title = format!("Privacy of the rows of {}", found.config.name);
        let blocks = blocks(&found, &statement, &identity.peer());
        let document = document(&found, &statement, &identity.peer());
        let files = [
            (format!("{NAME}.md"), markdown(&title, &blocks)),
            (format!("{NAME}.html"), html(&title, &blocks)),
            (format!("{NAME}.json"), format!("{document}\n")),
        ];
        let folder = self.out.as_deref().unwrap_or(&self.dir);
        std::fs::create_dir_all(folder).map_err(|error| cannot("create", folder, &error))?;
        for (name, text) in &files {
            write(&folder.join(name), text)?;
        }
        let signature = Signature::of(&identity, &files);
        let text = serde_json::to_string_pretty(&signature)
            .map_err(|error| Failure::new(error.to_string()))?;
        write(
            &folder.join(format!("{NAME}.signature.json")),
            &format!("{text}\n"),
        )?;
        if self.json {
            print_json(&document)?;
        } else {
            print(&format!(
                "{}\nwritten and signed: {}\n",
                sentence(&statement),
                folder.join(format!("{NAME}.md")).display()
            ))?;
        }
        done()
    }
}

impl Verify {
    pub(crate) fn run(self) -> Verdict {
        let path = self.folder.join(format!("{NAME}.signature.json"));
        let text = std::fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
        let signature: Signature = serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!(
                "{} is no signature of a report: {error}",
                path.display()
            ))
        })?;
        for ending in ["md", "html", "json"] {
            let name = format!("{NAME}.{ending}");
            let path = self.folder.join(&name);
            let bytes = std::fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
            if signature.files.get(&name) != Some(&Digest::of(&bytes)) {
                return Err(Failure::with_help(
                    format!("{} is not as it was signed", path.display()),
                    "ask the peer that made it for the report once more",
                ));
            }
        }
        if !signature.is_true() {
            return Err(Failure::with_help(
                format!("{} was not signed by {}", path.display(), signature.peer),
                "ask the peer that made it for the report once more",
            ));
        }
        if self.json {
            print_json(&json!({"signed_by": signature.peer.to_string(), "valid": true}))?;
        } else {
            print(&format!(
                "signed by {}; nothing was changed\n",
                signature.peer
            ))?;
        }
        done()
    }
}

fn cannot(act: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {act} {}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| cannot("write", path, &error))
}

/// The statement in one sentence.
fn sentence(statement: &Statement) -> String {
    let tight = statement.epsilon_pld.map_or(String::new(), |epsilon| {
        format!(" ({epsilon:.4} by privacy loss distributions)")
    });
    format!(
        "Everything that was charged to this ledger is ({:.4}, {:e})-differentially private for {}, of a budget of epsilon {}{tight}.",
        statement.epsilon_rdp,
        statement.delta,
        claims(statement.unit).protected,
        statement.budget
    )
}

fn setting(found: &Found) -> String {
    let charter = &found.agreement.charter;
    format!(
        "{} peers train one model together in federation {} ({} rounds, rule {}, {} topology). No server: each peer sends its update to its \
         neighbours. {}.",
        charter.membership.peers,
        charter.name,
        charter.rounds,
        charter.aggregation.rule.name(),
        charter.topology.kind.name(),
        capitalised(TRUST)
    )
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<Vec<String>> {
    let row = |(one, other): &(&str, &str)| vec![(*one).to_owned(), (*other).to_owned()];
    pairs.iter().map(row).collect()
}

fn rows(lines: &[(&str, &str, &str)]) -> Vec<Vec<String>> {
    let row = |(what, covered, why): &(&str, &str, &str)| {
        [what, covered, why].map(|text| (*text).to_owned()).to_vec()
    };
    lines.iter().map(row).collect()
}

fn blocks(found: &Found, statement: &Statement, peer: &PeerId) -> Vec<Block> {
    let heading = |text: &str| Block::Heading(text.to_owned());
    let paragraph = |text: &str| Block::Paragraph(text.to_owned());
    let coverage = |lines: &[(&str, &str, &str)]| Block::Table {
        header: vec!["what", "covered", "how, or why not"],
        rows: rows(lines),
    };
    let claims = claims(statement.unit);
    vec![
        heading("Statement"),
        Block::Paragraph(sentence(statement)),
        heading("Setting"),
        Block::Paragraph(setting(found)),
        heading("What is released"),
        paragraph(claims.released),
        heading("Unit and adjacency"),
        Block::List(vec![
            ("unit".to_owned(), claims.unit.to_owned()),
            ("adjacency".to_owned(), claims.adjacency.to_owned()),
        ]),
        heading("Accountants"),
        Block::Table {
            header: vec!["accountant", "epsilon", "holds for"],
            rows: accountants(statement),
        },
        heading("Mechanism"),
        Block::List(mechanism(found)),
        heading("Assumptions, and how the code enforces each"),
        Block::Table {
            header: vec!["assumption", "enforced by"],
            rows: owned(&claims.assumptions()),
        },
        heading("Which accesses to the rows are covered"),
        coverage(&ACCESSES),
        heading("Below epsilon (layers of NIST SP 800-226)"),
        coverage(&claims.layers()),
        heading("Origin"),
        Block::List(origin(found, peer)),
    ]
}

fn accountants(statement: &Statement) -> Vec<Vec<String>> {
    let rdp = vec![
        "Rényi filter".to_owned(),
        format!("{:.4}", statement.epsilon_rdp),
        "any order of events, also releases that were chosen after earlier ones, and several federations".to_owned(),
    ];
    let tight = statement.epsilon_pld.map_or_else(
        || "not stated".to_owned(),
        |epsilon| format!("{epsilon:.4}"),
    );
    let pld = vec![
        "privacy loss distributions".to_owned(),
        tight,
        "a schedule fixed beforehand; not stated if another federation used the rows or an entry had to be recovered".to_owned(),
    ];
    vec![rdp, pld]
}

fn mechanism(found: &Found) -> Vec<(String, String)> {
    let terms = found.account.terms();
    let named = |name: &str, value: String| (name.to_owned(), value);
    let scale = terms.scale();
    let mut found = vec![
        named("algorithm", claims(terms.unit()).algorithm.to_owned()),
        named("clip norm", scale.clip().to_string()),
        named("noise multiplier", scale.noise_multiplier().to_string()),
    ];
    if let Mechanism::ExampleLevel { sampling, lot } = terms.mechanism() {
        found.push(named("sampling rate", sampling.rate().to_string()));
        found.push(named("divisor (lot size)", lot.to_string()));
    }
    found.push(named("steps of a release", terms.local_steps().to_string()));
    found.push(named("releases planned", terms.releases().to_string()));
    found
}

fn origin(found: &Found, peer: &PeerId) -> Vec<(String, String)> {
    let named = |name: &str, value: String| (name.to_owned(), value);
    let charter = &found.agreement.charter;
    let ledger = &found.ledger;
    vec![
        named("made", time_of_day()),
        named("program", format!("kith {}", env!("CARGO_PKG_VERSION"))),
        named("peer", format!("{} {peer}", found.config.name)),
        named("federation", charter.genesis.to_string()),
        named("charter", charter.id.to_string()),
        named("data set", ledger.dataset().to_string()),
        named("ledger head", ledger.head().to_string()),
        named("ledger entries", entries(found)),
    ]
}

fn entries(found: &Found) -> String {
    let of = |kind: Kind| {
        found
            .ledger
            .entries()
            .iter()
            .filter(|entry| entry.kind == kind)
            .count()
    };
    let own = found.account.federation();
    let others = found
        .ledger
        .entries()
        .iter()
        .filter(|entry| entry.federation != own);
    format!(
        "{}, of which {} recovered, {} torn, {} of other federations",
        found.ledger.entries().len(),
        of(Kind::Recovered),
        of(Kind::Torn) + usize::from(found.ledger.is_torn()),
        others.count()
    )
}

fn document(found: &Found, statement: &Statement, peer: &PeerId) -> serde_json::Value {
    let map = |pairs: Vec<(String, String)>| -> serde_json::Map<String, serde_json::Value> {
        pairs
            .into_iter()
            .map(|(name, value)| (name.replace(' ', "_"), value.into()))
            .collect()
    };
    let coverage = |lines: &[(&str, &str, &str)]| -> Vec<serde_json::Value> {
        let one = |(what, covered, why): &(&str, &str, &str)| json!({"what": what, "covered": *covered == "covered", "why": why});
        lines.iter().map(one).collect()
    };
    let claims = claims(statement.unit);
    let assumptions: Vec<serde_json::Value> = claims
        .assumptions()
        .iter()
        .map(|(assumption, enforced)| json!({"assumption": assumption, "enforced_by": enforced}))
        .collect();
    json!({
        "statement": sentence(statement),
        "privacy": statement,
        "setting": setting(found),
        "released": claims.released,
        "unit": statement.unit,
        "adjacency": claims.adjacency,
        "mechanism": map(mechanism(found)),
        "assumptions": assumptions,
        "accesses": coverage(&ACCESSES),
        "layers": coverage(&claims.layers()),
        "origin": map(origin(found, peer)),
    })
}

/// What stands where only the operator knows.
const BLANK: &str = "____ (to be filled in by the operator)";

impl Record {
    pub(crate) fn run(self) -> Verdict {
        let found = Found::of(&self.dir, self.config.as_ref())?;
        let statement = found.account.statement(&found.ledger)?;
        let fields = article_30(&found, &statement);
        if self.json {
            let fields: serde_json::Map<String, serde_json::Value> = fields
                .into_iter()
                .map(|(field, _, value)| (field.to_owned(), value.into()))
                .collect();
            print_json(&fields)?;
            return done();
        }
        let rows = fields
            .into_iter()
            .map(|(field, what, value)| vec![format!("({field})"), what.to_owned(), value]);
        let blocks = [
            Block::Paragraph(
                "Draft of the record of processing activities, Regulation (EU) 2016/679, Article 30(1). It is no legal advice.".to_owned(),
            ),
            Block::Table {
                header: vec!["point", "what it asks for", "entry"],
                rows: rows.collect(),
            },
        ];
        let title = format!("Processing record of {}", found.config.name);
        print(&markdown(&title, &blocks))?;
        done()
    }
}

fn article_30(found: &Found, statement: &Statement) -> Vec<(&'static str, &'static str, String)> {
    let charter = &found.agreement.charter;
    let recipients: Vec<String> = charter
        .membership
        .members
        .iter()
        .map(|member| match member.organisation.as_str() {
            "" => member.name.clone(),
            organisation => format!("{} ({organisation})", member.name),
        })
        .collect();
    let recipients = match recipients.is_empty() {
        true => "whoever joins the open federation".to_owned(),
        false => recipients.join(", "),
    };
    vec![
        (
            "a",
            "name and contact of the controller, and of the data protection officer",
            BLANK.to_owned(),
        ),
        (
            "b",
            "purposes of the processing",
            format!(
                "training of a joint model, federation {}; {BLANK}",
                charter.name
            ),
        ),
        (
            "c",
            "categories of data subjects and of personal data",
            BLANK.to_owned(),
        ),
        (
            "d",
            "categories of recipients",
            format!(
                "the members of the federation, who receive model updates and no rows: {recipients}"
            ),
        ),
        (
            "e",
            "transfers to a third country",
            format!("updates go to the members under (d); countries of their seats: {BLANK}"),
        ),
        (
            "f",
            "time limits for erasure",
            format!(
                "rows: {BLANK}; checkpoints: two generations are kept; the privacy ledger is kept as long as the rows"
            ),
        ),
        (
            "g",
            "technical and organisational measures",
            format!(
                "rows do not leave the peer's machine; {} Connections are encrypted and authenticated by keys; only members may connect \
                 where the charter lists them; state, checkpoints, key and ledger are readable by their owner alone",
                sentence(statement)
            ),
        ),
    ]
}
