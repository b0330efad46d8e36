// The panel of the node that was chosen on the map, and the table of all of them.

import { badge, bits, byId, bytes, changed, duration, el, facts, natural, number, percent, redraw, shorten, span, tone } from "./draw.js";

const DAY_S = 86_400;
const SOON_DAYS = 14;
const KINDS = { qpu: "QPU", qrng: "Random source", qkd: "QKD device" };
const FACTS_SHOWN = 4;

const ago = (utcNs, nowNs) => span(Math.max(0, nowNs - utcNs) / 1e9);

function secrecy(session) {
  if (session.extra_key) return ["with quantum key", "good"];
  return session.restricted ? ["no quantum key: restricted", "warn"] : ["post-quantum only", "idle"];
}

function certificate(peer, nowNs) {
  const days = ((peer.certificate_until_utc_ns ?? 0) - nowNs) / 1e9 / DAY_S;
  if (!peer.certificate_until_utc_ns || days > 3650) return null;
  const colour = days <= 0 ? "bad" : days < SOON_DAYS ? "warn" : "good";
  return ["Certificate", days <= 0 ? badge("expired", "bad") : badge(`${Math.floor(days)} days left`, colour), days < SOON_DAYS ? el("code", {}, "qedge fleet renew") : null];
}

const sum = (values) => (values ?? []).reduce((total, one) => total + one, 0);

// What a node says of its load, where it does, −1 where it does not; of this one the status knows more. `busy` is the
// share of its places for jobs that are taken, of this node the share of its processors.
export function loadOf(peer, status) {
  const load = peer.load ?? null, slots = load?.slots ?? 0, free = load?.free_slots ?? 0;
  const said = {
    busy: slots ? (slots - free) / slots : -1, queued: load ? sum(load.queued) : -1, running: load ? Math.max(0, slots - free) : -1,
    health: load ? load.verdict ?? "ok" : "", reason: load?.reason ?? "", draining: Boolean(load?.draining), backlog_s: Math.max(0, ...(load?.backlog_s ?? [])),
  };
  if (!peer.own || !status) return said;
  return { ...said, busy: status.host?.cpu_ratio ?? -1, queued: status.jobs_queued, running: status.jobs_running, health: status.host?.verdict ?? said.health };
}

function work(peer, status, jobs) {
  const load = loadOf(peer, status);
  const own = status?.node;
  const ours = jobs.filter((job) => (job.node || own) === peer.node && (job.state === "queued" || job.state === "running")).length;
  const rows = [];
  if (load.running >= 0) rows.push(["Jobs", `${number(load.running)} running, ${number(Math.max(0, load.queued))} waiting${load.backlog_s ? `, a further one starts in ${duration(load.backlog_s)}` : ""}`]);
  if (!peer.own && (ours || load.running < 0)) rows.push(["Our jobs", ours ? `${number(ours)} not ended` : "none there"]);
  if (load.busy >= 0) rows.push([peer.own ? "Processor" : "Busy", percent(load.busy, 0)]);
  if (load.health || load.draining) rows.push(["Health", load.draining ? badge("draining", "warn") : badge(load.health, tone(load.health)), load.reason ? ` ${load.reason}` : ""]);
  if (peer.labels?.length) rows.push(["Labels", peer.labels.join(", ")]);
  if (peer.own && status?.host?.memory_total_bytes) rows.push(["Memory", `${bytes(status.host.memory_available_bytes)} of ${bytes(status.host.memory_total_bytes)} free`]);
  return rows;
}

function links(peer, all) {
  if (peer.own) {
    const running = all.filter((link) => link.state === "running");
    const rate = running.reduce((sum, link) => sum + link.key_bit_s, 0);
    return all.length ? [["Quantum links", el("a", { href: "#keys" }, String(all.length)), running.length ? `, ${running.length} running with ${bits(rate, "bit/s")}` : ", none running"]] : [];
  }
  return all.filter((link) => link.peer === peer.node).slice(0, 4).map((link) => {
    const rate = link.state === "running" ? bits(link.key_bit_s, "bit/s") : link.state || "not measured";
    return ["Quantum link", el("a", { href: "#keys" }, link.name), ` ${rate}${link.qber >= 0 ? `, ${percent(link.qber)} errors` : ""}`];
  });
}

