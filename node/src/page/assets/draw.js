// Elements, tables and numbers: what every panel uses. Nothing here makes markup out of text.

const SVG = 'http://www.w3.org/2000/svg';

/** A node with attributes and children; text stays text. */
function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export const html = (tag, attributes = {}, ...children) => made(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => made(document.createElementNS(SVG, tag), attributes, children);

/** A drawing that fills its panel; `label` is what a screen reader says. */
export const drawing = (width, height, label, ...children) =>
  svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, ...children);

export const text = (x, y, words, attributes = {}) => svg('text', { x, y, ...attributes }, words);

export const title = (words) => svg('title', {}, words);

export function table(caption, header, rows) {
  const cells = (tag, row) => row.map((cell) => html(tag, tag === 'th' ? { scope: 'col' } : {}, String(cell)));
  return html(
    'table', {}, html('caption', {}, caption), html('thead', {}, html('tr', {}, ...cells('th', header))),
    html('tbody', {}, ...rows.map((row) => html('tr', {}, ...cells('td', row)))),
  );
}

export const number = (value, digits = 4) => (value === null || value === undefined ? '–' : value.toFixed(digits));

export function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit += 1) count /= 1000;
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(at * step);
  return found;
}

/** A label of each peer that fits into its mark: the number in its name, or, if names have none or share one, its place. */
export function labels(peers) {
  const numbers = peers.map(({ name }) => /\d{1,3}$/.exec(name)?.[0]);
  const distinct = numbers.every((one) => one !== undefined) && new Set(numbers).size === peers.length;
  return distinct ? numbers : peers.map((_, place) => String(place + 1));
}

/** Colour and dash of a series, by its number: seven colours, each with four dashes. */
export const look = (place) => `s${place % 7} d${place % 4}`;

/** A list that says which series is which. */
export const legend = (series) => html('ul', { class: 'legend' }, ...series.map(({ name, kind }) => html(
  'li', {}, svg('svg', { viewBox: '0 0 26 10', 'aria-hidden': 'true' }, svg('path', { class: `line ${kind}`, d: 'M0 5H26' })), name,
)));
