// QKD links: what they give and what they lose, over the time that the page is open.

import { call } from "./api.js";
import { qberChart, sparkline } from "./charts.js";
import { badge, bits, byId, el, empty, number, percent, redraw } from "./draw.js";

const WINDOWS = 40;
const SAMPLES = 120;
const QBER_LIMIT = 0.11;
const KEY_BITS = 256;
const TONES = { running: "good", quarantined: "bad", stopped: "bad", waiting: "warn", full: "idle" };
const SERIES = /^qedge_qkd_key_bits\{[^}]*link="([^"]*)"[^}]*place="(waiting|own|theirs)"[^}]*\} (\S+)$/gm;

const past = {}; // link → its windows, and its key rate once a status
const measuring = new Set();
let stored = new Map(), status = null, complain = () => {};

export function startLinks(onProblem) { complain = onProblem; }

export function drawLinks(now) {
  status = now;
  for (const link of now.links ?? []) remember(link);
  draw();
}

// Key that nobody had yet, from the metrics: link → bits.
export function takeStored(text) {
  const found = new Map();
  for (const [, link, , value] of text.matchAll(SERIES)) found.set(link, (found.get(link) ?? 0) + Number(value));
  stored = found;
}

export const keyRate = (links) => links.filter((link) => link.state === "running").reduce((sum, link) => sum + link.key_bit_s, 0);

function remember(link) {
  const kept = (past[link.name] ??= { windows: [], rates: [] });
  if (link.state) {
    kept.rates.push(link.state === "running" ? link.key_bit_s : 0);
    if (kept.rates.length > SAMPLES) kept.rates.shift();
  }
  if (link.qber < 0) return;
  const last = kept.windows.at(-1);
  if (last && last.qber === link.qber && last.sifted === link.sifted && last.errors === link.errors && last.block === link.last_block) return;
  kept.chart = null;
  kept.windows.push({ qber: link.qber, sifted: link.sifted, errors: link.errors, block: link.last_block });
  if (kept.windows.length > WINDOWS) kept.windows.shift();
}

async function measure(name) {
  measuring.add(name);
  draw();
  try {
    const link = await call("POST", `/v1/links/${encodeURIComponent(name)}/measure`, {});
    status.links = status.links.map((one) => (one.name === name ? link : one));
    remember(link);
  } catch (problem) {
    complain(problem.message);
  } finally {
    measuring.delete(name);
    draw();
  }
}

const figure = (value, label, bad) => el("div", {}, el("strong", { class: bad ? "big bad" : "big" }, value), el("span", { class: "faint" }, label));

function distilled(link) {
  if (!link.state) return [];
  const running = link.state === "running" && link.blocks > 0;
  const kept = stored.get(link.name);
  return [
    figure(running ? bits(link.key_bit_s, "bit/s") : "–", "secret key"),
    kept === undefined ? null : figure(bits(kept), `stored: ${number(Math.floor(kept / KEY_BITS))} keys of ${KEY_BITS}`),
  ];
}

function distilledFacts(link) {
  const told = [`${number(link.sifted)} sifted bits in the last block`, `${link.blocks} blocks gave ${(link.key_bits / 1e6).toFixed(2)} Mbit of key`, `${link.blocks_dropped} gave none`];
  if (link.efficiency) told.push(`f ${link.efficiency.toFixed(2)}`, `${link.wire_bits_per_sifted.toFixed(1)} bits said per sifted bit`);
  return [...told, `${link.authentication_bits} bits for authentication`].join(" · ");
}

// The chart of a link is drawn anew only when a window came.
function chartOf(link) {
  const kept = (past[link.name] ??= { windows: [], rates: [] });
  return (kept.chart ??= qberChart(kept.windows));
}

function over(link) {
  const rates = past[link.name]?.rates ?? [];
  if (!link.state) return null;
  const most = Math.max(0, ...rates), top = Math.max(1, most);
  return el("figure", { class: "over" },
    el("figcaption", { class: "faint" }, most ? `Secret key rate, up to ${bits(most, "bit/s")}` : "Secret key rate: no key since the page was opened"),
    sparkline(rates, { max: top * 1.2, label: `Secret key rate of ${link.name}, last ${rates.length} samples` }));
}

function draw() {
  const links = status.links ?? [];
  byId("keys-count").textContent = links.length ? `${links.length} link${links.length > 1 ? "s" : ""} of this node` : "";
  if (!links.length) {
    redraw(byId("links"), [el("article", { class: "card" }, empty("No quantum link is configured. Two nodes with a QKD device each share one by a section [qkd.links.NAME] in the configuration of both. What it could give:", "qedge qkd --help"))]);
    return;
  }
  redraw(byId("links"), links.map((link) => {
    const eve = status.drivers.find((one) => one.name === link.alice)?.properties?.eve_fraction;
    const measured = link.qber >= 0;
    const ends = `${link.alice || link.peer} → ${link.bob || link.peer}`;
    const busy = measuring.has(link.name);
    return el("article", { class: "card link", "aria-label": `Quantum link ${link.name}` },
      el("div", { class: "row-head" },
        el("h3", {}, link.name), el("span", { class: "faint" }, ends), el("span", { class: "spacer" }),
        link.state ? badge(link.state, TONES[link.state] ?? "warn") : null,
        eve === undefined ? null : badge(eve > 0 ? `eavesdropper on${eve < 1 ? ` ${Math.round(eve * 100)} %` : ""}` : "no eavesdropper", eve > 0 ? "bad" : "good")),
      el("div", { class: "figures" },
        ...distilled(link),
        figure(measured ? percent(link.qber) : "–", link.state ? "error rate" : "raw error rate", measured && link.qber > QBER_LIMIT),
        link.state ? null : figure(measured ? number(link.sifted) : "–", "sifted bits")),
      over(link),
      chartOf(link),
      el("p", { class: "faint facts" }, link.state ? distilledFacts(link) : link.verdict || "Not measured yet."),
      link.state && link.reason ? el("p", { class: "reason" }, link.reason) : null,
      link.state ? null : el("button", { type: "button", class: "quiet", "data-focus-key": `measure-${link.name}`, disabled: busy, on: { click: () => measure(link.name) } }, busy ? "measuring …" : "Measure a window"));
  }));
}
