//! A running peer: [`Node::start`] brings up its actors, [`NodeHandle`] is the caller's handle on
//! it.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kameo::actor::{Actor, ActorRef, PreparedActor, Spawn};
use kameo::mailbox;
use kameo::supervision::RestartPolicy;
use kith_consensus::{Charter, PeerId};
use kith_gossip::net::{Network, NetworkSettings};
use kith_gossip::{Command, Conduct, Honest, Input, Parameters, Peer, Setup};
use kith_models::Dataset;
use tokio::sync::{broadcast, mpsc, watch};

use crate::actors::supervisor::{End, Fault, Supervisor, Watch};
use crate::actors::{network, peer, status, store, trainer};
use crate::agreement::Agreement;
use crate::config::Config;
use crate::data;
use crate::error::NodeError;
use crate::guarantee::Guarantee;
use crate::identity::Identity;
use crate::store::Store;
use crate::telemetry::{Activity, Known, Line, NodeEvent, Telemetry, What};
use crate::testnet::{TestnetHandle, may_lie};

pub use crate::actors::status::STATUS_ADDRESS_FILE;
pub use crate::token::OWNER_TOKEN_FILE;

/// How often the training thread may panic before the node gives up: more is a bug, not an
/// accident.
const TRAINER_RESTARTS: u32 = 3;
/// Window in which those panics are counted.
const TRAINER_RESTARTS_WITHIN: Duration = Duration::from_secs(600);
/// After the peer is done the swarm runs this much longer, so that its goodbye leaves the machine
/// (guess).
const FLUSH: Duration = Duration::from_millis(150);
/// Longest that an actor may take to end; then the node ends without it.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Room in a pulled body beyond the larger of a keyframe and an encoding.
const BODY_SLACK_BYTES: usize = 4096;

/// What a node is made of.
#[derive(Debug)]
pub struct NodeSettings {
    /// The member's own settings.
    pub config: Config,
    /// What the federation agreed on.
    pub agreement: Agreement,
    /// This peer's key.
    pub identity: Identity,
    /// Rows to train on.
    pub data: Dataset,
    /// Rows to evaluate on.
    pub held_out: Option<Dataset>,
    /// The guarantee for the rows to train on, under a charter that gives one.
    pub guarantee: Option<Guarantee>,
    /// How it behaves: honest, except for a testnet's liars.
    pub conduct: Box<dyn Conduct>,
}

impl NodeSettings {
    /// Reads everything that the configuration at `path` names.
    ///
    /// # Errors
    /// What is wrong, before anything starts; a configuration that asks for an attack, which only
    /// [`NodeSettings::of_config`] can make.
    pub fn load(path: &Path) -> Result<NodeSettings, NodeError> {
        NodeSettings::of_config(Config::load(path)?, |_, _| {
            Err("this program knows no attacks".to_owned())
        })
    }

    /// Reads everything that a configuration names, with attacks made by `attack` from their text
    /// and the charter. It is asked only under a charter that is marked as a testnet's and with
    /// every address on loopback.
    ///
    /// # Errors
    /// What is wrong, before anything starts.
    pub fn of_config(
        config: Config,
        attack: impl FnOnce(&str, &Arc<Charter>) -> Result<Box<dyn Conduct>, String>,
    ) -> Result<NodeSettings, NodeError> {
        let agreement = Agreement::load(&config.charter)?;
        let identity = Identity::load(&config.key)?;
        let conduct = match &config.attack {
            None => Box::new(Honest),
            Some(text) => {
                may_lie(&config, &agreement)?;
                attack(text, &agreement.charter)
                    .map_err(|why| NodeError::Unfit(format!("[testnet] attack: {why}")))?
            }
        };
        let peer = identity.peer();
        if !agreement.admits(&peer) {
            return Err(NodeError::Unfit(format!(
                "this peer, {peer}, is not a member in {}; have its line added there (`kith init` printed it), or use the charter \
                 that lists it",
                config.charter.display()
            )));
        }
        let (data, held_out) = data::load(
            &config.data,
            agreement.task.schema(),
            agreement.charter.peer_seed(&peer),
        )?;
        let guarantee = Guarantee::of(&agreement, &config.data, (&data, held_out.as_ref()))?;
        Ok(NodeSettings {
            guarantee,
            config,
            agreement,
            identity,
            data,
            held_out,
            conduct,
        })
    }
}

