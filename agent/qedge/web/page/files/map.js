// The map of the mesh: nodes as circles, the links of this node between them.

import { bits, byId, changed, natural, shorten, svg, tone } from "./draw.js";
import { layout, neighbour } from "./layout.js";

const MARKS = { suspect: "?", dead: "×", left: "–", revoked: "⊘", duplicate: "!" };
const LABEL_WIDTH = 6.4; // of a character, in pixels
const BESIDE = 5; // pixels
const ROOM_FOR_RATE = 130; // pixels between two nodes
const FEW = 12; // nodes up to which every rate is written beside its link
const nodes = new Map(); // name → the elements of a node
let figure = null, edges = null, circles = null, marks = null;
let places = new Map(), drawn = "", rover = "", chosen = "", onChoose = () => {};
let latest = { peers: [], links: [], load: () => -1 };

export function startMap(choose) {
  onChoose = choose;
  edges = svg("g", { class: "edges", "aria-hidden": "true" });
  marks = svg("g", { class: "rates", "aria-hidden": "true" });
  circles = svg("g", {});
  figure = svg("svg", { class: "mesh", role: "group", "aria-label": "Nodes of the fleet. Arrow keys go from node to node, Enter shows one." }, edges, circles, marks);
  byId("map").replaceChildren(figure);
  figure.addEventListener("keydown", move);
  new ResizeObserver(() => drawMap(latest, chosen)).observe(byId("map"));
}

// `links` are those of this node, `load(peer)` a share 0 … 1 or −1.
export function drawMap(facts, selected) {
  latest = facts;
  chosen = selected;
  const box = byId("map");
  const width = box.clientWidth, height = box.clientHeight;
  const own = facts.peers.find((peer) => peer.own);
  if (!width || !own) return;
  const linked = new Set(facts.links.map((link) => link.peer));
  const others = facts.peers.filter((peer) => !peer.own)
    .sort((a, b) => linked.has(b.node) - linked.has(a.node) || natural(a.node, b.node)).map((peer) => peer.node);
  const found = layout(own.node, others, width, height);
  places = found.places;
  figure.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const radius = Math.max(9, Math.min(24, found.gap * 0.21));
  figure.dataset.crowd = found.gap < 58 ? "dense" : "loose";
  if (!places.has(rover)) rover = own.node;
  drawEdges(facts, own, radius);
  for (const [name, each] of nodes) if (!places.has(name)) { each.group.remove(); nodes.delete(name); }
  for (const peer of facts.peers) drawNode(peer, radius, found.gap, facts);
  order(facts.peers);
}

// In the order of names, so that a screen reader reads them so.
function order(peers) {
  const names = [...places.keys()].sort((a, b) => natural(a, b));
  if (drawn === names.join()) return;
  drawn = names.join();
  const active = document.activeElement;
  circles.append(...names.map((name) => nodes.get(name)?.group).filter(Boolean));
  if (peers.length && circles.contains(active)) active.focus({ preventScroll: true });
}

function makeNode(name) {
  const each = {
    halo: svg("circle", { class: "halo" }), target: svg("circle", { class: "target" }), body: svg("circle", { class: "body" }),
    load: svg("circle", { class: "load", pathLength: 100 }), mark: svg("text", { class: "mark", "text-anchor": "middle", dy: "0.36em" }),
    qpu: svg("circle", { class: "qpu" }), label: svg("text", { class: "label", "text-anchor": "middle" }), title: svg("title"),
  };
  each.group = svg("g", { class: "node", role: "button", tabindex: "-1" }, each.title, each.target, each.halo, each.body, each.load, each.mark, each.qpu, each.label);
  each.group.addEventListener("click", () => { rove(name); onChoose(name); });
  nodes.set(name, each);
  return each;
}

