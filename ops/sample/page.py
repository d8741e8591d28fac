"""The dashboard as one self-contained page: no other file, no other origin, works without the internet.

Knows: the look, and the paths of the frontend's own proxies. Must not know: where the APIs really are.

In it: one poll per card, the next begins only after the last has ended, each with a deadline; all values are
set as text, never as markup. A card whose API is unreachable keeps its last figures, greyed, with their time.
"""

from __future__ import annotations

STYLE = """
:root { --ink: #14213d; --soft: #5d6b85; --line: #e1e6ef; --ground: #f3f5fa; --card: #fff; --brand: #2746c7;
  --good: #0b7a4b; --good-bg: #e2f5ec; --bad: #b3261e; --bad-bg: #fdeae8;
  --warn: #8a5a00; --warn-bg: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf6; --soft: #9aa7c2; --line: #2a3654;
  --ground: #0d1424; --card: #151f36; --brand: #5b7bff; --good: #5fdca4; --good-bg: #10392a; --bad: #ff9a92;
  --bad-bg: #47191a; --warn: #ffd27a; --warn-bg: #41310d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
header { background: #101b3b; color: #fff; }
header > div, main { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header > div { display: flex; align-items: center; gap: 14px; height: 68px; }
.mark { width: 36px; height: 36px; border-radius: 9px; background: linear-gradient(135deg, #5b7bff, #2746c7);
  display: grid; place-items: center; font-weight: 700; font-size: 20px; }
.brand { font-size: 20px; font-weight: 650; letter-spacing: -.2px; }
.brand small { display: block; font-size: 12px; font-weight: 400; color: #a9b5d6; letter-spacing: 0; }
#clock { margin-left: auto; color: #a9b5d6; font-size: 13px; }
#banner { display: flex; align-items: center; gap: 12px; margin: 22px 0 16px; padding: 14px 18px;
  border-radius: 12px; font-size: 17px; font-weight: 600; background: var(--card); color: var(--soft);
  border: 1px solid var(--line); }
#banner::before { content: ""; width: 12px; height: 12px; border-radius: 50%; background: currentColor; }
#banner.good { background: var(--good-bg); color: var(--good); border-color: transparent; }
#banner.warn { background: var(--warn-bg); color: var(--warn); border-color: transparent; }
#banner.bad { background: var(--bad-bg); color: var(--bad); border-color: transparent; }
main { padding-bottom: 40px; }
.grid { display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 18px 20px;
  box-shadow: 0 1px 3px rgb(16 27 59 / 6%); min-width: 0; }
.card.stale .figures { opacity: .38; }
.wide { grid-column: span 3; }
.card h2 { display: flex; align-items: center; gap: 10px; margin: 0 0 12px;
  font-size: 15px; font-weight: 620; }
.card h2 code { font-size: 12px; font-weight: 400; color: var(--soft); }
.badge { margin-left: auto; padding: 2px 10px; border-radius: 99px; font-size: 12px; font-weight: 600;
  background: var(--ground); color: var(--soft); white-space: nowrap; }
.badge.good { background: var(--good-bg); color: var(--good); }
.badge.warn { background: var(--warn-bg); color: var(--warn); }
.badge.bad { background: var(--bad-bg); color: var(--bad); }
.big { font-size: 30px; font-weight: 680; letter-spacing: -.6px; line-height: 1.2; }
.note { margin: 6px 0 0; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.counts { display: grid; grid-template-columns: 1.5fr repeat(4, 1fr); gap: 12px; margin: 4px 0 14px; }
.counts > div { padding: 12px 14px; border-radius: 10px; background: var(--ground); }
.counts b { display: block; font-size: 26px; font-weight: 680; letter-spacing: -.5px; line-height: 1.2; }
.counts span { color: var(--soft); font-size: 13px; }
.counts .matched { background: var(--good-bg); } .counts .matched b { color: var(--good); }
.counts .off b { color: var(--warn); }
.bar { height: 8px; border-radius: 4px; overflow: hidden; background: var(--warn-bg); margin-bottom: 14px; }
.bar i { display: block; height: 100%; width: 0; background: var(--good); transition: width .4s; }
.foot { display: flex; align-items: center; gap: 16px; } .foot .note { margin: 0; flex: 1; }
button { border: 0; border-radius: 9px; padding: 10px 18px; background: var(--brand); color: #fff;
  font: inherit; font-weight: 600; cursor: pointer; white-space: nowrap; }
button:hover { filter: brightness(1.1); } button:disabled { opacity: .55; cursor: default; }
button:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
@media (max-width: 980px) { .grid { grid-template-columns: 1fr; } .wide { grid-column: auto; }
  .counts { grid-template-columns: 1fr 1fr; } .foot { flex-wrap: wrap; } }
"""

