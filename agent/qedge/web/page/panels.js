// Each function draws one panel from the node's status.

import { badge, bytes, duration, el, meter, qberChart, shorten, sparkline } from "./charts.js";

const TONES = {
  ready: "good", up: "good", busy: "good", done: "good", running: "busy", queued: "idle", starting: "idle",
  unlocked: "good", degraded: "warn", locked: "warn", cancelled: "warn", expired: "warn",
  alive: "good", suspect: "warn", dead: "bad", left: "idle", revoked: "bad", duplicate: "bad",
  backoff: "bad", down: "bad", failed: "bad", stopped: "idle", finished: "idle", ok: "good", unknown: "idle",
};

export const tone = (state) => TONES[state] ?? "warn";
const byId = (id) => document.getElementById(id);

export function drawHead(status) {
  byId("node-name").textContent = status.node;
  byId("node-facts").textContent = `fleet ${status.fleet}${status.standalone ? ", standalone" : ""} · qedge ${status.version} · up ${duration(status.uptime_s)}`;
  document.title = `${status.ready ? "" : "⚠ "}${status.node} · qedge`;
  const ready = byId("ready");
  ready.textContent = status.ready ? "ready" : "not ready";
  ready.dataset.tone = status.ready ? "good" : "bad";
  const alerts = byId("alerts");
  const missing = status.not_ready ?? [];
  alerts.hidden = missing.length === 0;
  alerts.textContent = missing.length ? `Not ready: waiting for ${missing.join(", ")}` : "";
}

export function drawTiles(status) {
  const workers = status.drivers.filter((driver) => driver.kind === "qpu").flatMap((driver) => driver.workers ?? []);
  const up = workers.filter((worker) => worker.state === "ready" || worker.state === "busy").length;
  const link = (status.links ?? []).find((one) => one.qber >= 0);
  const tiles = [
    ["Jobs running", status.jobs_running, `${status.jobs_queued} waiting`, status.jobs_running ? "busy" : ""],
    ["Jobs done", status.jobs_done.toLocaleString("en"), `${status.jobs_failed} failed`, ""],
    ["Circuit workers", `${up} / ${workers.length}`, up ? "warm" : "warming up", up ? "good" : "warn"],
    ["Random source", status.entropy.source ? (status.entropy.healthy ? "healthy" : "failed") : "none", status.entropy.source ? (status.entropy.simulated ? "simulated quantum" : "quantum") : "operating system only", status.entropy.healthy ? "good" : "bad"],
    ["Key link errors", link ? `${(link.qber * 100).toFixed(1)} %` : "–", link ? link.name : "not measured", link ? (link.qber > 0.11 ? "bad" : "good") : ""],
    ["Broker", status.bus.connected ? "connected" : "down", status.bus.kind, status.bus.connected ? "good" : "bad"],
  ];
  byId("tiles").replaceChildren(...tiles.map(([name, value, note, colour]) =>
    el("li", { class: "tile", "data-tone": colour }, el("span", { class: "tile-name" }, name), el("strong", {}, String(value)), el("span", { class: "faint" }, note))));
}

export function drawServices(status) {
  const up = status.services.filter((service) => service.state === "ready").length;
  byId("services-count").textContent = `${up} of ${status.services.length} ready`;
  byId("services").replaceChildren(...status.services.map((service) =>
    el("li", { "data-tone": tone(service.state), title: service.error || service.state },
      el("span", { class: "dot-mark", "aria-hidden": "true" }), el("span", {}, service.name),
      service.state === "ready" ? el("span", { class: "hidden-label" }, "ready") : el("em", {}, service.error || service.state),
      service.restarts ? el("span", { class: "faint" }, `${service.restarts}×`) : null)));
}

