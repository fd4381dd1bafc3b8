//! `kith backup` and `kith restore`: a copy of a peer, running or not, that always opens, and
//! putting it back.

use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::output::{Failure, Verdict, print_json, tell};
use super::{done, status};
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::identity::{Identity, KEY_FILE};
use crate::private;
use crate::store::StoreError;
use crate::store::backup::{self, CHECKPOINT_FILES, Held, STATE};

/// Written last: a backup without it is unfinished.
const LABEL_FILE: &str = "backup.json";
const CHARTER_FILE: &str = "charter.toml";

/// Copy a peer's state, also while it runs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith backup --dir ada --out backups/ada-monday

The copy holds configuration, charter, state, checkpoints and the key, but no rows. Anybody with this copy can act as this peer: keep it as you keep
the key, or leave the key out with --without-key.")]
pub(crate) struct Backup {
    /// The peer's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The folder to make
    #[arg(long)]
    out: PathBuf,
    /// Leave the key out; the copy can then be put back only where the key is
    #[arg(long)]
    without_key: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Put a copy of `kith backup` back
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith restore --from backups/ada-monday --dir ada

What is in the peer's state folder and among its checkpoints is moved aside, not removed. The peer may have published more since the
copy was made: it says nothing until it is past every round that its neighbours know an update of, so that it contradicts nothing.")]
pub(crate) struct Restore {
    /// What `kith backup` made
    #[arg(long)]
    from: PathBuf,
    /// The peer's folder; it is made if it is not there
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The description of a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    name: String,
    peer_id: String,
    federation: String,
    completed_rounds: u64,
    promised_round: Option<u64>,
    key: bool,
    program: String,
}

impl Backup {
    pub(crate) fn run(self) -> Verdict {
        let config = Config::load(&self.dir.join(CONFIG_FILE))?;
        if self.out.exists() {
            return Err(Failure::new(format!(
                "{} exists already and is not overwritten; choose another --out",
                self.out.display()
            )));
        }
        let peer = Identity::load(&config.key).map_err(NodeError::from)?.peer();
        let snapshot = match backup::snapshot_of(&config.state, &config.checkpoints) {
            Ok(snapshot) => snapshot,
            Err(StoreError::InUse { .. }) => {
                PathBuf::from(status::order(&config, "/snapshot")?.trim())
            }
            Err(error) => return Err(NodeError::from(error).into()),
        };
        // It is written next to its place and renamed, so that there is never half a backup of that
        // name.
        let mut name = self.out.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let unfinished = self.out.with_file_name(name);
        let _ = std::fs::remove_dir_all(&unfinished);
        let made = self.fill(&config, &snapshot, &unfinished, peer.to_string());
        // A leftover snapshot costs space until the peer starts again.
        let _ = std::fs::remove_dir_all(&snapshot);
        let label = made.inspect_err(|_| drop(std::fs::remove_dir_all(&unfinished)))?;
        std::fs::rename(&unfinished, &self.out)
            .map_err(|error| NodeError::io("write", &self.out, error))?;
        if self.json {
            print_json(&label)?;
        } else {
            tell(&format!(
                "{} holds {} with {} completed rounds; put it back with `kith restore --from {} --dir …`",
                self.out.display(),
                label.name,
                label.completed_rounds,
                self.out.display()
            ));
        }
        done()
    }

    fn fill(
        &self,
        config: &Config,
        snapshot: &Path,
        to: &Path,
        peer_id: String,
    ) -> Result<Label, NodeError> {
        backup::copy_folder(snapshot, to)
            .map_err(|error| NodeError::io("copy the state to", to, error))?;
        let Held {
            completed,
            promised,
            federation,
        } = backup::verify(&to.join(STATE), &to.join(CHECKPOINT_FILES))?;
        let mut files = vec![
            (self.dir.join(CONFIG_FILE), CONFIG_FILE),
            (config.charter.clone(), CHARTER_FILE),
        ];
        if !self.without_key {
            files.push((config.key.clone(), KEY_FILE));
        }
        for (from, name) in files {
            backup::copy_file(&from, &to.join(name))
                .map_err(|error| NodeError::io("copy", &from, error))?;
        }
        let label = Label {
            name: config.name.clone(),
            peer_id,
            federation: federation.to_string(),
            completed_rounds: completed,
            promised_round: promised,
            key: !self.without_key,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let text = serde_json::to_string_pretty(&label)
            .map_err(|error| NodeError::Unfit(error.to_string()))?;
        let path = to.join(LABEL_FILE);
        private::write(&path, text.as_bytes())
            .map_err(|error| NodeError::io("write", &path, error))?;
        Ok(label)
    }
}

impl Restore {
    pub(crate) fn run(self) -> Verdict {
        let label = self.label()?;
        let config = self.configuration(&label)?;
        backup::check_unused(&config.state).map_err(NodeError::from)?;
        let copied = Copied {
            state: beside(&config.state),
            checkpoints: beside(&config.checkpoints),
        };
        copied.fill(&self.from)?;
        let mut aside = Vec::new();
        for (from, to) in [
            (&copied.state, &config.state),
            (&copied.checkpoints, &config.checkpoints),
        ] {
            give_to_owner_of(to, from).map_err(|error| NodeError::io("give away", from, error))?;
            aside.extend(move_aside(to)?);
            let _ = std::fs::remove_dir(to);
            std::fs::rename(from, to).map_err(|error| NodeError::io("write", to, error))?;
        }
        if self.json {
            print_json(&label)?;
            return done();
        }
        for (from, to) in &aside {
            tell(&format!("moved {} to {}", from.display(), to.display()));
        }
        tell(&format!(
            "{} is back at {} completed rounds; `kith run --dir {}` resumes there",
            label.name,
            label.completed_rounds,
            self.dir.display()
        ));
        done()
    }

