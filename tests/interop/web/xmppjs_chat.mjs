// xmpp.js in two windows over WebSocket, encrypted: in a browser it knows no other mechanism than PLAIN. They log in,
// chat both ways, and one loses the network and resumes its session (XEP-0198), while messages come for it.
import { run, until } from "./browser.mjs";

const SCRIPT = "@xmpp/client/dist/xmpp.min.js";

async function openPerson(browser, name, service) {
  const page = await browser.open(name, SCRIPT);
  await page.evaluate(prepare, { service, domain: browser.flags.domain, username: name, password: browser.flags.password });
  return page;
}

// Runs in the page: notes what comes in `seen`.
function prepare(options) {
  globalThis.seen = [];
  const { client } = globalThis.XMPP;
  const xmpp = client({ ...options, resource: "web" });
  xmpp.reconnect.delay = 100;
  globalThis.xmpp = xmpp;
  for (const event of ["online", "offline", "disconnect"]) {
    xmpp.on(event, () => globalThis.seen.push(event));
  }
  for (const event of ["resumed", "fail"]) {
    xmpp.streamManagement.on(event, () => globalThis.seen.push(event));
  }
  xmpp.on("error", (error) => globalThis.seen.push(`error ${error.message ?? error}`));
  xmpp.on("stanza", (stanza) => {
    const from = stanza.attrs.from?.split("/")[0];
    if (stanza.is("message")) globalThis.seen.push(`message ${from} ${stanza.getChildText("body")}`);
    if (stanza.is("presence")) globalThis.seen.push(`presence ${stanza.attrs.type ?? "available"} ${from}`);
  });
}

const hasSeen = (what) => globalThis.seen.includes(what);

async function logIn(page, jid) {
  await page.evaluate(() => globalThis.xmpp.start());
  await until(page, `${jid} online`, hasSeen, "online");
  await page.evaluate(() => globalThis.xmpp.send(globalThis.XMPP.xml("presence")));
  await until(page, `${jid} saw itself`, hasSeen, `presence available ${jid}`);
}

// Not awaited within the page: without a network it waits for the session to be resumed.
async function write(page, to, text) {
  await page.evaluate(
    (to, text) => {
      const { xml } = globalThis.XMPP;
      globalThis.xmpp.send(xml("message", { to, type: "chat" }, xml("body", {}, text))).catch(() => {});
    },
    to,
    text,
  );
}

// What was sent before has been routed when the answer is here.
async function askTheServer(page, domain) {
  await page.evaluate(async (domain) => {
    const { xml } = globalThis.XMPP;
    await globalThis.xmpp.iqCaller.request(xml("iq", { type: "get", to: domain }, xml("ping", "urn:xmpp:ping")));
  }, domain);
}

await run(async (browser) => {
  const { domain } = browser.flags;
  const [romeoJid, julietJid] = [`romeo@${domain}`, `juliet@${domain}`];
  const wire = await browser.endpoints({ isSecure: true });
  const other = await browser.endpoints({ isSecure: true });
  const romeo = await openPerson(browser, "romeo", wire.websocket);
  const juliet = await openPerson(browser, "juliet", other.websocket);
  await logIn(romeo, romeoJid);
  await logIn(juliet, julietJid);
  console.log(`logged in over ${wire.websocket} and ${other.websocket}`);

  await write(romeo, julietJid, "It is my lady");
  await until(juliet, "the first message", hasSeen, `message ${romeoJid} It is my lady`);
  await write(juliet, romeoJid, "Ay me!");
  await until(romeo, "the answer", hasSeen, `message ${julietJid} Ay me!`);
  console.log("chatted");

  await until(romeo, "a session that can be resumed", () => globalThis.xmpp.streamManagement.id !== "");
  const before = await romeo.evaluate(() => String(globalThis.xmpp.jid));
  wire.network.cut();
  await until(romeo, "disconnected", hasSeen, "disconnect");
  for (const text of ["Art thou gone so?", "love, lord, ay, husband, friend!"]) await write(juliet, romeoJid, text);
  await askTheServer(juliet, domain);
  wire.network.restore();
  await until(romeo, "resumed", hasSeen, "resumed");
  await until(romeo, "what was written meanwhile", hasSeen, `message ${julietJid} love, lord, ay, husband, friend!`);
  await write(romeo, julietJid, "O, think'st thou we shall ever meet again?");
  await until(juliet, "a message after that", hasSeen, `message ${romeoJid} O, think'st thou we shall ever meet again?`);
  const read = await romeo.evaluate(() => globalThis.seen.filter((what) => what.startsWith("message")));
  const wanted = ["Ay me!", "Art thou gone so?", "love, lord, ay, husband, friend!"].map((text) => `message ${julietJid} ${text}`);
  if (JSON.stringify(read) !== JSON.stringify(wanted)) throw new Error(`romeo read ${read}`);
  const after = await romeo.evaluate(() => String(globalThis.xmpp.jid));
  if (before !== after) throw new Error(`resumed as ${after}, not ${before}`);
  console.log("lost the network and resumed");

  for (const page of [romeo, juliet]) {
    await page.evaluate(() => globalThis.xmpp.stop());
    await until(page, "offline", hasSeen, "offline");
  }
});
