// Converse.js as two people use it, one over WebSocket, one over BOSH: they fill in the login form, write into the box
// and read what the other one wrote. The one on BOSH loads the page again and is still there, without a password; the
// one on WebSocket loses the network and comes back by itself.
import { STEP_MS_MAX, run, until } from "./browser.mjs";

const PACKAGE = "converse.js/dist/";

// Types like a person: into what can be seen.
async function fill(page, selector, text) {
  const field = await page.waitForSelector(selector, { visible: true });
  await field.click();
  await field.type(text);
}

async function openConverse(browser, name, options) {
  const page = await browser.open(name);
  await load(browser, page, options);
  return page;
}

async function load(browser, page, options) {
  await page.addStyleTag({ url: `${browser.site.url}${PACKAGE}converse.min.css` });
  await page.addScriptTag({ url: `${browser.site.url}${PACKAGE}converse.min.js`, type: "module" });
  await until(page, "loaded", () => globalThis.converse?.initialize !== undefined);
  await page.evaluate((options) => {
    document.body.classList.add("converse-fullscreen");
    globalThis.converse.initialize(options);
  }, options);
}

function optionsFor(browser, transport, partner) {
  return {
    assets_path: `${browser.site.url}${PACKAGE}`,
    view_mode: "fullscreen",
    allow_non_roster_messaging: true,
    auto_join_private_chats: [partner],
    discover_connection_methods: false,
    clear_cache_on_logout: true,
    i18n: "en",
    loglevel: "warn",
    ...transport,
  };
}

async function logIn(page, jid, password) {
  await fill(page, "converse-login-form input[name=jid]", jid);
  await fill(page, "converse-login-form input[name=password]", password);
  await page.keyboard.press("Enter");
  await page.waitForSelector("converse-chat textarea.chat-textarea", { visible: true });
}

async function write(page, text) {
  await fill(page, "converse-chat textarea.chat-textarea", text);
  await page.keyboard.press("Enter");
}

async function untilRead(page, text) {
  await until(
    page,
    `read: ${text}`,
    (text) => [...document.querySelectorAll("converse-chat .chat-msg__text")].some((line) => line.textContent.trim() === text),
    text,
  );
}

await run(async (browser) => {
  const { domain, password } = browser.flags;
  const [romeoJid, julietJid] = [`romeo@${domain}`, `juliet@${domain}`];
  const [romeoWire, julietWire] = [await browser.endpoints(), await browser.endpoints()];
  const romeoOptions = optionsFor(browser, { websocket_url: romeoWire.websocket }, julietJid);
  const julietOptions = optionsFor(browser, { bosh_service_url: julietWire.bosh }, romeoJid);
  const romeo = await openConverse(browser, "romeo", romeoOptions);
  const juliet = await openConverse(browser, "juliet", julietOptions);
  await logIn(romeo, romeoJid, password);
  await logIn(juliet, julietJid, password);
  console.log("logged in over WebSocket and BOSH");

  await write(romeo, "With love's light wings did I o'er-perch these walls");
  await untilRead(juliet, "With love's light wings did I o'er-perch these walls");
  await write(juliet, "If they do see thee, they will murder thee. <b>&");
  await untilRead(romeo, "If they do see thee, they will murder thee. <b>&");
  console.log("chatted");

  await juliet.reload();
  await load(browser, juliet, julietOptions);
  await juliet.waitForSelector("converse-chat textarea.chat-textarea", { visible: true });
  await untilRead(juliet, "With love's light wings did I o'er-perch these walls");
  await write(romeo, "Alack, there lies more peril in thine eye");
  await untilRead(juliet, "Alack, there lies more peril in thine eye");
  console.log("went on after a reload");

  romeoWire.network.cut();
  await romeoWire.network.refused(STEP_MS_MAX);
  await write(juliet, "I would not for the world they saw thee here.");
  await untilRead(juliet, "I would not for the world they saw thee here.");
  romeoWire.network.restore();
  await untilRead(romeo, "I would not for the world they saw thee here.");
  console.log("lost the network and came back");
});