/// How a node ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it went through every round.
    pub finished: bool,
    /// Number of completed rounds.
    pub rounds: u64,
    /// Why it stopped, for people.
    pub why: String,
    /// The parameters of its newest completed round; `None` if it completed none.
    pub parameters: Option<Parameters>,
}

/// A node that starts.
#[derive(Clone, Copy, Debug)]
pub struct Node;

/// A node that runs. Dropping it does not stop the node; [`NodeHandle::wait`] does the last steps.
#[derive(Debug)]
pub struct NodeHandle {
    peer: PeerId,
    telemetry: Arc<Telemetry>,
    newest: peer::Newest,
    actors: Actors,
    testnet: Option<TestnetHandle>,
    end: watch::Receiver<Option<End>>,
    /// Ends when locks and ports are free again.
    gone: mpsc::Receiver<Infallible>,
    lines: broadcast::Receiver<Line>,
}

#[derive(Debug)]
struct Actors {
    supervisor: ActorRef<Supervisor>,
    peer: ActorRef<peer::PeerActor>,
    network: ActorRef<network::NetworkActor>,
    trainer: ActorRef<trainer::TrainerActor>,
    store: ActorRef<store::StoreActor>,
    status: ActorRef<status::StatusActor>,
}

impl Node {
    /// Opens the state, the sockets and the status server, starts the actors and lets the peer
    /// begin or resume.
    ///
    /// # Errors
    /// What failed, before anything is sent: the state is in use, a port is busy, an address is
    /// wrong.
    ///
    /// # Panics
    /// On a tokio runtime with a single thread: peer and store have threads of their own.
    pub async fn start(settings: NodeSettings) -> Result<NodeHandle, NodeError> {
        let NodeSettings {
            config,
            agreement,
            identity,
            data,
            held_out,
            guarantee,
            conduct,
        } = settings;
        let charter = agreement.charter.clone();
        let is_testnet = may_lie(&config, &agreement).is_ok();
        let peer_id = identity.peer();
        trainer::check_threads()?;
        let mut store = Store::open(
            &config.state,
            &config.checkpoints,
            agreement.shapes(),
            charter.genesis,
        )?;
        let resumed = store.resume()?;
        if let Some(guarantee) = &guarantee {
            if resumed.checkpoint.is_none() && resumed.intent.is_none() {
                guarantee.check_budget(&guarantee.charging.file.read()?)?;
            }
            store.charge_to(guarantee.charging.clone())?;
        }
        let network = Network::new(network_settings(&config, &agreement, &identity)?)?;
        let socket = status::Socket::bind(&config).await?;
        let status_address = socket.address().to_string();

        let telemetry = Telemetry::new(&config.name, peer_id, charter.genesis, charter.rounds)
            .with_charter(&charter)
            .with_state(&config.state);
        let telemetry = Arc::new(telemetry);
        let lines = telemetry.subscribe();
        let newest: peer::Newest = Arc::new(Mutex::new(
            resumed
                .checkpoint
                .as_ref()
                .map(|found| found.parameters.clone()),
        ));
        let seed = agreement.charter.peer_seed(&peer_id);
        let machine = Peer::new(Setup {
            conduct,
            evaluate_every: config.evaluate_every,
            incarnation: store.begin_life()?,
            evidence: store.evidence()?,
            ..agreement.federation().peer(identity.authenticator())
        });

        let (end_sender, end) = watch::channel(None);
        let (alive, gone) = mpsc::channel(1);
        let supervisor = Supervisor::spawn(end_sender);
        let prepared = peer::PeerActor::prepare_with_mailbox(mailbox::bounded(peer::MAILBOX));
        let peer_ref = prepared.actor_ref().clone();
        let trainer = trainer::Arguments {
            task: agreement.task,
            data,
            held_out,
            private: guarantee.map(|guarantee| guarantee.training),
            seed,
            peer: peer_ref.clone().recipient(),
            telemetry: telemetry.clone(),
        };
        let trainer = trainer::TrainerActor::supervise(&supervisor, trainer)
            .restart_policy(RestartPolicy::Transient)
            .restart_limit(TRAINER_RESTARTS, TRAINER_RESTARTS_WITHIN)
            .spawn()
            .await;
        let store = watched(&supervisor, store::MAILBOX).await.start_in_thread((
            store,
            peer_ref.clone().recipient(),
            telemetry.clone(),
            alive.clone(),
        ));
        let prepared_network = watched(&supervisor, network::MAILBOX).await;
        let network_ref = prepared_network.0.actor_ref().clone();
        watch(&supervisor, prepared.actor_ref()).await;
        prepared.spawn_in_thread(peer::Arguments {
            peer: machine,
            telemetry: telemetry.clone(),
            newest: newest.clone(),
            supervisor: supervisor.clone(),
            others: peer::Others {
                network: network_ref,
                trainer: trainer.clone(),
                store: store.clone(),
            },
        });
        tokio::spawn(keep_lines(telemetry.clone(), store.clone()));
        telemetry.node_event(NodeEvent::RunStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
        });
        for text in resumed.warnings {
            telemetry.node_event(NodeEvent::Warning { text });
        }
        let start = Input::Start {
            checkpoint: resumed.checkpoint.map(Box::new),
            intent: resumed.intent.map(Box::new),
        };
        let _ = peer_ref.tell(start).send().await;
        // The network comes last, so that the peer has begun before anything arrives from outside.
        let arguments = network::Arguments {
            network,
            peer: peer_ref.clone().recipient(),
            telemetry: telemetry.clone(),
            _alive: alive,
        };
        let network = prepared_network.start(arguments);
        let served = status::Served {
            telemetry: telemetry.clone(),
            peer: peer_ref.clone(),
            store: store.clone(),
            metrics: config.metrics,
        };
        let status = watched(&supervisor, status::MAILBOX)
            .await
            .start(status::Arguments { socket, served });
        telemetry.node_event(NodeEvent::Serving {
            address: status_address,
        });
        let testnet = is_testnet.then(|| TestnetHandle {
            charter,
            peer: peer_ref.clone(),
            network: network.clone(),
        });
        let actors = Actors {
            supervisor,
            peer: peer_ref,
            network,
            trainer,
            store,
            status,
        };
        Ok(NodeHandle {
            peer: peer_id,
            telemetry,
            newest,
            actors,
            testnet,
            end,
            gone,
            lines,
        })
    }
}

