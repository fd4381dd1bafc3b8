//! What a charter accepts, refuses, and is called.

#![allow(clippy::unwrap_used)] // helpers of tests count as tests

use kith_consensus::aggregate::RULES;
use kith_consensus::charter::{Admission, Declared, Space, Weighting};
use kith_consensus::{Charter, PeerId, Problem, Section};

/// A federation of `members` with the given sections beside.
fn text(members: usize, sections: &str) -> String {
    let member = |index: usize| {
        format!(
            "[[membership.member]]\nname = \"m{index}\"\nkey = \"{}\"\n",
            PeerId([index as u8 + 1; 32])
        )
    };
    format!(
        "[federation]\nname = \"clinics\"\n{sections}\n{}",
        (0..members).map(member).collect::<String>()
    )
}

fn resolve(text: &str) -> Result<Charter, Vec<String>> {
    let mut model = |section: &mut Section<'_>, _: &mut Declared| {
        section.integer("width", Some(8), 1..=64);
    };
    Charter::resolve(text, &mut [("model", &mut model)])
        .map_err(|problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect())
}

#[test]
fn the_id_of_a_charter_never_changes() {
    // If this fails, a default or the hashing changed, and every federation that left a key out
    // would fall apart.
    let id = resolve(&text(3, "")).unwrap().id.to_string();
    assert_eq!(
        id,
        "32d10fb1fa47fc4f6b0a278adfb914f9517995fb612d671856aafe57d3ca0911"
    );
}

#[test]
fn a_written_charter_has_the_same_id_and_every_key() {
    let charter = resolve(&text(
        5,
        "[aggregation]\nrule = \"nnm+multi-krum\"\nbyzantine = 1\n[topology]\nkind = \"complete\"",
    ))
    .unwrap();
    let written = charter.to_toml();
    for key in [
        "rounds",
        "width",
        "deadline_seconds",
        "quorum",
        "redraw_every",
        "variant",
        "weighting",
        "mechanism",
        "organisation",
    ] {
        assert!(
            written.contains(&format!("{key} = ")),
            "{key} is missing in\n{written}"
        );
    }
    let again = resolve(&written).unwrap();
    assert_eq!(again.id, charter.id);
    assert_eq!(again.to_toml(), written);
    assert!(written.starts_with("[federation]"));
}

#[test]
fn the_order_in_which_members_are_listed_changes_nothing() {
    let charter = resolve(&text(4, "")).unwrap();
    let members = text(4, "");
    let (head, members) = members.split_once("[[membership.member]]").unwrap();
    let reversed: Vec<&str> = members
        .split("[[membership.member]]")
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let other = resolve(&format!(
        "{head}[[membership.member]]{}",
        reversed.join("[[membership.member]]")
    ))
    .unwrap();
    assert_eq!((other.id, other.to_toml()), (charter.id, charter.to_toml()));
    assert_eq!(other.membership.members[0].name, "m0");
}

#[test]
fn spelling_out_a_default_keeps_the_id_and_another_value_changes_one_section() {
    let charter = resolve(&text(3, "")).unwrap();
    assert_eq!(
        resolve(&text(3, "[round]\nquorum = 1\n[model]\nwidth = 8"))
            .unwrap()
            .id,
        charter.id
    );
    let other = resolve(&text(3, "[round]\nquorum = 0.5")).unwrap();
    assert_ne!(other.id, charter.id);
    assert_eq!(charter.differing_sections(&other.sections), ["round"]);
    let mut fewer = other.sections.clone();
    fewer.remove("model");
    assert_eq!(charter.differing_sections(&fewer), ["model", "round"]);
}

