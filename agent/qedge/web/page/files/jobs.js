// The table of jobs with its filter, and everything about the one that was chosen.

import { call, session } from "./api.js";
import { histogram, stack } from "./charts.js";
import { badge, byId, bytes, clock, duration, el, empty, facts, number, redraw, span, tone } from "./draw.js";

const MOST = 200;
const DRAW_EVERY_MS = 200;
const ENDED = new Set(["done", "failed", "cancelled", "expired"]);
const FILTERS = [["all", () => true], ["queued", (job) => job.state === "queued"], ["running", (job) => job.state === "running"],
  ["done", (job) => job.state === "done"], ["failed", (job) => job.state === "failed" || job.state === "expired"], ["cancelled", (job) => job.state === "cancelled"]];
const STAGE_TONES = ["idle", "warn", "busy", "good"];

const jobs = new Map(); // id → job, oldest first
let chosen = "", filter = "all", pending = 0, own = "", complain = () => {};

export const allJobs = () => [...jobs.values()];
export const hasEnded = (id) => ENDED.has(jobs.get(id)?.state);

export function startJobs(onProblem) {
  complain = onProblem;
  byId("job-filter").append(...FILTERS.map(([name]) => el("button", {
    type: "button", class: "chip", "data-filter": name, "aria-pressed": String(name === filter), on: { click: () => { filter = name; drawJobs(); } },
  })));
  drawJobs();
  setInterval(() => { if (!document.hidden && !session.closed) drawAges(); }, 1000);
}

export async function loadJobs() {
  const found = (await call("GET", `/v1/jobs?limit=${MOST}`)).jobs;
  jobs.clear();
  for (const job of found.reverse()) jobs.set(job.id, job);
  drawJobs();
  const newest = allJobs().reverse().find((job) => job.state === "done");
  if (!chosen && newest) chooseJob(newest.id);
}

export function takeJob(job) {
  jobs.set(job.id, { ...jobs.get(job.id), ...job });
  while (jobs.size > MOST) jobs.delete(jobs.keys().next().value);
  // many jobs may change within a moment; the table is drawn once
  pending ||= setTimeout(() => { pending = 0; drawJobs(); }, DRAW_EVERY_MS);
  if (job.id !== chosen) return;
  drawState(job);
  if (ENDED.has(job.state)) showJob(job.id);
  else drawJob(jobs.get(job.id));
}

export function setOwn(name) { own = name; }

const where = (job) => (job.node ? `${job.node}${job.qpu ? ` · ${job.qpu}` : ""}` : job.qpu || "any QPU");
const ran = (job) => (job.started_utc_ns ? duration(Math.max(0, (job.ended_utc_ns || Date.now() * 1e6) - job.started_utc_ns) / 1e9) : "–");
const ageOf = (job) => span(Math.max(0, Date.now() * 1e6 - job.submitted_utc_ns) / 1e9);

// How far a running job should be by its estimate.
function progress(job) {
  if (job.parts > 1 && !ENDED.has(job.state)) return el("progress", { max: job.parts, value: job.parts_done ?? 0, "aria-label": `${job.parts_done ?? 0} of ${job.parts} parts` });
  if (job.state !== "running" || !job.estimate?.time_s || !job.started_utc_ns) return null;
  const share = Math.min(0.99, (Date.now() * 1e6 - job.started_utc_ns) / 1e9 / job.estimate.time_s);
  return el("progress", { max: 1, value: Math.max(0, share), "aria-label": "by its estimate" });
}

function drawJobs() {
  const all = allJobs().reverse();
  for (const chip of byId("job-filter").children) {
    const [name, wants] = FILTERS.find(([each]) => each === chip.dataset.filter);
    chip.textContent = `${name} ${all.filter(wants).length}`;
    chip.setAttribute("aria-pressed", String(name === filter));
  }
  const shown = all.filter(FILTERS.find(([name]) => name === filter)[1]);
  byId("jobs-count").textContent = all.length ? `newest ${all.length}` : "";
  const body = byId("jobs").tBodies[0];
  if (!shown.length) {
    redraw(body, [el("tr", {}, el("td", { colspan: 7 }, all.length ? empty(`No job is ${filter} now.`) : empty("No jobs yet. Run the circuit above, or in a terminal:", "qedge submit bell.qasm")))]);
    return;
  }
  redraw(body, shown.map((job) => el("tr", { "data-chosen": String(job.id === chosen) },
    el("td", {}, el("button", { type: "button", class: "plain", title: job.id, "data-focus-key": job.id, "aria-pressed": String(job.id === chosen), on: { click: () => chooseJob(job.id) } }, job.id.slice(-12))),
    el("td", {}, badge(job.state, tone(job.state)), job.attempts > 1 ? el("span", { class: "faint" }, ` try ${job.attempts}`) : null, progress(job)),
    el("td", { class: "num roomy" }, number(job.shots)),
    el("td", { class: "clip" }, where(job)),
    el("td", { class: "num roomy" }, ran(job)),
    el("td", { class: "num faint roomy", "data-age": job.submitted_utc_ns, title: clock(job.submitted_utc_ns) }, ageOf(job)),
    el("td", { class: "num act" }, ENDED.has(job.state) ? "" : el("button", { type: "button", class: "plain", "aria-label": `cancel ${job.id.slice(-12)}`, "data-focus-key": `cancel-${job.id}`, on: { click: () => cancel(job.id) } }, "cancel")))));
}

