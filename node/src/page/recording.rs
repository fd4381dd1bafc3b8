//! `events.jsonl`: everything that the peers of a testnet or of a simulation reported, with the time
//! at which it arrived.
//!
//! The first line is the [`Header`]; each further one is an [`Entry`]. The file is written while
//! the testnet runs, so its end may be missing when it was killed: it is read up to there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use kith_consensus::PeerId;
use serde::{Deserialize, Serialize};

use super::growing::{Growing, Next};
use crate::private;
use crate::telemetry::Line;

/// The file's name in a testnet's folder.
pub(crate) const EVENTS_FILE: &str = "events.jsonl";

/// Version of the file that this program writes, and the only one that it reads.
const VERSION: u32 = 1;
/// Most peers that a page shows.
pub(crate) const PEERS_MAX: usize = 256;
/// Most bytes that are written; a testnet that runs for days does not fill the disk (guess).
const BYTES_MAX: u64 = 256 << 20;
/// Most bytes of a line; the header of 256 peers takes 60 kB.
const LINE_MAX: u64 = 4 << 20;

/// What is known before anything happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Version of the file.
    pub(crate) kith_events: u32,
    /// The charter with every default written out (TOML).
    pub(crate) charter: String,
    /// The federation's name.
    pub(crate) name: String,
    /// Rounds to train.
    pub(crate) rounds: u64,
    /// Name of the aggregation rule.
    pub(crate) rule: String,
    /// Name of the topology.
    pub(crate) topology: String,
    /// Name of the codec.
    pub(crate) codec: String,
    /// What the liars do, if there are any.
    pub(crate) attack: Option<String>,
    /// The peers, in the order of their ids.
    pub(crate) peers: Vec<Member>,
    /// Pairs of peers that exchange updates in some round, by position, the smaller one first.
    pub(crate) links: Vec<(usize, usize)>,
    /// The one peer whose lines these are, by position, if it is one peer's log: then roles are not
    /// known, and of the others only what that peer saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen_by: Option<usize>,
}

impl Header {
    /// The version that goes into a new header.
    pub(crate) const VERSION: u32 = VERSION;
}

/// A peer of the roster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) peer: PeerId,
    /// Whether it lies.
    pub(crate) role: Role,
    /// Where it is drawn: across and down, each in [0, 1].
    pub(crate) place: (f64, f64),
}

/// What is known of a peer's honesty: a testnet's supervisor knows it, a peer does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// It follows the protocol.
    Honest,
    /// It lies.
    Adversary,
    /// Nobody here knows.
    Unknown,
}

/// Something that the supervisor noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Seconds since the testnet's start.
    pub(crate) seconds: f64,
    /// What it was.
    #[serde(flatten)]
    pub(crate) what: Noticed,
}

/// What was noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Noticed {
    /// A peer's line.
    Line(Line),
    /// The process of a peer, by its position, began.
    Began(usize),
    /// The process of a peer, by its position, is gone.
    Gone(usize),
    /// The process of a peer, by its position, is stopped for a while.
    Paused(usize),
    /// It runs again.
    Resumed(usize),
    /// From its next update on a peer lies in another way than before, or is honest.
    Conduct {
        /// Its position.
        peer: usize,
        /// What it does; `None`: it is honest.
        attack: Option<String>,
    },
    /// The peers at these positions are cut off from all others.
    Parted {
        /// Their positions; never none and never all.
        side: Vec<usize>,
    },
    /// The partition is over.
    Healed,
    /// Accuracies without a federation, measured at the end.
    Baselines {
        /// Mean over the honest peers, each training alone.
        local_only: f64,
        /// One model on all honest peers' rows.
        pooled: f64,
    },
    /// The testnet is over.
    Over,
}