export function drawDrivers(status) {
  byId("drivers").replaceChildren(...status.drivers.map((driver) => {
    const state = driver.admin_state === "locked" ? "locked" : driver.operating_state;
    const facts = Object.entries(driver.properties ?? {}).slice(0, 6)
      .map(([name, value]) => `${name.replaceAll("_", " ")} ${shorten(String(value), 22)}`);
    return el("li", {},
      el("div", { class: "row-head" },
        el("strong", {}, driver.name), el("span", { class: "faint" }, driver.driver),
        driver.simulated ? badge("simulated", "idle") : badge("hardware", "busy"),
        el("span", { class: "spacer" }), badge(state, tone(state))),
      driver.reason ? el("p", { class: "reason" }, driver.reason) : null,
      el("div", { class: "workers" }, ...(driver.workers ?? []).map((worker) =>
        el("span", { class: "worker", "data-tone": worker.state === "busy" ? "busy" : tone(worker.state), title: `${worker.name}: ${worker.state}${worker.pid ? `, process ${worker.pid}` : ""}, ${worker.restarts ?? 0} restarts` },
          el("span", { class: "dot-mark", "aria-hidden": "true" }), `${worker.state}${worker.spare ? " spare" : ""}`,
          worker.pid ? el("span", { class: "faint" }, ` ${worker.pid}`) : null,
          worker.restarts ? el("span", { class: "faint" }, ` ${worker.restarts}×`) : null))),
      facts.length ? el("p", { class: "faint facts" }, facts.join(" · ")) : null);
  }));
}

const past = { cpu: [], memory: [] };

function secrecy(session) {
  if (session.extra_key) return "with quantum key";
  return session.restricted ? "no quantum key: restricted" : "post-quantum only";
}

export function drawFleet(fleet, status) {
  const peers = fleet.peers ?? [];
  const alive = peers.filter((peer) => peer.state === "alive").length;
  byId("fleet-count").textContent = status?.standalone ? "standalone" : `${alive} of ${peers.length} alive`;
  const rows = peers.slice(0, 100).map((peer) => {
    const kinds = [...new Set((peer.capabilities ?? []).map((one) => one.kind))];
    const facts = [kinds.join(", "), peer.version ? `qedge ${peer.version}` : ""].filter(Boolean);
    const session = peer.session ?? {};
    const sealed = session.state === "open" ? `sealed, suite ${session.suite}, ${session.group}, over ${session.path}, ${secrecy(session)}` : "";
    return el("li", {},
      el("div", { class: "row-head" },
        el("strong", {}, peer.node), peer.own ? el("span", { class: "faint" }, "this node") : null,
        el("span", { class: "spacer" }), badge(peer.state, tone(peer.state))),
      facts.length ? el("p", { class: "faint facts" }, facts.join(" · ")) : null,
      sealed ? el("p", { class: "faint facts" }, sealed) : null);
  });
  if (peers.length > 100) rows.push(el("li", { class: "faint" }, `and ${peers.length - 100} more: qedge peers`));
  if (status?.standalone) rows.push(el("li", { class: "faint" }, "This box is a fleet of one. “qedge fleet invite” makes room for others."));
  byId("fleet").replaceChildren(...rows);
}

export function drawHost(status) {
  const host = status.host;
  const used = host.memory_total_bytes ? 1 - host.memory_available_bytes / host.memory_total_bytes : 0;
  for (const [name, value] of [["cpu", host.cpu_ratio], ["memory", used]]) {
    past[name].push(value);
    if (past[name].length > 90) past[name].shift();
  }
  byId("host-state").replaceChildren(badge(host.verdict || "unknown", tone(host.verdict)));
  const load = (value) => (value > 0.95 ? "bad" : value > 0.85 ? "warn" : "good");
  const row = (name, value, text, values) => el("div", { class: "host-row" },
    el("span", {}, name), sparkline(values, { label: `${name}, last ${values.length} samples` }), meter(value, load(value), name), el("span", { class: "num" }, text));
  const facts = [`disk ${bytes(host.disk_free_bytes)} free`];
  if (host.temperature_celsius) facts.push(`${host.temperature_celsius.toFixed(0)} °C`);
  if (host.power_watts) facts.push(`${host.power_watts.toFixed(1)} W`);
  if (host.clock_steps) facts.push(`clock stepped ${host.clock_steps}×`);
  byId("host").replaceChildren(
    row("CPU", host.cpu_ratio, `${Math.round(host.cpu_ratio * 100)} %`, past.cpu),
    row("Memory", used, `${bytes(host.memory_available_bytes)} free`, past.memory),
    el("p", { class: "faint facts" }, facts.join(" · ")));
}

