"""`python -m tests.fuzz.policy [SECONDS]`: a coverage-guided run of the reader of policies (needs `atheris`).

Every input has to end as a policy whose table decides requests as its explanation does, or as faults that each say what
is wrong and where, within a second or so. Executions and covered edges are printed at the end; an input that breaks the
promise is kept in the folder and named.
"""

from __future__ import annotations

import re
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qedge.security", "qedge.base.toml_lines", "qedge.base.settings"]):
    from qedge.security.policy.document import read_document
    from qedge.security.policy.explain import explain
    from qedge.security.policy.table import PolicyTable

from tests.fuzz.course import run
from tests.unit.security.policy.random_policies import RandomPolicies

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    'version = 1 zone "UTC" "Europe/Vienna" [segments.hall] [rules.a] effect "permit" "forbid" subjects kinds "device" '
    '"app" "peer" "cloud" ids classes groups segments attributes actions "connect" "publish" "subscribe" "command" '
    'resources node true false channels devices commands apps ["*"] when unless trust time days "mon" "sun" from until '
    '"00:00" "24:00" locations posture qkd crossing rate per_second burst 1e400 0x1f -1 [[ ]] { } , . = # \\u0000'
)
ASKED = [(subject, request) for subject, request in RandomPolicies(1).requests(12)]


def check(data: bytes) -> None:
    """Read one input; whatever is neither a policy nor faults gets out."""
    reading = read_document(data, "p.toml")
    if reading.document is None:
        if not reading.faults or not all(each.problem and each.file for each in reading.faults):
            raise AssertionError(f"no fault in {reading}")
        return
    table = PolicyTable(reading.document)
    for _, request in ASKED:
        asked = (request.subject, request.action, request.resource, 0, request.utc_ns)
        told, decision = explain(reading.document, *asked).decision, table.decide(*asked)
        if told != decision and decision.reason != "rate":
            raise AssertionError(f"{asked}: {decision}, explained as {told}")


def seeds(folder: Path) -> None:
    """Write what to begin with: the example, policies of the guides, random ones, and single words."""
    texts = [(ROOT / "configs" / "policy.toml").read_text("utf-8"), *WORDS.split()]
    for guide in (ROOT / "docs" / "guides").glob("*.md"):
        texts += re.findall(r"^```toml[^\n]*\n(.*?)^```", guide.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    texts += [RandomPolicies(seed).text(4) for seed in range(20)]
    for number, text in enumerate(texts):
        (folder / str(number)).write_bytes(text.encode())


if __name__ == "__main__":
    run(check, seeds, most_bytes=4096, words=WORDS)
