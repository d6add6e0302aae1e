// A headless Chromium whose pages load the clients from packages on this disk, and the flags of every script here.
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";

import { Network } from "./network.mjs";

export const STEP_MS_MAX = 30_000;

const CONTENT_TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

// --port is that of HTTP without encryption, --tls-port that of HTTPS, --modules where npm put the packages.
export function parse() {
  const text = { type: "string" };
  const options = {
    host: text,
    port: text,
    "tls-port": text,
    domain: text,
    password: text,
    modules: text,
    chromium: { type: "string", default: "/usr/bin/chromium" },
  };
  const { values } = parseArgs({ options });
  for (const name of ["host", "port", "tls-port", "domain", "password", "modules"]) {
    if (values[name] === undefined) throw new Error(`--${name} is missing`);
  }
  return values;
}

// Serves the packages, and a page that is as good as empty, as a web site that is not the server's own.
async function serveSite(modules) {
  const root = path.resolve(modules);
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const file = path.join(root, path.normalize(pathname));
    if (pathname === "/") {
      response.setHeader("Content-Type", CONTENT_TYPES[".html"]);
      response.end("<!doctype html><title>chat</title><body></body>");
    } else if (file.startsWith(root + path.sep) && fs.existsSync(file)) {
      response.setHeader("Content-Type", CONTENT_TYPES[path.extname(file)] ?? "application/octet-stream");
      fs.createReadStream(file).pipe(response);
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((opened) => server.listen(0, "127.0.0.1", opened));
  return { url: `http://localhost:${server.address().port}/`, close: () => server.close() };
}

// One browser. Each person has a window with storage of its own.
export class Browser {
  static async start(flags) {
    const browser = new Browser();
    browser.flags = flags;
    browser.site = await serveSite(flags.modules);
    // The packages are not beside this file, where `import` would look for them.
    const puppeteer = createRequire(path.resolve(flags.modules, "..", "package.json"))("puppeteer-core");
    browser.chromium = await puppeteer.launch({
      executablePath: flags.chromium,
      args: [
        // The tests run as root in CI, and the certificate is self-signed.
        "--no-sandbox",
        "--ignore-certificate-errors",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        // Nothing goes further than this machine, whatever a client or the browser would like to load.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
        "--no-proxy-server",
      ],
    });
    browser.networks = [];
    return browser;
  }

  // Where a person reaches the server: by WebSocket or BOSH, through a network of the person's own.
  async endpoints({ isSecure = false } = {}) {
    const port = isSecure ? this.flags["tls-port"] : this.flags.port;
    const network = new Network(this.flags.host, Number(port));
    this.networks.push(network);
    const place = `localhost:${await network.open()}`;
    const letter = isSecure ? "s" : "";
    return { network, websocket: `ws${letter}://${place}/ws-xmpp`, bosh: `http${letter}://${place}/http-bind` };
  }

  // A window on the site with a script loaded, if one is named.
  async open(name, script) {
    const context = await this.chromium.createBrowserContext();
    const page = await context.newPage();
    page.setDefaultTimeout(STEP_MS_MAX);
    page.said = [];
    page.on("console", (message) => page.said.push(`${name} ${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => page.said.push(`${name} error: ${error.message}`));
    await page.goto(this.site.url);
    if (script) await page.addScriptTag({ url: this.site.url + script });
    return page;
  }

  async close() {
    await this.chromium.close();
    for (const network of this.networks) network.close();
    this.site.close();
  }
}

// Runs a script: its last words, if it fails, are those of the pages.
export async function run(script) {
  const browser = await Browser.start(parse());
  const pages = [];
  const open = browser.open.bind(browser);
  browser.open = async (...args) => {
    const page = await open(...args);
    pages.push(page);
    return page;
  };
  try {
    await script(browser);
  } catch (error) {
    console.error(error);
    for (const page of pages) console.error(page.said.slice(-40).join("\n"));
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

// Waits for a condition within a page.
export async function until(page, what, condition, ...args) {
  try {
    await page.waitForFunction(condition, { timeout: STEP_MS_MAX }, ...args);
  } catch (error) {
    const seen = await page.evaluate(() => JSON.stringify(globalThis.seen ?? null)).catch(() => "?");
    throw new Error(`not ${what}; seen: ${seen}`, { cause: error });
  }
}
