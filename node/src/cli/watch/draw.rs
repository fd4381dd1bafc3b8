//! The screen: a table of peers, the chosen peer's training loss as a curve, the last events, and
//! the keys. It has no colours, so nothing is told by colour alone.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::widgets::{Block, Borders, List, Paragraph, Row, Sparkline, Table, TableState};

use super::View;
use super::source::Watched;

/// From this width on there is room for the names of missing peers.
const WIDE: u16 = 100;
/// Lines of the curve, each of eight steps.
const CURVE_LINES: u16 = 3;
const CURVE_STEPS: f64 = (CURVE_LINES * 8) as f64;

/// Draws `view`.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let peers = view.seen.peers.len() as u16;
    // At most half of the screen for peers: the table scrolls to the chosen one.
    let table = peers.saturating_add(2).min(frame.area().height / 2);
    let [title, peers, curve, events, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(table),
        Constraint::Length(CURVE_LINES + 1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let note = view.seen.note.iter().map(|note| format!(": {note}"));
    let headline = format!("kith watch {}{}", view.seen.title, note.collect::<String>());
    frame.render_widget(Paragraph::new(headline).bold(), title);
    draw_peers(frame, peers, view);
    draw_curve(frame, curve, view.seen.peers.get(view.chosen));
    draw_events(frame, events, view);
    let help = match view.seen.takes_orders {
        true => "↑↓ choose  k kill  r restart  q quit",
        false => "↑↓ choose  q quit",
    };
    let help = Paragraph::new(format!("{help}   {}", view.seen.answer));
    frame.render_widget(help, keys);
}

fn draw_peers(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let is_wide = area.width >= WIDE;
    let mut header = vec![
        "peer", "role", "state", "rounds", "loss", "accuracy", "accepted", "refused",
    ];
    let mut widths = [14, 9, 8, 11, 7, 8, 8, 7].map(Constraint::Length).to_vec();
    if is_wide {
        header.push("waits for");
        widths.push(Constraint::Min(10));
    }
    let rows = view.seen.peers.iter().map(|peer| {
        let missing = is_wide.then(|| view.seen.missing(peer));
        Row::new(cells(peer, view.seen.rounds).into_iter().chain(missing))
    });
    let table = Table::new(rows, widths)
        .header(Row::new(header).bold())
        .highlight_symbol("> ")
        .block(Block::new().borders(Borders::BOTTOM));
    let mut state = TableState::new().with_selected(view.chosen);
    frame.render_stateful_widget(table, area, &mut state);
}

/// What the table shows of a peer.
fn cells(peer: &Watched, rounds: Option<u64>) -> [String; 8] {
    let known = &peer.known;
    let number = |value: Option<f64>| value.map_or("–".to_owned(), short);
    let rounds = rounds.map_or(String::new(), |rounds| format!("/{rounds}"));
    let refused: u64 = known.refused.values().sum();
    [
        peer.name.clone(),
        peer.role.clone(),
        peer.state.to_owned(),
        format!("{}{rounds}", known.completed),
        number(known.training_loss),
        number(known.accuracy),
        known.accepted.to_string(),
        refused.to_string(),
    ]
}

/// A number in seven characters, also the one that stands for infinity.
fn short(value: f64) -> String {
    match value.abs() < 100.0 {
        true => format!("{value:.4}"),
        false => format!("{value:.1e}"),
    }
}

fn draw_curve(frame: &mut Frame<'_>, area: Rect, peer: Option<&Watched>) {
    let Some(peer) = peer else { return };
    let skipped = peer.losses.len().saturating_sub(usize::from(area.width));
    let losses: Vec<f64> = peer.losses.iter().skip(skipped).copied().collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let most = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = match losses.is_empty() {
        true => "no training yet".to_owned(),
        false => format!(
            "{} to {}, {} rounds",
            short(least),
            short(most),
            losses.len()
        ),
    };
    let title = format!("training loss of {}: {range} ", peer.name);
    let spread = (most - least).max(f64::MIN_POSITIVE);
    let height = |loss: f64| 1 + ((loss - least) / spread * (CURVE_STEPS - 1.0)) as u64;
    let bars: Vec<u64> = losses.iter().map(|loss| height(*loss)).collect();
    let curve = Sparkline::default()
        .data(&bars)
        .max(CURVE_STEPS as u64)
        .block(Block::new().title(title));
    frame.render_widget(curve, area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let block = Block::new().borders(Borders::TOP).title("last events ");
    let room = usize::from(block.inner(area).height);
    let skipped = view.seen.events.len().saturating_sub(room);
    let lines = view.seen.events.iter().skip(skipped).map(String::as_str);
    frame.render_widget(List::new(lines).block(block), area);
}
