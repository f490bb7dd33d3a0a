// Fetches the simulator's state every second and shows it. All values are inserted as text, never as markup.

const PERIOD = 1000;
const TIMEOUT = 5000;

const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en-US");
const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium", timeZone: "UTC" });
const WORDS = { idle: "no sync yet", running: "syncing", succeeded: "synced", failed: "failed" };
const FAILURES = 4000;

let latest = null;

function setText(element, text) {
  // Change only what differs, so that a selection stays and nothing is repainted.
  if (element.textContent !== text) element.textContent = text;
}

function create(name, text = "", given = "") {
  const element = document.createElement(name);
  element.textContent = text;
  if (given) element.className = given;
  return element;
}

function mark(state) {
  const shape = create("span", "", "mark");
  shape.dataset.state = state;
  shape.setAttribute("aria-hidden", "true");
  return shape;
}

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 100) return `${whole} s`;
  if (whole < 6000) return `${Math.floor(whole / 60)} min`;
  return whole < 172800 ? `${Math.floor(whole / 3600)} h` : `${Math.floor(whole / 86400)} d`;
}

// A row keeps its element as long as its key exists, and is redrawn only when its signature changes.
function fill(body, items, keyOf, signatureOf, draw) {
  const known = new Map(Array.from(body.children, (row) => [row.dataset.key, row]));
  const rows = items.map((item) => {
    const key = String(keyOf(item));
    const row = known.get(key) ?? create("tr");
    const signature = signatureOf(item);
    if (row.dataset.signature !== signature) {
      row.dataset.key = key;
      row.dataset.signature = signature;
      row.replaceChildren(...draw(item));
    }
    return row;
  });
  const same = rows.length === body.children.length && rows.every((row, place) => row === body.children[place]);
  if (!same) body.replaceChildren(...rows);
}

function cell(parts, given = "", title = "") {
  const element = create("td", "", given);
  element.append(...parts);
  if (title) element.title = title;
  return element;
}

