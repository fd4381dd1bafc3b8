//! `kith init`: one organisation's peer, ready except for the charter.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::done;
use super::output::{Failure, Verdict, print, print_json, tell};
use crate::address::{self, Use};
use crate::config::{CONFIG_FILE, Config};
use crate::error::NodeError;
use crate::identity::{Identity, KEY_FILE};

/// Make a peer's key and configuration
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith init --dir ada --name ada --organisation \"Lovelace Clinic\" --data rows.csv
  kith init --dir bob --name bob --data rows.csv --listen /ip4/0.0.0.0/tcp/4002 --bootstrap /ip4/192.0.2.7/tcp/4001

It prints the lines that belong into everybody's charter; the key never leaves the folder.")]
pub(crate) struct Init {
    /// The folder to make
    #[arg(long)]
    dir: PathBuf,
    /// The peer's name, unique in the federation
    #[arg(long)]
    name: String,
    /// The organisation it belongs to
    #[arg(long, default_value = "")]
    organisation: String,
    /// Its rows: CSV with a header, an IDX image file, or NPY
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where to listen
    #[arg(long)]
    listen: Vec<String>,
    /// Addresses to dial at the start
    #[arg(long)]
    bootstrap: Vec<String>,
    /// Folder for the state and the checkpoints, if they do not belong beside the configuration
    #[arg(long)]
    state: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(crate) fn run(self) -> Verdict {
        self.check()?;
        let config_path = self.dir.join(CONFIG_FILE);
        if config_path.exists() {
            return Err(Failure::with_help(
                format!(
                    "there is a peer in {} already, and it is not overwritten",
                    self.dir.display()
                ),
                "choose another --dir",
            ));
        }
        let cannot =
            |error: std::io::Error| Failure::from(NodeError::io("write", &config_path, error));
        std::fs::create_dir_all(&self.dir).map_err(cannot)?;
        let data = self.data_path()?;
        let text = self.config(&data, &self.state_paths()?);
        Config::parse(&text, &self.dir).map_err(|problems| {
            Failure::of_problems("this configuration would not work", &problems)
        })?;
        let identity = Identity::generate().map_err(NodeError::from)?;
        identity
            .create(&self.dir.join(KEY_FILE))
            .map_err(NodeError::from)?;
        std::fs::write(&config_path, text).map_err(cannot)?;
        let peer = identity.peer().to_string();
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let member = format!(
            "[[membership.member]]\nname = {}\norganisation = {}\nkey = \"{peer}\"\n",
            quoted(&self.name),
            quoted(&self.organisation)
        );
        if self.json {
            let dir = self.dir.display().to_string();
            print_json(
                &json!({"dir": dir, "name": self.name, "organisation": self.organisation, "peer_id": peer, "member": member}),
            )?;
            return done();
        }
        print(&member)?;
        tell(&format!(
            "\nmade {0}/{CONFIG_FILE} and {0}/{KEY_FILE} (back it up; whoever has it is this peer)\n\
             next: send the lines above to whoever writes the charter, put the agreed charter at {0}/charter.toml,\n\
             {1}then `kith check --dir {0}` and `kith run --dir {0}`",
            self.dir.display(),
            if self.data.is_some() {
                ""
            } else {
                "name your rows under [data] path, "
            },
        ));
        if self.data.is_some() && !data.exists() {
            tell(&format!(
                "note: there are no rows at {} yet",
                data.display()
            ));
        }
        done()
    }

    /// Refuses options that cannot work, before anything is made.
    fn check(&self) -> Result<(), Failure> {
        if self.name.trim().is_empty() {
            return Err(Failure::new(
                "--name: expected a name by which the other members know this peer, found an empty one",
            ));
        }
        for (option, addresses, used) in [
            ("listen", &self.listen, Use::Listen),
            ("bootstrap", &self.bootstrap, Use::Dial),
        ] {
            if let Some(why) = addresses
                .iter()
                .find_map(|text| address::problem(text, used))
            {
                return Err(Failure::new(format!("--{option}: {why}")));
            }
        }
        match &self.data {
            Some(path) if path.as_os_str().is_empty() => Err(Failure::new(
                "--data: expected a file of rows, found an empty name",
            )),
            Some(path) if path.is_dir() => Err(Failure::new(format!(
                "--data: {} is a folder; expected a file of rows",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Path of the rows: a typed path is relative to the current folder, paths in the file are
    /// relative to the file.
    fn data_path(&self) -> Result<PathBuf, Failure> {
        let Some(path) = &self.data else {
            return Ok(PathBuf::from("data.csv"));
        };
        let absolute = std::path::absolute(path);
        let absolute = absolute
            .map_err(|error| Failure::new(format!("--data: {}: {error}", path.display())))?;
        // Without links and dots, which may change, if the file exists already.
        Ok(absolute.canonicalize().unwrap_or(absolute))
    }

    /// Paths of the state and of the checkpoints, as they are written into the file.
    fn state_paths(&self) -> Result<[PathBuf; 2], Failure> {
        let names = ["state", "checkpoints"].map(PathBuf::from);
        let Some(folder) = &self.state else {
            return Ok(names);
        };
        let absolute = std::path::absolute(folder)
            .map_err(|error| Failure::new(format!("--state: {}: {error}", folder.display())))?;
        Ok(names.map(|name| absolute.join(name)))
    }

    fn config(&self, data: &Path, [state, checkpoints]: &[PathBuf; 2]) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let list = |items: &[String]| {
            items
                .iter()
                .map(|item| quoted(item))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let default = [
            "/ip4/0.0.0.0/tcp/4001".to_owned(),
            "/ip4/0.0.0.0/udp/4001/quic-v1".to_owned(),
        ];
        let listen = if self.listen.is_empty() {
            &default[..]
        } else {
            &self.listen
        };
        format!(
            "# What is this member's alone; what all agree on is in charter.toml.\n\
             [peer]\n\
             name = {}\n\
             charter = \"charter.toml\"\n\
             key = \"{KEY_FILE}\"\n\
             state = {}\n\
             checkpoints = {}\n\n\
             # The own rows. They never leave this machine. A share of them, or a file of its own (test_path), tells how good\n\
             # the model is.\n\
             [data]\n\
             path = {}\n\
             holdout = 0.2\n\n\
             # Where others reach this peer, and whom it dials at the start.\n\
             [network]\n\
             listen = [{}]\n\
             bootstrap = [{}]\n\
             mdns = false\n\n\
             # Status and metrics; port 0 takes a free one and writes it to state/status.address. Other machines need the secret\n\
             # in the file that `token` names, and may call this one by `names`.\n\
             [status]\n\
             listen = \"127.0.0.1:0\"\n\
             # allow_other_machines = true\n\
             # names = [\"kith.example.org\"]\n\
             # token = \"status.token\"\n\
             # page = true   what this peer sees, in a browser on this machine\n\n\
             # Threads for training; as many as the machine has cores, where nothing is said.\n\
             [resources]\n\
             # threads = 1\n",
            quoted(&self.name),
            quoted(&state.display().to_string()),
            quoted(&checkpoints.display().to_string()),
            quoted(&data.display().to_string()),
            list(listen),
            list(&self.bootstrap),
        )
    }
}
