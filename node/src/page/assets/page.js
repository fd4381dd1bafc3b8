// The page: follows the stream of snapshots and hands each to the panels. Every number comes from
// the server; nothing is counted here.

import { curves, curvesTable, matrix, matrixTable, privacy, privacyTable, refusals, timeline, timelineTable, traffic, trafficTable } from './charts.js';
import { graph, graphTable } from './graph.js';
import { html, number, table } from './draw.js';

/** Shortest time between two announcements to a screen reader. */
const POLITE = 5000;
const EVENTS_MAX = 500;
const LISTED_MAX = 200;
const secret = new URLSearchParams(location.hash.slice(1)).get('t');

const PANELS = [
  ['Graph', graph, graphTable, ''],
  ['Loss and accuracy', curves, curvesTable, ''],
  ['Bytes', traffic, trafficTable, ''],
  ['Dropped and refused', (snapshot) => [...matrix(snapshot), html('div', { class: 'scroll' }, refusals(snapshot))], matrixTable, ''],
  ['Rounds', timeline, timelineTable, 'wide'],
  ['Privacy', privacy, privacyTable, ''],
];

/** Calls `draw` when `node` can be seen: at once, or when it is scrolled to. Drawing takes the testnet's time. */
function whenSeen(node, draw) {
  let seen = false;
  let due = false;
  new IntersectionObserver((changes) => {
    seen = changes.at(-1).isIntersecting;
    if (seen && due) draw();
    due = due && !seen;
  }).observe(node);
  return () => {
    due = !seen;
    if (seen) draw();
  };
}

/** A panel's update: its drawing each time, its table only while it is open. */
function panel([name, draw, rows, width]) {
  const figure = html('div', { class: 'figure' });
  const cells = html('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `${name}: table` });
  const details = html('details', {}, html('summary', {}, `${name}: table`), cells);
  const section = html('section', { class: width }, html('h2', {}, name), figure, details);
  document.getElementById('live').append(section);
  let newest = null;
  const fill = () => newest && details.open && cells.replaceChildren(...rows(newest));
  details.addEventListener('toggle', fill);
  const show = whenSeen(section, () => {
    figure.replaceChildren(...draw(newest));
    fill();
  });
  return (snapshot) => {
    newest = snapshot;
    show();
  };
}

/** The list of events, with a filter by peer and by words. */
function eventList() {
  const peer = html('select', {}, html('option', { value: '' }, 'every peer'));
  const words = html('input', { type: 'search', autocomplete: 'off' });
  const list = html('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Events: table' });
  const controls = html('div', { class: 'controls' }, html('label', {}, 'Peer', peer), html('label', {}, 'Words', words));
  const section = html('section', { class: 'wide', id: 'events' }, html('h2', {}, 'Events'), controls, list);
  document.getElementById('live').append(section);
  let known = [];
  let names = [];
  const show = whenSeen(section, () => {
    const rows = known.map((event) => [number(event.seconds, 2), names[event.peer], event.event.replaceAll('-', ' '), event.text]);
    const wanted = rows.filter((row) => (!peer.value || row[1] === peer.value) && row.join(' ').toLowerCase().includes(words.value.toLowerCase()));
    list.replaceChildren(table(`The last ${EVENTS_MAX} events at most, newest first`, ['second', 'peer', 'event', 'what'], wanted.reverse().slice(0, LISTED_MAX)));
  });
  peer.addEventListener('change', show);
  words.addEventListener('input', show);
  return (snapshot, whole) => {
    if (names.length === 0) {
      names = snapshot.peers.map(({ name }) => name);
      peer.append(...names.map((name) => html('option', {}, name)));
    }
    if (!whole && snapshot.events.length === 0) return;
    known = [...(whole ? [] : known), ...snapshot.events].slice(-EVENTS_MAX);
    show();
  };
}

/** The buttons and fields of a testnet's orders. */
function testnetOrders(snapshot, button) {
  const names = snapshot.peers.map(({ name }) => name);
  const peer = html('select', {}, ...names.map((name) => html('option', {}, name)));
  const attack = html('input', { value: 'sign-flip:10', autocomplete: 'off' });
  const boxes = names.map((name) => html('input', { type: 'checkbox', value: name }));
  const sides = html('fieldset', {}, html('legend', {}, 'Cut off'), ...boxes.map((box) => html('label', {}, box, box.value)));
  const cut = () => boxes.filter(({ checked }) => checked).map(({ value }) => value);
  const to = (command) => () => ({ command, node: peer.value });
  return [
    html('div', { class: 'controls' }, html('label', {}, 'Peer', peer), button('Kill', to('kill')), button('Restart', to('restart')), button('Pause', to('pause')),
      button('Resume', to('resume')), html('label', {}, 'Attack', attack), button('Lie', () => ({ ...to('attack')(), attack: attack.value })), button('Be honest', to('honest'))),
    html('div', { class: 'controls' }, sides, button('Partition', () => ({ command: 'partition', nodes: cut() })), button('Heal', () => ({ command: 'heal' }))),
  ];
}

