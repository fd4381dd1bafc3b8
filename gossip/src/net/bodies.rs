//! Bodies by name: pulled over separate streams, 256 KiB at a time, and resumed where a stream
//! broke.
//!
//! The asker sends the BLAKE3 hash and an offset; the other side answers with the whole length, or
//! with none, and the bytes from there. No body is longer than announced, and one that does not
//! hash to its name is thrown away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use kith_consensus::{Digest, PeerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use super::streams::{Control, Inbound, Protocol, Tied};
use super::{NetworkEvent, from_libp2p, to_libp2p};
use crate::effect::Input;
use crate::limits::{
    BYTES_PER_SECOND_MIN, CHUNK_BYTES, PASS_PAUSE, PASSES, PULLS_PER_SOURCE, SERVED_MAX,
    SILENCE_MAX,
};

/// Marks "I do not have it" where the length would stand.
const NOT_HERE: u64 = u64::MAX;

type Answers = BTreeMap<u64, oneshot::Sender<Option<Arc<Vec<u8>>>>>;
type Waiting = Arc<Mutex<Answers>>;
type Pulls = Arc<Mutex<BTreeMap<(Digest, PeerId), AbortHandle>>>;
type Turns = Arc<Mutex<BTreeMap<PeerId, Arc<Semaphore>>>>;

pub(super) struct Bodies {
    control: Control,
    events: mpsc::Sender<NetworkEvent>,
    /// The turns of those sources that are being asked.
    turns: Turns,
    /// The pulls under way, by body and the first source.
    pulls: Pulls,
    waiting: Waiting,
    bytes_max: usize,
}

impl Bodies {
    pub(super) fn new(
        control: Control,
        events: mpsc::Sender<NetworkEvent>,
        bytes_max: usize,
    ) -> Bodies {
        Bodies {
            control,
            events,
            turns: Turns::default(),
            pulls: Pulls::default(),
            waiting: Waiting::default(),
            bytes_max,
        }
    }

    // --- asking ---

    pub(super) fn fetch(&self, digest: Digest, length: usize, sources: Vec<PeerId>) {
        let (control, events, turns) = (
            self.control.clone(),
            self.events.clone(),
            Arc::clone(&self.turns),
        );
        let limit = self.bytes_max;
        let name = sources.first().map(|source| (digest, *source));
        let pulls = Arc::clone(&self.pulls);
        let pull = tokio::spawn(async move {
            let outcome = if length > limit {
                Err(format!("{length} bytes are more than the {limit} allowed"))
            } else {
                pull(&control, &turns, digest, length, &sources).await
            };
            let event = match outcome {
                Ok(bytes) => NetworkEvent::Input(Input::Fetched {
                    digest,
                    bytes: bytes.into(),
                }),
                Err(why) => NetworkEvent::Input(Input::FetchFailed {
                    digest,
                    sources,
                    why,
                }),
            };
            if let Some(name) = name {
                // Another pull of the same body may have begun meanwhile, and its handle is here.
                let mut pulls = pulls.lock().unwrap_or_else(PoisonError::into_inner);
                if pulls
                    .get(&name)
                    .is_some_and(|pull| pull.id() == tokio::task::id())
                {
                    pulls.remove(&name);
                }
            }
            let _ = events.send(event).await; // the network is shutting down when nobody listens
        });
        if let Some(name) = name.filter(|_| !pull.is_finished()) {
            let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            pulls.retain(|_, pull| !pull.is_finished());
            pulls.insert(name, pull.abort_handle());
        }
    }

