//! Checkpoint files: `round-000042.safetensors`, readable by any program that reads safetensors.
//!
//! The model's tensors stand under their names, the public reconstructions as
//! `kith.replica.<peer id>`, and the metadata names federation, round, sequence and roster, and holds
//! what others' headers state of their privacy ledgers. A file
//! is written next to its place, made durable, then renamed; it exists whole or not at all. The
//! store, not this module, knows which files there are and their hashes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_consensus::{Digest, Genesis, PeerId};
use kith_gossip::{Carried, Checkpoint, History, Packet, Parameters, Roster};
use kith_models::{Layout, model_header};
use safetensors::tensor::{Dtype, SafeTensors};

use crate::hashed::Hashed;
use crate::private;

/// Prefix of replicas' tensor names; the peer id follows.
const REPLICA_PREFIX: &str = "kith.replica.";
/// Prefix of the names of vectors that are carried from round to round besides the model.
const CARRIED_PREFIX: &str = "kith.carried.";

/// Others' headers that state what they have spent, in base 58; only where there are any.
const HEADERS: &str = "kith.headers";

/// Most bytes of a header with its signature (guess: half as much again as the largest takes).
const HEADER_BYTES_MAX: usize = 512;

/// Names and shapes of the model's tensors in the order in which they stand in the parameter
/// vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes(Vec<(String, Vec<usize>)>);

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// The action as a verb: read, write, …
        act: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not what was written.
    #[error("the checkpoint {} is damaged: {why}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// How the damage was noticed.
        why: String,
    },
}

impl Shapes {
    /// From names and shapes in the order of the parameter vector.
    pub fn new(shapes: impl IntoIterator<Item = (String, Vec<usize>)>) -> Shapes {
        Shapes(shapes.into_iter().collect())
    }

    /// Number of values of the parameter vector.
    pub fn dimension(&self) -> usize {
        self.0
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }
}

/// The file's name for a checkpoint that leads into `round`.
pub fn file_name(round: u64) -> String {
    format!("round-{round:06}.safetensors")
}

/// Whether a file name is that of an unfinished checkpoint.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(is_file_name)
}

/// Whether a file name is that of a checkpoint.
pub(crate) fn is_file_name(name: &str) -> bool {
    name.starts_with("round-") && name.ends_with(".safetensors")
}

/// Writes `checkpoint` into `folder` and makes it durable; returns the hash of the file's bytes.
///
/// # Errors
/// When the file system fails; the folder then holds no file of that name that was not there
/// before.
pub fn write(
    folder: &Path,
    shapes: &Shapes,
    federation: Genesis,
    checkpoint: &Checkpoint,
) -> Result<Digest, CheckpointError> {
    let path = folder.join(file_name(checkpoint.round));
    let write = |file| write_into(Hashed::new(file), shapes, federation, checkpoint);
    let written = replace(&path, private::create, write);
    written.map_err(|source| CheckpointError::Io {
        act: "write",
        path,
        source,
    })
}

/// Reads the checkpoint that leads into `round`; its bytes have to hash to `digest`.
///
/// # Errors
/// When the file cannot be read or is not what was written.
pub fn read(
    folder: &Path,
    shapes: &Shapes,
    federation: Genesis,
    round: u64,
    digest: Digest,
) -> Result<Checkpoint, CheckpointError> {
    let path = folder.join(file_name(round));
    let bytes = check(folder, round, digest)?;
    let checkpoint =
        from_bytes(shapes, federation, &bytes).map_err(|why| CheckpointError::Damaged {
            path: path.clone(),
            why,
        })?;
    if checkpoint.round != round {
        return Err(CheckpointError::Damaged {
            path,
            why: format!("it leads into round {}", checkpoint.round),
        });
    }
    Ok(checkpoint)
}

