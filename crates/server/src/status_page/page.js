
"use strict";
const EVERY = 10000;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
let span = "hour", report = null;

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const draw = (name, attributes = {}, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

const count = (n) => n < 100000 ? n.toLocaleString("en") : Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n);
const some = (n, one) => count(n) + "\u00a0" + one + (n === 1 ? "" : "s");
const rate = (n) => n >= 100 ? count(Math.round(n)) : n >= 10 ? n.toFixed(1) : n.toFixed(2).replace(/\.?0+$/, "");
const percent = (share) => share === null ? "–" : (share >= .9995 || share === 0 ? Math.round(share * 100) : (share * 100).toFixed(1)) + " %";
const bytes = (n) => {
  let unit = 0;
  for (; n >= 1024 && unit < 5; unit++) n /= 1024;
  const digits = unit === 0 || n >= 100 ? 0 : n >= 10 ? 1 : 2;
  return String(+n.toFixed(digits)) + "\u00a0" + ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit];
};
const took = (s) => s === null ? "–" : s === 0 ? "0" : s < .001 ? Math.round(s * 1e6) + " µs" : s < 1 ? +(s * 1e3).toFixed(s < .01 ? 1 : 0) + " ms" : +s.toFixed(s < 10 ? 1 : 0) + " s";
const age = (s) => {
  if (s < 120) return Math.round(s) + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  const [big, unit, small, rest] = s < 172800 ? [3600, " h", 60, " min"] : [86400, " d", 3600, " h"];
  const more = Math.floor(s % big / small);
  return Math.floor(s / big) + unit + (more ? " " + more + rest : "");
};
const clock = (s) => new Date(s * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
const share = (hits, misses) => hits + misses > 0 ? hits / (hits + misses) : null;
const sum = (points, key) => points.reduce((all, point) => all + point[key], 0);

const track = (part, warn) => {
  const fill = make("i", warn ? { class: "warn" } : {});
  fill.style.width = Math.max(0, Math.min(1, part)) * 100 + "%";
  return make("div", { class: "track", "aria-hidden": "true" }, fill);
};

function tile(name, value, note, extra = {}) {
  const shown = make("dd", { class: "value" + (extra.warn ? " warn" : "") + (extra.words ? " words" : "") }, value);
  const children = [make("dt", {}, name), shown];
  if (extra.part !== undefined) children.push(make("dd", {}, track(extra.part, extra.part > .97)));
  children.push(make("dd", { class: "note" }, note));
  return make("div", { class: "tile" }, ...children);
}

function tiles(r) {
  const hour = r.hour, hits = sum(hour, "hits"), misses = sum(hour, "misses"), store = r.store;
  // The latest whole point and the one that has begun.
  const recent = hour.slice(-2), seconds = sum(recent, "seconds");
  const perSecond = seconds > 0 ? sum(recent, "requests") / seconds : 0;
  const young = store.youngest_evicted_seconds, lease = "lease " + age(store.lease_seconds);
  byId("tiles").replaceChildren(
    tile("Hit rate, last hour", percent(share(hits, misses)), count(hits) + (hits === 1 ? " hit · " : " hits · ") + count(misses) + (misses === 1 ? " miss" : " misses")),
    tile("Requests per second", rate(perSecond), bytes(rateOf(recent, "received_bytes")) + "/s\u00a0in · " + bytes(rateOf(recent, "sent_bytes")) + "/s\u00a0out"),
    tile("Store", bytes(store.used_bytes), "of " + bytes(store.max_bytes) + " · " + some(store.blobs, "blob"), { part: store.used_bytes / store.max_bytes }),
    tile("Youngest evicted", young === null ? "none yet" : age(young), lease, { words: young === null, warn: young !== null && young < store.lease_seconds }),
    tile("Leases", count(store.leases), some(store.records, "record")),
    tile("Connections", count(r.connections), some(r.uploads, "upload") + (r.resident_bytes === null ? "" : " · " + bytes(r.resident_bytes) + "\u00a0RAM")),
  );
}
const rateOf = (points, key) => { const s = sum(points, "seconds"); return s > 0 ? sum(points, key) / s : 0; };

// A round number at or above the largest value, for the top of an axis.
function ceiling(value, steps) {
  if (!(value > 0)) return 1;
  const base = steps ?? 10 ** Math.floor(Math.log10(value));
  for (const factor of steps ? [] : [1, 2, 2.5, 5, 10]) if (factor * base >= value) return factor * base;
  let top = steps; while (top < value) top *= 2;
  return top;
}

const CHARTS = [
  { id: "hit-rate", name: "Hit rate of the action cache", top: () => 1, tick: (v) => Math.round(v * 100) + " %", show: percent,
    area: true, empty: "no action result was asked for yet", lines: [{ key: "one", of: (p) => share(p.hits, p.misses) }] },
  { id: "requests", name: "Requests per second", top: (m) => ceiling(m), tick: rate, show: rate, area: true,
    lines: [{ key: "one", of: (p) => p.seconds > 0 ? p.requests / p.seconds : null }] },
  { id: "latency", name: "Latency", top: (m) => ceiling(m), tick: took, show: took, empty: "no request yet",
    lines: [{ key: "one", name: "p50", of: (p) => p.p50_seconds }, { key: "two", name: "p99", of: (p) => p.p99_seconds }] },
  { id: "size", name: "Store size", top: (m) => ceiling(m, 1048576), tick: bytes, show: bytes, area: true,
    limit: (r) => ({ at: r.store.max_bytes, name: "bound" }), lines: [{ key: "one", name: "used", of: (p) => p.used_bytes }] },
];

function chart(spec, r) {
  const card = byId("chart-" + spec.id), svg = card.querySelector("svg"), points = r[span];
  const width = svg.clientWidth || 480, height = svg.clientHeight || 176;
  const left = 58, right = width - 4, top = 8, bottom = height - 20;
  const first = points[0].at - points[0].seconds, last = points[points.length - 1].at;
  const series = spec.lines.map((line) => ({ ...line, values: points.map(line.of) }));
  const all = series.flatMap((line) => line.values).filter((value) => value !== null);
  const limit = spec.limit?.(r), most = Math.max(0, ...all);
  // The bound is drawn where it is not so far away that it would flatten the line.
  const near = limit && limit.at < most * 4;
  const high = spec.top(near ? Math.max(most, limit.at) : most);
  const x = (at) => left + (right - left) * (last > first ? (at - first) / (last - first) : 1);
  const y = (value) => bottom - (bottom - top) * Math.min(1, value / high);
  const children = [draw("title", {}, spec.name)];
  for (const part of [0, .5, 1]) {
    const at = y(high * part);
    children.push(draw("line", { class: part ? "grid" : "base", x1: left, x2: right, y1: at, y2: at }));
    children.push(draw("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, spec.tick(high * part)));
  }
  const marks = width > 420 ? 4 : 2;
  for (let n = 0; n <= marks; n++) {
    const at = first + (last - first) * n / marks, anchor = n === 0 ? "start" : n === marks ? "end" : "middle";
    children.push(draw("text", { x: x(at), y: height - 4, "text-anchor": anchor }, n === marks ? "now" : last - first < 1800 ? "−" + age(last - at) : clock(at)));
  }
  if (near) children.push(draw("line", { class: "limit", x1: left, x2: right, y1: y(limit.at), y2: y(limit.at) }));
  if (all.length === 0) children.push(draw("text", { class: "empty", x: (left + right) / 2, y: (top + bottom) / 2 }, spec.empty ?? "nothing yet"));
  for (const line of series) children.push(...curve(spec, line, points, x, y, bottom));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...children);
  head(card, spec, series, limit, points.length - 1);
  svg.onpointermove = (event) => {
    const at = first + (event.clientX - svg.getBoundingClientRect().left - left) / (right - left) * (last - first);
    const index = points.reduce((best, point, n) => Math.abs(point.at - at) < Math.abs(points[best].at - at) ? n : best, 0);
    svg.querySelector(".cross")?.remove();
    svg.append(draw("line", { class: "cross", x1: x(points[index].at), x2: x(points[index].at), y1: top, y2: bottom }));
    head(card, spec, series, limit, index, clock(points[index].at));
  };
  svg.onpointerleave = () => { svg.querySelector(".cross")?.remove(); head(card, spec, series, limit, points.length - 1); };
}

// Pieces of a line between gaps; a point alone is a dot.
function curve(spec, line, points, x, y, bottom) {
  const pieces = [];
  let piece = null;
  points.forEach((point, n) => {
    const value = line.values[n];
    if (value === null) { piece = null; return; }
    if (!piece) pieces.push(piece = [[x(point.at - point.seconds), y(value)]]);
    piece.push([x(point.at), y(value)]);
  });
  return pieces.flatMap((piece) => {
    const path = piece.map(([a, b], n) => (n ? "L" : "M") + a.toFixed(1) + " " + b.toFixed(1)).join("");
    const drawn = [draw("path", { class: "line " + line.key, d: path })];
    if (spec.area) drawn.unshift(draw("path", { class: "area", d: `${path}L${piece[piece.length - 1][0].toFixed(1)} ${bottom}L${piece[0][0].toFixed(1)} ${bottom}Z` }));
    return drawn;
  });
}

function head(card, spec, series, limit, index, when) {
  const parts = [];
  if (when) parts.push(when);
  for (const line of series) {
    // The last whole point says more than one that has only begun.
    const value = when ? line.values[index] : line.values[index] ?? line.values[index - 1] ?? null;
    if (line.name) parts.push(make("i", { class: "key " + line.key }), line.name + " " + spec.show(value));
    else parts.push(when ? "  " + spec.show(value) : spec.show(value));
  }
  if (limit) parts.push(make("i", { class: "key limit" }), limit.name + " " + spec.show(limit.at));
  const now = card.querySelector(".now");
  now.replaceChildren(...parts);
  if (!when) card.querySelector("svg").setAttribute("aria-label", spec.name + ", now " + now.textContent);
}

function table(name, column, lines) {
  const rows = lines.map((line) => {
    const part = share(line.hits, line.misses);
    return make("tr", {},
      make("th", { scope: "row", title: line.name }, line.name),
      make("td", { class: "rate" }, make("div", {}, track(part ?? 0), make("b", {}, percent(part)))),
      make("td", {}, count(line.hits)), make("td", {}, count(line.misses)));
  });
  const heads = [column, "Hit rate", "Hits", "Misses"].map((text) => make("th", { scope: "col" }, text));
  const columns = make("colgroup", {}, make("col", { class: "name" }), make("col", { class: "rate" }), make("col"), make("col"));
  return listing(name, columns, heads, rows, 4);
}

function reasons(r) {
  const words = { absent: "never written here", evicted: "evicted: a larger store would have hit", incomplete: "a blob that it names is gone",
    malformed: "could not be read", other_size: "another size under this hash" };
  const rows = r.miss_reasons.map((line) => make("tr", {},
    make("th", { scope: "row", title: words[line.reason] ?? line.reason }, words[line.reason] ?? line.reason),
    make("td", { class: "rate" }, make("div", {}, track(r.misses ? line.count / r.misses : 0), make("b", {}, r.misses ? percent(line.count / r.misses) : "–"))),
    make("td", {}, count(line.count))));
  const columns = make("colgroup", {}, make("col", { class: "name wide" }), make("col", { class: "rate" }), make("col"));
  const heads = ["Reason", "Share", "Misses"].map((text) => make("th", { scope: "col" }, text));
  return listing("Why it missed", columns, heads, rows, 3);
}

function listing(name, columns, heads, rows, width) {
  if (rows.length === 0) rows = [make("tr", {}, make("td", { colspan: width, class: "quiet" }, "nothing yet"))];
  return make("div", { class: "card" }, make("table", {}, make("caption", {}, name), columns,
    make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
}

function render() {
  const r = report;
  tiles(r);
  for (const spec of CHARTS) chart(spec, r);
  byId("tables").replaceChildren(table("Top instances", "Instance", r.instances), reasons(r),
    table("Top mnemonics", "Mnemonic", r.mnemonics), table("Top tools", "Tool", r.tools));
  byId("about").textContent = "version " + r.version + " · up " + age(r.uptime_seconds);
}

function state(text, kind) {
  const pill = byId("state");
  pill.textContent = text;
  pill.className = "pill " + kind;
}

async function refresh() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    report = await answer.json();
    state(report.store.disk_is_full ? "disk full" : report.ready, report.store.disk_is_full || report.ready !== "ready" ? "bad" : "good");
    render();
    document.body.dataset.drawn = "yes";
  } catch (error) {
    state("no answer: " + error.message, "bad");
  }
}

for (const spec of CHARTS) {
  const svg = draw("svg", { class: "chart", role: "img", "aria-label": spec.name });
  byId("charts").append(make("div", { class: "card", id: "chart-" + spec.id },
    make("div", { class: "head" }, make("h3", {}, spec.name), make("span", { class: "now" })), svg));
}
for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => {
    span = button.dataset.span;
    for (const other of document.querySelectorAll("[data-span]")) other.setAttribute("aria-pressed", String(other === button));
    if (report) render();
  });
}
addEventListener("resize", () => { if (report) render(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(() => { if (!document.hidden) refresh(); }, EVERY);
refresh();