function drawNode(peer, radius, gap, facts) {
  const each = nodes.get(peer.node) ?? makeNode(peer.node);
  const place = places.get(peer.node);
  const r = peer.own ? radius * 1.25 : radius;
  const qpus = (peer.capabilities ?? []).filter((one) => one.kind === "qpu").length;
  const load = facts.load(peer);
  const { group } = each;
  const words = [peer.node, peer.own ? "this node" : "", peer.state, qpus ? `${qpus} QPU${qpus > 1 ? "s" : ""}` : "no QPU", load >= 0 ? `load ${Math.round(load * 100)} percent` : ""].filter(Boolean).join(", ");
  const sketch = [place, r, words, gap, peer.node === rover, peer.node === chosen].map((one) => JSON.stringify(one)).join();
  if (each.sketch === sketch) return;
  each.sketch = sketch;
  group.setAttribute("transform", `translate(${place.x.toFixed(1)} ${place.y.toFixed(1)})`);
  group.dataset.tone = tone(peer.state);
  group.dataset.own = String(Boolean(peer.own));
  group.setAttribute("tabindex", peer.node === rover ? "0" : "-1");
  group.setAttribute("aria-pressed", String(peer.node === chosen));
  group.setAttribute("aria-label", words);
  each.title.textContent = words;
  each.body.setAttribute("r", r);
  each.target.setAttribute("r", Math.max(16, r + 4));
  each.halo.setAttribute("r", r + 6);
  each.load.setAttribute("r", r + 2.6);
  each.load.setAttribute("stroke-dasharray", load >= 0 ? `${Math.round(load * 100)} 100` : "0 100");
  each.mark.textContent = MARKS[peer.state] ?? (qpus && r >= 13 ? String(qpus) : "");
  each.mark.setAttribute("font-size", Math.round(r * 0.95));
  each.qpu.setAttribute("r", qpus && r < 13 && peer.state === "alive" ? 2.6 : 0);
  each.label.setAttribute("y", r + 15);
  each.label.textContent = shorten(peer.node, Math.max(6, Math.floor((gap - 6) / LABEL_WIDTH)));
  each.label.dataset.always = String(Boolean(peer.own || peer.node === chosen || (peer.state !== "alive" && peer.state !== "left")));
}

function drawEdges(facts, own, radius) {
  const open = facts.peers.map((peer) => [peer.node, peer.session?.state, peer.session?.path, peer.session?.extra_key]);
  const flows = facts.links.map((link) => [link.peer, link.state, link.qber, link.key_bit_s]);
  if (!changed("edges", [...places], open, flows, chosen)) return;
  const byPeer = new Map(facts.links.filter((link) => link.peer).map((link) => [link.peer, link]));
  const here = places.get(own.node);
  const lines = [], rates = [];
  for (const peer of facts.peers) {
    if (peer.own) continue;
    const there = places.get(peer.node), link = byPeer.get(peer.node), session = peer.session ?? {};
    if (!link && session.state !== "open") continue;
    const at = { x1: here.x, y1: here.y, x2: there.x, y2: there.y };
    const beside = link ? aside(here, there) : at;
    const shown = String(peer.node === chosen);
    if (session.state === "open") lines.push(svg("line", { ...beside, class: "session", "data-path": session.path, "data-key": String(Boolean(session.extra_key)), "data-shown": shown }));
    if (!link) continue;
    const well = link.state === "running" || (!link.state && link.qber >= 0 && link.qber <= 0.11);
    const colour = well ? "good" : link.state === "quarantined" || link.state === "stopped" ? "bad" : "idle";
    lines.push(svg("line", { ...at, class: "link-line", "data-tone": colour, "data-shown": shown }));
    if (facts.peers.length > FEW && peer.node !== chosen) continue;
    if (Math.hypot(there.x - here.x, there.y - here.y) < ROOM_FOR_RATE) continue;
    const text = link.state === "running" ? bits(link.key_bit_s, "bit/s") : link.state || "not measured";
    rates.push(rate(text, here, there, radius, colour));
  }
  edges.replaceChildren(...lines);
  marks.replaceChildren(...rates);
}

// A line beside the one from `here` to `there`, so that a session is seen along a quantum link.
function aside(here, there) {
  const length = Math.hypot(there.x - here.x, there.y - here.y) || 1;
  const dx = (-(there.y - here.y) / length) * BESIDE, dy = ((there.x - here.x) / length) * BESIDE;
  return { x1: here.x + dx, y1: here.y + dy, x2: there.x + dx, y2: there.y + dy };
}

// A small plate on the middle of a link.
function rate(text, here, there, radius, colour) {
  const width = text.length * 6.3 + 16, x = here.x + (there.x - here.x) * 0.5, y = here.y + (there.y - here.y) * 0.5;
  const label = svg("text", { x, y, dy: "0.36em", "text-anchor": "middle" });
  label.textContent = text;
  return svg("g", { class: "rate", "data-tone": colour }, svg("rect", { x: x - width / 2, y: y - 10, width, height: 20, rx: 10 }), label);
}

function rove(name) {
  nodes.get(rover)?.group.setAttribute("tabindex", "-1");
  rover = name;
  nodes.get(rover)?.group.setAttribute("tabindex", "0");
}

function move(event) {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    onChoose(rover);
    return;
  }
  const own = latest.peers.find((peer) => peer.own)?.node;
  const next = event.key.startsWith("Arrow") ? neighbour(places, rover, event.key) : event.key === "Home" ? own : "";
  if (!next) return;
  event.preventDefault();
  rove(next);
  nodes.get(rover).group.focus();
}
