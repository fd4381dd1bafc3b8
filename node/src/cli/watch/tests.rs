//! The screen as text, the keys, and a terminal that is given back after a panic.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use kith_consensus::PeerId;
use kith_gossip::{Event as PeerEvent, Refusal};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::telemetry::{Line, What};

/// A peer's lines of 40 rounds, of which it missed another peer in the last.
fn lines(node: PeerId, other: PeerId, slowness: f64) -> String {
    let mut events = vec![PeerEvent::Ready {
        neighbours: 1,
        connected: 1,
    }];
    for round in 0..40 {
        events.push(PeerEvent::RoundOpened {
            round,
            neighbours: 1,
            selected: 1,
        });
        events.push(PeerEvent::Trained {
            round,
            loss: Some(2.0 / (1.0 + round as f64 / slowness)),
            samples: 100,
            local_steps: 7,
        });
        events.push(PeerEvent::MixingSkipped {
            round,
            have: 1,
            need: 3,
        });
    }
    events.push(PeerEvent::Evaluated {
        round: 39,
        loss: 0.5,
        accuracy: 0.875,
        samples: 50,
    });
    events.push(PeerEvent::Refused {
        peer: other,
        kind: None,
        round: Some(39),
        reason: Refusal::Signature,
    });
    events.push(PeerEvent::Stalled {
        round: 40,
        missing: vec![other],
    });
    let line = |(index, event): (usize, PeerEvent)| {
        let line = Line {
            time: format!("2026-01-02T03:04:{:02}.000Z", index % 60),
            at_seconds: index as f64,
            node,
            what: What::Peer(event),
        };
        format!("{}\n", serde_json::to_string(&line).unwrap())
    };
    events.into_iter().enumerate().map(line).collect()
}

fn peers() -> [PeerId; 2] {
    [PeerId([1; 32]), PeerId([2; 32])]
}

fn two_peers() -> String {
    let [ada, bob] = peers();
    lines(ada, bob, 4.0) + &lines(bob, ada, 12.0)
}

fn view_of(text: &str) -> View {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    std::fs::write(&path, text).unwrap();
    let mut seen = Source::file(&path)
        .map_err(|failure| failure.to_string())
        .unwrap()
        .look();
    seen.title = "events.jsonl".to_owned();
    View { seen, chosen: 0 }
}

/// A testnet of two, one of which has ended.
fn testnet() -> View {
    let mut view = view_of(&two_peers());
    view.chosen = 1;
    let seen = &mut view.seen;
    (seen.title, seen.rounds, seen.takes_orders) = ("net".to_owned(), Some(100), true);
    for (peer, (name, role, state)) in seen.peers.iter_mut().zip([
        ("peer-1", "honest", "running"),
        ("peer-2", "adversary", "ended"),
    ]) {
        (peer.name, peer.role, peer.state) = (name.to_owned(), role.to_owned(), state);
    }
    let names = peers().into_iter().zip(["peer-1", "peer-2"]);
    seen.names = names
        .map(|(id, name)| (id.to_string(), name.to_owned()))
        .collect();
    seen.answer = "peer-2 was killed".to_owned();
    view
}

fn screen(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, view)).unwrap();
    let cells = terminal.backend().buffer().content();
    let row =
        |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    cells
        .chunks(usize::from(width))
        .map(|cells| format!("{}\n", row(cells).trim_end()))
        .collect()
}

#[test]
fn the_screen_is_the_one_that_was_looked_at() {
    for (name, view) in [
        ("testnet", testnet()),
        ("cut", view_of(&two_peers()[..9000])),
    ] {
        for (width, height) in [(80, 24), (120, 40)] {
            let shown = screen(&view, width, height);
            assert_eq!(shown.lines().count(), usize::from(height));
            let file = format!("src/cli/watch/screens/{name}-{width}x{height}.txt");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            if std::env::var("KITH_REFERENCE").is_ok_and(|wish| wish == "write") {
                std::fs::write(&path, &shown).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                shown,
                expected,
                "{}: KITH_REFERENCE=write writes it anew",
                path.display()
            );
        }
    }
}

#[test]
fn a_screen_of_any_size_can_be_drawn() {
    for width in [1, 2, 20, 79, 300] {
        for height in [1, 2, 5, 9, 100] {
            screen(&testnet(), width, height);
            screen(&View::default(), width, height);
        }
    }
}

#[test]
fn a_file_is_read_up_to_its_cut_and_says_so() {
    let text = two_peers();
    let whole = view_of(&text);
    assert_eq!(whole.seen.note, None);
    let cut = view_of(&text[..text.len() - 10]);
    let lines = text.lines().count();
    assert_eq!(
        cut.seen.note,
        Some(format!(
            "line {lines} is cut or no event; shown up to there"
        ))
    );
    let last = |view: &View, index: usize| view.seen.events.iter().rev().nth(index).cloned();
    assert_eq!(last(&whole, 1), last(&cut, 0));
    assert_eq!(cut.seen.peers[0].known, whole.seen.peers[0].known);
    // Cut between two lines it is whole.
    assert_eq!(view_of(text.trim_end()).seen.note, None);
    let refused = |text: &str| {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), text).unwrap();
        Source::file(path.path()).err().unwrap().to_string()
    };
    for text in [
        "",
        "rows,of,a,table\n",
        "{\"event\":\"trained\"}\n",
        &text[..20],
    ] {
        let why = refused(text);
        assert!(
            why.contains("does not begin with an event") && !why.contains('\n'),
            "{why}"
        );
    }
}

