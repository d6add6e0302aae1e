// strophe.js in two windows, one over WebSocket, one over BOSH: they log in, see each other's presence, chat both ways,
// and the one on BOSH goes on with its session after the page was loaded again.
import { run, until } from "./browser.mjs";

const SCRIPT = "strophe.js/dist/strophe.umd.min.js";

async function openPerson(browser, name, url, options) {
  const page = await browser.open(name, SCRIPT);
  await page.evaluate(prepare, url, options);
  return page;
}

// Runs in the page: notes what comes in `seen`.
function prepare(url, options) {
  const { Strophe } = globalThis.strophe ?? globalThis;
  globalThis.seen ??= [];
  const connection = new Strophe.Connection(url, options);
  globalThis.connection = connection;
  globalThis.words = Object.fromEntries(Object.entries(Strophe.Status).map(([word, number]) => [number, word]));
  globalThis.onStatus = (status) => {
    globalThis.seen.push(globalThis.words[status]);
    if (status !== Strophe.Status.CONNECTED && status !== Strophe.Status.ATTACHED) return;
    connection.addHandler((stanza) => {
      const body = stanza.getElementsByTagName("body")[0];
      if (body) globalThis.seen.push(`message ${stanza.getAttribute("from").split("/")[0]} ${body.textContent}`);
      return true;
    }, null, "message");
    connection.addHandler((stanza) => {
      globalThis.seen.push(`presence ${stanza.getAttribute("type") ?? "available"} ${stanza.getAttribute("from").split("/")[0]}`);
      return true;
    }, null, "presence");
  };
}

const hasSeen = (what) => globalThis.seen.includes(what);

async function logIn(page, jid, password) {
  await page.evaluate(
    (jid, password) => globalThis.connection.connect(jid, password, globalThis.onStatus),
    jid,
    password,
  );
  await until(page, `${jid} logged in`, hasSeen, "CONNECTED");
  await page.evaluate(() => globalThis.connection.send((globalThis.strophe ?? globalThis).$pres()));
  await until(page, `${jid} saw itself`, hasSeen, `presence available ${jid}`);
}

async function write(page, to, text) {
  await page.evaluate(
    (to, text) => {
      const { $msg } = globalThis.strophe ?? globalThis;
      globalThis.connection.send($msg({ to, type: "chat" }).c("body").t(text));
    },
    to,
    text,
  );
}

await run(async (browser) => {
  const { domain, password } = browser.flags;
  const [romeoJid, julietJid] = [`romeo@${domain}`, `juliet@${domain}`];
  const { websocket } = await browser.endpoints();
  const { bosh } = await browser.endpoints();
  const romeo = await openPerson(browser, "romeo", websocket, {});
  const juliet = await openPerson(browser, "juliet", bosh, { keepalive: true });
  await logIn(romeo, romeoJid, password);
  await logIn(juliet, julietJid, password);
  console.log("logged in over WebSocket and BOSH");

  await write(romeo, julietJid, "Neither, fair saint, if either thee dislike. <&>");
  await until(juliet, "the first message", hasSeen, `message ${romeoJid} Neither, fair saint, if either thee dislike. <&>`);
  await write(juliet, romeoJid, "How cam'st thou hither, tell me, \u{1F339}");
  await until(romeo, "the answer", hasSeen, `message ${julietJid} How cam'st thou hither, tell me, \u{1F339}`);
  console.log("chatted");

  // Many at once go over one request or a few, and come in order.
  const texts = Array.from({ length: 50 }, (_, number) => `line ${number}`);
  for (const text of texts) await write(juliet, romeoJid, text);
  await until(romeo, "all lines", (count) => globalThis.seen.filter((what) => what.includes(" line ")).length === count, texts.length);
  const lines = await romeo.evaluate(() => globalThis.seen.filter((what) => what.includes(" line ")));
  const wanted = texts.map((text) => `message ${julietJid} ${text}`);
  if (JSON.stringify(lines) !== JSON.stringify(wanted)) throw new Error(`not in order: ${lines}`);

  await juliet.reload();
  await juliet.addScriptTag({ url: `${browser.site.url}${SCRIPT}` });
  await juliet.evaluate(prepare, bosh, { keepalive: true });
  await juliet.evaluate((jid) => globalThis.connection.restore(jid, globalThis.onStatus), julietJid);
  await until(juliet, "went on with its session", hasSeen, "ATTACHED");
  await write(romeo, julietJid, "Wouldst thou leave me so?");
  await until(juliet, "a message after the page was loaded again", hasSeen, `message ${romeoJid} Wouldst thou leave me so?`);
  console.log("went on after a reload");

  for (const page of [romeo, juliet]) {
    await page.evaluate(() => globalThis.connection.disconnect("done"));
    await until(page, "disconnected", hasSeen, "DISCONNECTED");
  }

  const stranger = await openPerson(browser, "stranger", websocket, {});
  await stranger.evaluate((jid) => globalThis.connection.connect(jid, "wrong", globalThis.onStatus), romeoJid);
  await until(stranger, "refused", hasSeen, "AUTHFAIL");
  console.log("refused a wrong password");
});