/// Why a file of events cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordingError {
    /// It cannot be read or written.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// The action as a verb.
        act: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The folder holds no such file.
    #[error("{} holds no {EVENTS_FILE}: it is not the folder of a testnet; `kith testnet --dir DIR` makes one, and `kith sim run --events FILE` a file", .0.display())]
    NotATestnet(PathBuf),
    /// The first line is something else.
    #[error("{} does not begin with the header of a file of events ({why}); expected the {EVENTS_FILE} of a testnet's folder", path.display())]
    NotEvents {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Writes a file of events.
pub(crate) struct Recorder {
    path: PathBuf,
    /// `None` once the file is full or cannot be written.
    file: Option<BufWriter<File>>,
    written: u64,
}

impl Recorder {
    /// A new file with its header.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn create(path: &Path, header: &Header) -> Result<Recorder, RecordingError> {
        let mut recorder = Recorder {
            file: None,
            written: 0,
            path: path.to_owned(),
        };
        let written = private::create(path).and_then(|file| {
            recorder.file = Some(BufWriter::new(file));
            recorder.line(header)
        });
        match written {
            Ok(()) => Ok(recorder),
            Err(source) => Err(RecordingError::Io {
                act: "write",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Adds an entry. The answer is a remark, given once, if nothing more is written from here on:
    /// a testnet does not end because its recording does.
    pub(crate) fn add(&mut self, entry: &Entry) -> Option<String> {
        self.file.as_ref()?;
        let why = match self.line(entry) {
            Ok(()) if self.written <= BYTES_MAX => return None,
            Ok(()) => format!("it has {} MiB", BYTES_MAX >> 20),
            Err(error) => format!("it cannot be written: {error}"),
        };
        let remark = format!(
            "later events are not recorded in {}: {why}",
            self.path.display()
        );
        self.flush();
        self.file = None;
        Some(remark)
    }

    /// Hands everything to the operating system, for a file that nobody reads meanwhile.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn close(mut self) -> Result<(), RecordingError> {
        let flushed = self.file.as_mut().map_or(Ok(()), Write::flush);
        flushed.map_err(|source| RecordingError::Io {
            act: "write",
            path: self.path,
            source,
        })
    }

    /// Hands what was added to the operating system.
    pub(crate) fn flush(&mut self) {
        // An error comes again with the next entry.
        let _ = self.file.as_mut().map(Write::flush);
    }

    fn line(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut text = serde_json::to_vec(value)?;
        text.push(b'\n');
        self.written += text.len() as u64;
        file.write_all(&text)
    }
}

/// Reads a file of events, entry by entry. As an iterator it ends where the file ends now, and goes
/// on when the file has grown.
pub(crate) struct Recording {
    lines: Growing,
    path: PathBuf,
    end: End,
}

/// Why no entry comes now.
enum End {
    /// The last line is whole.
    Whole,
    /// The last line is not.
    Unfinished,
    /// A line can never be read, for this reason.
    Damaged(String),
}

impl Recording {
    /// Opens the file of a testnet's folder, or the file itself; also gives its header.
    ///
    /// # Errors
    /// When there is none, or it is something else.
    pub(crate) fn open(place: &Path) -> Result<(Header, Recording), RecordingError> {
        let path = if place.is_dir() {
            let path = place.join(EVENTS_FILE);
            if !path.exists() {
                return Err(RecordingError::NotATestnet(place.to_owned()));
            }
            path
        } else {
            place.to_owned()
        };
        let lines = Growing::open(&path, LINE_MAX).map_err(|source| RecordingError::Io {
            act: "read",
            path: path.clone(),
            source,
        })?;
        let mut recording = Recording {
            lines,
            path,
            end: End::Whole,
        };
        match recording.header() {
            Ok(header) => Ok((header, recording)),
            Err(why) => Err(RecordingError::NotEvents {
                path: recording.path,
                why,
            }),
        }
    }

    /// What is said of the end of the file if it cannot be read: an unfinished line may still be
    /// finished, a damaged one never is.
    pub(crate) fn cut(&self) -> Option<String> {
        let why = match &self.end {
            End::Whole => return None,
            End::Unfinished => "it has no end",
            End::Damaged(why) => why,
        };
        Some(format!(
            "line {} of {} cannot be read ({why}); events are shown up to there",
            self.lines.line(),
            self.path.display()
        ))
    }

    /// Whether nothing more can come, however the file grows.
    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self.end, End::Damaged(_))
    }

    fn header(&mut self) -> Result<Header, String> {
        #[derive(Deserialize)]
        struct Version {
            kith_events: u32,
        }
        let text = match self.lines.next()? {
            Next::Line(text) => text,
            Next::End => return Err("it is empty".to_owned()),
            Next::Unfinished => return Err("its first line has no end".to_owned()),
        };
        let wrong = |error: serde_json::Error| error.to_string();
        let Version { kith_events } = serde_json::from_slice(&text).map_err(wrong)?;
        if kith_events != VERSION {
            return Err(format!(
                "version {kith_events}, and this program reads version {VERSION}"
            ));
        }
        let header: Header = serde_json::from_slice(&text).map_err(wrong)?;
        let peers = header.peers.len();
        if peers > PEERS_MAX {
            return Err(format!("{peers} peers, and a page shows {PEERS_MAX}"));
        }
        let places = header.links.iter().flat_map(|(a, b)| [*a, *b]);
        if places.chain(header.seen_by).any(|place| place >= peers) {
            return Err(format!("a place beyond the {peers} peers of its roster"));
        }
        Ok(header)
    }

    fn entry(&mut self) -> Result<Option<Entry>, String> {
        let text = match self.lines.next()? {
            Next::Line(text) => text,
            Next::End => {
                self.end = End::Whole;
                return Ok(None);
            }
            Next::Unfinished => {
                self.end = End::Unfinished;
                return Ok(None);
            }
        };
        let entry = serde_json::from_slice(&text);
        entry.map(Some).map_err(|error| error.to_string())
    }
}

impl Iterator for Recording {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.is_damaged() {
            return None;
        }
        self.entry().unwrap_or_else(|why| {
            self.end = End::Damaged(why);
            None
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kith_gossip::Event;

    use super::*;
    use crate::telemetry::What;

    /// Three peers in a triangle, of which the last one lies.
    pub(crate) fn header() -> Header {
        let member = |number: u8| Member {
            name: format!("peer-{number}"),
            peer: PeerId([number; 32]),
            role: if number == 3 {
                Role::Adversary
            } else {
                Role::Honest
            },
            place: (f64::from(number) / 4.0, 0.5),
        };
        Header {
            kith_events: VERSION,
            charter: "[federation]\n".to_owned(),
            name: "three".to_owned(),
            rounds: 2,
            rule: "median".to_owned(),
            topology: "complete".to_owned(),
            codec: "identity".to_owned(),
            attack: Some("sign-flip".to_owned()),
            peers: (1..=3).map(member).collect(),
            links: vec![(0, 1), (0, 2), (1, 2)],
            seen_by: None,
        }
    }

    /// A line of a peer, by its number from 1.
    pub(crate) fn entry(seconds: f64, number: u8, event: Event) -> Entry {
        let line = Line {
            time: String::new(),
            at_seconds: seconds,
            node: PeerId([number; 32]),
            what: What::Peer(event),
        };
        Entry {
            seconds,
            what: Noticed::Line(line),
        }
    }

    fn some_entries() -> Vec<Entry> {
        let closed = Event::RoundClosed {
            round: 0,
            why: kith_gossip::event::Closed::Deadline,
            have: 1,
            awaited: 2,
            missing: vec![PeerId([3; 32])],
        };
        vec![
            Entry {
                seconds: 0.0,
                what: Noticed::Began(0),
            },
            entry(1.5, 1, closed),
            Entry {
                seconds: 2.0,
                what: Noticed::Gone(0),
            },
            Entry {
                seconds: 3.0,
                what: Noticed::Baselines {
                    local_only: 0.5,
                    pooled: 0.9,
                },
            },
            Entry {
                seconds: 3.0,
                what: Noticed::Over,
            },
        ]
    }

    fn recorded(folder: &Path) -> PathBuf {
        let file = folder.join(EVENTS_FILE);
        let mut recorder = Recorder::create(&file, &header()).unwrap();
        for entry in some_entries() {
            assert_eq!(recorder.add(&entry), None);
        }
        recorder.flush();
        file
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = recorded(folder.path());
        for place in [folder.path(), &file] {
            let (read, mut entries) = Recording::open(place).unwrap();
            assert_eq!(read, header());
            assert_eq!(entries.by_ref().collect::<Vec<_>>(), some_entries());
            assert_eq!(entries.cut(), None);
        }
    }

    #[test]
    fn a_file_that_was_cut_is_read_up_to_there_and_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = recorded(folder.path());
        let whole = std::fs::read(&file).unwrap();
        let header_ends = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut told = 0;
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            match Recording::open(&file) {
                Err(error) => {
                    assert!(length < header_ends, "{length}");
                    let text = error.to_string();
                    assert!(
                        text.contains("does not begin with") && !text.contains('\n'),
                        "{text}"
                    );
                }
                Ok((_, mut entries)) => {
                    let read: Vec<Entry> = entries.by_ref().collect();
                    assert_eq!(read, some_entries()[..read.len()]);
                    let at_an_end = whole[length - 1] == b'\n';
                    assert_eq!(entries.cut().is_none(), at_an_end, "{length}");
                    let cut = entries.cut();
                    told += u64::from(cut.is_some_and(|text| text.contains("up to there")));
                    // The rest comes later.
                    std::fs::write(&file, &whole).unwrap();
                    assert_eq!(entries.by_ref().count(), some_entries().len() - read.len());
                    assert_eq!(entries.cut(), None);
                }
            }
        }
        assert!(told > 100, "{told}");
    }

    #[test]
    fn other_files_and_folders_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |place: &Path| {
            let error = Recording::open(place).err().map(|error| error.to_string());
            error.filter(|text| !text.contains('\n')).expect("one line")
        };
        assert!(refused(folder.path()).contains("not the folder of a testnet"));
        let file = folder.path().join("other");
        assert!(refused(&file).contains("cannot read"));
        let far = Header {
            links: vec![(0, 9)],
            ..header()
        };
        let many = Header {
            peers: vec![header().peers[0].clone(); 257],
            ..header()
        };
        for (text, expected) in [
            (String::new(), "it is empty"),
            ("{}\n".to_owned(), "kith_events"),
            ("{\"kith_events\":2}\n".to_owned(), "reads version 1"),
            (serde_json::to_string(&far).unwrap() + "\n", "beyond the 3"),
            (serde_json::to_string(&many).unwrap() + "\n", "257 peers"),
            ("x".repeat(5 << 20), "too long"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert!(refused(&file).contains(expected), "{}", refused(&file));
        }
    }
}
