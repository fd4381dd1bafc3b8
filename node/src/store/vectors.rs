//! The vectors of a promise, in a file next to the store: the update's body, the peer's row, and
//! the vectors carried into the next round.
//!
//! They are as large as the model. Inside the transactional file every one of them would be written
//! twice and leave a hole as large as itself. The file is durable before the record that names it,
//! with its hash; a file that no record names is unused.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_consensus::Digest;
use kith_gossip::{Carried, Intent, Parameters};
use serde::{Deserialize, Serialize};

use super::folder::sync_folder;
use crate::checkpoint::values_from_bytes;
use crate::hashed::Hashed;
use crate::private;

/// Folder of these files in the state folder.
pub(super) const FOLDER: &str = "intents";
/// Vectors of fewer bytes stay in the record.
const INLINE_BYTES: usize = 64 << 10;

/// What the file of a promise holds, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Contents {
    /// Hash of the file.
    digest: Digest,
    /// Number of values of the peer's row.
    own: usize,
    /// Number of bytes of the body; `None` if it has the bytes of the peer's row.
    body: Option<usize>,
    /// Names of the carried vectors, and the number of values of each.
    carried: Vec<(String, usize)>,
}

/// The vectors of a promise.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    pub(super) own: Parameters,
    pub(super) body: Arc<Vec<u8>>,
    pub(super) carried: Carried,
}

/// Path of the vectors of a round's promise.
pub(super) fn path(state: &Path, round: u64) -> PathBuf {
    state.join(FOLDER).join(format!("round-{round:06}.vectors"))
}

/// Whether a promise is large enough for a file of its own.
pub(super) fn are_large(intent: &Intent) -> bool {
    let values = intent.own.len()
        + intent
            .carried
            .values()
            .map(|values| values.len())
            .sum::<usize>();
    4 * values + intent.body.len() >= INLINE_BYTES
}

/// Writes the vectors of a promise, durably.
///
/// # Errors
/// When the disk fails; nothing refers to the part written by then.
pub(super) fn write(state: &Path, intent: &Intent) -> io::Result<Contents> {
    private::create_folder(&state.join(FOLDER))?;
    let path = path(state, intent.round);
    // Half a file would use space, and lack of space may have been the cause.
    fill(&path, state, intent).inspect_err(|_| drop(std::fs::remove_file(&path)))
}

fn fill(path: &Path, state: &Path, intent: &Intent) -> io::Result<Contents> {
    let mut file = Hashed::new(private::create(path)?);
    file.values(&intent.own)?;
    let same = is_bytes_of(&intent.body, &intent.own);
    if !same {
        file.bytes(&intent.body)?;
    }
    for values in intent.carried.values() {
        file.values(values)?;
    }
    let digest = file.finish()?;
    sync_folder(&state.join(FOLDER))?;
    Ok(Contents {
        digest,
        own: intent.own.len(),
        body: (!same).then_some(intent.body.len()),
        carried: intent
            .carried
            .iter()
            .map(|(name, values)| (name.clone(), values.len()))
            .collect(),
    })
}

/// Reads the vectors of a round's promise.
///
/// # Errors
/// Why they differ from what was written.
pub(super) fn read(state: &Path, round: u64, contents: &Contents) -> Result<Vectors, String> {
    let path = path(state, round);
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let damaged = || format!("{} is not what was written", path.display());
    if Digest::of(&bytes) != contents.digest {
        return Err(damaged());
    }
    let mut rest = bytes.as_slice();
    let mut take = |length: usize| rest.split_off(..length).ok_or_else(damaged);
    let own = take(4 * contents.own)?;
    let body = match contents.body {
        Some(length) => take(length)?,
        None => own,
    };
    let mut carried = BTreeMap::new();
    for (name, values) in &contents.carried {
        carried.insert(name.clone(), Arc::new(values_from_bytes(take(4 * values)?)));
    }
    Ok(Vectors {
        own: Arc::new(values_from_bytes(own)),
        body: Arc::new(body.to_vec()),
        carried,
    })
}

/// Whether `bytes` are the values' little-endian bytes: then one copy is enough on disk.
fn is_bytes_of(bytes: &[u8], values: &[f32]) -> bool {
    let equal = |(bytes, value): (&[u8; 4], &f32)| *bytes == value.to_le_bytes();
    bytes.len() == 4 * values.len() && bytes.as_chunks::<4>().0.iter().zip(values).all(equal)
}
