// What happened at the node, newest first; jobs have a table of their own.

import { byId, clock, el, empty } from "./draw.js";

const MOST = 60;
const TONES = { warning: "warn", error: "bad" };
const kept = [];
let pending = 0;

const row = (tone, when, name, text) => el("li", { "data-tone": tone },
  el("span", { class: "dot-mark", "aria-hidden": "true" }), el("time", { class: "faint" }, when), el("code", {}, name), el("span", { class: "faint" }, text));

export function drawEvents() {
  pending = 0;
  byId("events").replaceChildren(...(kept.length ? [...kept].reverse() : [el("li", {}, empty("Nothing has happened since the page was opened. What was before:", "qedge events"))]));
}

function keep(item) {
  kept.push(item);
  if (kept.length > MOST) kept.shift();
  pending ||= requestAnimationFrame(drawEvents);
}

export function takeEvent(event) {
  const told = Object.entries(event.fields ?? {}).filter(([, value]) => value !== "" && value !== null).map(([name, value]) => `${name} ${value}`);
  keep(row(TONES[event.level] ?? "good", clock(event.utc_ns), event.name, told.join(" · ")));
}

export function takeGap(gap) {
  keep(row("idle", "", "gap", gap.missed < 0 ? "the node was started anew" : `${gap.missed} events are no longer kept`));
}
