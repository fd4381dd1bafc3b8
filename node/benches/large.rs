//! What a large model costs beside its training: from trained to on its way, and from peer to peer
//! over loopback. Each beside the least that it could cost, in the same run: one copy into new
//! memory and one durable write; one raw TCP stream. Ends in about a minute.
//!
//! Over loopback both ends share the machine's cores, and encryption is what takes the time. Over a
//! line of 1 Gbit/s, which `tc qdisc add dev lo root tbf rate 1gbit burst 512k latency 50ms` makes
//! of loopback in a network namespace, a body moves at nine tenths of the raw stream.
//!
//! `cargo bench -p kith-node --bench large` · another size: `cargo bench -p kith-node --bench large
//! -- PARAMETERS`

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_consensus::charter::{Charter, Declared};
use kith_consensus::section::Document;
use kith_consensus::{Digest, Genesis, Section, Seed};
use kith_gossip::codec::codec_from_section;
use kith_gossip::effect::Record;
use kith_gossip::net::{Network, NetworkEvent, NetworkSettings};
use kith_gossip::{Authenticator, Effect, Honest, Input, Peer, Roster, Setup, Timer};
use kith_node::checkpoint::Shapes;
use kith_node::store::Store;

const RUNS: usize = 5;

fn secret(number: u8) -> [u8; 32] {
    [number; 32]
}

fn main() {
    let parameters = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(20_000_000);
    let mut stream = Seed::from_number(1).stream("bench");
    let values: Arc<Vec<f32>> = Arc::new((0..parameters).map(|_| stream.normal() as f32).collect());
    let megabytes = 4.0 * parameters as f64 / 1e6;
    println!(
        "{parameters} parameters, {megabytes:.0} MB; medians of {RUNS} runs (lowest to highest)"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = timed(|_| drop(black_box(values.to_vec())));
    let disk = timed(|_| write_durably(&folder.path().join("raw"), &values));
    let mut parts = Vec::new();
    let publication =
        timed(|run| parts.push(publish(&values, &folder.path().join(format!("peer-{run}")))));
    println!("one copy                      {}", shown(&copy));
    println!("one durable write             {}", shown(&disk));
    println!(
        "from trained to on its way    {}",
        shown(
            &publication
                .iter()
                .zip(&parts)
                .map(|(_, (a, b))| *a + *b)
                .collect::<Vec<_>>()
        )
    );
    println!(
        "  hash, encode and sign       {}",
        shown(&parts.iter().map(|(a, _)| *a).collect::<Vec<_>>())
    );
    println!(
        "  make durable                {}",
        shown(&parts.iter().map(|(_, b)| *b).collect::<Vec<_>>())
    );
    let whole = median(&parts.iter().map(|(a, b)| *a + *b).collect::<Vec<_>>());
    let least = median(&copy) + median(&disk);
    println!(
        "  = {:.2} times one copy and one durable write",
        whole.as_secs_f64() / least.as_secs_f64()
    );

    let bytes: Arc<Vec<u8>> = Arc::new(
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    );
    let raw = timed(|_| raw_tcp(&bytes));
    let pulled = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(pulled(&bytes));
    let rate = |times: &[Duration]| megabytes / median(times).as_secs_f64();
    println!(
        "one raw TCP stream            {}  {:.0} MB/s",
        shown(&raw),
        rate(&raw)
    );
    println!(
        "a body, asked for and checked {}  {:.0} MB/s, {:.0} % of that",
        shown(&pulled),
        rate(&pulled),
        100.0 * rate(&pulled) / rate(&raw)
    );
}

fn timed(mut work: impl FnMut(usize)) -> Vec<Duration> {
    (0..RUNS)
        .map(|run| {
            let started = Instant::now();
            work(run);
            started.elapsed()
        })
        .collect()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn shown(times: &[Duration]) -> String {
    let milliseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let (lowest, highest) = (
        milliseconds(times.iter().min()),
        milliseconds(times.iter().max()),
    );
    format!(
        "{:>6.0} ms ({lowest:.0} to {highest:.0})",
        median(times).as_secs_f64() * 1e3
    )
}

fn write_durably(path: &Path, values: &[f32]) {
    let mut file = std::fs::File::create(path).expect("a file");
    let mut buffer = Vec::with_capacity(4 << 16);
    for chunk in values.chunks(1 << 16) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
        file.write_all(&buffer).expect("space");
    }
    file.sync_all().expect("a disk");
}

/// What a peer does between the end of its training and the announcement: (in the peer, in the
/// store).
fn publish(values: &Arc<Vec<f32>>, folder: &Path) -> (Duration, Duration) {
    let member = |number: u8| {
        let key = Authenticator::from_secret(&secret(number)).peer();
        format!("[[membership.member]]\nname = \"p{number}\"\nkey = \"{key}\"\n")
    };
    let text = format!(
        "[federation]\nname = \"bench\"\nrounds = 2\n[topology]\nkind = \"complete\"\n[round]\nneighbours_min = 0\n[aggregation]\nrule = \
         \"mean\"\n{}{}",
        member(1),
        member(2)
    );
    let mut read = |section: &mut Section<'_>, _: &mut Declared| {
        drop(codec_from_section(section));
    };
    let charter =
        Arc::new(Charter::resolve(&text, &mut [("codec", &mut read)]).expect("a good charter"));
    std::fs::create_dir_all(folder).expect("a folder");
    let shapes = Shapes::new([("model".to_owned(), vec![values.len()])]);
    let store = Store::open(
        &folder.join("state"),
        &folder.join("checkpoints"),
        shapes,
        charter.genesis,
    )
    .expect("a store");
    let mut peer = Peer::new(Setup {
        authenticator: Authenticator::from_secret(&secret(1)),
        charter: Arc::clone(&charter),
        roster: Roster::new(charter.roster()),
        codec: Document::parse("")
            .expect("toml")
            .section("codec", codec_from_section),
        layout: Digest::of(b"layout"),
        initial: Arc::new(vec![0.0; values.len()]),
        seed: Seed::from_number(1),
        conduct: Box::new(Honest),
        evaluate_every: 0,
        incarnation: 1,
        evidence: Vec::new(),
    });
    let mut handle = |input: Input| {
        let mut effects = Vec::new();
        peer.handle(input, Duration::ZERO, &mut effects);
        effects
    };
    handle(Input::Start {
        checkpoint: None,
        intent: None,
    });
    handle(Input::TimerExpired(Timer::Start));
    let parameters = Arc::clone(values);
    let trained = Input::Trained {
        round: 0,
        parameters,
        samples: 10,
        local_steps: 2,
        loss: 0.5,
        rate: 0.1,
        memory: None,
    };
    let started = Instant::now();
    let effects = handle(trained);
    let in_peer = started.elapsed();
    let record = effects.iter().find_map(|effect| match effect {
        Effect::Persist(record @ Record::Intent(_)) => Some(record),
        _ => None,
    });
    let started = Instant::now();
    store.persist(record.expect("a promise")).expect("a disk");
    (in_peer, started.elapsed())
}

