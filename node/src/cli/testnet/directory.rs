//! A testnet's folder: it holds a folder for every peer, with all files that a real peer has.

use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kith_models::{Dataset, Loaded};
use toml::{Table, Value};

use super::super::output::Failure;
use super::plan::{Member, Plan};
use crate::config::CONFIG_FILE;
use crate::identity::{Identity, KEY_FILE};
use crate::store::LedgerFile;

/// The agreement, in the testnet's folder and in every peer's.
const CHARTER_FILE: &str = "charter.toml";

/// The folder; a temporary one is removed when this is dropped.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    temporary: bool,
}

/// A peer's folder, and the data needed to run and to judge it.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) address: String,
    /// The privacy ledger beside its rows.
    pub(super) ledger: LedgerFile,
    /// Its rows, for comparison with training alone.
    pub(super) rows: Dataset,
}

/// All peers' folders, and the held-out rows.
pub(super) struct Places {
    pub(super) nodes: Vec<Place>,
    pub(super) test: Dataset,
}

impl Directory {
    /// The folder at `path`, which must not hold a testnet, or a new temporary one.
    pub(super) fn create(path: Option<&Path>, keep: bool) -> Result<Directory, Failure> {
        let (path, temporary) = match path {
            Some(path) => (path.to_owned(), false),
            None => (temporary_path(), !keep),
        };
        if path.join(CHARTER_FILE).exists() {
            return Err(Failure::with_help(
                format!("there is a testnet in {} already", path.display()),
                "choose another --dir, or remove that folder (`kith testnet down --dir …` stops one that runs)",
            ));
        }
        // Keys of a testnet are worth nothing, but other users of the machine need not read them.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| cannot("create", &path, &error))?;
        let path = path
            .canonicalize()
            .map_err(|error| cannot("find", &path, &error))?;
        Ok(Directory { path, temporary })
    }

    /// Whether it is removed after the run.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Writes every peer's files.
    pub(super) fn fill(&self, plan: &Plan, loaded: &Loaded) -> Result<Places, Failure> {
        let data = |error: kith_models::DataError| Failure::new(error.to_string());
        let schema = plan.agreement.task.schema();
        let charter = plan.agreement.charter.to_toml();
        write(&self.path.join(CHARTER_FILE), &charter)?;
        let shared = self.path.join("data");
        create(&shared)?;
        let test = loaded.source.select(&plan.test);
        let test_path = test.write(&shared, "test").map_err(data)?;
        let ports = free_ports(plan.members.len())?;
        let addresses: Vec<String> = plan
            .members
            .iter()
            .zip(&ports)
            .map(|(member, port)| format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", member.peer))
            .collect();
        let mut nodes = Vec::with_capacity(plan.members.len());
        for (index, member) in plan.members.iter().enumerate() {
            let folder = self.path.join(&member.name);
            create(&folder)?;
            let source = loaded.source.select(&plan.shards[index]);
            let rows = source.write(&folder, "train").map_err(data)?;
            Identity::from_secret(member.secret)
                .create(&folder.join(KEY_FILE))
                .map_err(|error| Failure::new(error.to_string()))?;
            write(&folder.join(CHARTER_FILE), &charter)?;
            let config = config_table(plan, member, [&rows, &test_path], ports[index], &addresses);
            write(&folder.join(CONFIG_FILE), &config.to_string())?;
            nodes.push(Place {
                folder,
                address: addresses[index].clone(),
                ledger: LedgerFile::beside(&rows),
                rows: source.dataset(schema).map_err(data)?,
            });
        }
        let test = test.dataset(schema).map_err(data)?;
        Ok(Places { nodes, test })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // If left behind, it costs some megabytes in the temporary folder.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Lets the peer in `folder` lie from its next start on, or be honest.
///
/// # Errors
/// When its configuration cannot be read or written.
pub(super) fn set_attack(folder: &Path, attack: Option<&str>) -> Result<(), Failure> {
    let path = folder.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
    let mut config: Table = text.parse().map_err(|error: toml::de::Error| {
        Failure::new(format!("{}: {}", path.display(), error.message()))
    })?;
    config.remove("testnet");
    if let Some(attack) = attack {
        let section = Table::from_iter([("attack".to_owned(), Value::String(attack.to_owned()))]);
        config.insert("testnet".to_owned(), Value::Table(section));
    }
    write(&path, &config.to_string())
}

/// A member's `kith.toml`.
fn config_table(
    plan: &Plan,
    member: &Member,
    [rows, test]: [&Path; 2],
    port: u16,
    addresses: &[String],
) -> Table {
    let text = |text: &str| Value::String(text.to_owned());
    let path = |path: &Path| Value::String(path.display().to_string());
    let neighbours = member.neighbours.iter();
    let bootstrap = neighbours.map(|neighbour| text(&addresses[*neighbour]));
    let listen = text(&format!("/ip4/127.0.0.1/tcp/{port}"));
    let every = i64::try_from(plan.evaluate_every).unwrap_or(i64::MAX);
    let mut sections = vec![
        ("peer", vec![("name", text(&member.name))]),
        (
            "data",
            vec![("path", path(rows)), ("test_path", path(test))],
        ),
        (
            "network",
            vec![
                ("listen", Value::Array(vec![listen])),
                ("bootstrap", Value::Array(bootstrap.collect())),
            ],
        ),
        ("evaluation", vec![("every", Value::Integer(every))]),
    ];
    if member.lies {
        sections.push(("testnet", vec![("attack", text(&plan.attack))]));
    }
    let owned = |(key, value): (&str, Value)| (key.to_owned(), value);
    let section = |(name, keys): (&str, Vec<(&str, Value)>)| {
        let keys = keys.into_iter().map(owned);
        (name.to_owned(), Value::Table(keys.collect()))
    };
    sections.into_iter().map(section).collect()
}

/// Ports that were free a moment ago, all different. They have to be known beforehand, since they
/// are in the others' files. The system does not give them to outgoing connections, of which the
/// first peers make many before the last ones listen.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let range = listening_range();
    // Testnets that start at the same time look in different places.
    let start = (std::process::id() as usize).wrapping_mul(7919) % range.len();
    let candidates = range.clone().cycle().skip(start).take(range.len());
    let held: Vec<(u16, TcpListener)> = candidates
        .filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
        .take(count)
        .collect();
    if held.len() < count {
        return Err(Failure::new(format!(
            "only {} of {count} ports are free on loopback, from {range:?}",
            held.len()
        )));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

/// Ports that programs may listen on and that the system does not give to outgoing connections: the
/// longer of the two ends that its own range leaves, without those that belong to well-known
/// services.
fn listening_range() -> std::ops::RangeInclusive<u16> {
    const FIRST: u16 = 10_000;
    let text =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = text.split_whitespace().filter_map(|end| end.parse().ok());
    // Linux's default.
    let (low, high): (u16, u16) = (ends.next().unwrap_or(32_768), ends.next().unwrap_or(60_999));
    let (below, above) = (
        FIRST..=low.saturating_sub(1),
        high.saturating_add(1)..=u16::MAX,
    );
    if below.len().max(above.len()) < 1000 {
        return FIRST..=u16::MAX;
    }
    if below.len() >= above.len() {
        below
    } else {
        above
    }
}

fn temporary_path() -> PathBuf {
    let nanoseconds = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.subsec_nanos());
    std::env::temp_dir().join(format!("kith-testnet-{}-{nanoseconds}", std::process::id()))
}

fn create(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| cannot("create", path, &error))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| cannot("write", path, &error))
}

fn cannot(act: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {act} {}: {error}", path.display()))
}