// Whether a company, sync or request contains the words of the filter, in its ids or in any other value.
function matches(item) {
  const text = Object.values(item).join(" ").toLowerCase();
  return at("filter").value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function showCompanies({ companies }) {
  for (const state of Object.keys(WORDS)) setText(at(`companies-${state}`), number.format(companies[state]));
  const shown = companies.latest.length;
  const some = shown < companies.total ? `, the ${shown} latest shown` : "";
  setText(at("companies-note"), `${number.format(companies.total)} in all, ${number.format(companies.linked)} linked${some}`);
  showTiles(companies);
  fill(at("companies"), companies.latest.filter(matches), (one) => one.id, JSON.stringify, (one) => [
    cell([one.name, create("small", one.id, "id")], "", `${one.name} ${one.id}`),
    cell([mark(one.state), WORDS[one.state]]),
    cell([one.platforms.join(", ") || "nothing"]),
  ]);
}

function showTiles(companies) {
  const tiles = at("tiles");
  while (tiles.children.length > companies.latest.length) tiles.lastChild.remove();
  while (tiles.children.length < companies.latest.length) tiles.append(mark("idle"));
  companies.latest.forEach((one, place) => {
    const tile = tiles.children[place];
    const title = `${one.name}: ${WORDS[one.state]}`;
    if (tile.title !== title) tile.title = title;
    if (tile.dataset.state !== one.state) tile.dataset.state = one.state;
  });
  const counts = Object.entries(WORDS).map(([state, word]) => `${companies[state]} ${word}`);
  const label = companies.total ? `Companies by their newest sync: ${counts.join(", ")}` : "No companies yet";
  if (tiles.getAttribute("aria-label") !== label) tiles.setAttribute("aria-label", label);
}

function showMeter(name, value, most, text, bounds) {
  setText(at(`${name}-text`), text);
  const meter = at(name);
  meter.hidden = most === null;
  if (most !== null) Object.assign(meter, { max: Math.max(1, most), ...bounds(most), value });
}

function showQuota({ quota, now }) {
  const { perDay, leftToday, perMinute, lastMinute } = quota;
  const day = perDay === null ? "unbounded" : `${number.format(leftToday)} of ${number.format(perDay)}`;
  const minute = number.format(lastMinute) + (perMinute === null ? "" : ` of ${number.format(perMinute)}`);
  showMeter("day", leftToday, perDay, day, (most) => ({ low: most * 0.1, high: most * 0.3, optimum: most }));
  showMeter("minute", lastMinute, perMinute, minute, (most) => ({ low: most * 0.9, high: most, optimum: 0 }));
  const resets = perDay === null ? "" : `resets in ${span(quota.resets - now)}, `;
  setText(at("quota-note"), `${resets}peak per minute ${number.format(quota.peakPerMinute)}`);
}

function syncState(sync) {
  if (sync.ended === null) return "running";
  return sync.code < FAILURES ? "succeeded" : "failed";
}

function showSyncs({ syncs, now }) {
  const chosen = document.querySelector("input[name=which]:checked").value;
  setText(at("syncs-running"), number.format(syncs.running));
  setText(at("syncs-ended"), number.format(syncs.succeeded + syncs.failed));
  setText(at("syncs-failed"), number.format(syncs.failed));
  const shown = syncs[chosen].filter(matches);
  setText(at("syncs-note"), shown.length ? `the latest ${shown.length}` : "");
  at("no-syncs").hidden = shown.length > 0;
  at("no-syncs").previousElementSibling.hidden = shown.length === 0;
  const duration = (sync) => span((sync.ended ?? now) - sync.started);
  fill(at("syncs"), shown, (sync) => sync.id, (sync) => JSON.stringify([sync, duration(sync)]), (sync) => {
    const status = [mark(syncState(sync)), `${sync.code} ${sync.status}`];
    if (sync.message) status.push(create("small", sync.message));
    const company = [sync.company ?? "a deleted company", create("small", sync.companyId, "id")];
    if (sync.source !== "api") company.push(create("small", sync.source === "schedule" ? "daily schedule" : "started elsewhere"));
    return [cell(company, "", `${sync.companyId}, sync ${sync.id}`), cell(status), cell([duration(sync)], "number")];
  });
}

function rating(request) {
  if (request.status === null || request.status >= 500) return "bad";
  return request.status < 300 && !request.fault ? "good" : "odd";
}

function showRequests({ requests, now }) {
  const faulty = requests.faulty ? `, ${number.format(requests.faulty)} with a fault` : "";
  setText(at("requests-note"), `${number.format(requests.total)} in all${faulty}`);
  const shown = requests.latest.filter(matches);
  at("no-requests").hidden = shown.length > 0;
  at("no-requests").previousElementSibling.hidden = shown.length === 0;
  const ago = (request) => span(now - request.time);
  fill(at("requests"), shown, (one) => one.number, ago, (request) => {
    const status = [create("span", request.status === null ? "none" : String(request.status), rating(request))];
    if (request.replayed) status.push(create("small", "replayed"));
    if (request.fault) status.push(create("small", request.fault.replaceAll("_", " ")));
    const what = [`${request.method} `, request.operation || request.path];
    if (request.correlationId) what.push(create("small", request.correlationId, "id"));
    return [cell(what, "", `${request.method} ${request.path}`), cell(status), cell([ago(request)], "number")];
  });
}

function show(state) {
  const speed = state.speed === 1 ? "" : `, ${state.speed} times as fast`;
  setText(at("clock"), `${clock.format(state.now * 1000)} UTC${speed}`);
  showCompanies(state);
  showQuota(state);
  showSyncs(state);
  showRequests(state);
}

function setLink(state, text) {
  at("link").dataset.state = state;
  setText(at("link"), text);
}

const paused = () => at("pause").getAttribute("data-paused") === "true";

async function refresh() {
  try {
    const response = await fetch("/simulator/state", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    latest = await response.json();
  } catch {
    setLink("lost", "no response");
    return;
  }
  if (paused()) return;
  show(latest);
  setLink("live", "live");
}

async function watch() {
  for (;;) {
    if (!paused() && !document.hidden) await refresh();
    await new Promise((next) => setTimeout(next, PERIOD));
  }
}

at("pause").addEventListener("click", () => {
  const now = !paused();
  at("pause").setAttribute("data-paused", String(now));
  setText(at("pause"), now ? "Resume" : "Pause");
  setLink(now ? "paused" : "waiting", now ? "paused" : "connecting");
  if (!now) refresh();
});
at("filter").addEventListener("input", () => latest && show(latest));
document.querySelector(".choice").addEventListener("change", () => latest && showSyncs(latest));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !paused()) refresh();
});
at("address").textContent = `CODAT_BASE_URL=${location.origin}`;
watch();
