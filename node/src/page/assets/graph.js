// The graph: who exchanges updates with whom, how much it counts, what is missing.

import { drawing, html, labels, number, svg, table, text, title } from './draw.js';

const SIDE = 440;
const MARGIN = 34;
/** Larger federations are drawn without a graph: its lines would cover each other. */
const PEERS_MAX = 64;
const WORDS = { honest: 'honest', adversary: 'lies', unknown: 'not known' };

const at = (share) => MARGIN + share * (SIDE - 2 * MARGIN);

function link(snapshot, { ends, influence, missing }) {
  const [from, to] = ends.map((end) => snapshot.peers[end]);
  return svg('path', {
    class: missing ? 'link missing' : 'link',
    'stroke-width': Math.min(1 + 16 * (influence ?? 0), 8),
    d: `M${at(from.place[0])} ${at(from.place[1])}L${at(to.place[0])} ${at(to.place[1])}`,
  }, title(`${from.name} – ${to.name}: ${missing ? 'missing' : `influence ${number(influence, 2)}`}`));
}

function node(peer, label) {
  const [x, y] = peer.place.map(at);
  const lies = peer.role === 'adversary';
  const gone = ['gone', 'paused', 'away'].includes(peer.state) ? ' gone' : '';
  const shape = lies
    ? svg('rect', { class: `node s1${gone}`, x: x - 13, y: y - 13, width: 26, height: 26 })
    : svg('circle', { class: `node s0${gone}`, cx: x, cy: y, r: 14 });
  const ring = peer.suspected_by > 0 ? svg('circle', { class: 'ring', cx: x, cy: y, r: 21 }) : null;
  const says = `${peer.name}: ${WORDS[peer.role]}, ${peer.state}, ${peer.completed} rounds${ring ? `, suspected by ${peer.suspected_by}` : ''}`;
  return svg('g', { 'data-peer': peer.name, 'data-role': peer.role, 'data-state': peer.state, 'data-dropped': peer.dropped_last }, title(says), shape, ring,
    text(x, y + 4, label, { class: `inside${gone}` }));
}

export function graph(snapshot) {
  if (snapshot.peers.length > PEERS_MAX) {
    return [html('p', {}, `A graph of ${snapshot.peers.length} peers is not drawn; the timeline below shows each of them.`)];
  }
  const names = labels(snapshot.peers);
  const label = `Graph of ${snapshot.peers.length} peers; its table lists links and states.`;
  return [
    drawing(SIDE, SIDE, label, ...snapshot.links.map((one) => link(snapshot, one)), ...snapshot.peers.map((peer, place) => node(peer, names[place]))),
    html('p', { class: 'quiet' }, snapshot.seen_by === null
      ? 'Circle: honest. Square: lies. Ring: suspected. Hollow: its process is gone or paused. Width of a line: influence. Dashed: missing.'
      : `What ${snapshot.peers[snapshot.seen_by].name} saw. Ring: it suspects that peer, because its rule dropped it round after round; that is no proof. Hollow: not connected. Width of a line: influence. Dashed: missing.`),
  ];
}

export function graphTable(snapshot) {
  const names = labels(snapshot.peers);
  const peers = snapshot.peers.map((peer, place) => [
    names[place], peer.name, WORDS[peer.role], peer.state, peer.completed, number(peer.accuracy), peer.accepted, peer.refused, number(peer.dropped, 3), number(peer.dropped_last, 3), peer.suspected_by,
  ]);
  const links = snapshot.links.map(({ ends, influence, missing }) => [
    ...ends.map((end) => snapshot.peers[end].name), number(influence, 3), missing ? 'missing' : 'there',
  ]);
  return [
    table('Peers', ['label', 'name', 'role', 'state', 'rounds', 'accuracy', 'accepted', 'refused', 'dropped by honest peers', 'in their last round', 'suspected by'], peers),
    table('Links', ['one end', 'other end', 'influence', 'state'], links),
  ];
}
