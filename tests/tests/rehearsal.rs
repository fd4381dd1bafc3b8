//! `kith sim run --charter … --world …` as a consortium's board meets it: the verdict, what it
//! rests on, and what goes wrong.

mod common;

use std::process::Output;

use common::{Folder, told};
use serde_json::Value;

const CHARTER: &str = "\
[federation]
name = \"board\"
rounds = 12

[topology]
kind = \"complete\"

[aggregation]
rule = \"krum\"
byzantine = 2
";

const WORLD: &str = "\
[world]
peers = 8
adversaries = 2
attack = \"sign-flip:10\"
";

/// Two of eight lie about parabolas: there is no accuracy.
const FORMULA: &str = "\
[world]
peers = 8
adversaries = 2
attack = \"sign-flip:10\"

[world.trainer]
kind = \"quadratic\"
spread = 0.2
";

struct Board(Folder);

impl Board {
    fn new(charter: &str, world: &str) -> Board {
        let board = Board(Folder::new());
        board.write("charter.toml", charter);
        board.write("world.toml", world);
        board
    }

    fn write(&self, name: &str, text: &str) {
        self.0.write(name, text);
    }

    fn kith(&self, arguments: &[&str]) -> Output {
        self.0.kith(arguments)
    }

    fn rehearse(&self, more: &[&str]) -> Output {
        let all = [
            &[
                "sim",
                "run",
                "--charter",
                "charter.toml",
                "--world",
                "world.toml",
                "--seeds",
                "2",
            ][..],
            more,
        ]
        .concat();
        self.kith(&all)
    }

