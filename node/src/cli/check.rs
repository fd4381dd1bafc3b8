//! `kith check`: everything that can be checked without starting anything. Its profile of the
//! peer's rows is private: it is shown here and sent nowhere.

mod document;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kith_consensus::PeerId;
use kith_consensus::charter::Mechanism;
use kith_consensus::charter::{Admission, Charter};
use kith_consensus::privacy::rdp;
use kith_consensus::topology::Graph;
use kith_gossip::codec::Form;
use kith_models::{Dataset, Schema, rows_in_both};
use serde_json::{Value, json};

use self::document::{Document, File};
use self::text::text;
use super::output::{Verdict, print, print_json, tell};
use crate::agreement::Agreement;
use crate::config::{CONFIG_FILE, Config};
use crate::data::{self, OwnRows};
use crate::error::NodeError;
use crate::guarantee::Guarantee;
use crate::identity::Identity;
use crate::readiness;
use crate::testnet::may_lie;

/// Memory of the program before any model, measured on a running testnet peer.
const BASE_BYTES: u64 = 16 << 20;
/// Bytes of an announcement around an update: envelope, hashes, signature. Measured: 265 on a
/// testnet, 232 to 267 in simulations; large numbers take a few more.
const ANNOUNCEMENT_BYTES: u64 = 300;

/// What an open federation means.
const OPEN: &str = "open: the first peers with this charter form the roster; whoever holds many keys holds many places, so \
                    byzantine is an assumption";