/** Orders to a testnet or to the one peer that is shown; there are none without the secret. */
function control() {
  if (!secret) return () => {};
  const said = html('output');
  const send = async (order) => {
    const response = await fetch('/order', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${secret}` },
      body: JSON.stringify(order),
    });
    said.replaceChildren(await response.text());
  };
  const button = (words, order) => {
    const made = html('button', { type: 'button' }, words);
    made.addEventListener('click', () => send(order()).catch(() => said.replaceChildren('the program does not answer')));
    return made;
  };
  const place = html('section', { class: 'wide' }, html('h2', {}, 'Orders'));
  document.getElementById('live').prepend(place);
  return (snapshot) => {
    if (place.childElementCount === 1) {
      place.append(...(snapshot.seen_by === null ? testnetOrders(snapshot, button) : [button('Leave', () => ({ command: 'leave' }))]), said);
    }
    place.hidden = snapshot.over;
  };
}

const facts = html('p', { id: 'facts' });
const remark = html('p', { id: 'remark' });
let announced = -POLITE;

function head(snapshot) {
  const { completed, rounds, mean, seconds, over } = snapshot;
  const apart = snapshot.apart.map((place) => snapshot.peers[place].name).join(', ');
  const state = over ? 'over' : apart ? `${apart} cut off from the others` : 'running';
  facts.replaceChildren(`${completed} of ${rounds} rounds · ${number(seconds, 1)} s · mean accuracy ${number(mean.accuracy)} · rule ${snapshot.rule} · `
    + `topology ${snapshot.topology} · codec ${snapshot.codec}${snapshot.attack ? ` · attack ${snapshot.attack}` : ''} · ${state}`);
  const ends = over && facts.dataset.over !== 'true';
  facts.dataset.completed = completed;
  facts.dataset.accuracy = mean.accuracy ?? '';
  facts.dataset.over = over;
  remark.replaceChildren(snapshot.remark ?? '');
  if (ends || performance.now() - announced >= POLITE) {
    announced = performance.now();
    document.getElementById('status').replaceChildren(over ? 'It is over.' : `Round ${completed} of ${rounds}.`);
  }
}

/** Server-sent events of a body, as { id, data } (WHATWG HTML, section 9.2). */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n\n');
    rest = parts.pop();
    for (const part of parts) {
      const field = (name) => part.split('\n').filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join('\n');
      if (field('data')) yield { id: field('id'), data: JSON.parse(field('data')) };
    }
  }
}

function start() {
  document.getElementById('plain').hidden = true;
  document.getElementById('live').hidden = false;
  document.querySelector('header').append(facts, remark);
  const updates = [control(), ...PANELS.map(panel), eventList()];
  let last = null;
  let stopped = null;
  let over = false;
  const follow = async () => {
    stopped = new AbortController();
    const { signal } = stopped;
    while (!signal.aborted) {
      try {
        const response = await fetch('/stream', { headers: last ? { 'Last-Event-ID': last } : {}, signal });
        for await (const { id, data } of eventsOf(response.body)) {
          const whole = last === null || last.split('.')[0] !== id.split('.')[0];
          last = id;
          over = data.over;
          head(data);
          updates.forEach((update) => update(data, whole));
        }
      } catch {
        if (signal.aborted) return;
      }
      // A program that is over does not come back.
      if (over) return;
      document.getElementById('status').replaceChildren('The program that serves this page does not answer; it is asked again.');
      await new Promise((resolve) => { setTimeout(resolve, 2000); });
    }
  };
  document.addEventListener('visibilitychange', () => (document.hidden ? stopped.abort() : follow()));
  follow();
}

if (window.ReadableStream && window.TextDecoderStream && window.AbortController && window.IntersectionObserver && Element.prototype.replaceChildren) {
  start();
} else {
  document.getElementById('why').textContent = 'This browser lacks what the charts need. These tables stand as of the moment at which the page was loaded; reload it for newer numbers.';
}