function drawAges() {
  const nowNs = Date.now() * 1e6;
  for (const cell of byId("jobs").tBodies[0].querySelectorAll("[data-age]")) {
    const text = span(Math.max(0, nowNs - Number(cell.dataset.age)) / 1e9);
    if (cell.textContent !== text) cell.textContent = text;
  }
}

async function cancel(id) {
  try { takeJob(await call("DELETE", `/v1/jobs/${id}`)); } catch (problem) { complain(problem.message); }
}

export function chooseJob(id) {
  chosen = id;
  drawJobs();
  drawState(jobs.get(id));
  showJob(id);
}

// A job that was just handed over: what the stream said of it meanwhile is newer.
export function submitted(job) {
  chosen = job.id;
  if (!hasEnded(job.id)) takeJob(job);
  chooseJob(job.id);
}

function drawState(job) {
  byId("result-state").replaceChildren(badge(job.state, tone(job.state)));
}

async function showJob(id) {
  let job;
  try {
    job = await call("GET", `/v1/jobs/${id}`);
  } catch (problem) {
    if (id === chosen) byId("result").replaceChildren(el("p", { class: "error" }, problem.message));
    return;
  }
  if (id !== chosen) return;
  drawState(job);
  drawJob(job);
}

function drawJob(job) {
  const result = job.result ? drawResult(job) : job.error
    ? [el("p", { class: "error" }, job.error.title, job.error.fix ? el("span", { class: "faint" }, ` ${job.error.fix}`) : null)]
    : [el("p", { class: "empty" }, ENDED.has(job.state) ? `The job was ${job.state}.` : "The job has not ended yet.")];
  redraw(byId("result"), [...result, ...course(job)]);
}

function course(job) {
  const waited = job.started_utc_ns ? (job.started_utc_ns - job.submitted_utc_ns) / 1e9 : -1;
  const place = job.node && job.node !== own ? `${job.node}${job.qpu ? `, QPU ${job.qpu}` : ""}: this node gave it away` : `${own || "this node"}${job.qpu ? `, QPU ${job.qpu}` : ""}: it accepted the job`;
  const estimate = job.estimate;
  return [facts([
    ["Job", el("code", {}, job.id)],
    ["Accepted", clock(job.submitted_utc_ns), ` from ${job.client}`],
    job.started_utc_ns ? ["Started", `${duration(Math.max(0, waited))} later`] : ["Waiting", job.queue_position ? `${number(job.queue_position)} before it` : "for its turn"],
    job.started_utc_ns ? [job.ended_utc_ns ? "Ended" : "Running for", job.ended_utc_ns ? `after ${ran(job)}` : ran(job)] : null,
    job.started_utc_ns ? ["Runs on", place] : ["Wants", where(job)],
    job.attempts > 1 ? ["Attempts", `${job.attempts}: those before ended without a result`] : null,
    estimate ? ["Estimate", `${duration(estimate.time_s)}, ${bytes(estimate.memory_bytes)}, ${estimate.qubits} qubits, ${number(estimate.operations)} operations`] : null,
    job.parts > 1 ? ["Parts", `${number(job.parts_done ?? 0)} of ${number(job.parts)} done`, job.result?.parts ? `: ${[...new Set(job.result.parts.map((part) => part.node || own))].join(", ")}` : ""] : null,
    job.replicated === undefined ? null : ["Record", job.replicated ? "another node holds a copy" : "this node alone"],
    job.tags?.length ? ["Tags", job.tags.join(", ")] : null,
  ])];
}

function drawResult(job) {
  const result = job.result;
  const told = [`${number(result.shots)} shots`, `${Object.keys(result.counts).length} outcomes`, `seed ${result.seed}`];
  if (result.metadata.method) told.push(result.metadata.method);
  if (result.metadata.simulated) told.push("simulated");
  const stages = Object.entries(result.timings_s).map(([stage, value], i) => [stage, value, STAGE_TONES[i % STAGE_TONES.length], duration(value)]);
  return [
    histogram(result.counts, result.shots),
    el("p", { class: "faint facts" }, told.join(" · "), el("br"), `bits of ${result.registers.map((register) => `${register.name}[${register.size}]`).reverse().join(" ")}, ${result.bit_order}`),
    stages.length ? stack(stages, "Time by stage") : null,
    el("dl", { class: "timings" }, ...stages.map(([stage, , colour, text]) => el("div", { "data-tone": colour }, el("span", { class: "dot-mark", "aria-hidden": "true" }), el("dt", {}, stage), el("dd", {}, text)))),
  ];
}
