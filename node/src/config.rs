//! `kith.toml`: the settings local to one member. The charter holds what all members agree on.
//!
//! Relative paths are relative to the file's folder. Every key is read with [`Section`], so unknown
//! keys and bad values are refused with line and column, all at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kith_consensus::section::Document;
use kith_consensus::{Problem, Section};

use crate::address::{self, Use};
use crate::error::NodeError;
use crate::problems::BadFile;
use crate::token::OWNER_TOKEN_FILE;

/// Name of the configuration file in a peer's folder.
pub const CONFIG_FILE: &str = "kith.toml";

/// Most connections. Four times the largest neighbourhood that a robust rule is usually asked for
/// (guess).
const CONNECTIONS_DEFAULT: u64 = 128;

/// A member's own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name for people, in logs and metrics.
    pub name: String,
    /// Path of the charter.
    pub charter: PathBuf,
    /// Path of the key file.
    pub key: PathBuf,
    /// Path of the state folder.
    pub state: PathBuf,
    /// Where checkpoint files go.
    pub checkpoints: PathBuf,
    /// `[data]`
    pub data: DataConfig,
    /// `[network]`
    pub network: NetworkConfig,
    /// `[status]`
    pub status: StatusConfig,
    /// Whether the status server has `/metrics`.
    pub metrics: bool,
    /// Threads for training; by default as many as the machine has cores.
    pub threads: usize,
    /// Evaluate after every this many rounds; 0: after the last one only.
    pub evaluate_every: u64,
    /// An attack such as `sign-flip:10`; only on loopback and under a testnet's charter.
    pub attack: Option<String>,
}

/// `[data]`: where this peer's rows are. They never leave this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    /// Rows to train on.
    pub path: PathBuf,
    /// Labels in a file of their own (IDX, NPY).
    pub labels: Option<PathBuf>,
    /// File with held-out rows, if there is one.
    pub test_path: Option<PathBuf>,
    /// Labels of the held-out rows.
    pub test_labels: Option<PathBuf>,
    /// Share of this peer's rows that is held out instead, if there is no `test_path`.
    pub holdout: f64,
}

/// `[status]`: where status and metrics are served, and who may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusConfig {
    /// Address of the status server.
    pub listen: SocketAddr,
    /// Hosts, or hosts with a port, that requests may name besides the address itself: how a
    /// scraper or a proxy calls this machine.
    pub names: Vec<String>,
    /// File with the secret; `None` for a new secret with each run.
    pub token: Option<PathBuf>,
    /// Whether `kith run` also serves a page for a browser, on loopback.
    pub page: bool,
}

/// `[network]`: where to listen and which addresses to dial.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// Addresses to listen on, as text of multiaddresses.
    pub listen: Vec<String>,
    /// Addresses to dial at the start, as text of multiaddresses.
    pub bootstrap: Vec<String>,
    /// Look for peers on the local network.
    pub mdns: bool,
    /// Most established connections at a time.
    pub connections_max: u32,
}

