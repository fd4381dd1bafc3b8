//! A hostile process: as a member it speaks the wire with its own key and says what no peer would
//! say; as a stranger it does to a port what anybody on a network can do. It stops by itself.
//!
//! ```text
//! kith-hostile member DIR WHAT SECONDS [TAPE]    DIR: a member's folder
//! kith-hostile stranger HOST:PORT WHAT SECONDS
//! ```
//!
//! A member's attacks are those of `kith list attacks` that attack with messages, the same code over
//! real connections, and besides: `junk` (bytes at random), `deaf` (connects and reads nothing), and
//! `tape` (sends to everybody, again and again, all that it has ever been sent, in earlier runs too,
//! which it keeps in TAPE). It takes part in no round, so that the others' model is theirs alone.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_consensus::privacy::ledger::{Decision, Spent};
use kith_consensus::{PeerId, Seed, Stream};
use kith_gossip::net::{Network, NetworkEvent, NetworkSettings};
use kith_gossip::{Authenticator, Effect, Input, Packet, Peer, Record, Setup, Stored, Timer};
use kith_node::{Agreement, Config, Identity};
use kith_simulations::attack::{Collusion, Means, Speaker, entry_of};
use kith_simulations::simulator::{Acts, Adversary, Cue, Scene};

type Failure = Box<dyn std::error::Error>;

/// Pause between two ticks of an attack.
const TICK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["member", dir, what, seconds, ref tape @ ..] => member(
            Path::new(dir),
            what,
            seconds,
            tape.first().map(PathBuf::from),
        ),
        ["stranger", at, what, seconds] => stranger(at, what, seconds),
        _ => Err(
            "expected: member DIR WHAT SECONDS [TAPE], or stranger HOST:PORT WHAT SECONDS".into(),
        ),
    };
    match outcome {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kith-hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn until(seconds: &str) -> Result<Instant, Failure> {
    Ok(Instant::now() + Duration::from_secs_f64(seconds.parse()?))
}

// --- a member ---

/// What a member does besides its peer.
enum Doing {
    Attack(Box<dyn Adversary>),
    Junk(Stream),
    Deaf,
    Tape(Tape),
}

/// All that was ever said to a member, one message after the other, each with its length.
struct Tape {
    path: Option<PathBuf>,
    messages: VecDeque<Packet>,
    played: u64,
}

/// Most messages that a tape holds.
const TAPE_MAX: usize = 4096;

impl Tape {
    fn load(path: Option<PathBuf>) -> Tape {
        let bytes = path.as_ref().and_then(|path| std::fs::read(path).ok());
        let mut messages = VecDeque::new();
        let mut rest = bytes.as_deref().unwrap_or_default();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = (u32::from_le_bytes(*length) as usize).min(after.len());
            messages.push_back(Packet::from(after[..length].to_vec()));
            rest = &after[length..];
        }
        Tape {
            path,
            messages,
            played: 0,
        }
    }

    fn record(&mut self, bytes: &Packet) {
        if self.messages.len() < TAPE_MAX {
            self.messages.push_back(bytes.clone());
        }
    }

    /// The next messages, from the beginning again after the last.
    fn play(&mut self) -> Vec<Packet> {
        /// Messages in a tick.
        const PLAYED: u64 = 200;
        let count = self.messages.len() as u64;
        let places = (0..count.min(PLAYED)).map(|place| (self.played + place) % count);
        let played = places.map(|place| self.messages[place as usize].clone());
        let played = played.collect();
        self.played += PLAYED;
        played
    }

    fn save(&self) -> std::io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let framed = self.messages.iter().flat_map(|message| {
            let length = (message.len() as u32).to_le_bytes();
            length.into_iter().chain(message.iter().copied())
        });
        if self.messages.is_empty() {
            return Ok(());
        }
        std::fs::write(path, framed.collect::<Vec<u8>>())
    }
}

struct Member {
    network: Network,
    peer: Peer,
    doing: Doing,
    began: Instant,
    incarnation: u64,
    connected: Vec<PeerId>,
    timers: Vec<(Instant, Timer)>,
    later: Vec<(Instant, Effect)>,
    /// What its own peer has still to be told.
    inputs: VecDeque<Input>,
    sent: u64,
}