/// Keeps the node's own lines in the event log, up to the report, which its maker keeps. (The
/// peer's actor keeps the peer's lines, in the order of its records.)
async fn keep_lines(telemetry: Arc<Telemetry>, store: ActorRef<store::StoreActor>) {
    let mut lines = telemetry.subscribe();
    loop {
        match lines.recv().await {
            Ok(Line {
                what: What::Node(NodeEvent::Report { .. }),
                ..
            })
            | Err(broadcast::error::RecvError::Closed) => return,
            Ok(line) if line.is_kept() => {
                let Ok(text) = serde_json::to_string(&line) else {
                    continue;
                };
                if store.tell(store::Append(vec![text])).try_send().is_err() {
                    telemetry.add_lost(1);
                }
            }
            // Lagging loses lines of the log, not the peer's time. Some of them were not to be kept.
            Err(broadcast::error::RecvError::Lagged(lines)) => telemetry.add_lost(lines),
            Ok(_) => {}
        }
    }
}

/// An actor that the supervisor watches and that has not started.
struct Watched<A: Actor>(PreparedActor<A>);

impl<A: Actor> Watched<A> {
    fn start(self, arguments: A::Args) -> ActorRef<A> {
        let actor = self.0.actor_ref().clone();
        self.0.spawn(arguments);
        actor
    }