#[test]
fn a_neighbourhood_too_small_for_the_rule_is_refused_with_numbers_and_place() {
    let problems = resolve(&text(6, "[aggregation]\nrule = \"krum\"\nbyzantine = 1")).unwrap_err();
    assert_eq!(
        problems,
        [
            "line 5, column 13: aggregation.byzantine: rule \"krum\" with byzantine = 1 needs 5 models, this neighbourhood has 3: \
          peer 0 receives from 2"
        ]
    );
    assert!(
        resolve(&text(
            5,
            "[topology]\nkind = \"complete\"\n[aggregation]\nrule = \"krum\"\nbyzantine = 1"
        ))
        .is_ok()
    );
    // Mixing first does not lower what the rule needs.
    let problems = resolve(&text(
        6,
        "[aggregation]\nrule = \"nnm+krum\"\nbyzantine = 1",
    ))
    .unwrap_err();
    assert!(
        problems[0].contains("rule \"nnm+krum\" with byzantine = 1 needs 5 models"),
        "{problems:?}"
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = resolve(&text(
        3,
        "[aggregation]\nrule = \"krun\"\n[round]\nquorum = 2\ndeadlin = 3\n[colour]",
    ))
    .unwrap_err();
    let rules: Vec<&str> = RULES.iter().map(|entry| entry.name).collect();
    let krun = format!(
        "line 4, column 8: aggregation.rule: unknown rule \"krun\"; known: {} (did you mean \"krum\"?)",
        rules.join(", ")
    );
    assert_eq!(
        problems,
        [
            "line 6, column 10: round.quorum: expected a number from 0.01 to 1, found 2",
            "line 7, column 11: round.deadlin: unknown key \"deadlin\"; known: deadline_seconds, mode, patience, quorum, selection, \
             staleness, start_deadline_seconds",
            &krun,
            "line 8, column 2: colour: unknown section \"colour\"; known: aggregation, federation, membership, model, privacy, round, \
             topology",
        ]
    );
}

#[test]
fn a_pre_aggregator_alone_and_an_unknown_one_are_explained() {
    let problems = resolve(&text(3, "[aggregation]\nrule = \"nnm\"")).unwrap_err();
    assert!(
        problems[0].ends_with(
            "\"nnm\" prepares models for a rule; expected for example \"nnm+trimmed-mean\""
        ),
        "{problems:?}"
    );
    let problems = resolve(&text(3, "[aggregation]\nrule = \"nmm+mean\"")).unwrap_err();
    assert!(
        problems[0].contains("unknown pre-aggregator \"nmm\"; known: nnm"),
        "{problems:?}"
    );
    assert!(
        problems[0].ends_with("(did you mean \"nnm\"?)"),
        "{problems:?}"
    );
}

#[test]
fn members_are_unique_and_have_keys() {
    let doubled = text(3, "")
        .replace("m2", "m1")
        .replace(&PeerId([3; 32]).to_string(), &PeerId([1; 32]).to_string());
    let problems = resolve(&doubled).unwrap_err().join("\n");
    assert!(
        problems.contains("two members are named \"m1\""),
        "{problems}"
    );
    assert!(
        problems.contains("members \"m0\" and \"m1\" have the same key"),
        "{problems}"
    );
    let problems = resolve(&text(2, "").replace("12D3Koo", "12D3Kop")).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("membership.member.key") && problems[0].contains("is not a peer id"),
        "{problems:?}"
    );
    assert!(
        resolve("[federation]\nname = \"nobody\"").unwrap_err()[0].contains("no member is listed")
    );
}

#[test]
fn an_open_federation_states_how_many_peers_it_has() {
    let charter =
        resolve("[federation]\nname = \"lab\"\n[membership]\nmode = \"open\"\npeers = 12\n[topology]\nkind = \"torus\"").unwrap();
    assert_eq!(
        (charter.membership.mode, charter.membership.peers),
        (Admission::Open, 12)
    );
    assert!(charter.roster().is_empty());
    let problems =
        resolve("[federation]\nname = \"lab\"\n[membership]\nmode = \"open\"\npeers = 7\n[topology]\nkind = \"torus\"")
            .unwrap_err();
    assert!(
        problems[0].contains(
            "line 7, column 8: topology.kind: a torus topology over 7 peers is impossible"
        ),
        "{problems:?}"
    );
}

#[test]
fn graphs_that_change_need_to_connect_over_their_period_only() {
    for kind in [
        "one-peer-exponential",
        "base-k",
        "hierarchical",
        "centralised",
        "epidemic-local",
    ] {
        assert!(
            resolve(&text(9, &format!("[topology]\nkind = \"{kind}\""))).is_ok(),
            "{kind}"
        );
    }
}

#[test]
fn a_rule_needs_enough_models_only_where_it_combines_any() {
    let refused = |kind: &str, rule: &str| {
        let text = text(
            9,
            &format!("[topology]\nkind = \"{kind}\"\n[aggregation]\n{rule}"),
        );
        resolve(&text)
            .err()
            .map_or(String::new(), |problems| problems.join("\n"))
    };
    // Who adopts a model, and to whom nobody sends in a round, asks no rule. Three clusters of
    // three peers each.
    assert_eq!(
        refused("hierarchical", "rule = \"median\"\nbyzantine = 1"),
        ""
    );
    assert_eq!(refused("centralised", "rule = \"krum\"\nbyzantine = 3"), "");
    let small = refused("hierarchical", "rule = \"krum\"\nbyzantine = 1");
    assert!(
        small.contains("needs 5 models, this neighbourhood has 3: peer 0 receives from 2"),
        "{small}"
    );
    let small = refused("centralised", "rule = \"krum\"\nbyzantine = 4");
    assert!(
        small.contains("needs 11 models, this neighbourhood has 9: peer 0 receives from 8"),
        "{small}"
    );
    // Elsewhere a peer that receives from nobody is one too few.
    assert!(
        refused("base-k", "rule = \"median\"\nbyzantine = 1")
            .contains("this neighbourhood has 1: ")
    );
}