/// The bytes of the checkpoint that leads into `round`, if they hash to `digest`.
pub(crate) fn check(folder: &Path, round: u64, digest: Digest) -> Result<Vec<u8>, CheckpointError> {
    let path = folder.join(file_name(round));
    let bytes = std::fs::read(&path).map_err(|source| CheckpointError::Io {
        act: "read",
        path: path.clone(),
        source,
    })?;
    if Digest::of(&bytes) != digest {
        return Err(CheckpointError::Damaged {
            path,
            why: "its bytes are not the ones that were written".to_owned(),
        });
    }
    Ok(bytes)
}

/// Writes bytes so that after a crash either all of them or the file's old content is there.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    replace(
        path,
        |path| File::create(path),
        |mut file| file.write_all(bytes).and_then(|()| file.sync_all()),
    )
}

/// Lets `write` fill a new file and make it durable, then gives it the name of the old one.
fn replace<T>(
    path: &Path,
    create: impl FnOnce(&Path) -> std::io::Result<File>,
    write: impl FnOnce(File) -> std::io::Result<T>,
) -> std::io::Result<T> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = folder.join(name);
    let replaced = create(&temporary).and_then(write).and_then(|written| {
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()?;
        Ok(written)
    });
    // Half a file would use space, and lack of space may have been the cause.
    replaced.inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

/// Little-endian bytes of values.
pub(crate) fn values_to_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Values of little-endian bytes; a rest of fewer than four bytes is ignored.
pub(crate) fn values_from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

/// Equal checkpoints give equal bytes. They are written piece by piece, so that a large model is
/// not in memory twice.
fn write_into(
    mut file: Hashed,
    shapes: &Shapes,
    federation: Genesis,
    checkpoint: &Checkpoint,
) -> std::io::Result<Digest> {
    assert_eq!(
        checkpoint.parameters.len(),
        shapes.dimension(),
        "a checkpoint has the model's dimension"
    );
    let tensors = tensors(shapes, checkpoint);
    let layout = Layout::new(
        tensors
            .iter()
            .map(|(name, (shape, _))| (name.clone(), shape.clone())),
    );
    let metadata = metadata(federation, checkpoint);
    file.bytes(&model_header(&layout, &metadata))?;
    for tensor in &layout.tensors {
        file.values(tensors[&tensor.name].1)?;
    }
    file.finish()
}

/// Shape and values of every tensor, by its name.
fn tensors<'a>(
    shapes: &Shapes,
    checkpoint: &'a Checkpoint,
) -> BTreeMap<String, (Vec<usize>, &'a [f32])> {
    let mut tensors: BTreeMap<String, (Vec<usize>, &[f32])> = BTreeMap::new();
    let mut rest = checkpoint.parameters.as_slice();
    for (name, shape) in &shapes.0 {
        let (values, after) = rest.split_at(shape.iter().product());
        tensors.insert(name.clone(), (shape.clone(), values));
        rest = after;
    }
    for (peer, values) in &checkpoint.replicas {
        let name = format!("{REPLICA_PREFIX}{peer}");
        tensors.insert(name, (vec![values.len()], values));
    }
    for (name, values) in &checkpoint.carried {
        let name = format!("{CARRIED_PREFIX}{name}");
        tensors.insert(name, (vec![values.len()], values));
    }
    tensors
}

/// What a checkpoint's file holds besides its tensors.
fn metadata(federation: Genesis, checkpoint: &Checkpoint) -> BTreeMap<String, String> {
    let history = &checkpoint.history;
    let roster: Vec<String> = checkpoint.roster.iter().map(PeerId::to_string).collect();
    let said = [
        ("kith.federation", federation.to_string()),
        ("kith.round", checkpoint.round.to_string()),
        ("kith.sequence", checkpoint.sequence.to_string()),
        ("kith.rounds_mixed", mixed_to_text(history)),
        (
            "kith.rounds_training_failed",
            history.training_failed.to_string(),
        ),
        ("kith.rounds_listened", history.listened.to_string()),
        ("kith.rounds_passed_over", history.passed_over.to_string()),
        ("kith.roster", roster.join(" ")),
    ];
    let mut metadata: BTreeMap<String, String> =
        said.map(|(key, value)| (key.to_owned(), value)).into();
    if !checkpoint.headers.is_empty() {
        let headers: Vec<String> = checkpoint
            .headers
            .iter()
            .map(|bytes| bs58::encode(&bytes[..]).into_string())
            .collect();
        metadata.insert(HEADERS.to_owned(), headers.join(" "));
    }
    metadata
}