export function drawEntropy(status) {
  const entropy = status.entropy;
  byId("entropy-state").replaceChildren(entropy.source ? badge(entropy.healthy ? "healthy" : "failed", entropy.healthy ? "good" : "bad") : badge("no source", "idle"));
  const facts = entropy.source
    ? [`source ${entropy.source}`, entropy.simulated ? "simulated" : "hardware", `${(entropy.raw_bits / 1e6).toFixed(1)} Mbit raw`, `${entropy.failures} failed tests`]
    : ["the operating system alone"];
  byId("entropy").replaceChildren(
    el("p", { class: "faint facts" }, facts.join(" · ")),
    entropy.reason ? el("p", { class: "reason" }, entropy.reason) : el("p", { class: "hidden-label" }, "No failure."));
}

const LINK_TONES = { running: "good", quarantined: "bad", stopped: "bad", waiting: "warn", full: "idle" };

function rate(bits) {
  const [size, unit] = bits >= 1e6 ? [1e6, "Mbit/s"] : bits >= 1e3 ? [1e3, "kbit/s"] : [1, "bit/s"];
  return `${(bits / size).toFixed(bits >= 1e3 ? 2 : 0)} ${unit}`;
}

function distilled(link) {
  if (!link.state) return [];
  const running = link.state === "running" && link.blocks > 0;
  return [el("div", {}, el("strong", { class: "big" }, running ? rate(link.key_bit_s) : "–"), el("span", { class: "faint" }, "secret key"))];
}

function distilledFacts(link) {
  const facts = [`${link.blocks} blocks gave ${(link.key_bits / 1e6).toFixed(2)} Mbit of key`, `${link.blocks_dropped} gave none`];
  if (link.efficiency) facts.push(`f ${link.efficiency.toFixed(2)}`, `${link.wire_bits_per_sifted.toFixed(1)} bits said per sifted bit`);
  return [...facts, `${link.authentication_bits} bits for authentication`].join(" · ");
}

export function drawLinks(status, history, measure, busy) {
  const box = byId("links");
  const links = status.links ?? [];
  if (!links.length) {
    box.replaceChildren(el("p", { class: "empty" }, "No link is configured."));
    return;
  }
  const focused = document.activeElement?.dataset?.link;
  box.replaceChildren(...links.map((link) => {
    const points = history[link.name] ?? [];
    const driver = status.drivers.find((one) => one.name === link.alice);
    const eve = driver?.properties?.eve_fraction;
    const measured = link.qber >= 0;
    const ends = `${link.alice || link.peer} → ${link.bob || link.peer}`;
    return el("div", { class: "link" },
      el("div", { class: "row-head" },
        el("strong", {}, link.name), el("span", { class: "faint" }, ends), el("span", { class: "spacer" }),
        link.state ? badge(link.state, LINK_TONES[link.state] ?? "warn") : null,
        eve === undefined ? null : badge(eve > 0 ? `eavesdropper on${eve < 1 ? ` ${Math.round(eve * 100)} %` : ""}` : "no eavesdropper", eve > 0 ? "bad" : "good")),
      el("div", { class: "link-figures" },
        el("div", {}, el("strong", { class: measured && link.qber > 0.11 ? "big bad" : "big" }, measured ? `${(link.qber * 100).toFixed(2)} %` : "–"), el("span", { class: "faint" }, link.state ? "error rate" : "raw error rate")),
        ...distilled(link),
        el("div", {}, el("strong", { class: "big" }, measured ? link.sifted.toLocaleString("en") : "–"), el("span", { class: "faint" }, "sifted bits"))),
      qberChart(points),
      link.state
        ? el("p", { class: "faint facts" }, distilledFacts(link))
        : link.verdict ? el("p", { class: "faint facts" }, link.verdict) : null,
      link.state && link.reason ? el("p", { class: "reason" }, link.reason) : null,
      link.state ? null : el("button", { type: "button", class: "quiet", "data-link": link.name, disabled: busy.has(link.name), on: { click: () => measure(link.name) } }, busy.has(link.name) ? "measuring …" : "Measure a window"));
  }));
  if (focused) box.querySelector(`[data-link="${CSS.escape(focused)}"]`)?.focus();
}
