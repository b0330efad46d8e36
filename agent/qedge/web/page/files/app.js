// The page: trades its one-time link for a session, follows the node's events, and hands what they say to the panels.

import { call, follow, metrics, session, tryNow } from "./api.js";
import { offerNodes, placeOn, startCircuit } from "./circuit.js";
import { byId, clock } from "./draw.js";
import { drawDevices, drawIncidents } from "./devices.js";
import { drawEvents, takeEvent, takeGap } from "./events.js";
import { drawDrivers, drawEntropy, drawHead, drawHost, drawRandom, drawServices, drawTiles } from "./host.js";
import { allJobs, loadJobs, setOwn, startJobs, takeJob } from "./jobs.js";
import { drawLinks, startLinks, takeStored } from "./links.js";
import { drawMap, startMap } from "./map.js";
import { drawNode, drawNodeTable, loadOf } from "./node.js";

const PEERS_MS = 2000;
const COLOURS = ["system", "light", "dark"];
const state = { status: null, peers: [], incidents: null, chosen: "" };
let peersTimer = 0, statusPending = 0, lostSince = "", retry = 0, started = false;

// --- the way in

async function begin() {
  const token = new URLSearchParams(location.hash.slice(1)).get("link");
  if (token) {
    history.replaceState(null, "", location.pathname);
    try { await session.redeem(token); } catch (problem) { return showGate(problem); }
  }
  if (!session.known()) return showGate();
  session.closed = false;
  try {
    state.status = await call("GET", "/v1/status");
    await Promise.all([loadJobs(), askPeers()]);
  } catch (problem) {
    if (session.closed) return;
    say(problem.message, "bad");
  }
  byId("gate").hidden = true;
  byId("dashboard").hidden = false;
  if (!started) startMap(choose);
  started = true;
  if (state.status) drawStatus(state.status);
  drawPeers();
  follow({ status: takeStatus, job: takeJob, event: takeEvent, gap: takeGap, state: connection });
  peersTimer = setTimeout(followPeers, PEERS_MS);
}

function showGate(problem) {
  session.closed = true;
  if (problem?.message && problem.code === "access.no_session") byId("gate-reason").textContent = problem.message;
  byId("gate").hidden = false;
  byId("dashboard").hidden = true;
  byId("ready").textContent = "locked";
  byId("ready").dataset.tone = "idle";
  connection("closed", 0);
}

// --- the connection

function say(text, colour = "idle") {
  const feed = byId("feed");
  if (feed.textContent !== text) feed.textContent = text;
  feed.dataset.tone = colour;
}

function connection(name, pauseMs) {
  clearInterval(retry);
  const lost = name === "lost";
  byId("lost").hidden = !lost;
  document.body.dataset.lost = String(lost);
  if (!lost) {
    lostSince = "";
    return name === "live" ? say("live", "good") : say("");
  }
  lostSince ||= clock(Date.now() * 1e6);
  say("trying again …", "bad");
  byId("ready").textContent = "no answer";
  byId("ready").dataset.tone = "bad";
  byId("lost-text").textContent = `The node has not answered since ${lostSince}. What you see is from then.`;
  const until = Date.now() + pauseMs;
  const count = () => { byId("lost-wait").textContent = `Next try in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s`; };
  count();
  retry = setInterval(count, 500);
}

// --- status and peers

// Where drawing takes longer than the time between two statuses, only the newest is drawn.
function takeStatus(status) {
  state.status = status;
  statusPending ||= setTimeout(() => { statusPending = 0; if (!session.closed) drawStatus(state.status); }, 0);
}

function drawStatus(status) {
  state.status = status;
  setOwn(status.node);
  drawHead(status);
  drawTiles(status, state.peers, state.incidents?.open ?? 0);
  drawServices(status);
  drawDrivers(status);
  drawHost(status);
  drawDevices(status);
  drawEntropy(status);
  drawLinks(status);
  drawMesh();
}

// Asked for, because a large fleet changes all the time and nobody reads it that fast.
async function askPeers() {
  const links = state.status?.links ?? [];
  const [fleet, incidents, text] = await Promise.all([
    call("GET", "/v1/peers"),
    state.status?.gateway ? call("GET", "/v1/incidents?limit=20&all=0").catch(() => null) : null,
    links.some((link) => link.state) ? metrics().catch(() => "") : "",
  ]);
  state.peers = fleet.peers;
  state.incidents = incidents;
  takeStored(text);
}

async function followPeers() {
  clearTimeout(peersTimer);
  if (session.closed) return;
  if (!document.hidden) {
    try {
      await askPeers();
      drawPeers();
    } catch { /* the event stream says that the node does not answer */ }
  }
  peersTimer = setTimeout(followPeers, PEERS_MS);
}

function drawPeers() {
  const { peers, status } = state;
  const alive = peers.filter((peer) => peer.state === "alive").length;
  byId("fleet-count").textContent = status?.standalone ? "standalone" : `${alive} of ${peers.length} nodes alive`;
  offerNodes(peers);
  drawNodeTable(peers, status, choose);
  drawIncidents(state.incidents, status?.utc_ns ?? Date.now() * 1e6);
  if (status) drawTiles(status, peers, state.incidents?.open ?? 0);
  drawMesh();
}

function drawMesh() {
  const { peers, status } = state;
  const peer = peers.find((one) => one.node === state.chosen) ?? peers.find((one) => one.own);
  if (!peer || !started) return;
  state.chosen = peer.node;
  drawMap({ peers, links: status?.links ?? [], load: (one) => loadOf(one, status).busy }, state.chosen);
  drawNode(peer, status, allJobs(), placeOn);
}

function choose(name) {
  state.chosen = name;
  drawMesh();
}

// --- colours

function showColours() {
  const chosen = document.documentElement.dataset.colours ?? "system";
  const next = COLOURS[(COLOURS.indexOf(chosen) + 1) % COLOURS.length];
  byId("colours").setAttribute("aria-label", `Colours: ${chosen}. Press for ${next}.`);
  byId("colours").title = `Colours: ${chosen}`;
  byId("colours").dataset.chosen = chosen;
  return next;
}

function changeColours() {
  const next = showColours();
  try {
    if (next === "system") localStorage.removeItem("qedge-colours");
    else localStorage.setItem("qedge-colours", next);
  } catch { /* no storage: until the page is closed */ }
  if (next === "system") delete document.documentElement.dataset.colours;
  else document.documentElement.dataset.colours = next;
  showColours();
}

// --- where one is on the page

function followSections() {
  const links = new Map([...document.querySelectorAll(".sections a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) seen.add(entry.target.id); else seen.delete(entry.target.id);
    const first = [...links.keys()].find((id) => seen.has(id)) ?? (scrollY < innerHeight / 2 ? "mesh" : "");
    for (const [id, link] of links) if (id === first) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }, { rootMargin: "-80px 0px -45% 0px" });
  for (const id of links.keys()) observer.observe(byId(id));
}

session.onClosed = showGate;
const complain = (text) => say(text, "bad");
startJobs(complain);
startLinks(complain);
startCircuit();
drawEvents();
showColours();
followSections();
byId("draw-button").addEventListener("click", drawRandom);
byId("colours").addEventListener("click", changeColours);
byId("all-nodes").addEventListener("toggle", () => drawNodeTable(state.peers, state.status, choose));
byId("lost-now").addEventListener("click", tryNow);
addEventListener("hashchange", () => { if (location.hash.includes("link=")) location.reload(); });
begin();
