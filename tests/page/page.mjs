// Looks at a page with a browser and prints what it saw as one JSON object.
//
// node page.mjs LINK [look | order PEER]   with KITH_PLAYWRIGHT naming a folder whose node_modules
// hold playwright-core, and CHROMIUM a browser. `look` waits until the testnet is over; `order` first
// kills a peer from the page and starts it again, pauses it and lets it run, cuts it off by the keyboard alone and heals that, and lets it lie.
// If axe-core is there too, `axe` lists what it finds wrong with the page; otherwise it is null. With SCREENSHOT a picture goes into that file.

import { createRequire } from 'node:module';

const installed = createRequire(`${process.env.KITH_PLAYWRIGHT}/`);
const { chromium } = installed('playwright-core');
const axe = (() => {
  try {
    return installed('axe-core').source;
  } catch {
    return null;
  }
})();
const [link, what = 'look', peer] = process.argv.slice(2);
const { origin } = new URL(link);

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const page = await browser.newPage({ viewport: { width: Number(process.env.WIDTH ?? 1280), height: Number(process.env.HEIGHT ?? 900) } });
const [foreign, files, errors] = [[], [], []];
page.on('request', (request) => {
  const url = new URL(request.url());
  if (url.protocol === 'data:') return;
  (url.origin === origin ? files : foreign).push(url.pathname);
});
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
page.on('pageerror', (error) => errors.push(error.message));
await page.addInitScript(() => {
  document.addEventListener('securitypolicyviolation', (event) => console.error(`violation: ${event.violatedDirective}`));
});

async function until(name, wanted) {
  const started = performance.now();
  await page.locator(`[data-peer="${name}"][data-state="${wanted}"]`).waitFor({ timeout: 60_000 });
  return (performance.now() - started) / 1000;
}

await page.goto(link);
await page.locator('[data-peer]').first().waitFor({ timeout: 60_000 });
const firstPaint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
const seen = {
  peers: await page.locator('[data-peer]').count(),
  squares: await page.locator('[data-role="adversary"] rect').count(),
  circles: await page.locator('[data-role="honest"] circle').count(),
};
const completed = async () => Number(await page.locator('#facts').getAttribute('data-completed'));
if (what === 'order') {
  const order = (name) => page.getByRole('button', { name, exact: true }).click();
  await until(peer, 'running');
  await page.locator('section', { hasText: 'Orders' }).getByRole('combobox').selectOption(peer);
  await order('Kill');
  seen.killed_seconds = await until(peer, 'gone');
  seen.dashed = await page.locator('.link.missing').count();
  await order('Restart');
  await until(peer, 'running');
  await order('Pause');
  seen.paused_seconds = await until(peer, 'paused');
  await order('Resume');
  await until(peer, 'running');
  const control = page.locator('section', { hasText: 'Orders' });
  await control.getByRole('group', { name: 'Cut off' }).getByLabel(peer, { exact: true }).press('Space');
  await control.getByRole('button', { name: 'Partition' }).press('Enter');
  const lost = (compared) => page.waitForFunction(compared, null, { timeout: 60_000 });
  await lost(() => document.querySelectorAll('.link.missing').length >= 5);
  seen.cut_off = await page.locator('#facts').innerText();
  await control.getByRole('button', { name: 'Heal' }).press('Enter');
  await lost(() => document.querySelectorAll('.link.missing').length === 0);
  const dropped = (compared) => page.waitForFunction(compared, peer, { timeout: 60_000 });
  await dropped((name) => Number(document.querySelector(`[data-peer="${name}"]`)?.dataset.dropped) < 0.5);
  // By now the models hardly move: ten times a step that small differs from nobody's for many rounds.
  await control.getByLabel('Attack', { exact: true }).fill('sign-flip:1000');
  await order('Lie');
  await page.locator(`[data-peer="${peer}"][data-role="adversary"] rect`).waitFor();
  await dropped((name) => Number(document.querySelector(`[data-peer="${name}"]`)?.dataset.dropped) > 0.5);
  seen.squares_then = await page.locator('[data-role="adversary"] rect').count();
}
await page.locator('#facts[data-over="true"]').waitFor({ timeout: 120_000 });
for (const summary of await page.locator('summary').all()) await summary.press('Enter');
const facts = page.locator('#facts');
seen.completed = await completed();
seen.status = await page.locator('#status').innerText();
seen.accuracy = Number(await facts.getAttribute('data-accuracy'));
seen.tables = await page.locator('table').count();
seen.rows = await page.locator('table', { hasText: 'Newest values' }).locator('tbody tr').allInnerTexts();
seen.wider = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
seen.axe = null;
if (axe) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run());
  seen.axe = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}
if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
console.log(JSON.stringify({ ...seen, first_paint_seconds: firstPaint / 1000, foreign, files: new Set(files).size, errors }));
await browser.close();