#[test]
fn a_file_that_grows_is_followed() {
    let text = two_peers();
    let path = tempfile::NamedTempFile::new().unwrap();
    let mut file = path.as_file();
    // The first line and a part of the second.
    let first = text.find('\n').unwrap() + 30;
    file.write_all(&text.as_bytes()[..first]).unwrap();
    let mut source = Source::file(path.path())
        .map_err(|failure| failure.to_string())
        .unwrap();
    let seen = source.look();
    assert_eq!((seen.events.len(), seen.note.is_some()), (1, true));
    // Up to the last line's end, which comes last.
    file.write_all(&text.as_bytes()[first..text.len() - 1])
        .unwrap();
    let seen = source.look();
    assert_eq!(seen.note, None);
    assert_eq!(
        seen.peers[1].known,
        view_of(&text).seen.peers[1].known,
        "as if it had been read at once"
    );
    file.write_all(b"\n").unwrap();
    assert_eq!(source.look().events, seen.events);
    file.write_all(b"no event\n").unwrap();
    let lines = text.lines().count() + 1;
    let note = format!("line {lines} is cut or no event; shown up to there");
    assert_eq!(source.look().note, Some(note));
}

#[test]
fn no_line_of_a_file_takes_more_than_its_share_of_memory() {
    let path = tempfile::NamedTempFile::new().unwrap();
    // An event like the others but for the blanks before it.
    let text = two_peers();
    let last = text.lines().next_back().unwrap();
    let long = format!("{text}{}{last}\n", " ".repeat(3 << 20));
    std::fs::write(path.path(), long).unwrap();
    let mut source = Source::file(path.path())
        .map_err(|failure| failure.to_string())
        .unwrap();
    let seen = source.look();
    assert!(
        seen.note
            .is_some_and(|note| note.contains("shown up to there"))
    );
    assert_eq!(seen.peers.len(), 2);
}

#[test]
fn keys_choose_and_order_only_what_is_there() {
    let press = |view: &mut View, code| view.press(KeyEvent::from(code));
    let mut view = testnet();
    view.chosen = 0;
    let killed = |name: &str| ControlFlow::Continue(Some((Order::Kill, name.to_owned())));
    assert_eq!(press(&mut view, KeyCode::Char('k')), killed("peer-1"));
    for _ in 0..5 {
        assert_eq!(press(&mut view, KeyCode::Down), ControlFlow::Continue(None));
    }
    assert_eq!(press(&mut view, KeyCode::Char('k')), killed("peer-2"));
    assert_eq!(
        press(&mut view, KeyCode::Char('r')),
        ControlFlow::Continue(Some((Order::Restart, "peer-2".to_owned())))
    );
    assert_eq!(press(&mut view, KeyCode::Char('q')), ControlFlow::Break(()));
    assert_eq!(
        press(&mut view, KeyCode::Char('c')),
        ControlFlow::Continue(None)
    );
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.press(interrupt), ControlFlow::Break(()));
    view.seen.takes_orders = false;
    assert_eq!(
        press(&mut view, KeyCode::Char('k')),
        ControlFlow::Continue(None)
    );
    assert_eq!(
        press(&mut View::default(), KeyCode::Char('k')),
        ControlFlow::Continue(None)
    );
}

/// Run in a terminal by the next test.
#[test]
#[ignore = "it panics, in a terminal of its own"]
fn a_screen_that_panics() {
    let shown = on_screen(|terminal| {
        terminal.draw(|frame| draw::draw(frame, &testnet()))?;
        panic!("on purpose")
    });
    shown.unwrap();
}

fn tmux(socket: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tmux")
        .arg("-S")
        .arg(socket)
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_terminal_is_given_back_before_a_panic_is_reported() {
    if Command::new("tmux").arg("-V").output().is_err() {
        // Written past the test's capture of output, so that it is seen.
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: tmux is not installed: apt-get install tmux"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("tmux");
    let program = std::env::current_exe().unwrap();
    let command = format!(
        "'{}' cli::watch::tests::a_screen_that_panics --exact --ignored --nocapture; stty -a; tmux -S '{}' wait-for -S over; cat",
        program.display(),
        socket.display()
    );
    tmux(
        &socket,
        &["new-session", "-d", "-x", "120", "-y", "60", &command],
    );
    // The program before it has to have ended, so this waits for both.
    tmux(&socket, &["wait-for", "over"]);
    let shown = tmux(&socket, &["capture-pane", "-p"]);
    let alternate = tmux(&socket, &["display-message", "-p", "#{alternate_on}"]);
    tmux(&socket, &["kill-server"]);
    assert!(shown.contains("on purpose"), "{shown}");
    assert!(
        !shown.contains("-icanon") && !shown.contains("-echo "),
        "still raw: {shown}"
    );
    assert_eq!(alternate.trim(), "0", "still on the other screen: {shown}");
}
