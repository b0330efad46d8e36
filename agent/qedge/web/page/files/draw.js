// Building elements without ever parsing text as HTML, and writing numbers for people.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const TONES = {
  ready: "good", up: "good", busy: "good", done: "good", running: "busy", queued: "idle", starting: "idle",
  unlocked: "good", degraded: "warn", locked: "warn", cancelled: "warn", expired: "warn",
  alive: "good", suspect: "warn", dead: "bad", left: "idle", revoked: "bad", duplicate: "bad",
  backoff: "bad", down: "bad", failed: "bad", stopped: "idle", finished: "idle", ok: "good", unknown: "idle",
};

export const tone = (state) => TONES[state] ?? "warn";

export function badge(text, colour) {
  return el("span", { class: "badge", "data-tone": colour }, text);
}

// What to show where there is nothing, and what to do about it: commands stand in `code`.
export function empty(text, ...commands) {
  return el("div", { class: "empty" }, el("p", {}, text), ...commands.map((command) => el("code", {}, command)));
}

export function facts(rows) {
  return el("dl", { class: "facts-list" }, ...rows.filter(Boolean).flatMap(([name, ...value]) => [el("dt", {}, name), el("dd", {}, ...value)]));
}

// Puts new children in, and the focus back on the one with the same `data-focus-key`.
export function redraw(box, children) {
  const active = document.activeElement;
  const key = box.contains(active) ? active.dataset.focusKey : undefined;
  box.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  if (key) box.querySelector(`[data-focus-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

const said = new Map();

// Whether something is to be drawn: what it is drawn from is not what it was the last time.
export function changed(name, ...facts) {
  const text = JSON.stringify(facts);
  if (said.get(name) === text) return false;
  said.set(name, text);
  return true;
}

export function shorten(text, limit) {
  if (text.length <= limit) return text;
  const tail = Math.floor((limit - 1) / 2);
  return `${text.slice(0, limit - 1 - tail)}…${text.slice(text.length - tail)}`;
}

export const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${value.toFixed(at ? 1 : 0)} ${units[at]}`;
}

export function bits(value, unit = "bit") {
  const [size, prefix] = value >= 1e9 ? [1e9, "G"] : value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  const scaled = value / size;
  return `${scaled.toFixed(size === 1 || scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2)} ${prefix}${unit}`;
}

export const percent = (share, digits = 2) => `${(share * 100).toFixed(digits)} %`;

export function duration(seconds) {
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days ${hours % 24} h`;
}

// One unit, for columns and facts: `8 s`, `12 min`, `3 h`, `2 days`.
export function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} days`;
}

export const clock = (utcNs) => new Date(utcNs / 1e6).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

// `box-2` before `box-10`, the same in every browser.
export function natural(a, b) {
  const left = a.split(/(\d+)/), right = b.split(/(\d+)/);
  for (let i = 0; i < Math.min(left.length, right.length); i += 1) {
    if (left[i] === right[i]) continue;
    if (i % 2) return Number(left[i]) - Number(right[i]) || (left[i] < right[i] ? -1 : 1);
    return left[i] < right[i] ? -1 : 1;
  }
  return left.length - right.length;
}