/// A checkpoint's file, opened.
struct Opened<'a> {
    file: SafeTensors<'a>,
    metadata: BTreeMap<String, String>,
}

impl Opened<'_> {
    fn field(&self, key: &str) -> Result<&str, String> {
        let value = self.metadata.get(key);
        value
            .map(String::as_str)
            .ok_or_else(|| format!("it does not name its {key}"))
    }

    fn number(&self, key: &str) -> Result<u64, String> {
        self.field(key)?
            .parse()
            .map_err(|_| format!("its {key} is not a number"))
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self
            .file
            .tensor(name)
            .map_err(|_| format!("it has no tensor {name:?}"))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!(
                "tensor {name:?} is {:?}, expected F32",
                tensor.dtype()
            ));
        }
        Ok(values_from_bytes(tensor.data()))
    }

    /// The vectors whose names begin with `prefix`, by the rest of the name.
    fn vectors(&self, prefix: &str) -> Result<Vec<(String, Vec<f32>)>, String> {
        let names = self.file.names().into_iter();
        let names = names.filter_map(|name| Some((name, name.strip_prefix(prefix)?)));
        names
            .map(|(name, rest)| Ok((rest.to_owned(), self.values(name)?)))
            .collect()
    }

    fn parameters(&self, shapes: &Shapes) -> Result<Vec<f32>, String> {
        let mut parameters = Vec::with_capacity(shapes.dimension());
        for (name, shape) in &shapes.0 {
            let found = self.values(name)?;
            let expected: usize = shape.iter().product();
            if found.len() != expected {
                return Err(format!(
                    "tensor {name:?} has {} values, the model has {expected}",
                    found.len()
                ));
            }
            parameters.extend(found);
        }
        Ok(parameters)
    }

    fn replicas(&self, dimension: usize) -> Result<BTreeMap<PeerId, Parameters>, String> {
        let mut replicas: BTreeMap<PeerId, Parameters> = BTreeMap::new();
        for (text, replica) in self.vectors(REPLICA_PREFIX)? {
            let peer = peer_from_text(&text)?;
            // A row may hold the values that the charter's method sends besides the model.
            if replica.is_empty() || !replica.len().is_multiple_of(dimension) {
                return Err(format!(
                    "the replica of {peer} has {} values, the model has {dimension}",
                    replica.len()
                ));
            }
            replicas.insert(peer, Arc::new(replica));
        }
        Ok(replicas)
    }

    fn roster(&self) -> Result<Roster, String> {
        let words = self.field("kith.roster")?.split_whitespace();
        words.map(peer_from_text).collect()
    }

    fn carried(&self) -> Result<Carried, String> {
        let vectors = self.vectors(CARRIED_PREFIX)?.into_iter();
        Ok(vectors
            .map(|(name, values)| (name, Arc::new(values)))
            .collect())
    }

    fn headers(&self) -> Result<Vec<Packet>, String> {
        let text = self.metadata.get(HEADERS).map_or("", String::as_str);
        let headers = text.split_whitespace().map(|header| {
            let mut bytes = [0; HEADER_BYTES_MAX];
            let length = bs58::decode(header).onto(&mut bytes)?;
            Ok(Packet::from(bytes[..length].to_vec()))
        });
        let headers: bs58::decode::Result<_> = headers.collect();
        headers.map_err(|error| format!("its {HEADERS} are not in base 58: {error}"))
    }

    fn history(&self) -> Result<History, String> {
        let Some(text) = self.metadata.get("kith.rounds_mixed") else {
            return Ok(History::default()); // written by an older program
        };
        Ok(History {
            mixed: mixed_from_text(text)
                .ok_or("its kith.rounds_mixed is no list of models:rounds")?,
            training_failed: self.number("kith.rounds_training_failed")?,
            listened: self.number("kith.rounds_listened")?,
            passed_over: self.number("kith.rounds_passed_over")?,
        })
    }
}

