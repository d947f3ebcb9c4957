// Ten thousand tenants: how soon the fleet is painted, what a scrape takes, and what the watch for
// alerts costs. A measurement, with a verdict on what was promised: SCALE_TENANTS makes it smaller.
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

const {
  PARTYWALL_ADMIN_URL: ADMIN,
  PARTYWALL_OPERATOR_KEY: OPERATOR,
  PARTYWALL_PID: PID,
  OPENAI_BASE_URL: GATEWAY,
  OPENAI_API_KEY: KEY,
  CHROMIUM,
  SHOTS,
} = process.env;
const TENANTS = Number(process.env.SCALE_TENANTS || 10_000);
const CALLING = Math.min(TENANTS, Number(process.env.SCALE_CALLING || 1_000));
// A build without optimisation is looked at, and not judged.
const JUDGES = process.env.SCALE_JUDGES !== "no";
const PAINT_MS_MAX = 500;
const SCRAPE_MS_MAX = 200;
const PER_APPLY = 500;

async function api(method, path, body, headers = {}) {
  const answer = await fetch(ADMIN + path, {
    method,
    headers: { authorization: `Bearer ${OPERATOR}`, "content-type": "application/json", ...headers },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text.slice(0, 300)}`);
  return text;
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

const { spec: { tier } } = JSON.parse(await api("GET", "/admin/v1/tenants/acme"));
const keys = [];
for (let from = 0; from < TENANTS; from += PER_APPLY) {
  const resources = [];
  for (let at = from; at < Math.min(TENANTS, from + PER_APPLY); at += 1) {
    const tenant = `scale-${String(at).padStart(5, "0")}`;
    resources.push({ kind: "tenant", name: tenant, spec: { tier } });
    resources.push({ kind: "key", tenant, name: "one", spec: {} });
    resources.push({ kind: "budget", tenant, name: "month", spec: { subject: "tenant", limit: "10", window: "monthly" } });
  }
  const reply = JSON.parse(await api("POST", "/admin/v1/apply", { resources }));
  keys.push(...reply.created_keys.map((one) => one.key));
}
console.log(`${keys.length} tenants`);

const models = await (await fetch(`${GATEWAY}/models`, { headers: { authorization: `Bearer ${KEY}` } })).json();
const model = models.data.map((one) => one.id).find((id) => !id.includes("embed"));
const call = (key, name) => fetch(`${GATEWAY}/chat/completions`, {
  method: "POST",
  headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
  body: JSON.stringify({ model: name, messages: [{ role: "user", content: "hello" }], max_tokens: 4 }),
}).then((answer) => answer.text());
for (let from = 0; from < CALLING; from += 20) {
  await Promise.all(keys.slice(from, from + 20).flatMap(
    (key, at) => [call(key, model), call(key, `made-up-${from + at}`)]));
}
const series = (text) => text.split("\n").filter((line) => line && !line.startsWith("#")).length;
const openmetrics = { accept: "application/openmetrics-text" };
for (const [name, headers] of [["plain", {}], ["OpenMetrics", openmetrics]]) {
  const took = [];
  let text;
  for (let round = 0; round < 9; round += 1) {
    const began = performance.now();
    text = await api("GET", "/metrics", undefined, headers);
    took.push(performance.now() - began);
  }
  assert.ok(!text.includes("made-up-"));
  console.log(`/metrics, ${name}: ${series(text)} series, ${text.length} bytes, median ${median(took).toFixed(0)} ms`);
  assert.ok(!JUDGES || median(took) < SCRAPE_MS_MAX, "a scrape takes too long");
}

const browser = await puppeteer.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
const page = await browser.newPage();
await page.goto(`${ADMIN}/dashboard/sign-in`);
await page.type("#key", OPERATOR);
await Promise.all([page.waitForNavigation(), page.click("form.card button")]);
const paints = [];
for (let round = 0; round < 9; round += 1) {
  await page.goto(`${ADMIN}/dashboard/fleet`, { waitUntil: "load" });
  await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
  paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
}
console.log(`fleet, first contentful paint: ${paints.map((one) => one.toFixed(0)).join(" ")} ms`);
if (SHOTS) await page.screenshot({ path: `${SHOTS}/fleet-of-many.png` });
assert.ok(!JUDGES || median(paints) < PAINT_MS_MAX, "the fleet is painted too late");
await browser.close();

if (PID) {
  const cpu = () => {
    const fields = readFileSync(`/proc/${PID}/stat`, "utf8").split(") ")[1].split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  };
  const before = cpu();
  await new Promise((done) => setTimeout(done, 90_000));
  console.log(`idle for 90 s, three turns of the watch among it: ${cpu() - before} ms of a processor`);
}
