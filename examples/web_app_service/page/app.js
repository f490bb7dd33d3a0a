"use strict";

// All that the page shows comes from one event stream; the browser connects again by itself when the server restarts.

const $ = (id) => document.getElementById(id);
const RUNNING = new Set(["starting", "running", "diagnosing"]);
const NAMES = {
  starting: "Starting", running: "Running", diagnosing: "Finding the cause", succeeded: "Succeeded", failed: "Failed",
  unknown: "Not known", "not-started": "Not started",
};
const WHO = { merchant: "The merchant", integrator: "You", codat: "Codat’s support", nobody: "Nobody" };
const LATER = {
  never: "A new sync is not needed.",
  after_action: "Then sync again.",
  later: "A later sync can succeed.",
};
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const count = new Intl.NumberFormat();

const rows = new Map(); // the elements of each merchant, by its id
const notices = new Map(); // title and detail, by kind
const requested = new Set(); // merchants whose button was pressed, until the stream shows the sync
let merchants = [];
let newestWebhook = null;
let failTimer, lostTimer, silenceTimer;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function breakable(element, text) {
  // A long name continues on the next line after a dot, not within a word.
  text.split(/(?<=[.])/).forEach((part, index) => element.append(...(index ? [make("wbr"), part] : [part])));
  return element;
}

function announceText(text) {
  $("spoken").textContent = text;
}

// What concerns the whole page: the most important first.
const KINDS = ["link", "request", "quota", "codat"];

function setNotice(kind, title, detail) {
  const old = notices.get(kind);
  // The same text again would be announced again.
  if (old?.title === title && old?.detail === detail) return;
  notices.set(kind, { title, detail });
  showNotices();
}

function clearNotice(kind) {
  if (notices.delete(kind)) showNotices();
}

function showNotices() {
  const shown = KINDS.filter((kind) => notices.has(kind)).map((kind) => {
    const { title, detail } = notices.get(kind);
    const element = make("p", "notice");
    element.append(make("b", "", title), ` ${detail}`);
    return element;
  });
  $("notices").replaceChildren(...shown);
}

function isRunning(merchant) {
  return merchant.sync !== null && RUNNING.has(merchant.sync.state);
}

function setDisabled(button, disabled) {
  // Unlike `disabled`, this keeps the focus of the keyboard.
  button.setAttribute("aria-disabled", String(disabled));
}

// Merchants

function makeRow(merchant) {
  const item = make("li");
  const row = make("div", "row");
  const what = make("div", "what");
  const name = make("p", "name");
  name.id = `name-${merchant.id}`;
  const connections = make("p", "connections");
  what.append(name, connections);
  const state = make("p", "state");
  const pill = make("span", "pill");
  const when = make("span", "when");
  state.append(pill, when);
  const button = make("button", "", "Sync");
  button.type = "button";
  button.addEventListener("click", () => startOne(merchant.id, button));
  row.append(what, state, button);
  const track = make("div", "track");
  track.setAttribute("role", "progressbar");
  track.setAttribute("aria-labelledby", name.id);
  const why = make("div");
  item.append(row, track, why);
  return { item, name, connections, pill, when, button, track, why, shown: null };
}

function showConnections(element, connections) {
  const parts = connections.flatMap((one, index) => {
    const platform = make("span", one.linked ? "" : "unlinked", one.platform ?? "Unknown platform");
    if (!one.linked) platform.append(` (${(one.status ?? "not linked").toLowerCase()})`);
    return index ? [make("span", "", "→"), platform] : [platform];
  });
  parts.filter((part) => part.textContent === "→").forEach((arrow) => arrow.setAttribute("aria-label", "to"));
  parts.filter((part) => part.textContent === "→").forEach((arrow) => arrow.setAttribute("role", "img"));
  element.replaceChildren(...(parts.length ? parts : ["No connections"]));
}

