// The page of `recsys serve`: shows lists, logs them as impressions, sends what somebody does, and asks again.
// Texts of the catalogue reach the document as text only, never as HTML.

const LENGTH = 10;
const SIMILAR = 4;
const SESSION = "recsys.session";
const USER = "recsys.user";
const SOURCES = {
  personal: "for you", live: "because of what you just did", segment: "popular with others like you", trending: "trending",
  popular: "popular", similar: "similar", because_you_watched: "because of your last choice", buy_again: "again",
  new: "new", rule: "chosen by a rule", request: "answers your request",
};

const element = (id) => document.getElementById(id);
const state = { person: {}, request: "", shown: null, choices: { users: [], opens: null, reactions: [] }, turn: 0 };

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
    throw new Problem("The service does not answer. Start it again with `recsys serve`.");
  }
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return found;
  const detail = typeof found.detail === "string" ? found.detail : `status ${answer.status}`;
  throw new Problem(`This did not work: ${detail}.`, answer.status);
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
    if (element("list-heading").textContent === "Loading") element("list-heading").textContent = "No list";
    return false;
  } finally {
    element("list").removeAttribute("aria-busy");
  }
}

async function show() {
  const turn = ++state.turn;
  element("list").setAttribute("aria-busy", "true");
  const { user_id, session_id } = state.person;
  const wanted = { ...(user_id ? { user_id } : { session: session_id }), k: LENGTH };
  if (state.request) wanted.request = state.request;
  const { items } = await send("/recommendations", wanted);
  if (turn !== state.turn) return; // somebody has asked for another list meanwhile
  const impression = await log(items);
  if (turn !== state.turn) return;
  element("list-heading").textContent = state.request ? `For “${state.request}”` : "Your list";
  render(element("list"), items, impression, state.shown);
  if (!items.length) {
    say(state.request
      ? "No item that may be shown answers this request."
      : "No item qualifies: the catalogue is empty, or nothing in it is available that is not off this list.");
  }
  state.shown = items.map((item) => item.item_id);
  element("status").textContent = `${items.length} items`;
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
  if (refused) throw new Problem(`The list could not be logged: ${refused}.`);
  return impression.impression_id;
}

async function react(item, type, impression) {
  const taken = await send("/feedback", { events: [{
    ...state.person, event_id: `window-${newId()}`, item_id: item.item_id, event_type: type, impression_id: impression,
    occurred_at: new Date().toISOString(),
  }] });
  const refused = taken.events[0].reason;
  if (refused) throw new Problem(`This was not stored: ${refused}.`);
  const line = document.createElement("li");
  line.textContent = `${type}: ${item.title}`;
  element("did").prepend(line);
  element("nothing").hidden = true;
}

async function open(item, impression) {
  if (state.choices.opens) {
    await react(item, state.choices.opens, impression);
    await show();
  }
  await showSimilar(item);
}

async function showSimilar(item) {
  const { items } = await send(`/items/${encodeURIComponent(item.item_id)}/similar?k=${SIMILAR}`);
  element("similar-section").hidden = !items.length;
  element("similar-heading").textContent = `Goes with “${item.title}”`;
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
  part("source").textContent = SOURCES[item.source] ?? item.source;
  part("source").dataset.source = item.source;
  part("move").textContent = move.text;
  part("move").dataset.move = move.kind;
  action(part("title"), item, "open", () => open(item, impression));
  for (const type of state.choices.reactions) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = type;
    button.setAttribute("aria-label", `${type}: ${item.title}`);
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
    if (!stayed.includes(item)) return { kind: "new", text: "new in this list" };
    const up = stayed.indexOf(item) - place++;
    if (!up) return { kind: "", text: "" };
    return up > 0 ? { kind: "up", text: `▲ up ${up}` } : { kind: "down", text: `▼ down ${-up}` };
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
  element("without").hidden = true;
  element("request").value = "";
  return attempt(show);
}

function becomeUser(user) {
  sessionStorage.setItem(USER, user);
  return become({ user_id: user }, `You are user ${user}.`);
}

function becomeVisitor(session) {
  sessionStorage.removeItem(USER);
  sessionStorage.setItem(SESSION, session);
  return become({ session_id: session }, "You are a visitor without a name.");
}

async function ask(request) {
  Object.assign(state, { request, shown: null });
  if (!request) element("request").value = "";
  element("list-heading").focus();
  // The first request loads the model, which takes a while.
  const button = document.querySelector("#ask-form button");
  button.disabled = true;
  button.textContent = "Asking";
  if (!(await attempt(show))) state.request = ""; // the list that is there goes on without it
  element("without").hidden = !state.request;
  button.disabled = false;
  button.textContent = "Ask";
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
const user = sessionStorage.getItem(USER);
if (user) await becomeUser(user);
else await becomeVisitor(sessionStorage.getItem(SESSION) ?? `window-${newId()}`);
