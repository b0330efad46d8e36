// This node itself: the head of the page, figures at a glance, drivers, services, host and randomness.

import { call } from "./api.js";
import { bitField, meter, sparkline } from "./charts.js";
import { badge, bits, byId, bytes, changed, duration, el, empty, number, percent, redraw, shorten, tone } from "./draw.js";
import { keyRate } from "./links.js";

const SAMPLES = 90;
const past = { cpu: [], memory: [] };

export function drawHead(status) {
  byId("node-name").textContent = status.node;
  byId("node-facts").textContent = `fleet ${status.fleet}${status.standalone ? ", standalone" : ""} · qedge ${status.version} · up ${duration(status.uptime_s)}`;
  document.title = `${status.ready ? "" : "⚠ "}${status.node} · qedge`;
  const ready = byId("ready");
  ready.textContent = status.ready ? "ready" : "not ready";
  ready.dataset.tone = status.ready ? "good" : "bad";
  const wrong = [
    status.not_ready?.length ? `Not ready: waiting for ${status.not_ready.join(", ")}.` : "",
    status.bus.connected ? "" : `The broker ${status.bus.broker} is not connected${status.bus.error ? `: ${status.bus.error}` : "."}`,
    status.entropy.source && !status.entropy.healthy ? `The random source ${status.entropy.source} failed its tests: random bytes come from the operating system.` : "",
  ].filter(Boolean);
  byId("alerts").hidden = wrong.length === 0;
  byId("alerts").textContent = wrong.join(" ");
}

export function drawTiles(status, peers, openIncidents) {
  const alive = peers.filter((peer) => peer.state === "alive").length;
  const silent = peers.filter((peer) => peer.state !== "alive" && peer.state !== "left").length;
  const links = status.links ?? [];
  const running = links.filter((link) => link.state === "running");
  const worst = Math.max(-1, ...links.map((link) => link.qber));
  const gateway = status.gateway;
  const incidents = gateway ? Math.max(openIncidents, gateway.incidents) : 0;
  const host = status.host;
  const tiles = [
    ["Nodes alive", `${alive} / ${peers.length}`, silent ? `${silent} not reachable` : status.standalone ? "standalone" : "all well", silent ? "bad" : "good", "#mesh"],
    ["Jobs running", number(status.jobs_running), `${number(status.jobs_queued)} waiting, ${number(status.jobs_done)} done${status.jobs_failed ? `, ${number(status.jobs_failed)} failed` : ""}`, status.jobs_running ? "busy" : "", "#work"],
    ["Secret key", running.length ? bits(keyRate(links), "bit/s") : "–", worst >= 0 ? `errors up to ${percent(worst, 1)}` : links.length ? "not measured" : "no link", worst > 0.11 ? "bad" : running.length ? "good" : "", "#keys"],
    ["Devices", gateway ? number(gateway.devices) : "–", gateway ? `${number(gateway.sessions)} sessions` : "takes none", "", "#devices"],
    ["Open incidents", gateway ? number(incidents) : "–", incidents ? "look at them" : gateway ? "nothing suspicious" : "no devices", incidents ? "bad" : gateway ? "good" : "", "#devices"],
    ["This node", percent(host.cpu_ratio, 0), `${bytes(host.memory_available_bytes)} free`, host.cpu_ratio > 0.95 ? "bad" : "", "#node"],
  ];
  if (!changed("tiles", tiles)) return;
  redraw(byId("tiles"), tiles.map(([name, value, note, colour, target]) => el("li", {},
    el("a", { class: "tile", href: target, "data-tone": colour, "data-focus-key": `tile-${name}` }, el("span", { class: "tile-name" }, name), el("strong", {}, value), el("span", { class: "faint" }, note)))));
}

export function drawServices(status) {
  if (!changed("services", status.services)) return;
  const up = status.services.filter((service) => service.state === "ready").length;
  byId("services-count").textContent = `${up} of ${status.services.length} ready`;
  byId("services").replaceChildren(...status.services.map((service) =>
    el("li", { "data-tone": tone(service.state), title: service.error || service.state },
      el("span", { class: "dot-mark", "aria-hidden": "true" }), el("span", {}, service.name),
      service.state === "ready" ? el("span", { class: "hidden-label" }, "ready") : el("em", {}, service.error || service.state),
      service.restarts ? el("span", { class: "faint" }, `${service.restarts}×`) : null)));
}