fn member(dir: &Path, what: &str, seconds: &str, tape: Option<PathBuf>) -> Result<String, Failure> {
    let end = until(seconds)?;
    let config = Config::load(&dir.join("kith.toml"))?;
    let agreement = Agreement::load(&dir.join("charter.toml"))?;
    let identity = Identity::load(&config.key)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let _inside = runtime.enter();
    let address = |text: &String| text.parse().map_err(|error| format!("{text}: {error}"));
    let network = Network::new(NetworkSettings {
        secret: secret(&config.key)?,
        federation: agreement.charter.genesis,
        listen: config
            .network
            .listen
            .iter()
            .map(address)
            .collect::<Result<_, _>>()?,
        bootstrap: config
            .network
            .bootstrap
            .iter()
            .map(address)
            .collect::<Result<_, _>>()?,
        allowed: agreement.allowed(),
        mdns: false,
        body_bytes_max: 1 << 20,
        connections_max: 64,
    })?;
    let key = identity.authenticator();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let incarnation = now.as_millis() as u64;
    let setup = agreement.federation().peer(key.clone());
    let peer = Peer::new(Setup {
        incarnation,
        ..setup
    });
    let mut member = Member {
        network,
        peer,
        doing: doing(what, key, &agreement, tape)?,
        began: Instant::now(),
        incarnation,
        connected: Vec::new(),
        timers: Vec::new(),
        later: Vec::new(),
        inputs: VecDeque::from([Input::Start {
            checkpoint: None,
            intent: None,
        }]),
        sent: 0,
    };
    runtime.block_on(member.act_until(end));
    if let Doing::Tape(tape) = &member.doing {
        tape.save()?;
        return Ok(format!(
            "{what}: {} messages sent, {} on the tape",
            member.sent,
            tape.messages.len()
        ));
    }
    Ok(format!("{what}: {} messages sent", member.sent))
}

/// The secret in a key file: 64 hexadecimal digits.
fn secret(path: &Path) -> Result<[u8; 32], Failure> {
    let text = std::fs::read_to_string(path)?;
    let mut secret = [0; 32];
    for (place, byte) in secret.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2);
        *byte = u8::from_str_radix(digits.ok_or("a short key file")?, 16)?;
    }
    Ok(secret)
}

fn doing(
    what: &str,
    key: Authenticator,
    agreement: &Agreement,
    tape: Option<PathBuf>,
) -> Result<Doing, Failure> {
    Ok(match what {
        "junk" => Doing::Junk(Seed::from_number(7).stream("junk")),
        "deaf" => Doing::Deaf,
        "tape" => Doing::Tape(Tape::load(tape)),
        name => {
            let means = entry_of(name).map(|entry| entry.new.means);
            let Some(Means::Messages { speak, .. }) = means else {
                return Err(format!("{name:?} is no attack with messages").into());
            };
            Doing::Attack(speak(Speaker {
                key,
                charter: Arc::clone(&agreement.charter),
                roster: agreement.charter.roster().into_iter().collect(),
                collusion: Arc::new(Collusion::new(Vec::new())),
            }))
        }
    })
}

impl Member {
    async fn act_until(&mut self, end: Instant) {
        let mut tick = Instant::now() + TICK;
        while Instant::now() < end {
            while let Some(input) = self.inputs.pop_front() {
                self.handle(input);
            }
            if matches!(self.doing, Doing::Deaf) && self.began.elapsed() > Duration::from_secs(2) {
                // Its connections stay, and nobody reads them.
                tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;
                return;
            }
            let timers = self.timers.iter().map(|(at, _)| *at);
            let later = self.later.iter().map(|(at, _)| *at);
            let next = timers.chain(later).chain([tick, end]).min().unwrap_or(end);
            tokio::select! {
                event = self.network.next() => {
                    if let NetworkEvent::Input(input) = event {
                        self.handle(input);
                    }
                }
                () = tokio::time::sleep_until(next.into()) => {}
            }
            let now = Instant::now();
            for (_, timer) in self.timers.extract_if(.., |(at, _)| *at <= now) {
                self.inputs.push_back(Input::TimerExpired(timer));
            }
            let due: Vec<Effect> = self
                .later
                .extract_if(.., |(at, _)| *at <= now)
                .map(|(_, effect)| effect)
                .collect();
            due.into_iter().for_each(|effect| self.perform(effect));
            if tick <= now {
                tick = now + TICK;
                self.tick();
            }
        }
    }

    fn handle(&mut self, input: Input) {
        match &input {
            Input::PeerUp { peer, .. } if !self.connected.contains(peer) => {
                self.connected.push(*peer);
            }
            Input::PeerDown { peer } => self.connected.retain(|other| other != peer),
            Input::Received { bytes, .. } => {
                if let Doing::Tape(tape) = &mut self.doing {
                    tape.record(bytes);
                }
            }
            _ => {}
        }
        let mut effects = Vec::new();
        let seen = input.clone();
        self.peer.handle(input, self.began.elapsed(), &mut effects);
        let effects = self.bend(Cue::Input(&seen), effects);
        effects.into_iter().for_each(|effect| self.perform(effect));
    }

    fn bend(&mut self, cue: Cue<'_>, effects: Vec<Effect>) -> Vec<Effect> {
        let Doing::Attack(adversary) = &mut self.doing else {
            return effects;
        };
        let mut acts = Acts {
            effects,
            later: Vec::new(),
        };
        self.connected.sort_unstable();
        let scene = Scene {
            now: self.began.elapsed(),
            peer: &self.peer,
            incarnation: self.incarnation,
            connected: &self.connected,
        };
        adversary.act(&scene, cue, &mut acts);
        let now = Instant::now();
        let later = acts.later.into_iter();
        self.later
            .extend(later.map(|(after, effect)| (now + after, effect)));
        acts.effects
    }

