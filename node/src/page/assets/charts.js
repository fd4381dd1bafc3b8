// The charts: curves, bars, the matrix, the timeline. They draw numbers of the snapshot as they are.

import { bytes, drawing, html, labels, legend, look, number, svg, table, text, ticks, title } from './draw.js';

const WIDTH = 440;
const LEFT = 46;
/** Peers up to which a legend names each. */
const NAMED_MAX = 12;

const kind = (peer, place) => (peer.role === 'adversary' ? 's1 d2' : look(place === 1 ? 8 : place));

/** One chart of lines over rounds. */
function lines(name, snapshot, series, levels = []) {
  const height = 190;
  const [top, bottom] = [22, 26];
  const all = series.flatMap(({ points }) => points);
  if (all.length === 0) return html('p', { class: 'quiet' }, `${name}: nothing yet`);
  const values = [...all.map(([, value]) => value), ...levels.map(({ value }) => value)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const last = Math.max(...all.map(([round]) => round), 1);
  const room = (high - low) * 0.05 || 0.05;
  const x = (round) => LEFT + (round / last) * (WIDTH - LEFT - 8);
  const y = (value) => top + (1 - (value - low + room) / (high - low + 2 * room)) * (height - top - bottom);
  const across = ticks(low, high).map((value) => svg('g', {}, svg('path', { class: 'grid', d: `M${LEFT} ${y(value)}H${WIDTH - 8}` }),
    text(LEFT - 4, y(value) + 4, String(Number(value.toPrecision(4))), { class: 'quiet', 'text-anchor': 'end' })));
  const along = ticks(0, last).filter(Number.isInteger).map((round) => text(x(round), height - 8, String(round), { class: 'quiet', 'text-anchor': 'middle' }));
  const marks = levels.flatMap(({ name: words, value }) => [
    svg('path', { class: 'line s6 d3', d: `M${LEFT} ${y(value)}H${WIDTH - 8}` }, title(`${words}: ${number(value)}`)),
    text(WIDTH - 10, y(value) - 3, words, { class: 'quiet', 'text-anchor': 'end' }),
  ]);
  const paths = series.filter(({ points }) => points.length > 0).map((one) => svg('path', {
    class: `line ${one.kind}`,
    d: `M${one.points.map(([round, value]) => `${x(round).toFixed(1)} ${y(value).toFixed(1)}`).join('L')}${one.points.length === 1 ? 'h.1' : ''}`,
    'stroke-linecap': one.points.length === 1 ? 'round' : null,
  }, title(one.name)));
  return drawing(WIDTH, height, `${name} over rounds; the table has the numbers.`, text(LEFT, 13, name), ...across, ...along, ...marks, ...paths);
}

const CURVES = [['training_loss', 'Training loss'], ['loss', 'Loss on held-out rows'], ['accuracy', 'Accuracy on held-out rows']];

export function curves(snapshot) {
  const base = snapshot.baselines;
  const levels = base ? [{ name: 'alone', value: base.local_only }, { name: 'pooled', value: base.pooled }] : [];
  const charts = CURVES.map(([key, name]) => {
    const peers = snapshot.peers.map((peer, place) => ({ name: peer.name, kind: kind(peer, place), points: peer.curves[key] }));
    const mean = { name: 'mean of the honest peers', kind: 'mean', points: snapshot.mean.curves[key] };
    return lines(name, snapshot, [...peers, mean], key === 'accuracy' ? levels : []);
  });
  const named = snapshot.peers.length <= NAMED_MAX ? snapshot.peers.map((peer, place) => ({ name: peer.name, kind: kind(peer, place) })) : [];
  return [...charts, legend([...named, { name: 'mean of the honest peers', kind: 'mean' }])];
}

export function curvesTable(snapshot) {
  const row = (name, values) => [name, ...CURVES.map(([key]) => number(values[key]))];
  const rows = [...snapshot.peers.map((peer) => [...row(peer.name, peer), number(peer.spread)]), [...row('mean of the honest peers', snapshot.mean), '']];
  return [table('Newest values', ['peer', 'training loss', 'loss', 'accuracy', 'spread'], rows)];
}

const BYTES = [
  ['payload', 'updates', 's0'], ['keyframes', 'keyframes', 's2'], ['envelope', 'envelopes', 's3'],
  ['wire', 'on the wire', 's5'], ['dense_equivalent', 'uncompressed', 's6'],
];

export function traffic(snapshot) {
  const most = Math.max(...BYTES.map(([key]) => snapshot.bytes[key]), 1);
  const bars = BYTES.flatMap(([key, name, colour], place) => {
    const count = snapshot.bytes[key];
    const words = key === 'wire' && count === 0 ? 'not known yet' : bytes(count);
    const y = 8 + place * 26;
    const width = (count / most) * (WIDTH - 190);
    return [
      text(86, y + 13, name, { 'text-anchor': 'end' }),
      svg('rect', { class: colour, x: 92, y, width: Math.max(width, 0.5), height: 17, 'fill-opacity': key === 'dense_equivalent' ? 0.25 : 1 }),
      text(97 + width, y + 13, words),
    ];
  });
  return [drawing(WIDTH, 140, 'Bytes by kind; the table has the numbers.', ...bars)];
}

export const trafficTable = (snapshot) => [table('Bytes of all peers', ['kind', 'bytes'], BYTES.map(([key, name]) => [name, snapshot.bytes[key]]))];

export function matrix(snapshot) {
  const { peers } = snapshot;
  const [side, start] = [Math.min(34, (WIDTH - 30) / peers.length), 26];
  const cells = snapshot.dropped.map(({ to, from, share, count }) => {
    const [x, y] = [start + from * side, start + to * side];
    const says = `${peers[to].name} dropped ${number(share, 2)} of ${count} contributions of ${peers[from].name}`;
    return svg('g', {}, title(says), svg('rect', { class: 'cell hot', x, y, width: side, height: side, 'fill-opacity': share }),
      peers.length <= NAMED_MAX ? text(x + side / 2, y + side / 2 + 4, number(share, 2), { 'text-anchor': 'middle' }) : null);
  });
  const short = labels(peers);
  const heads = peers.length > 40 ? [] : peers.flatMap((peer, place) => {
    const words = `${short[place]}${peer.role === 'adversary' ? '▪' : ''}`;
    const middle = start + (place + 0.5) * side + 4;
    return [text(middle - 4, 20, words, { 'text-anchor': 'middle' }), text(20, middle, words, { 'text-anchor': 'end' })];
  });
  const size = start + peers.length * side + 4;
  return [
    drawing(Math.max(size, 200), size, 'Shares of contributions that receivers dropped; the table has the numbers.', ...heads, ...cells),
    html('p', { class: 'quiet' }, 'A row is a receiver, a column a sender (▪ lies). 1: nothing of that sender was used.'),
  ];
}

export function matrixTable(snapshot) {
  const name = (place) => snapshot.peers[place].name;
  return [
    table('Dropped shares', ['receiver', 'sender', 'mean share', 'contributions'], snapshot.dropped.map(({ to, from, share, count }) => [name(to), name(from), number(share, 3), count])),
    refusals(snapshot),
  ];
}

export function refusals(snapshot) {
  const name = (place) => snapshot.peers[place].name;
  if (snapshot.refusals.length === 0) return html('p', {}, 'Nothing was refused.');
  return table('Refusals', ['receiver', 'sender', 'reason', 'count'], snapshot.refusals.map(({ to, from, words, count }) => [name(to), name(from), words, count]));
}

const CLOSED = { quorum: 'all were in', deadline: 'deadline' };

export function timeline(snapshot) {
  const rounds = snapshot.timeline;
  if (rounds.length === 0) return [html('p', { class: 'quiet' }, 'No round has begun.')];
  const wide = 900;
  const row = Math.min(20, Math.max(4, 1200 / snapshot.peers.length));
  const first = Math.min(...rounds.map(({ opened }) => opened));
  const last = Math.max(snapshot.over ? 0 : snapshot.seconds, ...rounds.map(({ opened, closed }) => closed ?? opened), first + 0.001);
  const x = (seconds) => 70 + ((seconds - first) / (last - first)) * (wide - 80);
  const bars = rounds.map((round) => {
    const name = snapshot.peers[round.peer].name;
    const missing = round.missing.map((place) => snapshot.peers[place].name).join(', ');
    const [from, to] = [x(round.opened), x(round.closed ?? last)];
    const shape = round.closed === null ? 'open s0' : round.missing.length > 0 || round.why === 'deadline' ? 'late' : 's0';
    const says = `${name}, round ${round.round}: ${CLOSED[round.why] ?? 'open'}${missing ? `, missing ${missing}` : ''}`;
    return svg('rect', { class: shape, x: from, y: round.peer * row + 1, width: Math.max(to - from - 1, 0.8), height: row - 2, 'stroke-width': 1, 'fill-opacity': 0.75 }, title(says));
  });
  const names = snapshot.peers.length > 64 ? [] : snapshot.peers.map((peer, place) => text(64, place * row + row / 2 + 4, peer.name, { 'text-anchor': 'end' }));
  const height = snapshot.peers.length * row;
  const seconds = ticks(first, last, 8).map((at) => text(x(at), height + 14, `${Number(at.toPrecision(4))} s`, { class: 'quiet', 'text-anchor': 'middle' }));
  return [
    drawing(wide, height + 20, 'The last rounds of each peer; the table has the numbers.', ...bars, ...names, ...seconds),
    html('p', { class: 'quiet' }, 'A bar is a round. Solid: every awaited neighbour was in. Dashed and orange: it closed without some. Hollow: it is open.'),
  ];
}

export function timelineTable(snapshot) {
  const rows = snapshot.timeline.map((round) => [
    snapshot.peers[round.peer].name, round.round, number(round.opened, 2), round.closed === null ? '–' : number(round.closed - round.opened, 3),
    CLOSED[round.why] ?? 'open', round.missing.map((place) => snapshot.peers[place].name).join(', '),
  ]);
  return [table('Rounds', ['peer', 'round', 'opened at second', 'seconds', 'closed by', 'missing'], rows)];
}

export function privacy(snapshot) {
  const charged = snapshot.peers.map((peer, place) => ({ peer, place })).filter(({ peer }) => peer.privacy);
  if (charged.length === 0) return [html('p', {}, 'No mechanism: this federation gives no privacy guarantee, or nothing was charged yet.')];
  const bars = charged.flatMap(({ peer, place }, row) => {
    const { epsilon, budget, exhausted } = peer.privacy;
    const y = row * 20;
    const width = Math.min(epsilon / budget, 1) * 240;
    return [
      text(70, y + 14, peer.name, { 'text-anchor': 'end' }), svg('rect', { class: 'grid', x: 76, y: y + 3, width: 240, height: 14 }),
      svg('rect', { class: exhausted ? 'late' : 's0', x: 76, y: y + 3, width, height: 14 }),
      text(322, y + 14, `${number(epsilon, 3)} of ${budget}${exhausted ? ', exhausted' : ''}`),
    ];
  });
  return [drawing(WIDTH, charged.length * 20 + 4, 'Epsilon spent of each budget; the table has the numbers.', ...bars)];
}

export const privacyTable = (snapshot) => [table('Privacy', ['peer', 'epsilon spent', 'budget', 'exhausted'],
  snapshot.peers.filter((peer) => peer.privacy).map(({ name, privacy: { epsilon, budget, exhausted } }) => [name, number(epsilon), budget, exhausted ? 'yes' : 'no']))];