BODY = """
<header><div><div class="mark" aria-hidden="true">&#8377;</div>
  <div class="brand">SettlePaisa<small>Settlement operations</small></div>
  <div id="clock"></div></div></header>
<main>
<div id="banner" role="status" aria-live="polite">Checking services&hellip;</div>
<div class="grid">
  <section class="card wide" id="recon">
    <h2>Reconciliation <code>recon-api</code><span class="badge">checking</span></h2>
    <div class="figures"><div class="counts">
      <div class="matched"><b data-count="matched">&ndash;</b><span>matched</span></div>
      <div><b data-count="amount_mismatch">&ndash;</b><span>amount differs</span></div>
      <div><b data-count="missing_in_bank">&ndash;</b><span>missing in bank</span></div>
      <div><b data-count="missing_in_pg">&ndash;</b><span>unknown credit</span></div>
      <div><b data-count="duplicates">&ndash;</b><span>duplicate</span></div></div>
      <div class="bar"><i></i></div></div>
    <div class="foot"><p class="note" aria-live="polite"></p><button disabled>Run demo reconciliation</button></div>
  </section>
  <section class="card" id="pg">
    <h2>Payments <code>pg-api</code><span class="badge">checking</span></h2>
    <div class="figures big">&ndash;</div><p class="note"></p></section>
  <section class="card" id="bank">
    <h2>Bank credits <code>bank-api</code><span class="badge">checking</span></h2>
    <div class="figures big">&ndash;</div><p class="note"></p></section>
  <section class="card" id="overview">
    <h2>Difference <code>overview-api</code><span class="badge">checking</span></h2>
    <div class="figures big">&ndash;</div><p class="note"></p></section>
</div>
</main>
"""