function capabilities(peer) {
  const all = peer.capabilities ?? [];
  if (!all.length) return [el("p", { class: "faint" }, peer.state === "alive" ? "It offers nothing at the moment." : "Nothing is known of what it offers.")];
  return [el("ul", { class: "capabilities", "aria-label": "Capabilities" }, ...all.map((one) => {
    const told = Object.entries(one.facts ?? {}).slice(0, FACTS_SHOWN).map(([name, value]) => `${name.replaceAll("_", " ")} ${shorten(String(value), 18)}`);
    return el("li", { "data-kind": one.kind },
      el("strong", {}, one.name), el("span", { class: "faint" }, KINDS[one.kind] ?? one.kind), one.simulated ? badge("simulated", "idle") : badge("hardware", "busy"),
      told.length ? el("span", { class: "faint told" }, told.join(" · ")) : null);
  }))];
}

export function drawNode(peer, status, jobs, place) {
  const nowNs = status?.utc_ns ?? Date.now() * 1e6;
  byId("node-title").textContent = peer.node;
  byId("node-state").replaceChildren(badge(peer.state, tone(peer.state)));
  const session = peer.session ?? {};
  const sealed = peer.own ? null : session.state === "open"
    ? ["Session", `suite ${session.suite}, ${session.group}, ${session.path} `, badge(...secrecy(session))]
    : ["Session", session.state === "none" || !session.state ? "none" : session.state];
  const heard = peer.own ? null : ["Last heard", peer.heard_s >= 0 ? `${peer.heard_s < 10 ? peer.heard_s.toFixed(1) : Math.round(peer.heard_s)} s ago` : "never"];
  const run = !peer.own && peer.state === "alive" && (peer.capabilities ?? []).some((one) => one.kind === "qpu");
  redraw(byId("node-panel"), [
    facts([
      heard,
      peer.own && status ? ["Up", duration(status.uptime_s)] : peer.since_utc_ns ? [peer.state === "alive" ? "Alive for" : "So for", ago(peer.since_utc_ns, nowNs)] : null,
      peer.own && status ? ["Services", `${status.services.filter((one) => one.state === "ready").length} of ${status.services.length} ready`] : null,
      ...work(peer, status, jobs),
      ...links(peer, status?.links ?? []),
      sealed,
      session.state === "open" && session.opened_utc_ns ? ["Session open for", ago(session.opened_utc_ns, nowNs)] : null,
      certificate(peer, nowNs),
      ["Version", `qedge ${peer.version || "?"}`, peer.epoch ? `, epoch ${peer.epoch}` : ""],
      peer.key_id ? ["Key id", el("code", { title: peer.key_id }, shorten(peer.key_id, 17))] : null,
    ]),
    ...capabilities(peer),
    peer.own && status?.standalone ? el("div", { class: "empty" }, el("p", {}, "This box is a fleet of one. Make room for others:"), el("code", {}, "qedge fleet invite")) : null,
    run ? el("button", { type: "button", class: "quiet", "data-focus-key": "run-here", on: { click: () => place(peer.node) } }, `Run a circuit on ${peer.node}`) : null,
  ]);
}

export function drawNodeTable(peers, status, choose) {
  if (!byId("all-nodes").open || !changed("nodes", peers, status?.jobs_running, status?.jobs_queued)) return;
  const rows = [...peers].sort((a, b) => Boolean(b.own) - Boolean(a.own) || natural(a.node, b.node)).map((peer) => {
    const load = loadOf(peer, status), session = peer.session ?? {};
    const qpus = (peer.capabilities ?? []).filter((one) => one.kind === "qpu").length;
    return el("tr", {},
      el("td", {}, el("button", { type: "button", class: "plain", "data-focus-key": `node-${peer.node}`, on: { click: () => choose(peer.node) } }, peer.node)),
      el("td", {}, badge(peer.state, tone(peer.state))),
      el("td", { class: "num" }, qpus ? String(qpus) : "–"),
      el("td", { class: "num" }, load.running >= 0 ? `${load.running} + ${load.queued}` : "–"),
      el("td", { class: "roomy" }, peer.own ? "this node" : session.state === "open" ? `${session.path}${session.extra_key ? ", quantum key" : ""}` : session.state || "none"),
      el("td", { class: "num faint roomy" }, peer.own || !(peer.heard_s >= 0) ? "" : `${peer.heard_s.toFixed(1)} s`));
  });
  redraw(byId("nodes-body"), rows);
}
