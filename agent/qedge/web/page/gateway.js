// The panel of attached devices: from the node's status, and its open incidents.

import { badge, el, sparkline } from "./charts.js";

const byId = (id) => document.getElementById(id);
const STATES = [["enrolled", "good"], ["invited", "idle"], ["pending", "warn"], ["quarantined", "bad"], ["revoked", "bad"]];
const TLS = { none: ["no TLS, frames are sealed", "idle"], classical: ["classical TLS", "warn"], x25519mlkem768: ["post-quantum TLS", "good"] };
const past = { last: null, taken: [], refused: [] };

const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

// Messages a second since the status before; a node that started anew counts from nothing.
function rates(gateway, utcNs) {
  const last = past.last;
  const seconds = last ? (utcNs - last.utcNs) / 1e9 : 0;
  if (seconds > 0 && seconds < 0.2) return;
  past.last = { taken: gateway.taken, refused: gateway.refused ?? gateway.denied, utcNs };
  if (!last || seconds <= 0) return;
  for (const name of ["taken", "refused"]) {
    past[name].push(Math.max(0, (past.last[name] - last[name]) / seconds));
    if (past[name].length > 90) past[name].shift();
  }
}

function figure(value, label, bad) {
  return el("div", {}, el("strong", { class: bad ? "big bad" : "big" }, value), el("span", { class: "faint" }, label));
}

function flow(name, values, perSecond) {
  const top = Math.max(1, ...values);
  return el("div", { class: "host-row flow" }, el("span", {}, name),
    sparkline(values, { max: top, label: `${name}, last ${values.length} samples` }), el("span", { class: "num" }, `${number(perSecond)} /s`));
}

export function drawGateway(status) {
  const gateway = status.gateway;
  byId("gateway-card").hidden = !gateway;
  if (!gateway) return;
  rates(gateway, status.utc_ns);
  const [tls, tlsTone] = TLS[gateway.tls] ?? [gateway.tls, "warn"];
  byId("gateway-state").replaceChildren(
    gateway.incidents ? badge(`${gateway.incidents} open incident${gateway.incidents > 1 ? "s" : ""}`, "bad") : badge("no incident", "good"));
  const states = STATES.filter(([name]) => gateway.states?.[name]).map(([name, tone]) => badge(`${number(gateway.states[name])} ${name}`, tone));
  const ways = [...(gateway.addresses ?? []), gateway.through_broker ? "the broker" : ""].filter(Boolean);
  const source = { none: "none: everything is denied", file: "a file of this node", fleet: "signed by the fleet" }[gateway.policy_source] ?? gateway.policy_source;
  byId("gateway").replaceChildren(
    el("div", { class: "link-figures" },
      figure(number(gateway.devices), "devices"), figure(number(gateway.sessions), "sessions"), figure(number(gateway.connections), "connections")),
    el("div", { class: "workers" }, ...states),
    flow("Taken", past.taken, past.taken.at(-1) ?? 0),
    flow("Refused", past.refused, past.refused.at(-1) ?? 0),
    el("dl", { class: "gateway-facts" },
      el("dt", {}, "Listens at"), el("dd", {}, ways.join(", ") || "nowhere", " ", badge(tls, tlsTone)),
      el("dt", {}, "Policy"), el("dd", {}, `${number(gateway.policy_rules)} rule${gateway.policy_rules === 1 ? "" : "s"}, ${source}`),
      el("dt", {}, "Segments"), el("dd", {}, (gateway.segments ?? []).join(", ") || "none"),
      el("dt", {}, "Since the start"), el("dd", {}, `${number(gateway.taken)} taken, ${number(gateway.denied)} denied by policy, ${number(Math.max(0, (gateway.refused ?? gateway.denied) - gateway.denied))} refused unread`)),
    gateway.paused ? el("p", { class: "reason" }, `takes no new connections: ${gateway.paused}`) : el("p", { class: "hidden-label" }, "Takes new connections."));
}

let drawn = "";

// An incident opens by Enter or a click; what is open stays so while others come and go.
export function drawIncidents(found) {
  const text = JSON.stringify(found.incidents);
  if (text === drawn) return;
  drawn = text;
  const box = byId("incidents");
  const open = new Set([...box.querySelectorAll("details[open]")].map((each) => each.dataset.id));
  const focused = document.activeElement?.closest?.("#incidents details")?.dataset.id;
  const observing = found.mode === "enforce" ? [] : [el("li", { class: "faint" }, "The node only observes: nothing is done by itself.")];
  box.replaceChildren(...observing, ...found.incidents.map((one) => {
    const acts = [...new Set((one.acts ?? []).map((act) => `${act.response.replaceAll("_", " ")}${act.outcome === "done" ? "" : ` (${act.outcome.replaceAll("_", " ")})`}`))];
    const rows = (one.rows ?? []).slice(-6).map((row) => el("li", {}, `${row.evidence.replaceAll("_", " ")}: ${row.detail ?? ""}`));
    return el("li", {}, el("details", { "data-id": one.id, open: open.has(one.id) },
      el("summary", {}, el("strong", {}, one.subject), " ", el("span", { class: "faint" }, one.evidence.replaceAll("_", " ")), " ", badge(one.state, one.state === "contained" ? "warn" : "bad")),
      el("ul", { class: "faint facts" }, ...rows)),
    el("p", { class: "faint facts" }, `response: ${acts.join(", ") || "none yet"}${one.acknowledged_by ? ` · seen by ${one.acknowledged_by}` : ""}`));
  }));
  if (focused) box.querySelector(`details[data-id="${CSS.escape(focused)}"] summary`)?.focus();
}
