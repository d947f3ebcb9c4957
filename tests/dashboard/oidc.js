// Signing in by an identity provider that others wrote (oidc-provider), in a real browser.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createWriteStream, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";
import puppeteer from "puppeteer-core";

const { BINARY, CHROMIUM, WORK } = process.env;
const SECRET = "a-secret-of-the-client";

// A port that nobody listens on now.
async function free() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

const provider = await free();
const issuer = `http://127.0.0.1:${provider}`;
const admin = await free();
const ADMIN = `http://127.0.0.1:${admin}`;

const PEOPLE = {
  ada: { groups: ["platform-team"] },
  bob: { partywall_tenant: "globex" },
  eve: { groups: ["others"] },
  mallory: { partywall_tenant: "nobody" },
};
const idp = new Provider(issuer, {
  clients: [{
    client_id: "partywall",
    client_secret: SECRET,
    redirect_uris: [`${ADMIN}/dashboard/oidc/back`],
  }],
  claims: { openid: ["sub", "groups", "partywall_tenant"], email: ["email"], profile: ["name"] },
  // Into the ID token: no userinfo endpoint is asked.
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, name: id, ...PEOPLE[id] }),
  }),
});
const listening = idp.listen(provider, "127.0.0.1");

const data = join(WORK, "sso");
mkdirSync(data);
writeFileSync(join(data, "partywall.toml"), `
[dashboard]
url = "${ADMIN}"
[dashboard.oidc]
issuer = "${issuer}"
client_id = "partywall"
client_secret = "env:OIDC_SECRET"
[[dashboard.oidc.rules]]
claim = "groups"
value = "platform-team"
role = "operator"
[[dashboard.oidc.rules]]
claim = "partywall_tenant"
role = "tenant-admin"
tenant_claim = "partywall_tenant"
`);
const gateway = spawn(
  BINARY,
  ["quickstart", "--json", "--data", data, "--port", "0", "--admin-port", String(admin)],
  { env: { ...process.env, OIDC_SECRET: SECRET, OPENAI_API_KEY: "" }, stdio: ["ignore", "pipe", "pipe"] },
);
gateway.stderr.pipe(createWriteStream(join(WORK, "sso.log")));
const lines = createInterface({ input: gateway.stdout });
await new Promise((ready, failed) => {
  lines.once("line", ready);
  gateway.once("exit", (code) => failed(new Error(`partywall ended with ${code}: see sso.log`)));
});

const browser = await puppeteer.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

// Signs somebody in, and gives the page where that leads.
async function signIn(name) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  // The provider's pages want fonts from elsewhere, and do without.
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    const isOurs = [ADMIN, issuer].some((one) => request.url().startsWith(one));
    return isOurs ? request.continue() : request.abort();
  });
  const follow = (selector) =>
    Promise.all([page.waitForNavigation({ waitUntil: "load" }), page.click(selector)]);
  await page.goto(`${ADMIN}/dashboard`);
  await follow('a[href^="/dashboard/oidc/start"]');
  assert.ok(page.url().startsWith(issuer), page.url());
  await page.type("input[name=login]", name);
  await page.type("input[name=password]", "any");
  await follow("button[type=submit]");
  await follow("button[type=submit]");
  return page;
}

const text = (page) => page.$eval("body", (body) => body.innerText);
let failed = 0;
async function check(name, body) {
  try {
    await body();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
}

await check("whom the provider calls one of the platform's is an operator, under its name", async () => {
  const page = await signIn("ada");
  assert.equal(new URL(page.url()).pathname, "/dashboard/fleet");
  await page.goto(`${ADMIN}/dashboard/audit`);
  assert.match(await text(page), /sso\.ada/);
});

await check("whom it calls a tenant's is that tenant's administrator, and no more", async () => {
  const page = await signIn("bob");
  assert.equal(new URL(page.url()).pathname, "/dashboard/tenants/globex");
  for (const path of ["/dashboard/fleet", "/dashboard/tenants/acme"]) {
    assert.equal((await page.goto(ADMIN + path)).status(), 404, path);
  }
});

await check("whom no rule fits, or whose tenant does not exist, stays out", async () => {
  for (const name of ["eve", "mallory"]) {
    const page = await signIn(name);
    assert.ok(page.url().startsWith(ADMIN), page.url());
    await page.goto(`${ADMIN}/dashboard`);
    assert.equal(new URL(page.url()).pathname, "/dashboard/sign-in", name);
  }
});

await check("an answer of the provider's is good once, and for whoever asked", async () => {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const answer = await page.goto(`${ADMIN}/dashboard/oidc/back?code=stolen&state=somebodys`);
  assert.notEqual(answer.status(), 200);
  await page.goto(`${ADMIN}/dashboard`);
  assert.equal(new URL(page.url()).pathname, "/dashboard/sign-in");
});

await browser.close();
gateway.removeAllListeners("exit");
const ended = new Promise((done) => gateway.once("exit", done));
gateway.kill("SIGTERM");
await ended;
listening.close();
process.exit(failed === 0 ? 0 : 1);
