"""What the edge node writes is read alike by two independent libraries, in environments of their own.

pysparkplug 0.6.1 (PyPI) and sparkplug-payload 1.0.3 (npm) are installed below `build/`; where that cannot be done the
tests are skipped. They are readers, never oracles. The second reads no metric without its type: it is given births.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qedge.fleet.sparkplug.certificates import birth, data, death_of_node
from qedge.fleet.sparkplug.model import DataType, Past, Quality, Reading, Value
from qedge.fleet.sparkplug.node_metrics import snapshot_of
from qedge.fleet.sparkplug.payload import convert, decode_payload
from tests.house.source_tree import ROOT
from tests.unit.fleet.test_sparkplug_parts import STATUS

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(300)]

PEERS = Path(__file__).resolve().parent / "peers"
CACHE = ROOT / "build" / "sparkplug"
UTC = 1_800_000_000_123

EDGES: dict[str, tuple[DataType, Value | None]] = {
    "int32/least": (DataType.INT32, -(2**31)),
    "int32/most": (DataType.INT32, 2**31 - 1),
    "int32/zero": (DataType.INT32, 0),
    "int64/least": (DataType.INT64, -(2**63)),
    "int64/most": (DataType.INT64, 2**63 - 1),
    "int64/minus one": (DataType.INT64, -1),
    "uint64/most": (DataType.UINT64, 2**64 - 1),
    "double/zero": (DataType.DOUBLE, 0.0),
    "double/tiny": (DataType.DOUBLE, 5e-324),
    "double/huge": (DataType.DOUBLE, -1.7976931348623157e308),
    "double/third": (DataType.DOUBLE, 1 / 3),
    "boolean/false": (DataType.BOOLEAN, False),
    "boolean/true": (DataType.BOOLEAN, True),
    "string/empty": (DataType.STRING, ""),
    "string/é中😀": (DataType.STRING, "é中😀\n"),
    "null/double": (DataType.DOUBLE, None),
    "null/string": (DataType.STRING, None),
}


def _messages() -> list[tuple[str, str, bytes, dict[str, Reading]]]:
    """Return kind, owner, bytes, and what they were made of."""
    readings = {name: Reading(kind, value, UTC + at) for at, (name, (kind, value)) in enumerate(EDGES.items())}
    readings["bad"] = Reading(DataType.INT64, 3, UTC + 50, Quality.BAD)
    found = [("NBIRTH", "edges", birth(readings, UTC, 0, bd_seq=255), readings)]
    status = snapshot_of(STATUS, UTC, draining=False, writable=frozenset())
    found.append(("NBIRTH", "node", birth(status.node, UTC, 0, bd_seq=0), dict(status.node)))
    found += [
        ("DBIRTH", name, birth(device, UTC, number), dict(device))
        for number, (name, device) in enumerate(status.devices.items(), 1)
    ]
    rows = [Past("", name, each) for name, each in readings.items()]
    found.append(("NDATA", "edges", data(rows, UTC, 255, historical=False), readings))
    found.append(("NDATA", "edges", data(rows, UTC, 1, historical=True), readings))
    return found


def _lines() -> str:
    return "".join(f"{kind} {owner} {raw.hex()}\n" for kind, owner, raw, _ in _messages())


def _expected(readings: dict[str, Reading], *, historical: bool) -> list[list[object]]:
    return [
        [name, each.datatype.name.lower(), _plain(each.value), each.utc_ms, historical]
        for name, each in sorted(readings.items(), key=lambda pair: pair[1].utc_ms)
    ]


def _plain(value: Value | None) -> object:
    return str(int(value)) if isinstance(value, int) and not isinstance(value, bool) else value


def _python() -> Path:
    program = CACHE / "python" / "bin" / "python"
    if not program.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(CACHE / "python")], capture_output=True)
        if made.returncode == 0:
            install = [program, "-m", "pip", "install", "-q", "pysparkplug==0.6.1", "protobuf"]
            made = subprocess.run(install, capture_output=True)
        if made.returncode:
            shutil.rmtree(CACHE / "python", ignore_errors=True)
            pytest.skip("pysparkplug cannot be installed here")
    return program


def _node_modules() -> Path:
    folder = CACHE / "node"
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node is not installed")
    if not (folder / "node_modules" / "sparkplug-payload").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        made = subprocess.run(
            ["npm", "install", "--silent", "sparkplug-payload@1.0.3"], cwd=folder, capture_output=True
        )
        if made.returncode:
            pytest.skip("sparkplug-payload cannot be installed here")
    return folder / "node_modules"


def _ask(command: list[str], text: str, **environ: str) -> list[str]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environ
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _check_command(raw: str) -> None:
    metrics = {metric.name: metric for metric in decode_payload(bytes.fromhex(raw)).metrics}
    assert metrics["Node Control/Rebirth"].value is True
    assert convert(metrics["a"].value, DataType.INT32) == -7
    assert (metrics["b"].value, metrics["c"].value) == (0.5, "é")


def test_pysparkplug_reads_what_was_written() -> None:
    death = f"NDEATH - {death_of_node(255, UTC).hex()}\n"
    *answers, dead, command = _ask([str(_python()), str(PEERS / "decode_pysparkplug.py")], _lines() + death)
    assert len(answers) == len(_messages())
    assert json.loads(dead) == {"bd_seq": 255}
    for (kind, _, raw, readings), line in zip(_messages(), answers, strict=True):
        answer = json.loads(line)
        ours = decode_payload(raw)
        assert (answer["seq"], answer["timestamp"]) == (ours.seq, ours.timestamp_ms)
        historical = any(metric.is_historical for metric in ours.metrics)
        if kind.endswith("DATA"):
            names = [metric.name for metric in ours.metrics]
            expected = sorted(_expected(readings, historical=historical), key=lambda row: names.index(str(row[0])))
        else:
            expected = _expected(readings, historical=False)
        found = [_booleans(row) for row in answer["metrics"] if row[0] not in ("bdSeq", "Node Control/Rebirth")]
        assert found == expected
    _check_command(command)


def test_sparkplug_payload_reads_what_was_written() -> None:
    modules = _node_modules()
    births = [each for each in _messages() if each[0].endswith("BIRTH")]
    text = "".join(f"{kind} {owner} {raw.hex()}\n" for kind, owner, raw, _ in births)
    command = ["node", str(PEERS / "decode_sparkplug_payload.js")]
    *answers, ncmd = _ask(command, text, NODE_PATH=str(modules))
    assert len(answers) == len(births)
    for (_, _, raw, readings), line in zip(births, answers, strict=True):
        answer = json.loads(line)
        ours = decode_payload(raw)
        assert (int(answer["seq"]), int(answer["timestamp"])) == (ours.seq, ours.timestamp_ms)
        found = [
            [name, kind, value, int(at), past]
            for name, kind, value, at, past in answer["metrics"]
            if name not in ("bdSeq", "Node Control/Rebirth")
        ]
        assert found == _expected(readings, historical=False)
    _check_command(ncmd)


def _booleans(row: list[object]) -> list[object]:
    name, kind, value, at, past = row
    return [name, kind, value == "True" if kind == "boolean" else value, at, past]
