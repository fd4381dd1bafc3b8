//! What a report says in words: what is protected under each mechanism, on which assumptions, and
//! what is not covered.

use kith_consensus::charter::Unit;

/// The words of one mechanism.
pub(super) struct Claims {
    /// What is protected, after "private for".
    pub(super) protected: &'static str,
    /// What is protected, as a definition.
    pub(super) unit: &'static str,
    /// How neighbouring data sets differ.
    pub(super) adjacency: &'static str,
    /// What is released.
    pub(super) released: &'static str,
    /// The algorithm, with its source.
    pub(super) algorithm: &'static str,
    /// Assumptions that only this mechanism makes, and the code that enforces each.
    assumptions: &'static [(&'static str, &'static str)],
    /// What the unit leaves out.
    layer: &'static str,
}

static ROW: Claims = Claims {
    protected: "each row",
    unit: "a row of the table that this peer trains on",
    adjacency: "Two data sets are neighbours if one has one row more than the other (add or remove).",
    released: "Every update of every round, not only the last model: whoever sees all of them learns no more of a row than the statement says.",
    algorithm: "DP-SGD (Abadi et al. 2016, arXiv 1607.00133), example level",
    assumptions: &[
        (
            "Poisson sampling: each row takes part in a step independently of all others",
            "the lot is drawn row by row from bits of the release's own key; no other way to make lots exists under a guarantee",
        ),
        (
            "each row's gradient has at most the clip norm",
            "per-row clipping before the sum; a gradient that is not finite counts as zero",
        ),
    ],
    layer: "one row; a person with several rows has a larger epsilon",
};

static PEER: Claims = Claims {
    protected: "all rows of this peer together",
    unit: "the peer with all its rows",
    adjacency: "Two data sets are neighbours if one is this peer's rows and with the other its training changes nothing. Between two arbitrary \
                data sets of a peer the noise counts half.",
    released: "Every update of every round, not only the last model: whoever sees all of them learns no more of the peer's rows, taken \
               together, than the statement says.",
    algorithm: "a noised update of each peer (McMahan et al. 2018, arXiv 1710.06963, without a server), update level",
    assumptions: &[
        (
            "a round changes the model by at most the clip norm",
            "the whole change is clipped as one vector before the noise; a training that fails counts as one that changed nothing",
        ),
        (
            "nothing of the exact parameters outlives the round",
            "the peer goes on from the noised ones; an optimizer that remembers gradients over rounds is refused",
        ),
    ],
    layer: "one peer; people whose rows several peers have are not covered beyond each of these peers",
};

static GROUP: Claims = Claims {
    protected: "the rows of each group together",
    unit: "all rows with one value in the group column, of which at most as many as the cap are used",
    adjacency: "Two data sets are neighbours if one has one group of rows more than the other (add or remove).",
    released: "Every update of every round, not only the last model: whoever sees all of them learns no more of a group's rows, taken \
               together, than the statement says.",
    algorithm: "DP-SGD (Abadi et al. 2016, arXiv 1607.00133) on groups of rows",
    assumptions: &[
        (
            "Poisson sampling: each group takes part in a step as a whole and independently of all others",
            "the lot is drawn group by group from bits of the release's own key; no other way to make lots exists under a guarantee",
        ),
        (
            "each group's gradient has at most the clip norm",
            "the gradients of a group's rows are clipped as one before the sum; one that is not finite counts as zero",
        ),
        (
            "the group column names everybody once",
            "nothing enforces that: a person under two values is two groups",
        ),
    ],
    layer: "one group; a person under several values of the group column, or at several peers, has a larger epsilon",
};

/// The words of the mechanism that protects this.
pub(super) fn claims(unit: Unit) -> &'static Claims {
    match unit {
        Unit::Row => &ROW,
        Unit::Group => &GROUP,
        Unit::Peer => &PEER,
    }
}

impl Claims {
    /// Each assumption of the statement, and the code that enforces it.
    pub(super) fn assumptions(&self) -> Vec<(&'static str, &'static str)> {
        [self.assumptions, &ASSUMPTIONS].concat()
    }

    /// The layers of NIST SP 800-226, from the statement down: what, whether it is covered, how.
    pub(super) fn layers(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let first = ("epsilon and unit", "covered", self.layer);
        std::iter::once(first).chain(LAYERS).collect()
    }
}

/// Assumptions of every mechanism.
const ASSUMPTIONS: [(&str, &str); 5] = [
    (
        "noise is drawn anew for every release and is known to nobody",
        "32 bytes of the operating system for each release, kept in memory only and erased",
    ),
    (
        "steps and noise are fixed beforehand and are the same whatever the rows are",
        "constants of the charter; announcements carry these constants instead of a peer's own numbers",
    ),
    (
        "every release is charged before it is made",
        "the entry is on disk before training begins; at worst a crash counts one release too many",
    ),
    (
        "releases end at the budget",
        "a Rényi filter at an order fixed by the charter refuses the release that would exceed it",
    ),
    (
        "the ledger has forgotten nothing",
        "a hash chain beside the rows; an unreadable, missing or older ledger is refused; signed headers state what was spent, and \
         after each start nothing is released before byzantine + 1 neighbours could have handed the newest one back",
    ),
];

/// Accesses to the rows.
pub(super) const ACCESSES: [(&str, &str, &str); 5] = [
    (
        "training of every round",
        "covered",
        "charged to the ledger",
    ),
    (
        "evaluation on held-out rows",
        "not covered",
        "test_path must name rows that need no protection; holding out a peer's own rows is refused",
    ),
    (
        "normalisation and imputation values",
        "not covered",
        "they stand in the charter; how the members chose them is theirs to say",
    ),
    (
        "trial runs, and choosing the learning rate or the clip norm by looking at results",
        "not covered",
        "only runs of this program that charge this ledger are counted",
    ),
    (
        "`kith check` and other local commands",
        "not covered",
        "what they show stays on this machine",
    ),
];

/// Layers below the unit.
const LAYERS: [(&str, &str, &str); 6] = [
    ("sampling and noise", "covered", "as the assumptions say"),
    (
        "arithmetic of the noise",
        "covered",
        "released on a grid; what finite arithmetic adds is charged",
    ),
    (
        "side channels",
        "not covered",
        "memory and power; who takes part and when; sizes of messages; the time of training is covered as far as lots decide it, since \
         updates leave at a pace that is measured on blank rows",
    ),
    (
        "copies of the rows",
        "not covered",
        "rows that are copied, exported again or held by another organisation have a ledger of their own, and epsilons add up",
    ),
    (
        "access to the machine",
        "not covered",
        "rows, exact gradients and keys are in this peer's memory; protect the machine",
    ),
    (
        "collection of the data",
        "not covered",
        "consent and purpose are the operator's",
    ),
];
