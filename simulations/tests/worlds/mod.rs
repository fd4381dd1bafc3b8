//! Worlds drawn by a seed: what is the same for all stands in a file, what the seed draws is a
//! setting on top, so that `kith sim run FILE --seed S --set …` plays the same.

use kith_consensus::{Seed, Stream};
use kith_simulations::experiment::{Experiment, Outcome, Setting, setting};

/// One play of a world.
pub(crate) struct Play {
    /// Where the file stands, from the workspace on.
    pub(crate) file: String,
    pub(crate) seed: u64,
    pub(crate) settings: Vec<String>,
}

const TOPOLOGIES: &[&[&str]] = &[
    &["topology.kind=ring"],
    &["topology.kind=random-regular", "topology.degree=4"],
    &[
        "topology.kind=random-regular",
        "topology.degree=4",
        "topology.redraw_every=5",
    ],
    &["topology.kind=complete"],
    &["topology.kind=exponential"],
    &["topology.kind=one-peer-exponential"],
    &["topology.kind=small-world"],
];

/// Those whose rounds have stages.
pub(crate) const STAGED: &[&[&str]] = &[
    &["topology.kind=hierarchical"],
    &["topology.kind=hierarchical", "topology.clusters=4"],
    &[
        "topology.kind=hierarchical",
        "topology.clusters=2",
        "topology.heads=3",
        "topology.local_rounds=2",
    ],
    &["topology.kind=hierarchical", "topology.heads=1"],
    &["topology.kind=centralised"],
];

/// Those on which two peers average at a time.
pub(crate) const PAIRED: &[&[&str]] = &[
    &["round.mode=pairwise", "topology.kind=ring"],
    &[
        "round.mode=pairwise",
        "topology.kind=random-regular",
        "topology.degree=4",
    ],
    &["round.mode=pairwise", "topology.kind=complete"],
    &["round.mode=pairwise", "topology.kind=small-world"],
];

const CODECS: &[&[&str]] = &[
    &["codec.kind=identity"],
    &["codec.kind=f16"],
    &["codec.kind=int8"],
    &["codec.kind=int8", "codec.replica=true"],
    &["codec.kind=top-k", "codec.share=0.3"],
    &["codec.kind=qsgd", "codec.replica=true"],
    &["codec.kind=random-k", "codec.share=0.3"],
    &["codec.kind=power-sgd"],
];

const RULES: &[&[&str]] = &[
    &["aggregation.rule=mean"],
    &["aggregation.rule=trimmed-mean", "aggregation.byzantine=1"],
    &["aggregation.rule=median", "aggregation.byzantine=1"],
    &["aggregation.rule=multi-krum", "aggregation.byzantine=1"],
    &[
        "aggregation.rule=nnm+trimmed-mean",
        "aggregation.byzantine=1",
    ],
];

const ATTACKS: &[&str] = &[
    "sign-flip:10",
    "equivocation",
    "replay",
    "silence",
    "mute",
    "not-a-number",
    "infinity",
    "gaussian",
    "free-rider",
];

fn pick<'a, T: ?Sized>(random: &mut Stream, list: &[&'a T]) -> &'a T {
    list[random.bounded(list.len() as u64) as usize]
}

impl Play {
    /// What `seed` draws in the world of `file`: so many peers, which topology, codec and rule, and
    /// in one of three whether somebody lies.
    pub(crate) fn draw(file: &str, seed: u64, peers: std::ops::RangeInclusive<u64>) -> Play {
        Play::draw_among(TOPOLOGIES, file, seed, peers)
    }

    /// The same, with one of these topologies.
    pub(crate) fn draw_among(
        topologies: &[&[&str]],
        file: &str,
        seed: u64,
        peers: std::ops::RangeInclusive<u64>,
    ) -> Play {
        let mut random = Seed::from_number(seed).stream("kith.v1 test worlds");
        loop {
            let count = peers.start() + random.bounded(peers.end() - peers.start() + 1);
            let parts = [
                pick(&mut random, topologies),
                pick(&mut random, CODECS),
                pick(&mut random, RULES),
            ];
            let mut settings = vec![format!("world.peers={count}")];
            settings.extend(parts.into_iter().flatten().map(|part| (*part).to_owned()));
            if random.unit() < 0.33 && parts[2].len() > 1 {
                settings.extend([
                    "world.adversaries=1".to_owned(),
                    format!("world.attack={}", pick(&mut random, ATTACKS)),
                ]);
            }
            let play = Play {
                file: format!("simulations/tests/worlds/{file}.toml"),
                seed,
                settings,
            };
            // Not every rule has enough neighbours in every topology.
            if play.experiment().is_ok() {
                return play;
            }
        }
    }

    fn settings(&self) -> Vec<Setting> {
        let seed = format!("world.seed={}", self.seed);
        self.settings
            .iter()
            .chain([&seed])
            .map(|text| setting(text).expect("a good setting"))
            .collect()
    }

    pub(crate) fn experiment(&self) -> Result<Experiment, String> {
        let path = format!("{}/../{}", env!("CARGO_MANIFEST_DIR"), self.file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        Experiment::parse(&text, &self.settings()).map_err(|problems| {
            problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    pub(crate) fn run(&self) -> Outcome {
        let experiment = self
            .experiment()
            .unwrap_or_else(|problems| panic!("{}: {problems}", self.replay()));
        experiment
            .run(0, &mut |_, _| {})
            .expect("a formula has no rows to miss")
    }

    /// The command that plays it.
    pub(crate) fn replay(&self) -> String {
        let settings: String = self
            .settings
            .iter()
            .map(|setting| format!(" --set '{setting}'"))
            .collect();
        format!("kith sim run {} --seed {}{settings}", self.file, self.seed)
    }
}
