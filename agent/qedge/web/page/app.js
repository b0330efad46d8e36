// The page: trades its one-time link for a session, follows the node's events, and draws.

import { badge, bitField, duration, el, histogram } from "./charts.js";
import { drawGateway, drawIncidents } from "./gateway.js";
import { drawDrivers, drawEntropy, drawFleet, drawHead, drawHost, drawLinks, drawServices, drawTiles, tone } from "./panels.js";

const byId = (id) => document.getElementById(id);
const PROOF = "qedge-proof";
const ENDED = new Set(["done", "failed", "cancelled", "expired"]);
const MAX_JOBS = 50;
const PEERS_MS = 2000;

const EXAMPLES = {
  Bell: `// Two qubits that always agree.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[2];
h q[0];
cx q[0],q[1];
measure q -> c;`,
  GHZ: `// Five qubits: all 0 or all 1, half and half.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[5];
creg c[5];
h q[0];
cx q[0],q[1];
cx q[1],q[2];
cx q[2],q[3];
cx q[3],q[4];
measure q -> c;`,
  Interference: `// A phase turns certainty into 85 : 15.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[1];
creg c[1];
h q[0];
rz(pi/4) q[0];
h q[0];
measure q -> c;`,
  Random: `// Eight fair coins.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[8];
creg c[8];
h q;
measure q -> c;`,
};

const state = { status: null, jobs: new Map(), chosen: "", shown: "", qber: {}, measuring: new Set(), closed: false };

class Problem extends Error {
  constructor(status, body) {
    super(body?.title ?? `The node answered with status ${status}.`);
    this.status = status;
    this.code = (body?.type ?? "").replace("urn:qedge:error:", "");
    this.fix = body?.fix ?? "";
    this.details = body?.details ?? {};
  }
}

async function call(method, path, body) {
  const headers = { "Qedge-Proof": sessionStorage.getItem(PROOF) ?? "" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  const data = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return data;
  const problem = new Problem(answer.status, data);
  if (problem.code === "access.no_session") showGate(problem);
  throw problem;
}

// --- the way in

async function begin() {
  const token = new URLSearchParams(location.hash.slice(1)).get("link");
  if (token) {
    history.replaceState(null, "", location.pathname);
    try {
      const session = await call("POST", "/v1/page-session", { token });
      sessionStorage.setItem(PROOF, session.proof);
    } catch (problem) {
      showGate(problem);
      return;
    }
  }
  if (!sessionStorage.getItem(PROOF)) {
    showGate();
    return;
  }
  state.closed = false;
  try {
    drawStatus(await call("GET", "/v1/status"));
    for (const job of (await call("GET", `/v1/jobs?limit=${MAX_JOBS}`)).jobs.reverse()) state.jobs.set(job.id, job);
    drawJobs();
    const newest = [...state.jobs.values()].reverse().find((job) => job.state === "done");
    if (newest) choose(newest.id);
  } catch (problem) {
    if (state.closed) return;
    say(`${problem.message}`, "bad");
  }
  byId("gate").hidden = true;
  byId("dashboard").hidden = false;
  follow();
  followPeers();
}

// --- peers: asked for, because a large fleet changes all the time and nobody reads it that fast

let peersTimer = 0;
async function followPeers() {
  clearTimeout(peersTimer);
  if (state.closed) return;
  if (!document.hidden) {
    try {
      const fleet = await call("GET", "/v1/peers");
      drawFleet(fleet, state.status);
      offerNodes(fleet.peers);
      if (state.status?.gateway) drawIncidents(await call("GET", "/v1/incidents?limit=20&all=0"));
    } catch { /* the event stream says that the node does not answer */ }
  }
  peersTimer = setTimeout(followPeers, PEERS_MS);
}

function offerNodes(peers) {
  const select = byId("where");
  const able = peers.filter((peer) => !peer.own && peer.state === "alive" && (peer.capabilities ?? []).some((one) => one.kind === "qpu"));
  const names = ["", ...(able.length ? ["any", ...able.map((peer) => peer.node)] : [])];
  byId("where-label").hidden = names.length === 1;
  if ([...select.options].map((option) => option.value).join("/") === names.join("/")) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => el("option", { value: name }, name === "" ? "this one" : name === "any" ? "any that can" : name)));
  select.value = names.includes(chosen) ? chosen : "";
}

function showGate(problem) {
  state.closed = true;
  sessionStorage.removeItem(PROOF);
  if (problem?.message && problem.code === "access.no_session") byId("gate-reason").textContent = problem.message;
  byId("gate").hidden = false;
  byId("dashboard").hidden = true;
  byId("ready").textContent = "locked";
  byId("ready").dataset.tone = "idle";
  say("");
}

// --- live events: fetch instead of EventSource, because the proof travels as a header