function worker(one) {
  const words = `${one.name}: ${one.state}${one.pid ? `, process ${one.pid}` : ""}, ${one.restarts ?? 0} restarts`;
  return el("span", { class: "worker", "data-tone": one.state === "busy" ? "busy" : tone(one.state), title: words },
    el("span", { class: "dot-mark", "aria-hidden": "true" }), `${one.state}${one.spare ? " spare" : ""}`,
    one.pid ? el("span", { class: "faint" }, ` ${one.pid}`) : null,
    one.restarts ? el("span", { class: "faint" }, ` ${one.restarts}×`) : null);
}

export function drawDrivers(status) {
  if (!changed("drivers", status.drivers)) return;
  if (!status.drivers.length) {
    byId("drivers").replaceChildren(el("li", {}, empty("No driver is configured. A simulated QPU is two lines in the configuration:", "[drivers.qpu]  driver = \"sim_qpu\"")));
    return;
  }
  byId("drivers").replaceChildren(...status.drivers.map((driver) => {
    const state = driver.admin_state === "locked" ? "locked" : driver.operating_state;
    const told = Object.entries(driver.properties ?? {}).slice(0, 6).map(([name, value]) => `${name.replaceAll("_", " ")} ${shorten(String(value), 22)}`);
    return el("li", {},
      el("div", { class: "row-head" },
        el("strong", {}, driver.name), el("span", { class: "faint" }, driver.driver),
        driver.simulated ? badge("simulated", "idle") : badge("hardware", "busy"),
        el("span", { class: "spacer" }), badge(state, tone(state))),
      driver.reason ? el("p", { class: "reason" }, driver.reason) : null,
      el("div", { class: "badges" }, ...(driver.workers ?? []).map(worker)),
      told.length ? el("p", { class: "faint facts" }, told.join(" · ")) : null);
  }));
}

export function drawHost(status) {
  const host = status.host;
  const used = host.memory_total_bytes ? 1 - host.memory_available_bytes / host.memory_total_bytes : 0;
  for (const [name, value] of [["cpu", host.cpu_ratio], ["memory", used]]) {
    past[name].push(value);
    if (past[name].length > SAMPLES) past[name].shift();
  }
  byId("host-state").replaceChildren(badge(host.verdict || "unknown", tone(host.verdict)));
  const load = (value) => (value > 0.95 ? "bad" : value > 0.85 ? "warn" : "good");
  const row = (name, value, text, values) => el("div", { class: "host-row" },
    el("span", {}, name), sparkline(values, { label: `${name}, last ${values.length} samples` }), meter(value, load(value), name), el("span", { class: "num" }, text));
  const told = [`disk ${bytes(host.disk_free_bytes)} free`, `broker ${status.bus.kind}, ${status.bus.connected ? "connected" : "down"}`];
  if (host.temperature_celsius) told.push(`${host.temperature_celsius.toFixed(0)} °C`);
  if (host.power_watts) told.push(`${host.power_watts.toFixed(1)} W`);
  if (host.clock_steps) told.push(`clock stepped ${host.clock_steps}×`);
  byId("host").replaceChildren(
    row("CPU", host.cpu_ratio, percent(host.cpu_ratio, 0), past.cpu),
    row("Memory", used, `${bytes(host.memory_available_bytes)} free`, past.memory),
    el("p", { class: "faint facts" }, told.join(" · ")));
}

export function drawEntropy(status) {
  const entropy = status.entropy;
  if (!changed("entropy", entropy)) return;
  byId("entropy-state").replaceChildren(entropy.source ? badge(entropy.healthy ? "healthy" : "failed", entropy.healthy ? "good" : "bad") : badge("no source", "idle"));
  const told = entropy.source
    ? [`source ${entropy.source}`, entropy.simulated ? "simulated" : "hardware", `${(entropy.raw_bits / 1e6).toFixed(1)} Mbit raw`, `${entropy.failures} failed tests`]
    : ["the operating system alone"];
  byId("entropy").replaceChildren(
    el("p", { class: "faint facts" }, told.join(" · ")),
    entropy.reason ? el("p", { class: "reason" }, entropy.reason) : el("p", { class: "hidden-label" }, "No failure."));
}

export async function drawRandom() {
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