#[test]
fn what_needs_every_round_alike_is_refused_where_some_rounds_only_exchange() {
    let refused = |kind: &str, rest: &str| {
        resolve(&text(9, &format!("[topology]\nkind = \"{kind}\"\n{rest}")))
            .expect_err("refused")
            .join("\n")
    };
    for kind in ["hierarchical", "centralised"] {
        let told = refused(kind, "[round]\nmode = \"asynchronous\"");
        assert!(
            told.contains("round.mode: in a ") && told.contains("expected \"synchronous\""),
            "{told}"
        );
        let told = refused(kind, "[aggregation]\nmethod = \"gradient-tracking\"");
        assert!(
            told.contains(
                "aggregation.method: gradient tracking needs a topology whose mixing keeps the mean"
            ),
            "{told}"
        );
    }
    let cge = "[aggregation]\nrule = \"cge\"\non = \"updates\"";
    let told = refused("hierarchical", cge);
    assert!(
        told.contains("aggregation.rule: rule \"cge\" judges what a round's training changed"),
        "{told}"
    );
    assert!(
        resolve(&text(
            9,
            &format!("[topology]\nkind = \"centralised\"\n{cge}")
        ))
        .is_ok(),
        "the hub judges a round's training"
    );
}

#[test]
fn listed_edges_are_part_of_the_agreement() {
    let path = |edges: &str| {
        resolve(&text(
            4,
            &format!("[topology]\nkind = \"edges\"\nedges = {edges}"),
        ))
    };
    let charter = path("[[0, 1], [1, 2], [2, 3]]").unwrap();
    assert_eq!(
        charter.topology.graph(4, 7).unwrap().receives_from(1),
        [0, 2]
    );
    assert_ne!(
        charter.id,
        path("[[0, 1], [1, 2], [2, 3], [3, 0]]").unwrap().id
    );
    assert_eq!(resolve(&charter.to_toml()).unwrap().id, charter.id);
    let refused = |edges: &str| path(edges).unwrap_err().join("\n");
    assert!(refused("[[0, 1], [2, 3]]").contains("leaves peers that no update can reach"));
    assert!(refused("[[0, 1], [1, 4]]").contains("edge from 1 to 4: it leaves 0..4"));
    assert!(
        refused("[[0, 1], [2, \"x\"]]")
            .contains("line 5, column 18: topology.edges: expected a list of pairs"),
        "{}",
        refused("[[0, 1], [2, \"x\"]]")
    );
}

#[test]
fn weights_by_samples_need_a_cap_and_a_rule_that_weighs() {
    let charter = resolve(&text(
        3,
        "[aggregation]\nweighting = \"samples\"\nsample_cap = 500",
    ))
    .unwrap();
    assert_eq!(
        charter.aggregation.weighting,
        Weighting::Samples { cap: 500 }
    );
    let problems = resolve(&text(3, "[aggregation]\nweighting = \"samples\"")).unwrap_err();
    assert!(
        problems[0].contains("aggregation.sample_cap: this key is missing"),
        "{problems:?}"
    );
    let problems = resolve(&text(
        3,
        "[aggregation]\nrule = \"median\"\nweighting = \"samples\"\nsample_cap = 5",
    ))
    .unwrap_err();
    assert!(
        problems[0].contains("rule \"median\" gives every model the same weight"),
        "{problems:?}"
    );
}

#[test]
fn rules_that_judge_updates_are_not_shown_models() {
    let charter = |aggregation: &str| {
        resolve(&text(
            5,
            &format!("[topology]\nkind = \"complete\"\n[aggregation]\n{aggregation}"),
        ))
    };
    assert_eq!(charter("").unwrap().aggregation.on, Space::Models);
    assert_eq!(
        charter("rule = \"cge\"").unwrap_err(),
        [
            "line 6, column 8: aggregation.rule: rule \"cge\" judges how long updates are, which models do not show; expected \
          on = \"updates\" beside it"
        ]
    );
    for rule in ["static-clip+median", "arc+nnm+trimmed-mean", "nnm+fltrust"] {
        assert!(
            charter(&format!("rule = \"{rule}\"")).unwrap_err()[0]
                .contains("expected on = \"updates\""),
            "{rule}"
        );
        assert_eq!(
            charter(&format!("rule = \"{rule}\"\non = \"updates\""))
                .unwrap()
                .aggregation
                .on,
            Space::Updates
        );
    }
    let problems = charter("rule = \"balance\"\non = \"updates\"").unwrap_err();
    assert_eq!(
        problems,
        [
            "line 7, column 6: aggregation.on: rule \"balance\" judges models and not updates; expected on = \"models\""
        ]
    );
    assert!(
        charter("rule = \"arc+balance\"\non = \"updates\"").unwrap_err()[0]
            .contains("expected parts that fit")
    );
    assert!(charter("rule = \"centered-clipping\"\non = \"updates\"").is_ok());
}

