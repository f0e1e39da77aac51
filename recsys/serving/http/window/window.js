// The page of `recsys serve`: shows lists, logs them as impressions, sends what somebody does, and asks again.
// Texts of the catalogue reach the document as text only, never as HTML.

import { LANGUAGES, preferred } from "/window/languages.js";

const LENGTH = 10;
const SIMILAR = 4;
const SESSION = "recsys.session";
const USER = "recsys.user";
const LANGUAGE = "recsys.language";

const element = (id) => document.getElementById(id);
const state = { person: {}, request: "", shown: null, choices: { users: [], opens: null, reactions: [] }, turn: 0 };

const remembered = sessionStorage.getItem(LANGUAGE);
let language = Object.hasOwn(LANGUAGES, remembered ?? "") ? remembered : preferred(navigator.languages);

// A text of the page in its language. What is filled in is not read again.
function text(name, parts = {}) {
  if (!Object.hasOwn(LANGUAGES[language], name)) return name;
  return LANGUAGES[language][name].replace(/\{(\w+)\}/g, (_, part) => parts[part]);
}

function speak() {
  document.documentElement.lang = language;
  document.title = text("heading");
  for (const part of document.querySelectorAll("[data-text]")) part.textContent = text(part.dataset.text);
}

class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function send(path, body) {
  let answer;
  const options = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem(text("silent"));
  }
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return found;
  const detail = typeof found.detail === "string" ? found.detail : text("status", { status: answer.status });
  throw new Problem(text("failed", { detail }), answer.status);
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function say(problem) {
  element("message").hidden = !problem;
  element("message").textContent = problem;
}

// Runs one thing that may fail, and says so in words if it does. Returns whether it worked.
async function attempt(work) {
  say("");
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    say(error.message);
    if (element("list-heading").dataset.text === "loading") {
      element("list-heading").dataset.text = "noList";
      element("list-heading").textContent = text("noList");
    }
    return false;
  } finally {
    element("list").removeAttribute("aria-busy");
  }
}

async function show() {
  const turn = ++state.turn;
  element("list").setAttribute("aria-busy", "true");
  const { user_id, session_id } = state.person;
  const wanted = { ...(user_id ? { user_id } : { session: session_id }), k: LENGTH, context: { language } };
  if (state.request) wanted.request = state.request;
  const { items } = await send("/recommendations", wanted);
  if (turn !== state.turn) return; // somebody has asked for another list meanwhile
  const impression = await log(items);
  if (turn !== state.turn) return;
  delete element("list-heading").dataset.text;
  element("list-heading").textContent = state.request ? text("forRequest", { request: state.request }) : text("yourList");
  render(element("list"), items, impression, state.shown);
  if (!items.length) {
    say(state.request
      ? text("noAnswer")
      : text("empty"));
  }
  state.shown = items.map((item) => item.item_id);
  element("status").textContent = text("count", { count: items.length });
}

async function log(items) {
  if (!items.length) return null;
  const propensities = items.map((item) => item.propensity);
  const impression = {
    ...state.person,
    impression_id: `window-${newId()}`,
    item_ids: items.map((item) => item.item_id),
    propensities: propensities.includes(null) ? null : propensities,
    rules: items.map((item) => item.rule),
    model_version: items.map((item) => item.model_version).find((version) => version !== null) ?? null,
    placement: items[0].placement,
    query: state.request || null,
    shown_at: new Date().toISOString(),
  };
  let taken;
  try {
    taken = await send("/impressions", { impressions: [impression] });
  } catch (error) {
    if (error.status === 403) return null; // this service only reads: its lists can be seen all the same
    throw error;
  }
  const refused = taken.impressions[0].reason;
  if (refused) throw new Problem(text("notLogged", { reason: refused }));
  return impression.impression_id;
}

async function react(item, type, impression) {
  const taken = await send("/feedback", { events: [{
    ...state.person, event_id: `window-${newId()}`, item_id: item.item_id, event_type: type, impression_id: impression,
    occurred_at: new Date().toISOString(),
  }] });
  const refused = taken.events[0].reason;
  if (refused) throw new Problem(text("notStored", { reason: refused }));
  const line = document.createElement("li");
  line.textContent = text("done", { type: text(type), title: item.title });
  element("did").prepend(line);
  element("nothing").hidden = true;
}

async function open(item, impression) {
  if (state.choices.opens) {
    await react(item, state.choices.opens, impression);
    await show();
  }
  await Promise.all([showSimilar(item), showOpinions(item)]);
}

async function showOpinions(item) {
  const { phrases } = await send(`/items/${encodeURIComponent(item.item_id)}/phrases`);
  element("opinions-section").hidden = !phrases.length;
  element("opinions-heading").textContent = text("opinions", { title: item.title });
  for (const side of ["praised", "criticised"]) {
    const found = phrases.filter((one) => one.praised === (side === "praised"));
    element(side).replaceChildren(...found.map(opinion));
    element(side).parentElement.hidden = !found.length;
  }
}