fn raw_tcp(bytes: &Arc<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let sent = Arc::clone(bytes);
    let sender = std::thread::spawn(move || {
        listener
            .accept()
            .expect("a connection")
            .0
            .write_all(&sent)
            .expect("sent")
    });
    let mut received = Vec::with_capacity(bytes.len());
    TcpStream::connect(address)
        .expect("loopback")
        .read_to_end(&mut received)
        .expect("received");
    assert_eq!(received.len(), bytes.len());
    sender.join().expect("sent");
}

fn settings(number: u8, other: u8) -> NetworkSettings {
    NetworkSettings {
        secret: secret(number),
        federation: Genesis(Digest::of(b"bench")),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        bootstrap: Vec::new(),
        allowed: Some([Authenticator::from_secret(&secret(other)).peer()].into()),
        mdns: false,
        body_bytes_max: 1 << 30,
        connections_max: 16,
    }
}

/// A body goes from one carrier to another, encrypted, and is hashed at its end.
async fn pulled(body: &Arc<Vec<u8>>) -> Vec<Duration> {
    let mut source = Network::new(settings(1, 2)).expect("a network");
    let address = loop {
        if let NetworkEvent::Listening { address } = source.next().await {
            break address;
        }
    };
    let mut second = settings(2, 1);
    second.bootstrap = vec![address];
    let mut sink = Network::new(second).expect("a network");
    let served = Arc::clone(body);
    let serving = tokio::spawn(async move {
        loop {
            if let NetworkEvent::Input(Input::BodyRequested { request, .. }) = source.next().await {
                source.execute(Effect::Provide {
                    request,
                    body: Some(Arc::clone(&served)),
                });
            }
        }
    });
    while !matches!(sink.next().await, NetworkEvent::Input(Input::PeerUp { .. })) {}
    let (digest, length) = (Digest::of(body), body.len());
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        sink.execute(Effect::Fetch {
            digest,
            length,
            sources: vec![Authenticator::from_secret(&secret(1)).peer()],
        });
        loop {
            match sink.next().await {
                NetworkEvent::Input(Input::Fetched { .. }) => break,
                NetworkEvent::Input(Input::FetchFailed { why, .. }) => panic!("{why}"),
                _ => {}
            }
        }
        times.push(started.elapsed());
    }
    serving.abort();
    times
}
