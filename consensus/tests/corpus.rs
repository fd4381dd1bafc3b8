//! Charters from outside, from a corpus: see `tests/corpus.rs` at the root.

#[path = "../../tests/corpus.rs"]
mod harness;

use harness::{Files, Target, drive};
use kith_consensus::{Charter, PeerId};

fn charter(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match Charter::resolve(text, &mut []) {
        Ok(charter) => {
            // What is agreed on can be written down and says the same.
            let again = Charter::resolve(&charter.to_toml(), &mut []);
            assert_eq!(again.expect("its own text").genesis, charter.genesis);
            true
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal without a reason");
            problems
                .iter()
                .for_each(|problem| drop(problem.to_string()));
            false
        }
    }
}

fn charters() -> Files {
    let open =
        "[federation]\nname = \"open\"\nrounds = 3\n[membership]\nmode = \"open\"\npeers = 5\n";
    let [a, b] = [1, 2].map(|byte| PeerId([byte; 32]));
    let members = format!(
        "\
[federation]
name = \"three\"
rounds = 10
[topology]
kind = \"tree\"
branching = 3
[aggregation]
rule = \"clipped-gossip\"
byzantine = 0
[round]
deadline_seconds = 5
[[membership.member]]
name = \"a\"
organisation = \"A\"
key = \"{a}\"
[[membership.member]]
name = \"b\"
organisation = \"B\"
key = \"{b}\"
"
    );
    let with = |more: &str| format!("{open}{more}").into_bytes();
    let deep = |open: &str, close: &str, times: usize| {
        with(&format!(
            "[topology]\nedges = {}{}\n",
            open.repeat(times),
            close.repeat(times)
        ))
    };
    vec![
        ("valid-open.toml", open.into()),
        ("valid-members.toml", members.into()),
        (
            "valid-edges.toml",
            with("[topology]\nkind = \"edges\"\nedges = [[0, 1], [1, 2], [2, 3], [3, 4]]\n"),
        ),
        ("refused-not-text", vec![0xff, 0xfe, 0, 1]),
        ("refused-unknown-key.toml", with("[round]\ndeadlin = 1\n")),
        ("refused-unknown-section.toml", with("[fedration]\n")),
        (
            "refused-wrong-types.toml",
            with("[topology]\nkind = 3\n[round]\ndeadline_seconds = [1]\n"),
        ),
        ("refused-twice.toml", [open, open].concat().into()),
        (
            "refused-peers.toml",
            open.replace("= 5", "= 99999999999999").into(),
        ),
        ("refused-negative.toml", open.replace("= 5", "= -1").into()),
        (
            "refused-beyond-integers.toml",
            open.replace("= 5", "= 99999999999999999999999999").into(),
        ),
        (
            "refused-edge-ends.toml",
            open.replace("= 5", "= 1000000")
                .into_bytes()
                .into_iter()
                .chain(*b"[topology]\nkind = \"complete\"\n")
                .collect(),
        ),
        ("refused-deep-lists.toml", deep("[", "]", 1000)),
        ("refused-deep-tables.toml", deep("{a=", "}", 500)),
        (
            "refused-deep-keys.toml",
            with(&format!("[{}z]\n", "a.".repeat(1000))),
        ),
        ("refused-not-a-number.toml", with("[round]\nquorum = nan\n")),
        (
            "refused-long-name.toml",
            with(&format!("[topology]\nkind = \"{}\"\n", "x".repeat(2000))),
        ),
        (
            "refused-controls.toml",
            with("[topology]\nkind = \"\\u001b[2J\\u0000\"\n"),
        ),
    ]
}

#[test]
fn no_bytes_harm_a_decoder() {
    drive(&[Target {
        name: "charter",
        decode: charter,
        files: charters,
        mutations: 400,
        // A graph of 2²⁴ edge ends is the largest that a charter may ask for.
        growth_max: 1 << 30,
    }]);
}