async function follow() {
  let wait = 500;
  while (!state.closed) {
    try {
      await readStream(() => { wait = 500; });
      say("reconnecting …", "warn");
    } catch (error) {
      if (error instanceof Problem && error.code === "access.no_session") return;
      say("the node does not answer, trying again …", "bad");
    }
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
    wait = Math.min(wait * 2, 8000);
  }
}

async function readStream(onData) {
  const abort = new AbortController();
  let silence = 0;
  const alive = () => { clearTimeout(silence); silence = setTimeout(() => abort.abort(), 40_000); };
  try {
    alive();
    const answer = await fetch("/v1/events", { headers: { "Qedge-Proof": sessionStorage.getItem(PROOF) ?? "" }, credentials: "same-origin", signal: abort.signal });
    if (!answer.ok) {
      const problem = new Problem(answer.status, await answer.json().catch(() => null));
      if (problem.code === "access.no_session") showGate(problem);
      throw problem;
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    say("live", "good");
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      onData();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      blocks.forEach(handleBlock);
    }
  } finally {
    clearTimeout(silence);
  }
}

function handleBlock(block) {
  let name = "", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (name === "status") drawStatus(JSON.parse(data));
  else if (name === "job") takeJob(JSON.parse(data));
}

function say(text, colour = "idle") {
  const feed = byId("feed");
  if (feed.textContent !== text) feed.textContent = text;
  feed.dataset.tone = colour;
}

// --- status

function drawStatus(status) {
  state.status = status;
  for (const link of status.links ?? []) remember(link);
  drawHead(status);
  drawTiles(status);
  drawServices(status);
  drawDrivers(status);
  drawHost(status);
  drawGateway(status);
  drawEntropy(status);
  drawLinks(status, state.qber, measure, state.measuring);
}

function remember(link) {
  if (link.qber < 0) return;
  const points = (state.qber[link.name] ??= []);
  const last = points.at(-1);
  if (last && last.qber === link.qber && last.sifted === link.sifted && last.errors === link.errors) return;
  points.push({ qber: link.qber, sifted: link.sifted, errors: link.errors });
  if (points.length > 40) points.shift();
}

async function measure(name) {
  state.measuring.add(name);
  drawLinks(state.status, state.qber, measure, state.measuring);
  try {
    const link = await call("POST", `/v1/links/${encodeURIComponent(name)}/measure`, {});
    state.status.links = state.status.links.map((one) => (one.name === name ? link : one));
    remember(link);
  } catch (problem) {
    say(problem.message, "bad");
  } finally {
    state.measuring.delete(name);
    drawLinks(state.status, state.qber, measure, state.measuring);
    drawTiles(state.status);
  }
}

// --- jobs

function takeJob(job) {
  const known = state.jobs.get(job.id);
  state.jobs.set(job.id, { ...known, ...job });
  while (state.jobs.size > MAX_JOBS) state.jobs.delete(state.jobs.keys().next().value);
  scheduleJobs();
  if (job.id === state.chosen) {
    drawResultState(job);
    if (ENDED.has(job.state)) showResult(job.id);
  }
}

let jobsPending = 0;
function scheduleJobs() {
  // Many jobs may change within one frame; the table is drawn once.
  if (!jobsPending) jobsPending = requestAnimationFrame(() => { jobsPending = 0; drawJobs(); });
}

function drawJobs() {
  const jobs = [...state.jobs.values()].reverse();
  byId("jobs-count").textContent = jobs.length ? `newest ${jobs.length}` : "";
  const body = byId("jobs").tBodies[0];
  const focused = document.activeElement?.dataset?.focusKey;
  if (!jobs.length) {
    body.replaceChildren(el("tr", {}, el("td", { colspan: 7, class: "empty" }, "No jobs yet.")));
    return;
  }
  body.replaceChildren(...jobs.map((job) => el("tr", { "data-chosen": String(job.id === state.chosen) },
    el("td", {}, el("button", { type: "button", class: "plain", title: job.id, "data-focus-key": job.id, "aria-pressed": String(job.id === state.chosen), on: { click: () => choose(job.id) } }, job.id.slice(-12))),
    el("td", {}, badge(job.state, tone(job.state)), job.attempts > 1 ? el("span", { class: "faint" }, ` try ${job.attempts}`) : null),
    el("td", { class: "num" }, job.shots.toLocaleString("en")),
    el("td", { class: "roomy" }, job.node ? `${job.node}${job.qpu ? ` · ${job.qpu}` : ""}` : job.qpu || "any QPU"),
    el("td", { class: "faint roomy" }, job.client),
    el("td", { class: "num faint roomy" }, clock(job.submitted_utc_ns)),
    el("td", { class: "num" }, ENDED.has(job.state) ? "" : el("button", { type: "button", class: "plain", "data-focus-key": `cancel-${job.id}`, on: { click: () => cancel(job.id) } }, "cancel")))));
  if (focused) body.querySelector(`[data-focus-key="${CSS.escape(focused)}"]`)?.focus();
}

