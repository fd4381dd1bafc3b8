//! How peers may keep step, by the names that `[round] mode` of a charter takes.
//!
//! [`Mode`] says what a name means to a peer. Here are the names, with the help that people need to
//! choose.

use crate::optimization::staleness::StalenessWeight;
use crate::registry::{Entry, Registry};
use crate::section::Section;

/// How peers keep step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Each round waits for the neighbourhood, up to its deadline.
    Synchronous,
    /// Nobody waits: a peer trains, tells its neighbours, merges the updates that came meanwhile,
    /// weighed by their staleness, and continues.
    Asynchronous(StalenessWeight),
    /// A peer trains, averages with one neighbour that is drawn for it, and continues; the
    /// neighbour answers at once (AD-PSGD).
    Pairwise,
}

/// A mode in the table; `new` reads its keys of `[round]`.
pub type ModeEntry = Entry<fn(&mut Section<'_>) -> Mode>;

/// Every way to keep step, the default first.
pub static MODES: Registry<fn(&mut Section<'_>) -> Mode> = Registry::new(
    "mode",
    &[
        ModeEntry {
            name: "synchronous",
            help: "each round waits for the neighbourhood, up to its deadline",
            source: "Lian et al. 2017 (D-PSGD), arXiv 1705.09056; deadline and quorum are our own",
            main_key: None,
            new: |_| Mode::Synchronous,
        },
        ModeEntry {
            name: "asynchronous",
            help: "nobody waits: updates that have come are merged, weighed by their staleness",
            source: "after Xie, Koyejo and Gupta 2019 (FedAsync), arXiv 1903.03934, among neighbours instead of with a server",
            main_key: None,
            new: |section| Mode::Asynchronous(StalenessWeight::read(section)),
        },
        ModeEntry {
            name: "pairwise",
            help: "a peer trains, averages with one neighbour that is drawn for it, and continues",
            source: "Lian et al. 2018 (AD-PSGD), arXiv 1710.06952",
            main_key: None,
            new: |_| Mode::Pairwise,
        },
    ],
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charter::Charter;
    use crate::identity::PeerId;

    /// The mode of a charter of three peers on a ring; without a name, of a charter that does not
    /// set it.
    fn mode_of(name: &str) -> Result<Mode, String> {
        let member = |key: u8| {
            format!(
                "[[membership.member]]\nname = \"m{key}\"\nkey = \"{}\"\n",
                PeerId([key; 32])
            )
        };
        let members: String = [1, 2, 3].map(member).concat();
        let mode = if name.is_empty() {
            String::new()
        } else {
            format!("[round]\nmode = \"{name}\"\n")
        };
        let text =
            format!("[federation]\nname = \"modes\"\n[topology]\nkind = \"ring\"\n{mode}{members}");
        Charter::resolve(&text, &mut [])
            .map(|charter| charter.round.mode)
            .map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn a_charter_takes_every_name_and_no_other() {
        let mut modes = Vec::new();
        for entry in &MODES {
            let mode =
                mode_of(entry.name).unwrap_or_else(|problem| panic!("{}: {problem}", entry.name));
            assert!(
                !modes.contains(&mode),
                "{} means what another name means",
                entry.name
            );
            modes.push(mode);
        }
        let names: Vec<&str> = MODES.iter().map(|entry| entry.name).collect();
        let problem = mode_of("no such mode").expect_err("there is none");
        assert!(
            problem.ends_with(&format!("known: {}", names.join(", "))),
            "{problem}"
        );
    }

    #[test]
    fn a_charter_that_says_nothing_has_the_first() {
        assert_eq!(mode_of(""), mode_of(MODES[0].name));
    }
}
