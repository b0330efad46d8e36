// Charts as inline SVG.

import { el, percent, shorten, svg } from "./draw.js";

const MAX_SHOWN = 16;

// A small line of recent values. `max` fixes the top of the scale.
export function sparkline(values, { max = 1, label = "" } = {}) {
  const width = 120, height = 28;
  const figure = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "spark", role: "img", "aria-label": label, preserveAspectRatio: "none" });
  if (values.length < 2) return figure;
  const step = width / (values.length - 1);
  const points = values.map((value, i) => `${(i * step).toFixed(1)},${(height - 2 - Math.min(1, value / max) * (height - 4)).toFixed(1)}`);
  figure.append(
    svg("polygon", { points: `0,${height} ${points.join(" ")} ${width},${height}`, class: "spark-area" }),
    svg("polyline", { points: points.join(" "), class: "spark-line", "vector-effect": "non-scaling-stroke" }),
  );
  return figure;
}

// A share 0 … 1 as a bar.
export function meter(share, tone, label) {
  const bar = el("div", { class: "meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share * 100), "aria-label": label, "data-tone": tone });
  const fill = el("i");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  bar.append(fill);
  return bar;
}

// Parts of a whole as one bar: rows of [name, value, tone, text].
export function stack(parts, label) {
  const total = parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  return el("div", { class: "stack", role: "img", "aria-label": `${label}: ${parts.map(([name, , , text]) => `${name} ${text}`).join(", ")}` },
    ...parts.filter(([, value]) => value > 0).map(([name, value, tone, text]) => {
      const part = el("i", { "data-tone": tone, title: `${name}: ${text}` });
      part.style.flexGrow = String(Math.max(value / total, 0.006));
      return part;
    }));
}

// Counts of a job: the most frequent outcomes, one row each.
export function histogram(counts, shots) {
  const all = Object.entries(counts).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const shown = all.slice(0, MAX_SHOWN);
  const top = shown.length ? shown[0][1] : 1;
  const list = el("ol", { class: "histogram", "aria-label": "Outcomes" });
  for (const [bits, count] of shown) {
    const fill = el("i");
    fill.style.width = `${(count / top) * 100}%`;
    list.append(
      el("li", { title: `${bits}: ${count} of ${shots}` },
        el("code", {}, shorten(bits || "(none)", 28)),
        el("span", { class: "bar", "aria-hidden": "true" }, fill),
        el("span", { class: "num" }, count.toLocaleString("en")),
        el("span", { class: "num faint" }, `${((count / shots) * 100).toFixed(1)} %`)),
    );
  }
  const rest = all.length - shown.length;
  if (!rest) return list;
  const left = all.slice(MAX_SHOWN).reduce((sum, [, count]) => sum + count, 0);
  return el("div", {}, list, el("p", { class: "faint" }, `and ${rest} more outcomes with ${left.toLocaleString("en")} shots`));
}

// Raw error rate over time, with the line above which no key can be made.
export function qberChart(points, limit = 0.11) {
  const width = 420, height = 128, left = 34, bottom = 8, top = 8, right = 8;
  const most = Math.max(0.15, ...points.map((point) => point.qber * 1.1));
  const x = (i) => left + (points.length < 2 ? 0.5 : i / (points.length - 1)) * (width - left - right);
  const y = (value) => top + (1 - value / most) * (height - top - bottom);
  const latest = points.at(-1);
  const figure = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": latest ? `Error rate of the last ${points.length} windows; now ${percent(latest.qber)}` : "No window yet" });
  figure.append(svg("rect", { x: left, y: y(most), width: width - left - right, height: y(limit) - y(most), class: "danger-zone" }));
  const step = most > 0.3 ? 0.1 : 0.05;
  for (let mark = 0; mark <= most + 1e-9; mark += step) {
    const text = svg("text", { x: left - 6, y: y(mark) + 3.5, class: "axis", "text-anchor": "end" });
    text.textContent = `${Math.round(mark * 100)} %`;
    figure.append(svg("line", { x1: left, x2: width - right, y1: y(mark), y2: y(mark), class: "grid" }), text);
  }
  const note = svg("text", { x: left + 6, y: y(limit) - 5, class: "axis limit-text" });
  note.textContent = `no key above ${Math.round(limit * 100)} %`;
  figure.append(svg("line", { x1: left, x2: width - right, y1: y(limit), y2: y(limit), class: "limit" }), note);
  if (points.length > 1) figure.append(svg("polyline", { points: points.map((point, i) => `${x(i)},${y(point.qber)}`).join(" "), class: "qber-line" }));
  points.forEach((point, i) => {
    const title = svg("title");
    title.textContent = `${percent(point.qber)} of ${point.sifted} bits`;
    figure.append(svg("circle", { cx: x(i), cy: y(point.qber), r: i === points.length - 1 ? 5 : 3.2, class: point.qber > limit ? "dot bad" : "dot good" }, title));
  });
  return figure;
}

// Random bytes as a field of bits: structure would catch the eye.
export function bitField(hex) {
  const bits = [...hex].flatMap((digit) => [8, 4, 2, 1].map((mask) => (parseInt(digit, 16) & mask ? 1 : 0)));
  const columns = 32, rows = Math.ceil(bits.length / columns);
  const figure = svg("svg", { viewBox: `0 0 ${columns} ${rows}`, class: "bits", role: "img", "aria-label": "The bits drawn, one square each" });
  bits.forEach((bit, i) => {
    if (bit) figure.append(svg("rect", { x: (i % columns) + 0.06, y: Math.floor(i / columns) + 0.06, width: 0.88, height: 0.88, rx: 0.18 }));
  });
  return figure;
}