    fn tick(&mut self) {
        let effects = self.bend(Cue::Tick, Vec::new());
        effects.into_iter().for_each(|effect| self.perform(effect));
        let messages: Vec<Packet> = match &mut self.doing {
            Doing::Junk(random) => (0..50).map(|_| junk(random)).collect(),
            Doing::Tape(tape) => {
                // The process may be killed at any time.
                if let Err(error) = tape.save() {
                    eprintln!("kith-hostile: the tape is not kept: {error}");
                }
                tape.play()
            }
            Doing::Attack(_) | Doing::Deaf => Vec::new(),
        };
        for bytes in messages {
            for to in self.connected.clone() {
                let bytes = bytes.clone();
                self.perform(Effect::Send { to, bytes });
            }
            self.perform(Effect::Announce { bytes });
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            // It takes part in no round.
            Effect::Train { round, .. } => self.inputs.push_back(Input::TrainingFailed {
                round,
                why: "it has no rows".to_owned(),
            }),
            Effect::Evaluate { round, .. } => self.inputs.push_back(Input::NotEvaluated { round }),
            Effect::Judge { round, .. } => self.inputs.push_back(Input::Judged {
                round,
                losses: None,
            }),
            Effect::SetTimer { timer, after } => self.timers.push((Instant::now() + after, timer)),
            Effect::Persist(record) => self.inputs.push_back(Input::Stored(match record {
                Record::Intent(intent) => Stored::Intent {
                    round: intent.round,
                },
                Record::Checkpoint(checkpoint) => Stored::Checkpoint {
                    round: checkpoint.round,
                },
                Record::Evidence { peer, .. } => Stored::Evidence { peer },
                // It has no rows of its own to protect.
                Record::Cover { round, .. } => Stored::Covered {
                    round,
                    behind: None,
                },
                Record::Charge { round } => Stored::Charge {
                    round,
                    decision: Decision::Charged,
                    spent: Spent {
                        epsilon: 0.0,
                        entries: 0,
                    },
                },
            })),
            Effect::Emit(_) | Effect::Stop => {}
            other => {
                self.sent += u64::from(matches!(
                    other,
                    Effect::Send { .. } | Effect::Announce { .. }
                ));
                self.network.execute(other);
            }
        }
    }
}

/// Bytes at random, of any length that a message may have and a little more; half of them begin as
/// a message does.
fn junk(random: &mut Stream) -> Packet {
    let length = [0, 1, 40, 200, 5_000, 65_536, 70_000][random.bounded(7) as usize];
    let mut bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
    if random.bounded(2) == 0 && length > 2 {
        bytes[..2].copy_from_slice(&[0x83, 0x58]);
    }
    bytes.into()
}

// --- a stranger ---

fn stranger(at: &str, what: &str, seconds: &str) -> Result<String, Failure> {
    let end = until(seconds)?;
    let at: SocketAddr = at.parse()?;
    let mut random = Seed::from_number(11).stream("stranger");
    let count = match what {
        "half-open" => half_open(at, end),
        "junk" => talk(at, end, |_| junk(&mut random).to_vec()),
        // What begins as libp2p does, and then nothing that fits.
        "libp2p" => talk(at, end, |number| {
            let mut bytes = b"\x13/multistream/1.0.0\n\x07/noise\n".to_vec();
            bytes.extend(std::iter::repeat_n(number as u8, 200));
            bytes
        }),
        "datagrams" => datagrams(at, end, &mut random)?,
        other => return Err(format!("{other:?} is nothing that a stranger does").into()),
    };
    Ok(format!("{what}: {count} tries"))
}

/// Opens connections, says nothing, and keeps as many open as it can.
fn half_open(at: SocketAddr, end: Instant) -> u64 {
    let mut open = VecDeque::new();
    let mut count = 0;
    while Instant::now() < end {
        if let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_secs(1)) {
            open.push_back(stream);
            count += 1;
        }
        if open.len() > 300 {
            open.pop_front();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    count
}

/// Opens connections one after the other, says something, and reads what comes for a moment.
fn talk(at: SocketAddr, end: Instant, mut says: impl FnMut(u64) -> Vec<u8>) -> u64 {
    let mut count = 0;
    while Instant::now() < end {
        let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_secs(1)) else {
            continue;
        };
        count += 1;
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
        let _ = stream.write_all(&says(count));
        let _ = stream.read(&mut [0; 256]);
    }
    count
}

/// Throws datagrams, half of which begin as QUIC's first packets do.
fn datagrams(at: SocketAddr, end: Instant, random: &mut Stream) -> Result<u64, Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut count = 0;
    while Instant::now() < end {
        for _ in 0..20 {
            let mut bytes: Vec<u8> = (0..1200).map(|_| random.next_u64() as u8).collect();
            if count % 2 == 0 {
                bytes[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            }
            let _ = socket.send_to(&bytes, at); // nothing may listen there
            count += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(count)
}