SCRIPT = """
"use strict";
const EVERY = 4000, PATIENCE = 5000;
const NAMES = {recon: "recon-api", pg: "pg-api", bank: "bank-api", overview: "overview-api"};
const state = {}, seen = {};
let frontend = true, running = false, note = "";
const find = (selector) => document.querySelector(selector);
const rupees = (paise) => "\\u20b9" + (paise / 100).toLocaleString("en-IN", {minimumFractionDigits: 2});
const clock = (when) => new Date(when).toLocaleTimeString([], {hour12: false});
const plural = (n, one) => n.toLocaleString("en-IN") + " " + one + (n === 1 ? "" : "s");

function failure(text, about) { return Object.assign(new Error(text), about); }
async function ask(path, method = "GET") {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), PATIENCE);
  try {
    const answer = await fetch(path, {method, signal: stop.signal}).catch((why) => {
      throw failure("no answer in time", {offline: why.name !== "AbortError"});
    });
    const body = await answer.json().catch(() => { throw failure("answered something that is not JSON"); });
    if (!answer.ok) throw failure(body.error || "answered " + answer.status, {body});
    return body;
  } finally { clearTimeout(timer); }
}
function mark(card, level, text) {
  state[card] = level;
  const badge = find("#" + card + " .badge");
  badge.className = "badge " + level;
  badge.textContent = text;
  find("#" + card).classList.toggle("stale", level === "bad");
  banner();
  if (card === "recon") offer();
}
// A demo can only be asked for where somebody would answer, and one at a time.
function offer() {
  const button = find("button"), away = !state.recon || state.recon === "bad";
  button.disabled = running || away;
  button.textContent = running ? "Reconciling\\u2026" : "Run demo reconciliation";
  button.title = away && !running ? "recon-api is unreachable" : "";
}
function banner() {
  const down = Object.keys(NAMES).filter((card) => state[card] === "bad").map((card) => NAMES[card]);
  const weak = Object.keys(NAMES).filter((card) => state[card] === "warn").map((card) => NAMES[card]);
  const critical = state.recon === "bad";
  let level = "good", text = "All services operational";
  if (Object.keys(state).length < 4) [level, text] = ["", "Checking services\\u2026"];
  if (weak.length) [level, text] = ["warn", weak.join(", ") + " degraded"];
  if (down.length) [level, text] = [critical ? "bad" : "warn",
    (critical ? "Critical: " : "") + down.join(", ") + " unreachable"];
  if (!frontend) [level, text] = ["bad", "Dashboard server unreachable \\u2013 trying again"];
  find("#banner").className = level;
  if (find("#banner").textContent !== text) find("#banner").textContent = text;
  find("#clock").textContent = "Updated " + clock(Date.now());
}
function figures(card, text, more) {
  find("#" + card + " .figures").textContent = text;
  find("#" + card + " .note").textContent = more;
}
const show = {
  async pg() {
    const sum = await ask("/api/pg/payments/summary");
    figures("pg", rupees(sum.amount), plural(sum.count, "captured payment") + ", " + sum.failed + " failed");
  },
  async bank() {
    const sum = await ask("/api/bank/credits/summary");
    figures("bank", rupees(sum.amount), plural(sum.count, "credit") + " received");
  },
  async overview() {
    const all = await ask("/api/overview/overview");
    figures("overview", all.difference === null ? "not known" : rupees(all.difference),
      all.notes.length ? "Partial: " + all.notes.join("; ") : "captured payments less bank credits");
    return all.notes.length ? ["warn", "partial"] : undefined;
  },
  async recon() {
    const health = await ask("/api/recon/health");
    const ill = health.status !== "healthy";
    const jobs = await ask("/api/recon/jobs?limit=1").catch((why) => { if (ill) return null; throw why; });
    if (jobs) lastJob(jobs);
    if (ill && health.database !== "writable") find("#recon .note").textContent = health.database;
    return ill ? ["warn", health.status] : undefined;
  },
};
function lastJob(jobs) {
  const job = jobs.jobs[0], foot = find("#recon .note");
  if (!job) { foot.textContent = note || "No reconciliation has been run yet."; return; }
  const counts = job.counts;
  for (const cell of document.querySelectorAll("[data-count]")) {
    const count = counts[cell.dataset.count];
    cell.textContent = count.toLocaleString("en-IN");
    if (cell.dataset.count !== "matched") cell.parentElement.classList.toggle("off", count > 0);
  }
  const due = counts.matched + counts.amount_mismatch + counts.missing_in_bank;
  find(".bar i").style.width = (due ? 100 * counts.matched / due : 0) + "%";
  const rate = due ? (100 * counts.matched / due).toFixed(1) + "% of captured payments matched" : "";
  const when = new Date(job.created_at).toLocaleString([], {dateStyle: "medium", timeStyle: "medium"});
  foot.textContent = note || rate + " \\u00b7 " + job.status + " " + when + " \\u00b7 " + job.id;
}
async function refresh(card) {
  try {
    const [level, text] = await show[card]() || ["good", "up"];
    frontend = true;
    seen[card] = Date.now();
    mark(card, level, text);
  } catch (why) {
    frontend = !why.offline;
    mark(card, "bad", seen[card] ? "unreachable, last seen " + clock(seen[card]) : "unreachable");
    if (frontend) find("#" + card + " .note").textContent = why.message;
  }
}
async function keep(card) {
  await refresh(card);
  setTimeout(() => keep(card), EVERY);
}
find("button").addEventListener("click", async () => {
  running = true;
  offer();
  try {
    await ask("/api/recon/jobs/demo", "POST");
    note = "";
  } catch (why) {
    const sides = Object.entries((why.body || {}).upstreams || {}).map(([name, text]) => name + ": " + text);
    note = "Not run: " + why.message + (sides.length ? " (" + sides.join("; ") + ")" : "");
    setTimeout(() => { note = ""; }, 15000);
  }
  running = false;
  await refresh("recon");
});
Object.keys(NAMES).forEach(keep);
"""

PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SettlePaisa dashboard</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>
<body>{BODY}<script>{SCRIPT}</script></body></html>
"""