    fn start_in_thread(self, arguments: A::Args) -> ActorRef<A> {
        let actor = self.0.actor_ref().clone();
        self.0.spawn_in_thread(arguments);
        actor
    }
}

async fn watched<A: Actor>(supervisor: &ActorRef<Supervisor>, mailbox_size: usize) -> Watched<A> {
    let prepared = A::prepare_with_mailbox(mailbox::bounded(mailbox_size));
    watch(supervisor, prepared.actor_ref()).await;
    Watched(prepared)
}

async fn watch<A: Actor>(supervisor: &ActorRef<Supervisor>, actor: &ActorRef<A>) {
    let _ = supervisor.tell(Watch(actor.id(), A::name())).send().await;
    supervisor.link(actor).await;
}

fn network_settings(
    config: &Config,
    agreement: &Agreement,
    identity: &Identity,
) -> Result<NetworkSettings, NodeError> {
    // Peers send a row: the model and the values that the charter's method adds.
    let dimension = agreement
        .charter
        .aggregation
        .method
        .row_len(agreement.task.layout().dimension);
    let mut settings = NetworkSettings {
        secret: identity.secret(),
        federation: agreement.charter.genesis,
        listen: Vec::new(),
        bootstrap: Vec::new(),
        allowed: agreement.allowed(),
        mdns: config.network.mdns,
        // A body is an encoding or a keyframe, which is a replica in full.
        body_bytes_max: agreement.codec.bytes_max(dimension).max(4 * dimension) + BODY_SLACK_BYTES,
        connections_max: config.network.connections_max,
    };
    for (texts, addresses) in [
        (&config.network.listen, &mut settings.listen),
        (&config.network.bootstrap, &mut settings.bootstrap),
    ] {
        for text in texts {
            addresses.push(text.parse().map_err(|error| {
                NodeError::Unfit(format!("{text:?} is not an address: {error}"))
            })?);
        }
    }
    Ok(settings)
}

impl NodeHandle {
    /// The id of this peer.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// All lines from now on. For those from the start use [`NodeHandle::lines`].
    pub fn subscribe(&self) -> broadcast::Receiver<Line> {
        self.telemetry.subscribe()
    }

    /// The lines from the start, once.
    pub fn lines(&mut self) -> broadcast::Receiver<Line> {
        let later = self.telemetry.subscribe();
        std::mem::replace(&mut self.lines, later)
    }

    /// Its state, its counters and addresses.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// The first address at which it listens, once it does; `None` if it ended before.
    pub async fn listening(&self) -> Option<String> {
        let mut lines = self.telemetry.subscribe();
        loop {
            if let Some(address) = self.telemetry.known().listening.first() {
                return Some(address.clone());
            }
            // Lines missed by lagging are in the status.
            if let Err(broadcast::error::RecvError::Closed) = lines.recv().await {
                return None;
            }
        }
    }

    /// Asks the peer to say goodbye and stop; [`NodeHandle::wait`] returns when it has.
    pub async fn leave(&self) {
        self.leave_handle().leave().await;
    }

    /// Something that can ask the peer to leave while another task waits for its end.
    pub fn leave_handle(&self) -> LeaveHandle {
        LeaveHandle(self.actors.peer.clone())
    }

    /// The last line.
    fn report(&self, known: Known, finished: bool, why: String) -> NodeEvent {
        let (wire_in_bytes, wire_out_bytes) = self.telemetry.wire();
        let [training_seconds, evaluation_seconds] =
            [Activity::Training, Activity::Evaluation].map(|activity| known.took(activity).sum());
        NodeEvent::Report {
            finished,
            rounds: known.completed,
            why,
            wire_in_bytes,
            wire_out_bytes,
            restarts: known.restarts.values().sum(),
            training_seconds,
            evaluation_seconds,
            history: known.history,
        }
    }