function explanation(sync) {
  const found = [];
  const { diagnosis, problem } = sync;
  if (problem) {
    const reset = problem.reset_at ? ` It resets on ${day.format(new Date(problem.reset_at))}.` : "";
    found.push(make("p", "", `${problem.detail ?? `${problem.title}.`}${reset}`));
    return found;
  }
  if (!diagnosis) return found;
  found.push(make("p", "", reason(diagnosis)));
  if (diagnosis.actions.length) {
    found.push(make("p", "next", diagnosis.actions.length > 1 ? "Next steps" : "Next step"));
    const steps = make(diagnosis.actions.length > 1 ? "ol" : "div");
    for (const action of diagnosis.actions) {
      const step = make(diagnosis.actions.length > 1 ? "li" : "p");
      step.append(make("span", "who", `${WHO[action.resolver] ?? action.resolver}: `), sentence(action.text));
      steps.append(step);
    }
    found.push(steps);
  }
  const at = diagnosis.retry_at ? ` From ${day.format(new Date(diagnosis.retry_at))}.` : "";
  if (LATER[diagnosis.retry]) found.push(make("p", "later", LATER[diagnosis.retry] + at));
  const items = diagnosis.evidence.flatMap((one) => one.items).filter((one) => one.message);
  if (items.length) {
    const details = make("details");
    const list = make("ul");
    for (const { item_id: id, message } of items) list.append(make("li", "", id ? `${id}: ${message}` : message));
    details.append(make("summary", "", items.length > 1 ? `${items.length} items` : "1 item"), list);
    found.push(details);
  }
  if (sync.message) {
    const details = make("details");
    details.append(make("summary", "", "Codat’s message"), make("p", "", sync.message));
    found.push(details);
  }
  return found;
}