/// Threads that this machine runs at the same time.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Config {
    /// The file with the secret that the status server asks for: the one that `[status] token` names,
    /// or one in the state folder for each run.
    pub(crate) fn token_file(&self) -> PathBuf {
        let named = self.status.token.clone();
        named.unwrap_or_else(|| self.state.join(OWNER_TOKEN_FILE))
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or with every problem in it.
    pub fn load(path: &Path) -> Result<Config, NodeError> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => NodeError::NoConfig {
                path: path.to_owned(),
            },
            _ => NodeError::io("read", path, error),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Config::parse(&text, folder)
            .map_err(|problems| BadFile::problems(path, &text, problems).into())
    }

    /// Reads text; relative paths are taken from `folder`.
    ///
    /// # Errors
    /// Every problem in it.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Problem>> {
        let document = Document::parse(text).map_err(|problem| vec![problem])?;
        Config::read(document, folder)
    }

    /// Reads a document; relative paths are taken from `folder`.
    ///
    /// # Errors
    /// Every problem in it.
    pub fn read(mut document: Document, folder: &Path) -> Result<Config, Vec<Problem>> {
        let (name, charter, key, state, checkpoints) = document.section("peer", |section| {
            let name = section.text("name", None);
            if name.trim().is_empty() && section.has("name") {
                section.note(
                    "name",
                    "expected a name by which the other members know this peer, found an empty one",
                );
            }
            (
                name,
                folder.join(section.text("charter", Some("charter.toml"))),
                folder.join(section.text("key", Some("identity.key"))),
                folder.join(section.text("state", Some("state"))),
                folder.join(section.text("checkpoints", Some("checkpoints"))),
            )
        });
        let data = document.section("data", |section| DataConfig::read(section, folder));
        let network = document.section("network", NetworkConfig::read);
        let status = document.section("status", |section| StatusConfig::read(section, folder));
        let metrics = document.section("metrics", |section| section.flag("enabled", Some(true)));
        let threads = document.section("resources", |section| {
            section.integer("threads", Some(cores() as u64), 1..=1024)
        }) as usize;
        let evaluate_every = document.section("evaluation", |section| {
            section.integer("every", Some(0), 0..=1_000_000_000)
        });
        let attack = document.section("testnet", |section| read_attack(section, &network));
        document.finish()?;
        Ok(Config {
            name,
            charter,
            key,
            state,
            checkpoints,
            data,
            network,
            status,
            metrics,
            threads,
            evaluate_every,
            attack,
        })
    }

    /// Whether every address it listens on is on loopback.
    pub fn is_loopback(&self) -> bool {
        self.network
            .listen
            .iter()
            .all(|address| is_loopback(address))
    }
}

impl DataConfig {
    fn read(section: &mut Section<'_>, folder: &Path) -> DataConfig {
        let mut optional = |key: &str| {
            Some(section.text(key, Some("")))
                .filter(|text| !text.is_empty())
                .map(|text| folder.join(text))
        };
        let labels = optional("labels");
        let test_path = optional("test_path");
        let test_labels = optional("test_labels");
        let path = folder.join(section.text("path", None));
        // 0: an organisation with few rows may want to train on all of them.
        let holdout = section.number("holdout", Some(0.0), 0.0..=0.9);
        if holdout > 0.0 && test_path.is_some() {
            section.note(
                "holdout",
                "there is a test_path already; give one of the two",
            );
        }
        if test_labels.is_some() && test_path.is_none() {
            section.note(
                "test_labels",
                "labels of which rows? expected a test_path as well",
            );
        }
        DataConfig {
            path,
            labels,
            test_path,
            test_labels,
            holdout,
        }
    }
}

