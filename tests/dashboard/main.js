// The dashboard in a real browser. Set SHOTS to a folder to keep pictures of every page.
import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

const require = createRequire(import.meta.url);
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const {
  PARTYWALL_ADMIN_URL: ADMIN,
  PARTYWALL_OPERATOR_KEY: OPERATOR,
  OPENAI_BASE_URL: GATEWAY,
  OPENAI_API_KEY: KEY,
  CHROMIUM,
  SHOTS,
} = process.env;
const WIDE = { width: 1360, height: 900 };
const PHONE = { width: 390, height: 844 };

let passed = 0;
let failed = 0;
let shots = 0;

async function check(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
}

async function api(method, path, body, key = OPERATOR) {
  const answer = await fetch(ADMIN + path, {
    method,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

// Some calls, some that fail or are refused, so that there is something to see.
async function traffic() {
  const models = await (await fetch(`${GATEWAY}/models`, {
    headers: { authorization: `Bearer ${KEY}` },
  })).json();
  const model = models.data.map((one) => one.id).find((id) => !id.includes("embed"));
  const call = (body) => fetch(`${GATEWAY}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  }).then((answer) => answer.text());
  const messages = [{ role: "user", content: "What is a party wall?" }];
  const calls = [];
  for (let at = 0; at < 24; at += 1) {
    calls.push(call({ model: at % 8 ? model : "no-such-model", messages, max_tokens: 16, stream: at % 2 === 0 }));
  }
  await Promise.all(calls);
}

const browser = await puppeteer.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
const context = await browser.createBrowserContext();
const page = await context.newPage();
const faults = [];
page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
page.on("console", (message) => {
  const text = message.text();
  // A status that a test asks for is no fault; whatever the content policy stops is.
  if (message.type() === "error" && !text.startsWith("Failed to load resource")) faults.push(text);
});
page.on("requestfailed", (request) => {
  // A stream of events ends with the page that listens.
  if (!new URL(request.url()).pathname.endsWith("/events")) faults.push(`request: ${request.url()}`);
});
page.on("request", (request) => {
  // A picture that the browser draws its own controls with comes from nowhere.
  if (!request.url().startsWith(ADMIN) && !request.url().startsWith("data:")) faults.push(`foreign request: ${request.url()}`);
});
await page.evaluateOnNewDocument(() => {
  document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`content policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
  });
});

async function look(scheme, size) {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport(size);
}

async function shot(name) {
  if (!SHOTS) return;
  shots += 1;
  const number = String(shots).padStart(2, "0");
  await page.screenshot({ path: `${SHOTS}/${number}-${name}.png`, fullPage: true });
}

// What axe finds of serious or critical weight; and what sticks out of the window. The policy is
// lifted for no page: axe runs in the test's own world.
async function accessible(name) {
  const found = await page.evaluate(`${AXE}; axe.run(document, { resultTypes: ["violations"] })
    .then((result) => result.violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map((one) => one.id + ": " + one.nodes.map((node) => node.html).slice(0, 3).join(" | ")))`);
  assert.deepEqual(found, [], name);
  const overhang = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(overhang <= 1, `${name} sticks out by ${overhang} pixels`);
}

async function everyWay(name) {
  for (const [scheme, size, way] of [
    ["light", WIDE, "light"], ["dark", WIDE, "dark"], ["light", PHONE, "phone"],
  ]) {
    await look(scheme, size);
    await new Promise((done) => setTimeout(done, 250));
    await shot(`${name}-${way}`);
    await accessible(`${name}, ${way}`);
  }
  await look("light", WIDE);
}

const text = () => page.$eval("main", (main) => main.innerText);
const at = () => new URL(page.url()).pathname;

async function go(path) {
  const answer = await page.goto(ADMIN + path, { waitUntil: "load" });
  return answer.status();
}

async function press(selector) {
  await Promise.all([page.waitForNavigation({ waitUntil: "load" }), page.click(selector)]);
}

async function signIn(key) {
  await page.type("#key", key);
  await press("form.card button");
}

await traffic();
// Somebody looks for alerts every half minute: this one is there when its page is looked at.
const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
await api("POST", "/admin/v1/tenants/acme/keys", { name: "brief", role: "service", expires_at: tomorrow });
await look("light", WIDE);

await check("whoever is not signed in is asked to, and comes back", async () => {
  await go("/dashboard/fleet?sort=name");
  assert.equal(at(), "/dashboard/sign-in");
  await everyWay("sign-in");
  await signIn("pw_nobody");
  assert.match(await text(), /does not sign in/);
  await go("/dashboard/fleet?sort=name");
  await signIn(OPERATOR);
  assert.equal(page.url(), `${ADMIN}/dashboard/fleet?sort=name`);
});

await check("the fleet shows every tenant with its figures", async () => {
  await go("/dashboard/fleet");
  const said = await text();
  assert.match(said, /acme/);
  assert.match(said, /2 tenants/);
  await everyWay("fleet");
});

await check("the fleet keeps up by events, and is not asked for in between", async () => {
  await go("/dashboard/fleet");
  const calls = () => page.$$eval("table.fleet tbody tr", (rows) =>
    Number(rows.find((row) => row.innerText.includes("acme")).querySelectorAll("td.number")[0].innerText));
  const asked = [];
  const note = (request) => {
    const headers = request.headers();
    if (headers["partywall-by-itself"]) asked.push(request.url());
  };
  page.on("request", note);
  await page.waitForFunction(() => performance.getEntriesByType("resource")
    .some((one) => one.name.endsWith("/dashboard/events")) || document.readyState === "complete");
  const before = await calls();
  await traffic();
  // Without events a page asks every ten seconds; with them, after a minute.
  await page.waitForFunction((before) => [...document.querySelectorAll("table.fleet tbody tr")].some(
    (row) => row.innerText.includes("acme") &&
      Number(row.querySelectorAll("td.number")[0].innerText) >= before + 24), { timeout: 30_000 }, before);
  page.off("request", note);
  assert.ok(asked.length >= 1);
});

await check("a filter narrows the fleet without a new page", async () => {
  await page.type("input[name=name]", "acme");
  await page.waitForFunction(() => document.querySelectorAll("table.fleet tbody tr").length === 1);
  await page.select("select[name=concern]", "urgent");
  await page.waitForFunction(() => !document.querySelector("table.fleet") ||
    document.querySelector("table.fleet tbody").innerText.includes("urgent"));
});

await check("a tenant's page draws its last hour", async () => {
  await go("/dashboard/fleet");
  await press('table.fleet a[href="/dashboard/tenants/acme"]');
  await page.waitForSelector(".uplot canvas");
  assert.equal((await page.$$(".uplot")).length, 3);
  await everyWay("tenant");
  await page.click(".chart summary");
  const rows = await page.$$eval(".chart details[open] tbody tr", (rows) => rows.length);
  assert.equal(rows, 60);
});

await check("usage is shown by day and by what is asked for", async () => {
  await press('.tabs a[href$="/usage"]');
  await page.select("select[name=by]", "model");
  await press(".filters button");
  await page.waitForSelector(".uplot canvas");
  assert.match(await text(), /Cost a day/);
  await everyWay("usage");
  await page.select("select[name=by]", "version");
  await page.select("select[name=time]", "hours");
  await press(".filters button");
  assert.match(await text(), /Cost an hour/);
  await everyWay("usage-hours");
});

let made;
await check("a key is made, works, and is shown once", async () => {
  await press('.tabs a[href$="/keys"]');
  await page.type('form.card input[name=name]', "from-the-browser");
  await page.select("form.card select[name=role]", "tenant-admin");
  await press("form.card button.primary");
  made = await page.$eval("#new-key", (field) => field.value);
  await everyWay("new-key");
  await api("GET", "/admin/v1/tenants/acme", undefined, made);
  await go("/dashboard/tenants/acme/keys");
  assert.ok(!(await page.content()).includes(made), "a key is shown twice");
  await everyWay("keys");
});

await check("its holder sees its own tenant, through the same pages, and no other", async () => {
  const own = await browser.createBrowserContext();
  const other = await own.newPage();
  await other.goto(`${ADMIN}/dashboard`);
  await other.type("#key", made);
  await Promise.all([other.waitForNavigation(), other.click("form.card button")]);
  assert.equal(new URL(other.url()).pathname, "/dashboard/tenants/acme");
  const pages = [];
  for (const path of ["/dashboard/fleet", "/dashboard/tenants/globex", "/dashboard/tenants/nobody"]) {
    const answer = await other.goto(ADMIN + path);
    assert.equal(answer.status(), 404, path);
    pages.push(await other.content());
  }
  assert.equal(new Set(pages).size, 1, "absent and forbidden differ");
  await own.close();
});

await check("the key is revoked by keyboard alone, and refused at once", async () => {
  await go("/dashboard/tenants/acme/keys");
  const summary = await page.$('form[action$="/from-the-browser/revoke"]');
  const details = await summary.evaluateHandle((form) => form.closest("details").querySelector("summary"));
  await details.focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  assert.match(await text(), /The key is revoked/);
  const answer = await fetch(`${ADMIN}/admin/v1/tenants/acme`, {
    headers: { authorization: `Bearer ${made}` },
  });
  assert.equal(answer.status, 401);
});

await check("a budget is set and removed", async () => {
  await go("/dashboard/tenants/acme/budgets");
  await page.type("form.card input[name=name]", "browser");
  await page.type("form.card input[name=limit]", "12.50");
  await press("form.card button.primary");
  assert.match(await text(), /browser\s+tenant\s+monthly\s+12\.5/);
  await everyWay("budgets");
  await page.click("details.action summary");
  await press("form[action$='/browser/remove'] button");
  assert.doesNotMatch(await text(), /browser/);
});

await check("what is wrong is said, and changes nothing", async () => {
  await go("/dashboard/tenants/acme/budgets");
  await page.type("form.card input[name=name]", "browser");
  await page.type("form.card input[name=limit]", "lots");
  await press("form.card button.primary");
  assert.match(await text(), /Nothing was changed/);
  await everyWay("refused");
});

await check("configuration and audit are shown", async () => {
  await api("PUT", "/admin/v1/tenants/acme/config", { system_prompt: "Be brief.", flags: { beta: true } });
  await api("PUT", "/admin/v1/tenants/acme/config", { system_prompt: "Be kind.", flags: { beta: true } });
  await go("/dashboard/tenants/acme/configuration");
  assert.match(await text(), /Be brief\.\s+Be kind\./);
  await everyWay("configuration");
  await go("/dashboard/tenants/acme/audit");
  assert.match(await text(), /create_key/);
  await everyWay("audit");
});

await check("an alert comes by itself, and a tenant's page has that tenant's alone", async () => {
  await go("/dashboard/alerts");
  const shown = () => document.querySelector("main").innerText.includes("key brief ends");
  await page.waitForFunction(shown, { timeout: 60_000 });
  await everyWay("alerts");
  await press('#alerts a[href="/dashboard/tenants/acme/alerts"]');
  assert.match(await text(), /key brief ends/);
  await everyWay("tenant-alerts");
  await go("/dashboard/tenants/globex/alerts");
  assert.doesNotMatch(await text(), /key brief ends/);
});

await check("calls are found, and a request is shown in its time", async () => {
  await go("/dashboard/tenants/acme/calls?outcome=completed");
  const rows = await page.$$eval("table tbody tr", (rows) => rows.length);
  assert.equal(rows, 42);
  await everyWay("calls");
  await press("table tbody a");
  assert.match(await text(), /calls of models/);
  assert.equal((await page.$$(".waterfall li")).length, 1);
  await everyWay("request");
});

await check("a resource is made, changed and removed", async () => {
  await go("/dashboard/resources");
  await press('a[href$="/resources/tiers"]');
  await everyWay("tiers");
  await page.type("form.card input[name=name]", "browser");
  await press("form.card button.primary");
  assert.match(await text(), /Saved/);
  await everyWay("tier");
  await page.$eval("textarea", (area) => { area.value = '{"description": "by a browser"}'; });
  await press("form.card button.primary");
  const tier = await api("GET", "/admin/v1/tiers/browser");
  assert.equal(tier.spec.description, "by a browser");
  await page.click("details.action summary");
  await press('form[action$="/remove"] button');
  assert.doesNotMatch(await text(), /by a browser/);
});

await check("invoices are drafted", async () => {
  await api("PUT", "/admin/v1/price-books/standard", {
    entries: [{ effective_from: "2026-01-01T00:00:00Z", markup_basis_points: 2500 }],
  });
  const { spec } = await api("GET", "/admin/v1/tenants/acme");
  await api("PUT", "/admin/v1/tenants/acme", { tier: spec.tier, price_book: "standard" });
  await go("/dashboard/tenants/acme/invoices");
  assert.match(await text(), /Draft of \d{4}-\d{2}/);
  await everyWay("invoices");
});

await check("the platform's record is verified, and a version gone back to", async () => {
  await go("/dashboard/audit");
  await press('a[href="?check=1"]');
  assert.match(await text(), /entries are as they were signed/);
  await everyWay("platform-audit");
  await go("/dashboard/versions");
  await everyWay("versions");
  const summaries = await page.$$("details.action summary");
  await summaries[0].click();
  await press("details.action[open] button");
  assert.match(await text(), /is served, with what/);
  await everyWay("rolled-back");
});

await check("a tenant's data is shown where it is", async () => {
  await go("/dashboard/tenants/acme/data");
  assert.match(await text(), /Its data is in file/);
  await page.click("details.action summary");
  await everyWay("data");
});

await check("a tenant is onboarded, suspended and served again", async () => {
  await go("/dashboard/fleet");
  await press(".heading a.button");
  await everyWay("new-tenant");
  await page.type("input[name=name]", "initech");
  await press("form.card button.primary");
  const key = await page.$eval("#new-key", (field) => field.value);
  await go("/dashboard/tenants/initech/life");
  await press("form.card button.danger");
  assert.match(await text(), /The tenant is suspended/);
  const refused = await fetch(`${ADMIN}/admin/v1/tenants/initech`, {
    headers: { authorization: `Bearer ${key}` },
  });
  assert.equal(refused.status, 401);
  await press("form.card button.primary");
  await api("GET", "/admin/v1/tenants/initech", undefined, key);
});

await check("a tenant ends by its name alone", async () => {
  await go("/dashboard/tenants/initech/data");
  const open = () => page.$$eval("details.action", (all) => { all[all.length - 1].open = true; });
  await open();
  await page.type("input[name=confirm]", "acme");
  await press("button.danger");
  assert.match(await text(), /Nothing was changed/);
  await go("/dashboard/tenants/initech/data");
  await open();
  await page.type("input[name=confirm]", "initech");
  await press("button.danger");
  assert.match(await text(), /The tenant is gone/);
});

await check("whatever else can be done has a form, also from a file", async () => {
  await go("/dashboard/operations");
  await everyWay("operations");
  const form = 'form[action="/dashboard/operations/apply"]';
  await page.$eval(form, (one) => { one.closest("details").open = true; });
  const folder = mkdtempSync(join(tmpdir(), "dashboard-"));
  const file = join(folder, "catalogue.json");
  writeFileSync(file, JSON.stringify([{ kind: "tier", name: "declared", spec: {} }]));
  await (await page.$(`${form} input[type=file]`)).uploadFile(file);
  await page.waitForFunction(() => document.querySelector("#apply-resources").value.includes("declared"));
  rmSync(folder, { recursive: true });
  await press(`${form} button`);
  assert.match(await text(), /Done\./);
  await everyWay("applied");
  await api("GET", "/admin/v1/tiers/declared");
  await go("/dashboard/tenants/acme/operations");
  await everyWay("tenant-operations");
  await page.$eval('form[action$="/clear_cache"]', (one) => { one.closest("details").open = true; });
  await press('form[action$="/clear_cache"] button');
  assert.match(await text(), /Done\./);
});

await check("what was asked and answered is for the tenant, where it has that kept", async () => {
  const { key } = await api("POST", "/admin/v1/tenants/acme/keys", { name: "boss", role: "tenant-admin" });
  await api("PUT", "/admin/v1/tenants/acme/config", { bodies: {} }, key);
  await traffic();
  const own = await browser.createBrowserContext();
  const other = await own.newPage();
  await other.goto(`${ADMIN}/dashboard`);
  await other.type("#key", key);
  await Promise.all([other.waitForNavigation(), other.click("form.card button")]);
  await other.goto(`${ADMIN}/dashboard/tenants/acme/calls?outcome=completed`);
  const follow = (selector) => Promise.all([other.waitForNavigation(), other.click(selector)]);
  await follow("table tbody a");
  await follow('a.button[href$="/bodies"]');
  const said = await other.$eval("main", (main) => main.innerText);
  assert.match(said, /What is a party wall\?/);
  const bodies = new URL(other.url()).pathname;
  await own.close();
  await go(bodies);
  assert.match(await text(), /lets no operator read bodies/);
  assert.doesNotMatch(await text(), /What is a party wall/);
  await everyWay("bodies-refused");
});

await check("a link signs in once", async () => {
  const { path } = await api("POST", "/admin/v1/dashboard/links", {});
  const own = await browser.createBrowserContext();
  const other = await own.newPage();
  await other.goto(ADMIN + path);
  await Promise.all([other.waitForNavigation(), other.click("form.card button")]);
  assert.equal(new URL(other.url()).pathname, "/dashboard/fleet");
  await other.goto(ADMIN + path);
  await Promise.all([other.waitForNavigation(), other.click("form.card button")]);
  assert.match(await other.$eval("main", (main) => main.innerText), /used up/);
  await own.close();
});

await check("signing out ends the session", async () => {
  await go("/dashboard");
  const cookies = await context.cookies();
  const session = cookies.find((cookie) => cookie.name === "partywall_session");
  assert.ok(session.httpOnly && session.sameSite === "Strict");
  await press(".who button");
  assert.equal(at(), "/dashboard/sign-in");
  await context.setCookie(session);
  await go("/dashboard/fleet");
  assert.equal(at(), "/dashboard/sign-in");
});

await check("no script failed, nothing came from elsewhere, the policy stopped nothing", async () => {
  assert.deepEqual(faults, []);
});

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