#[test]
fn the_same_draw_every_time_is_not_redrawn() {
    let problems = resolve(&text(4, "[topology]\nredraw_every = 5")).unwrap_err();
    assert!(
        problems[0].contains("a ring topology is the same at every draw"),
        "{problems:?}"
    );
    let problems = resolve(&text(
        9,
        "[topology]\nkind = \"epidemic-local\"\nredraw_every = 5",
    ))
    .unwrap_err();
    assert!(
        problems[0]
            .contains("kind \"epidemic-local\" is another one in each round by itself; expected 0"),
        "{problems:?}"
    );
    assert!(
        resolve(&text(
            6,
            "[topology]\nkind = \"random-regular\"\nredraw_every = 5"
        ))
        .is_ok()
    );
}

#[test]
fn a_selection_that_mixes_fewer_than_the_rule_needs_or_cannot_work_is_refused() {
    let complete = |sections: &str| {
        resolve(&text(
            7,
            &format!("[topology]\nkind = \"complete\"\n{sections}"),
        ))
    };
    let krum = "[aggregation]\nrule = \"krum\"\nbyzantine = 1";
    for (keys, mixed) in [
        ("selection = \"uniform\"\nshare = 0.5", 3),
        ("selection = \"uniform\"\ncount = 2", 2),
        (
            "selection = \"power-of-choice\"\ncandidates = 6\nselected = 3",
            3,
        ),
    ] {
        let problems = complete(&format!("[round]\n{keys}\n{krum}")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let found = format!(
            "needs 5 models, this neighbourhood has {}: peer 0 receives from 6, of whom selection",
            mixed + 1
        );
        assert!(
            problems[0].contains(&found) && problems[0].ends_with(&format!("mixes {mixed}")),
            "{problems:?}"
        );
        assert!(
            complete(&format!("[round]\n{keys}")).is_ok(),
            "the mean needs no more"
        );
    }
    for keys in [
        "selection = \"uniform\"\ncount = 4",
        "selection = \"deadline\"",
    ] {
        assert!(
            complete(&format!("[round]\n{keys}\n{krum}")).is_ok(),
            "{keys}"
        );
    }
    for kind in ["uniform", "power-of-choice", "deadline"] {
        let asynchronous = complete(&format!(
            "[round]\nmode = \"asynchronous\"\nselection = \"{kind}\""
        ))
        .unwrap_err();
        assert!(
            asynchronous[0].contains("round.selection")
                && asynchronous[0].contains("expected \"all\""),
            "{asynchronous:?}"
        );
        let tracking = format!(
            "[round]\nselection = \"{kind}\"\n[aggregation]\nmethod = \"gradient-tracking\""
        );
        let tracking = complete(&tracking).unwrap_err();
        assert!(
            tracking[0].contains("round.selection") && tracking[0].contains("expected \"all\""),
            "{tracking:?}"
        );
    }
}

#[test]
fn a_selection_is_written_with_its_own_keys() {
    for (keys, written) in [
        ("selection = \"uniform\"", "share = 0.5"),
        ("selection = \"uniform\"\ncount = 2", "count = 2"),
        ("selection = \"power-of-choice\"", "candidates = 4"),
        ("selection = \"deadline\"", "fairness = 5"),
    ] {
        let charter = resolve(&text(3, &format!("[round]\n{keys}"))).unwrap();
        assert!(charter.to_toml().contains(written), "{}", charter.to_toml());
        assert_eq!(resolve(&charter.to_toml()).unwrap().id, charter.id);
    }
}

/// A key that came after charters were written must not change the id of those that do not have it.
#[test]
fn an_added_key_changes_an_id_only_where_it_says_something() {
    let id = |line: &str| {
        let text = format!(
            "[federation]\nname = \"added\"\n[membership]\nmode = \"open\"\npeers = 5\n[aggregation]\nrule = \"mean\"\n\
             method = \"scaffold\"\n{line}"
        );
        let charter = Charter::resolve(&text, &mut []).unwrap();
        assert_eq!(
            Charter::resolve(&charter.to_toml(), &mut []).unwrap().id,
            charter.id,
            "{line}"
        );
        charter.id
    };
    assert_eq!(id(""), id("global_learning_rate = 1"));
    assert_ne!(id(""), id("global_learning_rate = 0.5"));
    assert_eq!(id("").short(), "fe8c8f9d");
}