fn peer_from_text(text: &str) -> Result<PeerId, String> {
    text.parse::<PeerId>().map_err(|error| error.to_string())
}

fn from_bytes(shapes: &Shapes, federation: Genesis, bytes: &[u8]) -> Result<Checkpoint, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let opened = Opened {
        file: SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?,
        metadata: header
            .metadata()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    };
    if opened.field("kith.federation")? != federation.to_string() {
        return Err("it belongs to another federation".to_owned());
    }
    let parameters = opened.parameters(shapes)?;
    let roster = opened.roster()?;
    let replicas = opened.replicas(parameters.len())?;
    let carried = opened.carried()?;
    let history = opened.history()?;
    let headers = opened.headers()?;
    Ok(Checkpoint {
        round: opened.number("kith.round")?,
        sequence: opened.number("kith.sequence")?,
        roster,
        parameters: Arc::new(parameters),
        replicas,
        carried,
        history,
        headers,
    })
}

/// Rounds by how many models each combined, as `models:rounds` words.
fn mixed_to_text(history: &History) -> String {
    history
        .mixed
        .iter()
        .map(|(models, rounds)| format!("{models}:{rounds}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn mixed_from_text(text: &str) -> Option<BTreeMap<usize, u64>> {
    let word = |word: &str| {
        word.split_once(':')
            .and_then(|(models, rounds)| Some((models.parse().ok()?, rounds.parse().ok()?)))
    };
    text.split_whitespace().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Shapes {
        Shapes::new([
            ("hidden.bias".to_owned(), vec![2]),
            ("hidden.weight".to_owned(), vec![2, 3]),
        ])
    }

    fn checkpoint() -> Checkpoint {
        let parameters = Arc::new((0..8).map(|value| value as f32 / 3.0).collect::<Vec<f32>>());
        let replica = Arc::new(vec![-0.5; 8]);
        let roster = Roster::new(vec![PeerId([3; 32]), PeerId([9; 32])]);
        let carried = Carried::from([("memory".to_owned(), Arc::new(vec![0.25; 8]))]);
        Checkpoint {
            round: 42,
            sequence: 43,
            roster,
            parameters,
            replicas: BTreeMap::from([(PeerId([9; 32]), replica)]),
            carried,
            history: History {
                mixed: BTreeMap::from([(1, 2), (5, 39)]),
                training_failed: 1,
                listened: 2,
                passed_over: 7,
            },
            headers: vec![vec![0x0f, 0xa0, 0xff].into(), vec![0x83].into()],
        }
    }

    #[test]
    fn a_checkpoint_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let federation = Genesis(Digest::of(b"federation"));
        let digest = write(folder.path(), &shapes(), federation, &checkpoint()).unwrap();
        assert_eq!(
            read(folder.path(), &shapes(), federation, 42, digest).unwrap(),
            checkpoint()
        );
        assert_eq!(
            write(folder.path(), &shapes(), federation, &checkpoint()).unwrap(),
            digest,
            "equal bytes every time"
        );
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(
            names,
            ["round-000042.safetensors"],
            "nothing temporary is left"
        );
    }

    #[test]
    fn any_flipped_byte_and_any_other_federation_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let federation = Genesis(Digest::of(b"federation"));
        let digest = write(folder.path(), &shapes(), federation, &checkpoint()).unwrap();
        assert!(
            read(
                folder.path(),
                &shapes(),
                Genesis(Digest::of(b"another")),
                42,
                digest
            )
            .is_err()
        );
        let path = folder.path().join(file_name(42));
        let bytes = std::fs::read(&path).unwrap();
        for place in (0..bytes.len()).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(
                read(folder.path(), &shapes(), federation, 42, digest).is_err(),
                "byte {place}"
            );
        }
    }
}