const clock = (utcNs) => new Date(utcNs / 1e6).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

async function cancel(id) {
  try { takeJob(await call("DELETE", `/v1/jobs/${id}`)); } catch (problem) { say(problem.message, "bad"); }
}

function choose(id) {
  state.chosen = id;
  drawJobs();
  drawResultState(state.jobs.get(id));
  showResult(id);
}

function drawResultState(job) {
  byId("result-state").replaceChildren(badge(job.state, tone(job.state)));
}

async function showResult(id) {
  const box = byId("result");
  let job;
  try {
    job = await call("GET", `/v1/jobs/${id}`);
  } catch (problem) {
    if (id === state.chosen) box.replaceChildren(el("p", { class: "error" }, problem.message));
    return;
  }
  if (id !== state.chosen) return;
  drawResultState(job);
  if (job.result) box.replaceChildren(...drawResult(job));
  else if (job.error) box.replaceChildren(el("p", { class: "error" }, job.error.title, job.error.fix ? el("span", { class: "faint" }, ` ${job.error.fix}`) : null));
  else box.replaceChildren(el("p", { class: "empty" }, ENDED.has(job.state) ? `The job was ${job.state}.` : "The job has not ended yet."));
}

function drawResult(job) {
  const result = job.result;
  const facts = [`${result.shots.toLocaleString("en")} shots`, `${Object.keys(result.counts).length} outcomes`, `seed ${result.seed}`];
  if (result.metadata.method) facts.push(result.metadata.method);
  if (result.metadata.simulated) facts.push("simulated");
  if (job.node) facts.push(`on ${job.node}`);
  const timings = Object.entries(result.timings_s);
  return [
    histogram(result.counts, result.shots),
    el("p", { class: "faint facts" }, facts.join(" · "), el("br"), `bits of ${result.registers.map((register) => `${register.name}[${register.size}]`).reverse().join(" ")}, ${result.bit_order}`),
    el("dl", { class: "timings" }, ...timings.map(([stage, value]) => el("div", {}, el("dt", {}, stage), el("dd", {}, duration(value))))),
  ];
}

// --- forms

function showSubmitError(problem) {
  const box = byId("submit-error");
  box.hidden = !problem;
  if (!problem) return;
  const at = problem.details?.line ? ` (line ${problem.details.line}${problem.details.column ? `, column ${problem.details.column}` : ""})` : "";
  box.replaceChildren(`${problem.message}${at}`, problem.fix ? el("span", { class: "faint" }, ` ${problem.fix}`) : null, el("code", {}, problem.code || "error"));
  if (problem.details?.line) selectLine(problem.details.line);
}

function selectLine(line) {
  const area = byId("program");
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
}

async function submit(event) {
  event?.preventDefault();
  const button = byId("run-button");
  if (button.disabled) return;
  button.disabled = true;
  showSubmitError(null);
  try {
    const body = { program: byId("program").value, shots: Number(byId("shots").value) };
    if (byId("seed").value !== "") body.seed = Number(byId("seed").value);
    if (byId("where").value) body.node = byId("where").value;
    const job = await call("POST", "/v1/jobs", body);
    state.chosen = job.id;
    if (!ENDED.has(state.jobs.get(job.id)?.state)) takeJob(job);
    choose(job.id);
  } catch (problem) {
    showSubmitError(problem);
  } finally {
    button.disabled = false;
  }
}

async function drawRandom() {
  const button = byId("draw-button");
  button.disabled = true;
  const box = byId("drawn");
  try {
    const view = await call("POST", "/v1/random", { bytes: 32, require_quantum: byId("require-quantum").checked });
    const origin = view.quantum ? `${view.simulated ? "simulated quantum" : "quantum"} source ${view.source}, mixed with the operating system's randomness` : "the operating system only: no healthy quantum source";
    box.replaceChildren(bitField(view.hex), el("code", { class: "hex" }, view.hex), el("p", { class: "faint facts" }, `from ${origin}`));
  } catch (problem) {
    box.replaceChildren(el("p", { class: "error" }, problem.message));
  } finally {
    button.disabled = false;
  }
}

function setExample(name) {
  byId("program").value = EXAMPLES[name];
  showSubmitError(null);
  for (const chip of byId("examples").children) chip.setAttribute("aria-pressed", String(chip.textContent === name));
}

byId("examples").append(...Object.keys(EXAMPLES).map((name) => el("button", { type: "button", class: "chip", on: { click: () => setExample(name) } }, name)));
setExample("Bell");
byId("submit-form").addEventListener("submit", submit);
byId("program").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event); });
byId("draw-button").addEventListener("click", drawRandom);
addEventListener("hashchange", () => { if (location.hash.includes("link=")) location.reload(); });
begin();
