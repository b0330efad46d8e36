// Asking the node: the session's two secrets travel as a cookie and a header.

const PROOF = "qedge-proof";
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

export class Problem extends Error {
  constructor(status, body) {
    super(body?.title ?? `The node answered with status ${status}.`);
    this.status = status;
    this.code = (body?.type ?? "").replace("urn:qedge:error:", "");
    this.fix = body?.fix ?? "";
    this.details = body?.details ?? {};
  }
}

export const session = {
  closed: false,
  onClosed: () => {},
  known: () => Boolean(sessionStorage.getItem(PROOF)),
  async redeem(token) {
    const answer = await call("POST", "/v1/page-session", { token });
    sessionStorage.setItem(PROOF, answer.proof);
  },
  close(problem) {
    this.closed = true;
    sessionStorage.removeItem(PROOF);
    this.onClosed(problem);
  },
};

const proof = () => ({ "Qedge-Proof": sessionStorage.getItem(PROOF) ?? "" });

function refused(answer, data) {
  const problem = new Problem(answer.status, data);
  if (problem.code === "access.no_session") session.close(problem);
  return problem;
}

export async function call(method, path, body) {
  const headers = proof();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  const data = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return data;
  throw refused(answer, data);
}

export async function metrics() {
  const answer = await fetch("/metrics", { credentials: "same-origin" });
  return answer.ok ? answer.text() : "";
}

let hurry = () => {};
export const tryNow = () => hurry();

// Follows the node's events until the session is closed, and goes on where a broken stream ended. fetch instead of
// EventSource, because the proof travels as a header. `on` has a function for each name of event, and `state`, which
// hears `live`, or `lost` with the milliseconds until the next try.
export async function follow(on) {
  let wait = FIRST_WAIT_MS, last = "";
  while (!session.closed) {
    try {
      await readStream(last, (name, id, data) => {
        wait = FIRST_WAIT_MS;
        last = id || last;
        on[name]?.(data);
      }, on.state);
    } catch (error) {
      if (session.closed) return;
      if (!(error instanceof Problem) && error.name !== "AbortError" && !(error instanceof TypeError)) console.error(error);
    }
    if (session.closed) return;
    const pause = wait * (0.5 + Math.random() / 2);
    on.state("lost", pause);
    await new Promise((resolve) => { hurry = resolve; setTimeout(resolve, pause); });
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

async function readStream(last, tell, state) {
  const abort = new AbortController();
  let silence = 0;
  const alive = () => { clearTimeout(silence); silence = setTimeout(() => abort.abort(), SILENCE_MS); };
  try {
    alive();
    const headers = last ? { ...proof(), "Last-Event-ID": last } : proof();
    const answer = await fetch("/v1/events", { headers, credentials: "same-origin", signal: abort.signal });
    if (!answer.ok) throw refused(answer, await answer.json().catch(() => null));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    state("live", 0);
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) readBlock(block, tell);
    }
  } finally {
    clearTimeout(silence);
  }
}

function readBlock(block, tell) {
  let name = "", id = "", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data) tell(name, id, JSON.parse(data));
}