    /// The answer in words, of a rehearsal that went to its end.
    fn answer(&self, more: &[&str]) -> String {
        let output = self.rehearse(more);
        assert!(output.status.success(), "{more:?}: {}", told(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, more: &[&str]) -> Value {
        let output = self.rehearse(&[more, &["--json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", told(&output)))
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
}

fn condition<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let found = answer["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|condition| condition["name"] == name));
    &found.unwrap_or_else(|| panic!("{name} in {}", answer["conditions"]))["holds"]
}

#[test]
fn a_charter_that_holds_is_said_to_with_the_limits_it_kept_and_whose_models_are_left_out() {
    let board = Board::new(CHARTER, WORLD);
    let text = board.answer(&[]);
    has(
        &text,
        &[
            "The charter holds in this world.",
            "expected at most 5.0",
            "expected at least 20.0 %",
            "invariants held: ",
        ],
    );
    // Krum leaves out most of what everybody sends.
    has(&text, &["peer 0 ", "everybody", "no sign of a lie"]);
    assert!(
        !text.contains("FAILED") && !text.contains("suspected: 0"),
        "{text}"
    );
    let answer = board.json(&[]);
    assert_eq!(
        (&answer["holds"], &answer["liars"], &answer["replay"]),
        (&true.into(), &2.into(), &Value::Null)
    );
    let peers = answer["peers"].as_object().expect("peers");
    assert_eq!(peers.len(), 8);
    let of = |key: &str| {
        peers
            .values()
            .filter_map(|peer| peer[key].as_f64())
            .collect::<Vec<f64>>()
    };
    assert!(
        of("left_out_lying").iter().all(|share| *share == 1.0),
        "krum takes no model of these liars"
    );
    assert!(
        of("left_out_clean").iter().sum::<f64>() > 4.0,
        "{:?}",
        of("left_out_clean")
    );
}

#[test]
fn members_are_called_by_name() {
    let members: String = (0..8)
        .map(|member| {
            let key = kith_node::Identity::from_secret([member + 1; 32]).peer();
            format!("[[membership.member]]\nname = \"clinic-{member}\"\nkey = \"{key}\"\n")
        })
        .collect();
    let charter = format!("{CHARTER}\n[membership]\nmode = \"members\"\n{members}");
    let text = Board::new(&charter, &WORLD.replace("peers = 8\n", "")).answer(&[]);
    has(
        &text,
        &["clinic-0 ", "clinic-7 ", "everybody", "The charter holds"],
    );
    assert!(!text.contains(" peer 0 "), "{text}");
}

#[test]
fn liars_that_cost_too_much_fail_the_charter_and_the_conditions_are_named() {
    let board = Board::new(CHARTER, WORLD);
    let mean = [
        "--set",
        "aggregation.rule=mean",
        "--set",
        "aggregation.byzantine=0",
    ];
    let text = board.answer(&mean);
    has(
        &text,
        &[
            "The charter does not hold in this world:",
            "liars cost honest peers",
            "expected at most 5.0",
            "raise byzantine",
        ],
    );
    let answer = board.json(&mean);
    assert_eq!(answer["holds"], false);
    assert_eq!(
        (condition(&answer, "learns"), condition(&answer, "cost")),
        (&true.into(), &false.into())
    );
}

#[test]
fn a_federation_that_learns_nothing_does_not_hold_though_liars_cost_nothing() {
    let board = Board::new(CHARTER, WORLD);
    let slow = ["--set", "training.learning_rate=1e-7"];
    let answer = board.json(&slow);
    assert_eq!(
        (&answer["holds"], condition(&answer, "learns")),
        (&false.into(), &false.into())
    );
    has(
        &board.answer(&slow),
        &[
            "with nobody lying, honest peers came",
            "It learns too little even with nobody lying",
        ],
    );
}

#[test]
fn a_federation_that_loses_its_rounds_does_not_hold() {
    let cut = "\n[[world.fault]]\nkind = \"partition\"\nat_seconds = 0\ngroup = [0, 1, 2, 3]\nlasts_seconds = 1e6\n";
    let board = Board::new(
        &format!("{CHARTER}\n[round]\ndeadline_seconds = 5\n"),
        &format!("{WORLD}{cut}"),
    );
    let answer = board.json(&[]);
    assert_eq!(
        (&answer["holds"], condition(&answer, "rounds")),
        (&false.into(), &false.into()),
        "{}",
        answer["conditions"]
    );
    let text = String::from_utf8(board.rehearse(&[]).stdout).expect("text");
    has(
        &text,
        &[
            "does not hold",
            "of rounds lost for want of models; expected at most 10.0 %",
            "So that fewer rounds are lost",
        ],
    );
}

#[test]
fn a_formula_is_judged_by_its_distance_to_the_optimum_and_its_liars_are_not_overlooked() {
    let board = Board::new(CHARTER, FORMULA);
    let mean = [
        "--set",
        "aggregation.rule=mean",
        "--set",
        "aggregation.byzantine=0",
    ];
    let text = board.answer(&mean);
    has(
        &text,
        &[
            "With 2 lying",
            "distance to the optimum",
            "The charter does not hold",
            "of the way to the optimum",
        ],
    );
    assert!(!text.contains("Nobody lies"), "{text}");
    let answer = board.json(&mean);
    assert_eq!(
        (
            &answer["holds"],
            condition(&answer, "learns"),
            condition(&answer, "cost")
        ),
        (&false.into(), &true.into(), &false.into())
    );
    let settings = [
        "federation.rounds=30",
        "aggregation.rule=trimmed-mean",
        "aggregation.byzantine=1",
        "world.peers=12",
        "world.adversaries=1",
        "world.trainer={ kind = \"logistic\" }",
    ];
    let defended: Vec<&str> = settings
        .iter()
        .flat_map(|setting| ["--set", setting])
        .collect();
    has(
        &board.answer(&defended),
        &[
            "With 1 lying",
            "expected at most 50.0 %",
            "The charter holds in this world.",
        ],
    );
    // Where nobody lies, that is said.
    let honest = board.answer(&[&mean[..], &["--set", "world.adversaries=0"]].concat());
    has(
        &honest,
        &["The charter holds in this world. Nobody lies in this world: set world.adversaries"],
    );
}

#[test]
fn what_nobody_evaluated_is_not_judged() {
    let board = Board::new(CHARTER, WORLD);
    let answer = board.json(&["--set", "world.limit_seconds=0.0001"]);
    assert_eq!(
        (condition(&answer, "learns"), condition(&answer, "cost")),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_broken_invariant_ends_it_with_5_and_one_command_that_replays_it() {
    let board = Board::new(CHARTER, WORLD);
    board.write(
        "the world.toml",
        &format!("{WORLD}limit_seconds = 0.0045\nseed = 6\n"),
    );
    let run = |more: &[&str]| {
        board.kith(
            &[
                &[
                    "sim",
                    "run",
                    "--charter",
                    "charter.toml",
                    "--world",
                    "the world.toml",
                ][..],
                more,
            ]
            .concat(),
        )
    };
    // Also where liars cost too much.
    let output = run(&[
        "--seeds",
        "2",
        "--set",
        "aggregation.rule=mean",
        "--set",
        "aggregation.byzantine=0",
    ]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    has(
        &text,
        &[
            "invariant heals broken by the run",
            "with seed 6, 0 lying",
            "with seed 7, 2 lying",
        ],
    );
    let answer = String::from_utf8(output.stdout).expect("text");
    has(
        &answer,
        &[
            "does not hold",
            "; broken: heals (seed 6), heals (seed 7)",
            "limit_seconds, heals_within_seconds",
        ],
    );
    let replay = "kith sim run --charter charter.toml --world 'the world.toml' --seed 6 --seeds 1 \
                  --set 'aggregation.rule=\"mean\"' --set 'aggregation.byzantine=0'";
    has(&text, &[&format!("replay it: {replay}")]);
    assert_eq!(text.matches("replay it: ").count(), 1);
    // The command does what it says.
    let again = run(&[
        "--seed",
        "6",
        "--seeds",
        "1",
        "--set",
        "aggregation.rule=\"mean\"",
        "--set",
        "aggregation.byzantine=0",
    ]);
    assert_eq!(again.status.code(), Some(5));
    has(
        &told(&again),
        &["invariant heals broken by the run", "with seed 6"],
    );
}

#[test]
fn results_go_to_the_folder_that_was_asked_for() {
    let board = Board::new(CHARTER, WORLD);
    board.answer(&["--out", "out"]);
    let out = board.0.path("out");
    for cell in ["nobody-lies", "liars"] {
        for seed in ["seed-0", "seed-1"] {
            for file in [
                "experiment.toml",
                "outcome.json",
                "rounds.csv",
                "report.html",
            ] {
                assert!(
                    out.join(cell).join(seed).join(file).exists(),
                    "{cell}/{seed}/{file}"
                );
            }
        }
    }
    let text = std::fs::read_to_string(out.join("answer.txt")).expect("an answer");
    has(&text, &["The charter holds"]);
    let answer: Value =
        serde_json::from_slice(&std::fs::read(out.join("answer.json")).expect("an answer"))
            .expect("JSON");
    assert_eq!(answer["holds"], true);
}

#[test]
fn bad_input_names_its_file_and_line() {
    let board = Board::new(CHARTER, WORLD);
    let refused = |charter: &str, world: &str, more: &[&str], expected: &[&str]| {
        board.write("charter.toml", charter);
        board.write("world.toml", world);
        let output = board.rehearse(more);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{expected:?}: {}",
            told(&output)
        );
        has(&told(&output), expected);
    };
    let nine = WORLD.replace("adversaries = 2", "adversaries = 9");
    refused(
        CHARTER,
        &nine,
        &[],
        &[
            "world.toml: line 3, column 15: world.adversaries: 9 of 8 peers lie",
            "world.toml has 1 problem",
        ],
    );
    refused(
        CHARTER,
        &WORLD.replace("sign-flip:10", "shout"),
        &[],
        &["world.toml: line 4, column 10: world.attack: "],
    );
    refused(
        &CHARTER.replace("krum", "crumb"),
        WORLD,
        &[],
        &["charter.toml: line 9, column 8: aggregation.rule: "],
    );
    refused(
        CHARTER,
        &format!("{WORLD}[federation]\nrounds = 3\n"),
        &[],
        &[
            "world.toml: line 5, column 2: federation: ",
            "is the charter's",
        ],
    );
    refused(
        &format!("{CHARTER}[world]\npeers = 3\n"),
        WORLD,
        &[],
        &["charter.toml: line 11, column 2: world: a charter has no [world]"],
    );
    refused(
        CHARTER,
        "[world\n",
        &[],
        &["world.toml: line 1, ", "this is not TOML"],
    );
    // Without a header it would be read as part of the charter's last section.
    refused(
        CHARTER,
        "world.peers = 8\n",
        &[],
        &[
            "world.toml: line 1, column 1: world: expected a section that begins with the line [world]",
        ],
    );
    refused(
        CHARTER,
        "",
        &[],
        &["world.toml: world: this section is missing"],
    );
    refused(
        CHARTER,
        WORLD,
        &["--set", "world.adversaries=9"],
        &["--set: world.adversaries: 9 of 8 peers lie"],
    );
    // Seeds that follow the world's are no mistakes of the charter.
    refused(
        CHARTER,
        &format!("{WORLD}seed = -1\n"),
        &[],
        &[
            "world.toml has 1 problem",
            "world.toml: line 5, column 8: world.seed: ",
        ],
    );
    assert!(!told(&board.rehearse(&[])).contains("charter.toml"));
    // Both files at once.
    let both = ["world.toml: line 3, ", "charter.toml: line 9, "];
    refused(
        &CHARTER.replace("krum", "crumb"),
        &WORLD.replace("adversaries = 2", "adversaries = -1"),
        &[],
        &both,
    );
}