/// Check charter, key, configuration and data without starting anything
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kith check --dir ada\n  kith check --dir ada --json\n\nExit code 0 where `kith run` could start."
)]
pub(crate) struct Check {
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

/// What was found, and what is wrong.
#[derive(Default)]
struct Findings {
    document: Document,
    problems: Vec<NodeError>,
}

impl Check {
    pub(crate) fn run(self) -> Verdict {
        let mut findings = Findings::default();
        let path = self
            .config
            .clone()
            .unwrap_or_else(|| self.dir.join(CONFIG_FILE));
        if let Some(config) = findings.keep(Config::load(&path)) {
            findings.look(&config);
        }
        let ok = findings.problems.is_empty();
        findings.document.ok = ok;
        if self.json {
            let problems = findings.problems.iter().flat_map(problem_json);
            findings.document.problems = problems.collect();
            // As a value, so that the keys are in alphabetical order.
            print_json(&json!(findings.document))?;
        } else {
            // A configuration that cannot run has no result: its profile goes where its problems
            // go.
            let text = text(&findings.document);
            if ok {
                print(&text)?
            } else {
                tell(text.trim_end())
            }
            for problem in findings.problems {
                // Each is shown in full on stderr; the exit code speaks for all.
                let _ = super::output::Failure::from(problem).report();
            }
        }
        Ok(if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Findings {
    fn keep<T>(&mut self, result: Result<T, NodeError>) -> Option<T> {
        result.map_err(|error| self.problems.push(error)).ok()
    }

    fn look(&mut self, config: &Config) {
        let agreement = self.keep(Agreement::load(&config.charter));
        let peer = self
            .keep(Identity::load(&config.key).map_err(NodeError::from))
            .map(|identity| identity.peer());
        self.document.identity = Some(document::Identity {
            name: config.name.clone(),
            peer_id: peer.map(|peer| peer.to_string()),
        });
        let Some(agreement) = agreement else { return };
        self.look_at_charter(config, &agreement, peer);
        let found = readiness::look(config, &agreement, peer);
        self.problems.extend(found.problems);
        let mut notes = found.notes;
        if agreement.codec.form() == Form::Replica
            && agreement.charter.aggregation.rule.name() == "mean"
        {
            let what = format!(
                "rule \"mean\" under codec {:?} mixes a peer's exact model with its neighbours' replicas, so the mean of all models moves a \
                 little; rule \"choco\" keeps it",
                agreement.codec.name()
            );
            notes.push(what);
        }
        self.document.notes = Some(notes);
        let seed = agreement
            .charter
            .peer_seed(&peer.unwrap_or(PeerId([0; 32])));
        let schema = agreement.task.schema();
        if let Some(rows) = self.keep(data::read(&config.data, schema, seed)) {
            self.look_at_rows(config, schema, &rows);
            self.estimate(&agreement, peer, &rows.train, rows.held_out.as_ref());
            self.look_at_privacy(config, &agreement, &rows);
        }
    }

    fn look_at_charter(&mut self, config: &Config, agreement: &Agreement, peer: Option<PeerId>) {
        let charter = &agreement.charter;
        if let Some(attack) = &config.attack {
            self.keep(may_lie(config, agreement));
            self.keep(
                super::run::attack(attack, charter)
                    .map_err(|why| NodeError::Unfit(format!("[testnet] attack: {why}"))),
            );
        }
        let open = charter.membership.mode == Admission::Open;
        let member = peer.filter(|_| !open).map(|peer| charter.member(&peer));
        if let (Some(peer), Some(None)) = (peer, member) {
            self.problems.push(NodeError::Unfit(format!(
                "this peer, {peer}, is not a member in {}; have its line added there",
                config.charter.display()
            )));
        }
        let rule = &charter.aggregation.rule;
        self.document.agreement = Some(document::Agreement {
            federation: document::Federation {
                name: charter.name.clone(),
                id: charter.id.to_string(),
                rounds: charter.rounds,
            },
            model: document::Model {
                kind: agreement.task.model().kind,
                parameters: agreement.task.layout().dimension,
            },
            rule: document::Rule {
                name: rule.name(),
                byzantine: rule.byzantine(),
                models_needed: rule.minimum(),
            },
            membership: open.then_some(document::Membership {
                mode: OPEN,
                peers: charter.membership.peers,
            }),
            member: member.map(|member| member.map(|member| member.name.clone())),
            neighbourhoods: neighbourhoods(charter),
        });
    }

    fn look_at_rows(&mut self, config: &Config, schema: &Schema, rows: &OwnRows) {
        let own = &config.data.path;
        let mut files = vec![File::of(own, schema, &rows.all, &rows.reading)];
        if let (Some(path), Some(held_out), Some(reading)) =
            (&config.data.test_path, &rows.held_out, &rows.test_reading)
        {
            files.push(File::of(path, schema, held_out, reading));
        }
        let held_out = rows.held_out.as_ref();
        self.document.data = Some(document::Data {
            path: own.display().to_string(),
            rows: rows.train.len(),
            held_out_rows: held_out.map(Dataset::len),
            features: rows.train.features(),
            class_counts: rows.train.class_counts(schema.classes),
            held_out_class_counts: held_out.map(|rows| rows.class_counts(schema.classes)),
            rows_in_both: held_out.map(|held_out| rows_in_both(&rows.train, held_out)),
            missing: files[0].missing.clone(),
            files,
        });
    }

    /// What a guarantee asks of these rows, and what is left of their budget.
    fn look_at_privacy(&mut self, config: &Config, agreement: &Agreement, rows: &OwnRows) {
        let both = (&rows.train, rows.held_out.as_ref());
        let guarantee = self.keep(Guarantee::of(agreement, &config.data, both));
        let Some(guarantee) = guarantee.flatten() else {
            return;
        };
        let Some(ledger) = self.keep(guarantee.charging.file.read().map_err(NodeError::from))
        else {
            return;
        };
        if !has_begun(config) {
            self.keep(guarantee.check_budget(&ledger));
        }
        let account = &guarantee.charging.account;
        let terms = account.terms();
        let planned = rdp::Curve::of(&[terms.plan()], &[terms.filter().order()]);
        let planned = planned.map(|curve| curve.epsilon(terms.delta()).epsilon);
        let (scale, mechanism) = (terms.scale(), terms.mechanism());
        let sampling = match mechanism {
            Mechanism::ExampleLevel { sampling, lot } => Some(document::Sampling {
                sampling_rate: sampling.rate(),
                lot,
                expected_lot: sampling.rate() * rows.train.len() as f64,
            }),
            Mechanism::UpdateLevel => None,
        };
        self.document.privacy = Some(document::Privacy {
            mechanism: terms.unit().mechanism(),
            unit: terms.unit().name(),
            clip_norm: scale.clip(),
            noise_multiplier: scale.noise_multiplier(),
            sampling,
            steps_per_release: terms.local_steps(),
            delta: terms.delta().get(),
            epsilon_budget: terms.budget().get(),
            epsilon_planned: planned.unwrap_or(f64::INFINITY),
            rounds_affordable: account.affordable(&ledger),
            rounds_planned: terms.releases(),
            epsilon_spent: account.spent(&ledger).epsilon,
            noise_per_coordinate: scale.deviation() / mechanism.divisor(),
            ledger: guarantee.charging.file.path().display().to_string(),
        });
    }

    fn estimate(
        &mut self,
        agreement: &Agreement,
        peer: Option<PeerId>,
        rows: &Dataset,
        held_out: Option<&Dataset>,
    ) {
        let dimension = agreement.task.layout().dimension as u64;
        let (receives, sends) = degrees(&agreement.charter, peer);
        // Peers send a row: the model and the values that the charter's method adds.
        let method = agreement.charter.aggregation.method;
        let row = method.row_len(agreement.task.layout().dimension);
        let body = agreement.codec.bytes_max(row) as u64;
        let (row, update) = (row as u64, body + ANNOUNCEMENT_BYTES);
        // The peer's model, start, gradient, velocity and result, and the vectors of the method;
        // each neighbour's row, and its replica if there is one.
        let replicas = u64::from(agreement.codec.form() == Form::Replica);
        let own = 6 + method.carried_vectors(receives as usize) as u64;
        let others = receives * (1 + replicas) + replicas;
        let data = Dataset::memory_bytes_of(std::iter::once(rows).chain(held_out)) as u64;
        self.document.expected = Some(document::Expected {
            memory_bytes: BASE_BYTES + data + 4 * (dimension * own + row * others),
            update_bytes_max: update,
            bytes_out_per_round: sends * update,
            bytes_in_per_round: receives * update,
            dense_bytes_per_round: receives * 4 * row,
            keyframe_bytes: (replicas > 0).then_some(4 * row),
            graph_changes: agreement.charter.topology.changes(),
            local_steps_per_round: agreement.task.training().steps(rows.len()),
        });
    }
}

/// Whether the peer has a state, so that a start resumes it.
fn has_begun(config: &Config) -> bool {
    let checkpoints = std::fs::read_dir(&config.checkpoints);
    checkpoints.is_ok_and(|mut entries| entries.next().is_some())
}

/// How many peers this peer hears in the first round, and how many hear it; 0 if that is unknown.
fn degrees(charter: &Charter, peer: Option<PeerId>) -> (u64, u64) {
    let graph = charter.topology.graph(charter.membership.peers, 0).ok();
    // In an open federation one place is as good as another.
    let place = match charter.membership.mode {
        Admission::Members => peer.and_then(|peer| charter.roster().binary_search(&peer).ok()),
        Admission::Open => Some(0),
    };
    let degree = |of: fn(&Graph, usize) -> &[usize]| match (&graph, place) {
        (Some(graph), Some(place)) => of(graph, place).len() as u64,
        _ => 0,
    };
    (degree(Graph::receives_from), degree(Graph::sends_to))
}

/// Whom each peer hears in the first round; `None` if the graph cannot be drawn.
fn neighbourhoods(charter: &Charter) -> Option<Vec<document::Neighbourhood>> {
    let peers = charter.membership.peers;
    let graph = charter.topology.graph(peers, 0).ok()?;
    let roster = charter.roster();
    let member = |index: usize| roster.get(index).and_then(|key| charter.member(key));
    let names: Vec<String> = (0..peers)
        .map(|index| member(index).map_or(format!("peer {index}"), |member| member.name.clone()))
        .collect();
    let neighbourhood = |index: usize| {
        let others = graph.receives_from(index);
        document::Neighbourhood {
            name: names[index].clone(),
            neighbours: others.iter().map(|other| names[*other].clone()).collect(),
            models: others.len() + 1,
            byzantine: charter.aggregation.rule.byzantine(),
        }
    };
    Some((0..peers).map(neighbourhood).collect())
}

fn problem_json(problem: &NodeError) -> Vec<Value> {
    match problem {
        NodeError::Files(files) => files.to_json().as_array().cloned().unwrap_or_default(),
        other => vec![json!({"what": other.to_string()})],
    }
}