function opinion(one) {
  const found = element("opinion").content.firstElementChild.cloneNode(true);
  const part = (name) => found.querySelector(`.${name}`);
  part("phrase").textContent = one.phrase;
  part("people").textContent = text("people", { count: one.people });
  if (one.sentence) part("sentence").textContent = one.sentence;
  else part("sentence").remove();
  return found;
}

async function showSimilar(item) {
  const { items } = await send(`/items/${encodeURIComponent(item.item_id)}/similar?k=${SIMILAR}&language=${language}`);
  element("similar-section").hidden = !items.length;
  element("similar-heading").textContent = text("goesWith", { title: item.title });
  render(element("similar"), items, null, null);
  element("similar-section").scrollIntoView({ block: "nearest" });
}

function render(list, items, impression, before) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset : null;
  const wanted = focused && { key: focused.key, item: focused.item };
  const moves = moved(items.map((item) => item.item_id), before);
  list.replaceChildren(...items.map((item, place) => row(item, impression, moves[place])));
  if (!wanted) return;
  // Whoever uses a keyboard stays where they were: on the same button, or at the head of the list.
  const buttons = [...list.querySelectorAll("button")];
  const same = buttons.find((button) => button.dataset.item === wanted.item && button.dataset.key === wanted.key);
  (same ?? element("list-heading")).focus();
}

function row(item, impression, move) {
  const found = element("item").content.firstElementChild.cloneNode(true);
  const part = (name) => found.querySelector(`.${name}`);
  part("tile").textContent = [...item.title.trim()][0]?.toUpperCase() ?? "";
  part("tile").style.setProperty("--hue", hue(item.item_id));
  part("title").textContent = item.title;
  part("reason").textContent = item.reason ?? "";
  part("source").textContent = text(item.source);
  part("source").dataset.source = item.source;
  part("move").textContent = move.text;
  part("move").dataset.move = move.kind;
  action(part("title"), item, "open", () => open(item, impression));
  for (const type of state.choices.reactions) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text(type);
    button.setAttribute("aria-label", text("done", { type: text(type), title: item.title }));
    action(button, item, type, async () => {
      await react(item, type, impression);
      await show();
    });
    part("actions").append(button);
  }
  return found;
}

function action(button, item, key, work) {
  button.dataset.item = item.item_id;
  button.dataset.key = key;
  button.addEventListener("click", () => attempt(work));
}

// Places count among the items that both lists have: what leaves or comes in moves nothing else.
function moved(items, before) {
  const stayed = before?.filter((item) => items.includes(item));
  let place = 0;
  return items.map((item) => {
    if (!before) return { kind: "", text: "" };
    if (!stayed.includes(item)) return { kind: "new", text: text("isNew") };
    const up = stayed.indexOf(item) - place++;
    if (!up) return { kind: "", text: "" };
    return up > 0 ? { kind: "up", text: `▲ ${text("up", { places: up })}` } : { kind: "down", text: `▼ ${text("down", { places: -up })}` };
  });
}

function hue(text) {
  let sum = 7;
  for (const character of text) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return sum;
}

function become(person, name) {
  Object.assign(state, { person, request: "", shown: null });
  element("who").textContent = name;
  element("did").replaceChildren();
  element("nothing").hidden = false;
  element("similar-section").hidden = true;
  element("opinions-section").hidden = true;
  element("without").hidden = true;
  element("request").value = "";
  return attempt(show);
}

function becomeUser(user) {
  sessionStorage.setItem(USER, user);
  return become({ user_id: user }, text("isUser", { user }));
}

function becomeVisitor(session) {
  sessionStorage.removeItem(USER);
  sessionStorage.setItem(SESSION, session);
  return become({ session_id: session }, text("isVisitor"));
}

async function ask(request) {
  Object.assign(state, { request, shown: null });
  if (!request) element("request").value = "";
  element("list-heading").focus();
  // The first request loads the model, which takes a while.
  const button = document.querySelector("#ask-form button");
  button.disabled = true;
  button.textContent = text("asking");
  if (!(await attempt(show))) state.request = ""; // the list that is there goes on without it
  element("without").hidden = !state.request;
  button.disabled = false;
  button.textContent = text("ask");
}

element("user-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = element("user").value.trim();
  if (user) becomeUser(user);
});
element("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const request = element("request").value.trim();
  if (request) ask(request);
});
element("visitor").addEventListener("click", () => becomeVisitor(`window-${newId()}`));
element("without").addEventListener("click", () => ask(""));

await attempt(async () => {
  state.choices = await send("/window/choices");
  element("users").replaceChildren(...state.choices.users.map((user) => new Option(user, user)));
});
function start() {
  speak();
  const user = sessionStorage.getItem(USER);
  if (user) return becomeUser(user);
  return becomeVisitor(sessionStorage.getItem(SESSION) ?? `window-${newId()}`);
}

element("language").replaceChildren(
  ...Object.entries(LANGUAGES).map(([tag, texts]) => new Option(texts.name, tag, false, tag === language)),
);
element("language").addEventListener("change", () => {
  language = element("language").value;
  sessionStorage.setItem(LANGUAGE, language);
  start();
});
await start();
