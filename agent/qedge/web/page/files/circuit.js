// The form that runs a circuit, with its examples.

import { call } from "./api.js";
import { byId, el } from "./draw.js";
import { submitted } from "./jobs.js";

const EXAMPLES = {
  Bell: `// Two qubits that always agree.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[2];
h q[0];
cx q[0],q[1];
measure q -> c;`,
  GHZ: `// Five qubits: all 0 or all 1, half and half.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[5];
creg c[5];
h q[0];
cx q[0],q[1];
cx q[1],q[2];
cx q[2],q[3];
cx q[3],q[4];
measure q -> c;`,
  Interference: `// A phase turns certainty into 85 : 15.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[1];
creg c[1];
h q[0];
rz(pi/4) q[0];
h q[0];
measure q -> c;`,
  Random: `// Eight fair coins.
OPENQASM 2.0;
include "qelib1.inc";
qreg q[8];
creg c[8];
h q;
measure q -> c;`,
};

export function startCircuit() {
  byId("examples").append(...Object.keys(EXAMPLES).map((name) => el("button", { type: "button", class: "chip", on: { click: () => setExample(name) } }, name)));
  setExample("Bell");
  byId("submit-form").addEventListener("submit", submit);
  byId("program").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event); });
}

// Nodes that could run it, where there are any others.
export function offerNodes(peers) {
  const select = byId("where");
  const able = peers.filter((peer) => !peer.own && peer.state === "alive" && (peer.capabilities ?? []).some((one) => one.kind === "qpu"));
  const names = ["", ...(able.length ? ["any", ...able.map((peer) => peer.node)] : [])];
  byId("where-label").hidden = names.length === 1;
  if ([...select.options].map((option) => option.value).join("/") === names.join("/")) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => el("option", { value: name }, name === "" ? "this one" : name === "any" ? "any that can" : name)));
  select.value = names.includes(chosen) ? chosen : "";
}

export function placeOn(node) {
  byId("where").value = node;
  byId("program").focus();
  byId("work").scrollIntoView();
}

function setExample(name) {
  byId("program").value = EXAMPLES[name];
  showError(null);
  for (const chip of byId("examples").children) chip.setAttribute("aria-pressed", String(chip.textContent === name));
}

function showError(problem) {
  const box = byId("submit-error");
  box.hidden = !problem;
  if (!problem) return;
  const at = problem.details?.line ? ` (line ${problem.details.line}${problem.details.column ? `, column ${problem.details.column}` : ""})` : "";
  box.replaceChildren(`${problem.message}${at}`, problem.fix ? el("span", { class: "faint" }, ` ${problem.fix}`) : "", el("code", {}, problem.code || "error"));
  if (problem.details?.line) selectLine(problem.details.line);
}

function selectLine(line) {
  const area = byId("program");
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
}

async function submit(event) {
  event?.preventDefault();
  const button = byId("run-button");
  if (button.disabled) return;
  button.disabled = true;
  showError(null);
  try {
    const body = { program: byId("program").value, shots: Number(byId("shots").value) };
    if (byId("seed").value !== "") body.seed = Number(byId("seed").value);
    if (byId("where").value) body.node = byId("where").value;
    submitted(await call("POST", "/v1/jobs", body));
  } catch (problem) {
    showError(problem);
  } finally {
    button.disabled = false;
  }
}