    /// Something that can give a testnet's orders; `None` unless the charter is marked as a
    /// testnet's and the peer listens on loopback only.
    pub fn testnet_handle(&self) -> Option<TestnetHandle> {
        self.testnet.clone()
    }

    /// Waits until the peer is done, stops the actors in order and makes the last lines durable.
    ///
    /// # Errors
    /// When an actor failed in a way that could not be survived.
    pub async fn wait(mut self) -> Result<Outcome, NodeError> {
        let ended = match self.end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        };
        if matches!(ended, Some(End::Ended(_))) {
            tokio::time::sleep(FLUSH).await;
        }
        // Once stopped, the network has reported everything that it counted, and counts nothing
        // more.
        stop(&self.actors.peer).await;
        stop(&self.actors.network).await;
        let (finished, why, broken) = how_it_ended(ended);
        let mut last = self.telemetry.show_denials();
        let known = self.telemetry.known();
        let rounds = known.completed;
        let report = self.report(known, finished, why.clone());
        last.push(self.telemetry.node_event(report));
        let last = last
            .iter()
            .filter_map(|line| serde_json::to_string(line).ok())
            .collect();
        let _ = self.actors.store.tell(store::Append(last)).try_send();
        self.actors.stop().await;
        let _ = tokio::time::timeout(STOP_DEADLINE, self.gone.recv()).await;
        match broken {
            Some(error) => Err(error),
            None => Ok(Outcome {
                finished,
                rounds,
                why,
                parameters: self.newest(),
            }),
        }
    }

    fn newest(&self) -> Option<Parameters> {
        let newest = self.newest.lock();
        newest.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether the peer went through every round, why it stopped, and what broke if anything did.
fn how_it_ended(end: Option<End>) -> (bool, String, Option<NodeError>) {
    match end {
        Some(End::Ended(ended)) => (ended.finished, ended.why, None),
        Some(End::Broken { actor, why, fault }) => (
            false,
            format!("the {actor} failed: {why}"),
            Some(broken(actor, why, fault)),
        ),
        None => (
            false,
            "the supervisor failed".to_owned(),
            Some(broken("supervisor", "it panicked".to_owned(), Fault::Ours)),
        ),
    }
}

fn broken(actor: &str, why: String, fault: Fault) -> NodeError {
    match fault {
        Fault::Ours => NodeError::Broken {
            actor: actor.to_owned(),
            why,
        },
        Fault::Disk => NodeError::Disk { why },
        Fault::Machine => NodeError::Machine { why },
    }
}

impl Actors {
    /// Peer first, so that nobody asks for anything more; the store last, so that it has
    /// everything.
    async fn stop(&self) {
        stop(&self.peer).await;
        stop(&self.network).await;
        stop(&self.status).await;
        stop(&self.trainer).await;
        stop(&self.store).await;
        stop(&self.supervisor).await;
    }
}

async fn stop<A: Actor>(actor: &ActorRef<A>) {
    let stopped = async {
        let _ = actor.stop_gracefully().await;
        // Waits until its last step is done; the news that it takes no more messages comes earlier.
        actor.wait_for_shutdown_with_result(|_| ()).await;
    };
    if tokio::time::timeout(STOP_DEADLINE, stopped).await.is_err() {
        tracing::warn!(
            "the {} did not stop in {} s",
            A::name(),
            STOP_DEADLINE.as_secs()
        );
        actor.kill();
    }
}

/// Can ask a peer to leave.
#[derive(Clone, Debug)]
pub struct LeaveHandle(ActorRef<peer::PeerActor>);

impl LeaveHandle {
    /// Asks the peer to say goodbye and stop.
    pub async fn leave(&self) {
        let _ = self.0.tell(Input::Command(Command::Leave)).send().await;
    }
}
