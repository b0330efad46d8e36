// Attached devices, from the node's status, and the open incidents.

import { sparkline, stack } from "./charts.js";
import { badge, byId, el, empty, facts, number, redraw, span } from "./draw.js";

const SAMPLES = 120;
const STATES = [["enrolled", "good"], ["invited", "idle"], ["pending", "warn"], ["quarantined", "bad"], ["revoked", "bad"]];
const TLS = { none: ["no TLS, frames are sealed", "idle"], classical: ["classical TLS", "warn"], x25519mlkem768: ["post-quantum TLS", "good"] };
const SOURCES = { none: "none: everything is denied", file: "a file of this node", fleet: "signed by the fleet" };
const past = { last: null, taken: [], refused: [] };

// Messages a second since the status before; a node that started anew counts from nothing.
function rates(gateway, utcNs) {
  const last = past.last;
  const seconds = last ? (utcNs - last.utcNs) / 1e9 : 0;
  if (seconds > 0 && seconds < 0.2) return;
  past.last = { taken: gateway.taken, refused: gateway.refused ?? gateway.denied, utcNs };
  if (!last || seconds <= 0) return;
  for (const name of ["taken", "refused"]) {
    past[name].push(Math.max(0, (past.last[name] - last[name]) / seconds));
    if (past[name].length > SAMPLES) past[name].shift();
  }
}

const figure = (value, label) => el("div", {}, el("strong", { class: "big" }, value), el("span", { class: "faint" }, label));

function flow(name, values, perSecond) {
  const top = Math.max(1, ...values);
  return el("div", { class: "flow" }, el("span", {}, name),
    sparkline(values, { max: top * 1.2, label: `${name}, last ${values.length} samples` }), el("span", { class: "num" }, `${number(perSecond)} /s`));
}

export function drawDevices(status) {
  const gateway = status.gateway;
  if (!gateway) {
    byId("gateway-state").replaceChildren(badge("takes none", "idle"));
    redraw(byId("gateway"), [empty("This node takes no devices. Set enabled = true under [devices] in its configuration, restart it, and invite the first:", "qedge device invite meter-1")]);
    return;
  }
  rates(gateway, status.utc_ns);
  const [tls, tlsTone] = TLS[gateway.tls] ?? [gateway.tls, "warn"];
  byId("gateway-state").replaceChildren(gateway.paused ? badge("paused", "warn") : badge("takes devices", "good"));
  const known = STATES.filter(([name]) => gateway.states?.[name]);
  const ways = [...(gateway.addresses ?? []), gateway.through_broker ? "the broker" : ""].filter(Boolean);
  const refused = Math.max(0, (gateway.refused ?? gateway.denied) - gateway.denied);
  redraw(byId("gateway"), [
    el("div", { class: "figures" }, figure(number(gateway.devices), "devices"), figure(number(gateway.sessions), "sessions"), figure(number(gateway.connections), "connections")),
    stack(known.map(([name, colour]) => [name, gateway.states[name], colour, number(gateway.states[name])]), "Devices by state"),
    el("div", { class: "badges" }, ...known.map(([name, colour]) => badge(`${number(gateway.states[name])} ${name}`, colour))),
    flow("Taken", past.taken, past.taken.at(-1) ?? 0),
    flow("Refused", past.refused, past.refused.at(-1) ?? 0),
    facts([
      ["Listens at", ways.join(", ") || "nowhere", " ", badge(tls, tlsTone)],
      ["Policy", `${number(gateway.policy_rules)} rule${gateway.policy_rules === 1 ? "" : "s"}, ${SOURCES[gateway.policy_source] ?? gateway.policy_source}`],
      ["Segments", (gateway.segments ?? []).join(", ") || "none"],
      ["Since the start", `${number(gateway.taken)} taken, ${number(gateway.denied)} denied by policy, ${number(refused)} refused unread`],
    ]),
    gateway.devices ? null : empty("No device yet:", "qedge device invite meter-1"),
    gateway.paused ? el("p", { class: "reason" }, `takes no new connections: ${gateway.paused}`) : null,
  ]);
}

let drawn = "";

function incident(one, open, nowNs) {
  const acts = [...new Set((one.acts ?? []).map((act) => `${act.response.replaceAll("_", " ")}${act.outcome === "done" ? "" : ` (${act.outcome.replaceAll("_", " ")})`}`))];
  const rows = (one.rows ?? []).slice(-6).map((row) => el("li", {}, `${row.evidence.replaceAll("_", " ")}: ${row.detail ?? ""}`));
  return el("li", {}, el("details", { "data-id": one.id, open: open.has(one.id) },
    el("summary", { "data-focus-key": `incident-${one.id}` }, el("strong", {}, one.subject), " ", el("span", { class: "faint" }, one.evidence.replaceAll("_", " ")), " ",
      badge(one.state, one.state === "contained" ? "warn" : "bad"), el("span", { class: "faint" }, ` ${span(Math.max(0, nowNs - one.opened_utc_ns) / 1e9)} ago`)),
    el("ul", { class: "faint facts" }, ...rows),
    el("p", { class: "faint facts" }, "When it is dealt with: ", el("code", {}, `qedge incident resolve ${one.id}`))),
  el("p", { class: "faint facts" }, `response: ${acts.join(", ") || "none yet"}${one.acknowledged_by ? ` · seen by ${one.acknowledged_by}` : ""}`));
}

// An incident opens by Enter or a click; what is open stays so while others come and go.
export function drawIncidents(found, nowNs) {
  const text = JSON.stringify(found?.incidents ?? null);
  if (text === drawn) return;
  drawn = text;
  const box = byId("incidents");
  const all = found?.incidents ?? [];
  byId("incidents-state").replaceChildren(all.length ? badge(`${all.length} open incident${all.length > 1 ? "s" : ""}`, "bad") : badge("no incident", "good"));
  if (!all.length) {
    redraw(box, [el("li", {}, empty(found ? "Nothing is suspicious now. Past incidents:" : "Incidents are about attached devices, and this node takes none.", ...(found ? ["qedge incident list --all"] : [])))]);
    return;
  }
  const open = new Set([...box.querySelectorAll("details[open]")].map((each) => each.dataset.id));
  const observing = found.mode === "enforce" ? [] : [el("li", { class: "faint" }, "The node only observes: nothing is done by itself.")];
  redraw(box, [...observing, ...all.map((one) => incident(one, open, nowNs))]);
}