impl NetworkConfig {
    fn read(section: &mut Section<'_>) -> NetworkConfig {
        // 4001 is the customary port of libp2p programs, which firewalls' owners may recognise.
        let listen = section.texts(
            "listen",
            Some(&["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]),
        );
        let bootstrap = section.texts("bootstrap", Some(&[]));
        for (key, addresses, used) in [
            ("listen", &listen, Use::Listen),
            ("bootstrap", &bootstrap, Use::Dial),
        ] {
            for problem in addresses
                .iter()
                .filter_map(|text| address::problem(text, used))
            {
                section.note(key, problem);
            }
        }
        if listen.is_empty() {
            section.note(
                "listen",
                "expected at least one address to listen on, for example \"/ip4/0.0.0.0/tcp/4001\"",
            );
        }
        let mdns = section.flag("mdns", Some(false));
        let connections_max =
            section.integer("connections_max", Some(CONNECTIONS_DEFAULT), 1..=65_536) as u32;
        NetworkConfig {
            listen,
            bootstrap,
            mdns,
            connections_max,
        }
    }
}

impl StatusConfig {
    fn read(section: &mut Section<'_>, folder: &Path) -> StatusConfig {
        let listen = read_status_listen(section);
        let names = section.texts("names", Some(&[]));
        for name in names.iter().filter(|name| !is_host(name)) {
            section.note(
                "names",
                format!(
                    "expected a host such as \"kith.example.org\" or \"kith.example.org:9464\", found {name:?}"
                ),
            );
        }
        let token = Some(section.text("token", Some("")))
            .filter(|text| !text.is_empty())
            .map(|text| folder.join(text));
        // Off: a page is one more thing that listens.
        let page = section.flag("page", Some(false));
        StatusConfig {
            listen,
            names,
            token,
            page,
        }
    }
}

fn read_status_listen(section: &mut Section<'_>) -> SocketAddr {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let text = section.text("listen", Some("127.0.0.1:0"));
    let exposed = section.flag("allow_other_machines", Some(false));
    let Ok(address) = text.parse::<SocketAddr>() else {
        section.note(
            "listen",
            format!("expected an address and a port such as \"127.0.0.1:9464\", found {text:?}"),
        );
        return loopback;
    };
    if !address.ip().is_loopback() && !exposed {
        section.note(
            "listen",
            "this lets other machines that have the token read status and metrics; say allow_other_machines = true if that is meant",
        );
    }
    address
}

/// Whether a text can be the `Host` of a request: a name or an address, and a port if it has one.
fn is_host(text: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    !host.is_empty()
        && text.bytes().all(is_sign)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn read_attack(section: &mut Section<'_>, network: &NetworkConfig) -> Option<String> {
    let attack = Some(section.text("attack", Some(""))).filter(|text| !text.is_empty())?;
    if let Some(address) = network.listen.iter().find(|address| !is_loopback(address)) {
        section.note(
            "attack",
            format!("a peer may only lie on loopback, and this one listens on {address}"),
        );
    }
    Some(attack)
}

/// Whether a multiaddress stays on this machine.
pub(crate) fn is_loopback(address: &str) -> bool {
    let mut parts = address.split('/').skip(1);
    match (
        parts.next(),
        parts.next().map(str::parse::<std::net::IpAddr>),
    ) {
        (Some("ip4" | "ip6"), Some(Ok(ip))) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        Config::parse(text, Path::new("/home/ada"))
            .unwrap_err()
            .iter()
            .map(Problem::to_string)
            .collect()
    }

    #[test]
    fn defaults_need_only_a_name_and_data() {
        let config = Config::parse(
            "[peer]\nname = \"ada\"\n[data]\npath = \"rows.csv\"\n",
            Path::new("/home/ada"),
        )
        .unwrap();
        assert_eq!(config.data.path, Path::new("/home/ada/rows.csv"));
        assert_eq!(config.key, Path::new("/home/ada/identity.key"));
        assert!(config.status.listen.ip().is_loopback());
        assert!(!config.network.mdns);
        assert!(!config.is_loopback());
    }

    #[test]
    fn unknown_keys_and_bad_addresses_are_told_at_once() {
        let text = "[peer]\nname = \"ada\"\ncolour = 1\n[data]\npath = \"x\"\n[network]\nlisten = [\"localhost:4001\"]\n[status]\nlisten = \"0.0.0.0:80\"\n";
        let found = problems(text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found.iter().any(|text| text.contains("line 3, column 10")
                && text.contains("unknown key \"colour\"")),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .any(|text| text.contains("\"localhost:4001\" is not an address")),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .any(|text| text.contains("allow_other_machines")),
            "{found:?}"
        );
    }

    #[test]
    fn names_of_the_status_server_are_hosts() {
        for name in [
            "kith.example.org",
            "kith.example.org:9464",
            "10.0.0.7:80",
            "[::1]:80",
            "[::1]",
        ] {
            assert!(is_host(name), "{name}");
        }
        for name in [
            "",
            ":80",
            "http://kith.example.org",
            "kith.example.org:port",
            "a b",
            "kith/",
        ] {
            assert!(!is_host(name), "{name}");
        }
        let found = problems(
            "[peer]\nname = \"ada\"\n[data]\npath = \"x\"\n[status]\nnames = [\"http://x\"]\n",
        );
        assert!(found[0].contains("expected a host such as"), "{found:?}");
    }

    #[test]
    fn lying_is_refused_off_loopback() {
        let text =
            "[peer]\nname = \"eve\"\n[data]\npath = \"x\"\n[testnet]\nattack = \"sign-flip:10\"\n";
        assert!(problems(text)[0].contains("may only lie on loopback"));
    }

    #[test]
    fn loopback_is_told_from_other_addresses() {
        assert!(is_loopback("/ip4/127.0.0.1/tcp/0") && is_loopback("/ip6/::1/udp/1/quic-v1"));
        assert!(!is_loopback("/ip4/0.0.0.0/tcp/0") && !is_loopback("/dns4/localhost/tcp/1"));
    }
}