function reason({ summary }) {
  return sentence(summary.replace(/^the sync failed with code \d+: /, ""));
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

function showRow(row, merchant) {
  const { sync } = merchant;
  const state = sync ? sync.state : requested.has(merchant.id) ? "starting" : "none";
  const running = RUNNING.has(state);
  row.name.textContent = merchant.name;
  showConnections(row.connections, merchant.connections);
  row.pill.dataset.state = state;
  row.pill.textContent = NAMES[state] ?? "Never synced";
  row.track.hidden = !running;
  row.button.setAttribute("aria-label", `Sync ${merchant.name}`);
  setDisabled(row.button, running || requested.has(merchant.id));
  const key = JSON.stringify([state, sync?.number, sync?.problem, sync?.diagnosis]);
  if (row.shown !== key) {
    row.shown = key;
    row.why.className = sync?.problem ? "why caution" : "why";
    row.why.replaceChildren(...(sync ? explanation(sync) : []));
    row.why.hidden = !row.why.childNodes.length;
  }
  showTime(row, merchant);
}

function showTime(row, { sync }) {
  if (!sync) {
    row.when.textContent = "";
    return;
  }
  const from = sync.source === "elsewhere" ? "started elsewhere" : "";
  const seconds = Math.max(0, Math.round((sync.endedAt ?? Date.now() / 1000) - sync.startedAt));
  const time = RUNNING.has(sync.state) ? `${seconds} s` : clock.format(new Date(sync.endedAt * 1000));
  row.when.textContent = [from, time].filter(Boolean).join(" · ");
}

function announce(before, after) {
  const old = new Map(before.map((one) => [one.id, one.sync]));
  const news = [];
  for (const { id, name, sync } of after) {
    const previous = old.get(id);
    if (!sync || (previous && previous.number === sync.number && previous.state === sync.state)) continue;
    if (sync.state === "failed") news.push(`${name}: failed. ${sync.diagnosis ? reason(sync.diagnosis) : ""}`);
    else if (sync.state === "succeeded") news.push(`${name}: succeeded.`);
    else if (sync.problem) news.push(`${name}: ${sync.problem.title}.`);
    else if (!previous || previous.number !== sync.number) news.push(`${name}: started.`);
  }
  if (news.length) announceText(news.join(" "));
}

function showMerchants({ loaded, problem, items }) {
  const list = $("merchants");
  const first = list.getAttribute("aria-busy") === "true";
  if (!loaded && !items.length) return;
  if (first) {
    list.replaceChildren();
    list.setAttribute("aria-busy", "false");
  } else {
    announce(merchants, items);
  }
  for (const merchant of items) {
    const old = merchants.find((one) => one.id === merchant.id);
    if (merchant.sync && merchant.sync.number !== old?.sync?.number) requested.delete(merchant.id);
    if (!rows.has(merchant.id)) rows.set(merchant.id, makeRow(merchant));
    showRow(rows.get(merchant.id), merchant);
  }
  merchants = items;
  const known = new Set(items.map((one) => one.id));
  for (const [id, row] of rows) {
    if (known.has(id)) continue;
    row.item.remove();
    rows.delete(id);
  }
  items.forEach((merchant, index) => {
    const { item } = rows.get(merchant.id);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
  $("none").hidden = items.length > 0;
  $("none").replaceChildren(...(items.length ? [] : nothingListed(problem)));
  if (problem && items.length) setNotice("codat", `${problem.title}.`, "What you see may be out of date. This page tries again by itself.");
  else clearNotice("codat");
  showSummary();
}

function nothingListed(problem) {
  if (!problem) return [make("h3", "", "No merchants yet"), make("p", "", "Create a company at Codat, and it appears here.")];
  const reason = `${problem.title}. ${problem.detail} This page tries again by itself.`;
  return [make("h3", "", "The merchants cannot be listed"), make("p", "", reason)];
}

function showSummary() {
  const states = merchants.map((one) => one.sync?.state);
  const running = states.filter((state) => RUNNING.has(state)).length;
  const failed = states.filter((state) => state === "failed").length;
  const parts = [`${merchants.length} in total`];
  if (running) parts.push(`${running} running`);
  if (failed) parts.push(`${failed} failed`);
  $("summary").textContent = merchants.length ? parts.join(" · ") : "";
  setDisabled($("sync-all"), !merchants.some((one) => !isRunning(one) && !requested.has(one.id)));
}

// Quota, processes and webhooks

function showQuota(quota) {
  const { limit, remaining, exhausted, remainingMinute, resetsAt, processes, available } = quota;
  const known = typeof remaining === "number";
  $("quota-left").replaceChildren(known ? count.format(remaining) : "–");
  if (known && limit) $("quota-left").append(make("small", "", `of ${count.format(limit)} requests left`));
  const bar = $("quota-bar");
  bar.setAttribute("aria-valuemax", String(limit ?? 1));
  bar.setAttribute("aria-valuenow", String(known ? remaining : 0));
  bar.setAttribute("aria-valuetext", known ? `${count.format(remaining)} requests left` : "not known yet");
  bar.firstElementChild.style.width = known && limit ? `${(100 * remaining) / limit}%` : "0";
  bar.toggleAttribute("data-low", known && Boolean(limit) && remaining < limit / 10);
  const reset = resetsAt ? day.format(new Date(resetsAt * 1000)) : null;
  $("quota-reset").className = exhausted ? "exhausted" : "soft";
  $("quota-reset").textContent = exhausted
    ? `Exhausted. It resets on ${reset}.`
    : reset ? `Resets on ${reset}` : "Known after the first request";
  $("quota-rate").textContent = available === false ? "store unavailable"
    : typeof remainingMinute === "number" ? `${count.format(remainingMinute)} left this minute` : "";
  if (exhausted) setNotice("quota", "The daily quota is exhausted.", `New syncs cannot start until ${reset}.`);
  else clearNotice("quota");
  $("processes").replaceChildren(...processes.map(({ pid, syncs, requests }) => {
    const row = make("tr");
    row.append(make("td", "", `Worker ${pid}`), make("td", "", count.format(syncs)), make("td", "", count.format(requests)));
    return row;
  }));
}

function showWebhooks(webhooks) {
  const before = newestWebhook;
  newestWebhook = webhooks.length ? webhooks[0].number : 0;
  $("no-webhooks").hidden = webhooks.length > 0;
  $("no-webhooks").textContent = "None yet. Codat sends one when it has read or written data.";
  $("webhooks").replaceChildren(...webhooks.map(({ number, type, merchant, at }) => {
    const item = make("li", before !== null && number > before ? "new" : "");
    const time = make("time", "", clock.format(new Date(at * 1000)));
    time.dateTime = new Date(at * 1000).toISOString();
    item.append(breakable(make("span", "type"), type), time);
    if (merchant) item.append(make("span", "about", merchant));
    return item;
  }));
}

// Starting syncs

async function post(path) {
  try {
    const response = await fetch(path, { method: "POST" });
    if (response.ok) return true;
    const problem = await response.json().catch(() => ({}));
    fail(problem.detail ?? problem.title ?? `The server responded with ${response.status}.`);
  } catch {
    fail("The server cannot be reached; it may be restarting. Try again in a moment.");
  }
  return false;
}

function fail(text) {
  setNotice("request", "The sync was not started.", text);
  clearTimeout(failTimer);
  failTimer = setTimeout(() => clearNotice("request"), 10000);
}

async function start(ids, path) {
  ids.forEach((id) => requested.add(id));
  refresh();
  const started = await post(path);
  if (!started) ids.forEach((id) => requested.delete(id));
  // The stream shows the sync; one that it never shows (it was running already) must not keep the button disabled.
  setTimeout(() => {
    ids.forEach((id) => requested.delete(id));
    refresh();
  }, 3000);
  refresh();
}

function startOne(id, button) {
  if (button.getAttribute("aria-disabled") === "true") return;
  start([id], `/merchants/${encodeURIComponent(id)}/syncs`);
}

function refresh() {
  for (const merchant of merchants) showRow(rows.get(merchant.id), merchant);
  showSummary();
}

$("sync-all").addEventListener("click", () => {
  if ($("sync-all").getAttribute("aria-disabled") === "true") return;
  start(merchants.filter((one) => !isRunning(one)).map((one) => one.id), "/syncs");
});

// The stream

function showLink(state, text) {
  if ($("link").dataset.state === state) return;
  $("link").dataset.state = state;
  $("link").textContent = text;
}

function live() {
  showLink("live", "Live");
  clearTimeout(lostTimer);
  lostTimer = undefined;
  clearNotice("link");
}

function lost() {
  showLink("lost", "Reconnecting…");
  // A restart takes less.
  lostTimer ??= setTimeout(() => setNotice(
    "link", "The server cannot be reached.",
    `${rows.size ? "What you see may be out of date. " : ""}This page reconnects by itself.`,
  ), 4000);
}

function connect() {
  const source = new EventSource("/events");
  const reconnect = () => {
    clearTimeout(silenceTimer);
    source.close();
    setTimeout(connect, 1000);
  };
  const restartTimer = () => {
    live();
    clearTimeout(silenceTimer);
    // The server sends something every two seconds; a connection may break without an event.
    silenceTimer = setTimeout(() => {
      lost();
      reconnect();
    }, 6000);
  };
  const on = (name, show) => source.addEventListener(name, (event) => {
    restartTimer();
    show(JSON.parse(event.data));
  });
  on("merchants", showMerchants);
  on("webhooks", showWebhooks);
  on("quota", showQuota);
  on("alive", () => {});
  source.addEventListener("open", restartTimer);
  source.addEventListener("error", () => {
    clearTimeout(silenceTimer);
    lost();
    // The browser gives up after a response that is no stream, such as a gateway's error.
    if (source.readyState === EventSource.CLOSED) reconnect();
  });
}

setInterval(() => {
  for (const merchant of merchants) if (isRunning(merchant)) showTime(rows.get(merchant.id), merchant);
}, 1000);
connect();