    /// Ends a pull that nobody waits for any more, with the turn that it has or waits for.
    pub(super) fn abandon(&self, digest: Digest, source: PeerId) {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pull) = pulls.remove(&(digest, source)) {
            pull.abort();
        }
    }

    // --- serving ---

    pub(super) fn provide(&self, request: u64, body: Option<Arc<Vec<u8>>>) {
        if let Some(answer) = lock(&self.waiting).remove(&request) {
            let _ = answer.send(body); // the asker may have left
        }
    }

    /// Serves every accepted stream, for as long as the task lives.
    pub(super) fn accept(&self, mut inbound: mpsc::Receiver<Inbound>) -> JoinHandle<()> {
        let (events, waiting, limit) = (
            self.events.clone(),
            Arc::clone(&self.waiting),
            self.bytes_max,
        );
        let served = Arc::new(Semaphore::new(SERVED_MAX));
        let numbers = Arc::new(AtomicU64::new(0));
        tokio::spawn(async move {
            while let Some(Inbound { from, stream }) = inbound.recv().await {
                let Some(from) = from_libp2p(&from) else {
                    continue;
                };
                let request = numbers.fetch_add(1, Ordering::Relaxed);
                let (events, waiting, served) =
                    (events.clone(), Arc::clone(&waiting), Arc::clone(&served));
                tokio::spawn(async move {
                    // How many wait is bounded by the streams that connections may have.
                    let Ok(_turn) = served.acquire_owned().await else {
                        return;
                    };
                    let longest =
                        SILENCE_MAX * 2 + Duration::from_secs(limit as u64 / BYTES_PER_SECOND_MIN);
                    match tokio::time::timeout(
                        longest,
                        serve(stream, from, request, events, &waiting),
                    )
                    .await
                    {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => {
                            tracing::debug!(peer = %from, %error, "a body was not served")
                        }
                        Err(_) => tracing::debug!(peer = %from, "reads a body too slowly"),
                    }
                    lock(&waiting).remove(&request);
                });
            }
        })
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, Answers> {
    // The map is whole even if a holder panicked: every change is one call.
    waiting
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits for its turn to ask a source; the turn lasts until the permit is dropped.
async fn turn(turns: &Turns, source: PeerId) -> Option<OwnedSemaphorePermit> {
    let of_source = {
        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is kept about sources that nobody asks.
        turns.retain(|_, turn| {
            Arc::strong_count(turn) > 1 || turn.available_permits() < PULLS_PER_SOURCE
        });
        Arc::clone(
            turns
                .entry(source)
                .or_insert_with(|| Arc::new(Semaphore::new(PULLS_PER_SOURCE))),
        )
    };
    of_source.acquire_owned().await.ok()
}

async fn pull(
    control: &Control,
    turns: &Turns,
    digest: Digest,
    length: usize,
    sources: &[PeerId],
) -> Result<Vec<u8>, String> {
    let (mut bytes, mut hasher) = (Vec::new(), blake3::Hasher::new());
    let mut why = "nobody to ask".to_owned();
    for (attempt, source) in sources
        .iter()
        .cycle()
        .take(sources.len() * PASSES)
        .enumerate()
    {
        if attempt > 0 && attempt % sources.len() == 0 {
            tokio::time::sleep(PASS_PAUSE).await;
        }
        let Some(_turn) = turn(turns, *source).await else {
            break;
        };
        bytes.reserve_exact(length - bytes.len());
        // The time spent waiting for a turn does not count against the source.
        let longest = SILENCE_MAX + Duration::from_secs(length as u64 / BYTES_PER_SECOND_MIN);
        let here = (&mut bytes, &mut hasher);
        let pulled =
            tokio::time::timeout(longest, pull_from(control, source, digest, length, here)).await;
        // Bytes that did not come in time are missing.
        bytes.truncate(usize::try_from(hasher.count()).unwrap_or(0));
        match pulled
            .unwrap_or_else(|_| Err(format!("slower than {BYTES_PER_SECOND_MIN} bytes a second")))
        {
            Ok(()) if *hasher.finalize().as_bytes() == digest.0 => return Ok(bytes),
            Ok(()) => {
                why = format!("what …{} sent is not what it is named", source.short());
                bytes.clear();
                hasher.reset();
            }
            Err(error) => why = format!("…{}: {error}", source.short()),
        }
    }
    Err(why)
}

/// Appends the missing part of a body.
async fn pull_from(
    control: &Control,
    source: &PeerId,
    digest: Digest,
    length: usize,
    (bytes, hasher): (&mut Vec<u8>, &mut blake3::Hasher),
) -> Result<(), String> {
    let id = to_libp2p(source).ok_or("not an ed25519 key")?;
    let within = |what| move |_| format!("{what} took more than {} s", SILENCE_MAX.as_secs());
    let open = tokio::time::timeout(SILENCE_MAX, control.open(id, Protocol::Body)).await;
    let mut stream = open.map_err(within("opening a stream"))??;
    let mut question = digest.0.to_vec();
    question.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    stream
        .write_all(&question)
        .await
        .map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    let mut head = [0u8; 8];
    let answer = tokio::time::timeout(SILENCE_MAX, stream.read_exact(&mut head)).await;
    answer
        .map_err(within("its answer"))?
        .map_err(|error| error.to_string())?;
    match u64::from_le_bytes(head) {
        NOT_HERE => return Err("does not have it".to_owned()),
        total if total != length as u64 => {
            return Err(format!(
                "offers {total} bytes where {length} were announced"
            ));
        }
        _ => {}
    }
    let mut filled = bytes.len();
    bytes.resize(length, 0);
    while filled < length {
        // In parts that are hashed while they are in the cache.
        let end = (filled + CHUNK_BYTES).min(length);
        let read = tokio::time::timeout(SILENCE_MAX, stream.read(&mut bytes[filled..end])).await;
        let count = match read {
            Ok(Ok(count)) => count,
            Ok(Err(_)) | Err(_) => 0,
        };
        if count == 0 {
            return Err(format!("stopped after {filled} of {length} bytes"));
        }
        hasher.update(&bytes[filled..filled + count]);
        filled += count;
    }
    Ok(())
}

async fn serve(
    mut stream: Tied,
    from: PeerId,
    request: u64,
    events: mpsc::Sender<NetworkEvent>,
    waiting: &Waiting,
) -> std::io::Result<()> {
    let mut question = [0u8; 40];
    tokio::time::timeout(SILENCE_MAX, stream.read_exact(&mut question))
        .await
        .map_err(std::io::Error::other)??;
    let (name, offset) = question.split_at(32);
    let digest = Digest(name.try_into().map_err(std::io::Error::other)?);
    let offset = u64::from_le_bytes(offset.try_into().map_err(std::io::Error::other)?);
    let (answer, body) = oneshot::channel();
    lock(waiting).insert(request, answer);
    events
        .send(NetworkEvent::Input(Input::BodyRequested {
            from,
            digest,
            request,
        }))
        .await
        .map_err(std::io::Error::other)?;
    let body = tokio::time::timeout(SILENCE_MAX, body)
        .await
        .map_err(std::io::Error::other)?
        .ok()
        .flatten();
    let length = body.as_ref().map_or(NOT_HERE, |body| body.len() as u64);
    stream.write_all(&length.to_le_bytes()).await?;
    let rest = body
        .as_ref()
        .and_then(|body| body.get(usize::try_from(offset).ok()?..))
        .unwrap_or_default();
    for chunk in rest.chunks(CHUNK_BYTES) {
        tokio::time::timeout(SILENCE_MAX, stream.write_all(chunk))
            .await
            .map_err(std::io::Error::other)??;
    }
    stream.close().await
}
