// Looks at a page with a browser and prints what it saw as one JSON object.
//
// node page.mjs LINK [look | order PEER]   with KITH_PLAYWRIGHT naming a folder whose node_modules
// hold playwright-core, and CHROMIUM a browser. `look` waits until the testnet is over; `order` first
// kills a peer from the page and starts it again, pauses it and lets it run, and lets it lie. With SCREENSHOT a picture goes into that file.

import { createRequire } from 'node:module';

const { chromium } = createRequire(`${process.env.KITH_PLAYWRIGHT}/`)('playwright-core');
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
  await page.locator('section', { hasText: 'Orders' }).getByLabel('Peer').selectOption(peer);
  await order('Kill');
  seen.killed_seconds = await until(peer, 'gone');
  seen.dashed = await page.locator('.link.missing').count();
  await order('Restart');
  await until(peer, 'running');
  await order('Pause');
  seen.paused_seconds = await until(peer, 'paused');
  await order('Resume');
  await until(peer, 'running');
  const dropped = (compared) => page.waitForFunction(compared, peer, { timeout: 60_000 });
  await dropped((name) => Number(document.querySelector(`[data-peer="${name}"]`)?.dataset.dropped) < 0.5);
  await order('Lie');
  await page.locator(`[data-peer="${peer}"][data-role="adversary"] rect`).waitFor();
  const from = await completed();
  await dropped((name) => Number(document.querySelector(`[data-peer="${name}"]`)?.dataset.dropped) > 0.5);
  seen.lied_rounds = (await completed()) - from;
  seen.squares_then = await page.locator('[data-role="adversary"] rect').count();
}
await page.locator('#facts[data-over="true"]').waitFor({ timeout: 120_000 });
for (const summary of await page.locator('summary').all()) await summary.press('Enter');
const facts = page.locator('#facts');
seen.completed = await completed();
seen.accuracy = Number(await facts.getAttribute('data-accuracy'));
seen.tables = await page.locator('table').count();
seen.rows = await page.locator('table', { hasText: 'Newest values' }).locator('tbody tr').allInnerTexts();
seen.wider = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
console.log(JSON.stringify({ ...seen, first_paint_seconds: firstPaint / 1000, foreign, files: new Set(files).size, errors }));
await browser.close();