    fn label(&self) -> Result<Label, Failure> {
        let path = self.from.join(LABEL_FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::with_help(
                format!(
                    "{} is not a finished backup: {}: {error}",
                    self.from.display(),
                    path.display()
                ),
                "`kith backup --dir … --out …` makes one",
            )
        })?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))
    }

    /// The peer's own configuration, or, if there is none, the copied one. Key and charter are put
    /// next to it if they are missing.
    fn configuration(&self, label: &Label) -> Result<Config, Failure> {
        let path = self.dir.join(CONFIG_FILE);
        let put = |name: &str, to: &Path| -> Result<(), NodeError> {
            let from = self.from.join(name);
            if to.exists() || !from.exists() {
                return Ok(());
            }
            backup::copy_file(&from, to).map_err(|error| NodeError::io("write", to, error))
        };
        std::fs::create_dir_all(&self.dir)
            .map_err(|error| NodeError::io("create", &self.dir, error))?;
        put(CONFIG_FILE, &path)?;
        let config = Config::load(&path)?;
        put(CHARTER_FILE, &config.charter)?;
        put(KEY_FILE, &config.key)?;
        let peer = Identity::load(&config.key)
            .map_err(NodeError::from)?
            .peer()
            .to_string();
        if peer != label.peer_id {
            return Err(Failure::new(format!(
                "{} is a backup of {} ({}), and {} is the key of another peer ({peer}); nothing was changed",
                self.from.display(),
                label.name,
                label.peer_id,
                config.key.display()
            )));
        }
        Ok(config)
    }
}

/// A copy of a backup next to the folders that it is to replace; removed if it is not put into
/// their place.
struct Copied {
    state: PathBuf,
    checkpoints: PathBuf,
}

impl Copied {
    /// Copies the backup and verifies all of it, so that the peer's files are not touched for a
    /// copy that does not open.
    fn fill(&self, backup: &Path) -> Result<(), NodeError> {
        for (name, to) in [(STATE, &self.state), (CHECKPOINT_FILES, &self.checkpoints)] {
            let _ = std::fs::remove_dir_all(to);
            backup::copy_folder(&backup.join(name), to)
                .map_err(|error| NodeError::io("write", to, error))?;
        }
        backup::mark_restored(&self.state, &self.checkpoints)?;
        Ok(())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        for folder in [&self.state, &self.checkpoints] {
            // By now it is in its place, or useless.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn beside(folder: &Path) -> PathBuf {
    folder.with_file_name(format!(
        "{}.restoring",
        folder.file_name().unwrap_or_default().display()
    ))
}

/// If root restores, gives what was copied to the owner of the folder that it replaces or, if that
/// is root's or not there, of the one in which it will be: a service runs as a user of its own, and
/// could not open root's files.
fn give_to_owner_of(place: &Path, copied: &Path) -> std::io::Result<()> {
    let owners = [Some(place), place.parent()];
    let mut owners = owners
        .into_iter()
        .flatten()
        .filter_map(|path| std::fs::metadata(path).ok());
    match owners.find(|owner| owner.uid() != 0) {
        Some(owner) if Uid::effective().is_root() => give(copied, (owner.uid(), owner.gid())),
        _ => Ok(()),
    }
}

fn give(path: &Path, owner: (u32, u32)) -> std::io::Result<()> {
    lchown(path, Some(owner.0), Some(owner.1))?;
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    for entry in path.read_dir()? {
        give(&entry?.path(), owner)?;
    }
    Ok(())
}

/// Renames a folder that is not empty; returns the old and the new path.
fn move_aside(folder: &Path) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    if !std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok(None);
    }
    let seconds = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    let name = |count: u32| {
        format!(
            "{}.before-restore-{seconds}-{count}",
            folder.file_name().unwrap_or_default().display()
        )
    };
    let free = (0..)
        .map(|count| folder.with_file_name(name(count)))
        .find(|path| !path.exists());
    let to = free.unwrap_or_else(|| folder.with_file_name(name(u32::MAX)));
    std::fs::rename(folder, &to).map_err(|error| NodeError::io("move aside", folder, error))?;
    Ok(Some((folder.to_owned(), to)))
}
