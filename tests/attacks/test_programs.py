"""Programs and requests made to hurt: a clear error each, the daemon and its workers live, nothing grows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import psutil
import pytest

from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission
from tests.integration.daemon_process import BELL, DaemonProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

HEAD = 'OPENQASM 2.0; include "qelib1.inc"; '
THREE = 'OPENQASM 3.0; include "stdgates.inc"; '
MAX_GROWTH_BYTES = 96 * 2**20


def entangled(qubits: int, depth: int = 40) -> str:
    """Return a program whose state no known method holds."""
    lines = [f"qreg q[{qubits}]; creg c[{qubits}];"]
    for layer in range(depth):
        lines += [f"u3(0.{layer + 1},0.{qubit + 1},1.1) q[{qubit}];" for qubit in range(qubits)]
        lines += [
            f"cx q[{at}],q[{(at * 7 + layer) % qubits}];" for at in range(qubits) if at != (at * 7 + layer) % qubits
        ]
    return HEAD + " ".join(lines) + " measure q -> c;"


def doubling(levels: int) -> str:
    """Return gate definitions of which each calls the one before twice."""
    gates = ["gate g0 a { x a; }", *(f"gate g{n} a {{ g{n - 1} a; g{n - 1} a; }}" for n in range(1, levels))]
    return HEAD + " ".join(gates) + f" qreg q[1]; creg c[1]; g{levels - 1} q[0]; measure q -> c;"


def one(statement: str) -> str:
    """Return a program of one qubit with a statement."""
    return HEAD + f"qreg q[2]; creg c[2]; {statement} measure q -> c;"


def levels(number: int) -> str:
    """Return a condition of so many levels, of which no case is ever left."""
    condition = "c == 5"
    for level in range(number):
        condition = f"({condition} {'||' if level % 2 else '&&'} c == 5)"
    return condition


def moment(operation: str) -> str:
    """Return a moment of a circuit of cirq."""
    return f'{{"cirq_type": "Moment", "operations": [{operation}]}}'


def cirq_circuit(*operations: str) -> str:
    """Return a circuit of cirq with an operation in each moment."""
    return f'{{"cirq_type": "Circuit", "moments": [{", ".join(map(moment, operations))}]}}'


def gate(name: str, qubits: int, more: str) -> str:
    """Return an operation of cirq on qubits 0, 1, …."""
    lines = ", ".join(f'{{"cirq_type": "LineQubit", "x": {n}}}' for n in range(qubits))
    return f'{{"cirq_type": "GateOperation", "gate": {{"cirq_type": "{name}", {more}}}, "qubits": [{lines}]}}'


def wide_measurement(qubits: int) -> str:
    """Return a measurement of so many qubits with the key m."""
    return gate("MeasurementGate", qubits, f'"num_qubits": {qubits}, "key": "m"')


def conditioned(times: int) -> str:
    """Return an operation under so many conditions on the key m, each of as many cases as it has bits."""
    key = '{"cirq_type": "KeyCondition", "key": {"cirq_type": "MeasurementKey", "name": "m", "path": []}, "index": -1}'
    inner = gate("_PauliX", 1, '"exponent": 1.0, "global_shift": 0.0')
    conditions = ", ".join([key] * times)
    kind = "ClassicallyControlledOperation"
    return f'{{"cirq_type": "{kind}", "conditions": [{conditions}], "sub_operation": {inner}}}'


def repeated(moments: str, times: int, path: Sequence[str] = ()) -> str:
    """Return a sub-circuit that is done so many times."""
    inner = f'{{"cirq_type": "FrozenCircuit", "moments": [{moments}]}}'
    how = f'"repetitions": {times}, "use_repetition_ids": false, "parent_path": {json.dumps(list(path))}'
    return f'{{"cirq_type": "CircuitOperation", "circuit": {inner}, {how}}}'


PROGRAMS: Mapping[str, tuple[str, str]] = {
    "33 qubits": (entangled(33), "circuit.too_entangled"),
    "a million qubits": (
        HEAD + "qreg q[1000000]; creg c[1]; h q[0]; measure q[0] -> c[0];",
        "circuit.too_many_qubits",
    ),
    "10^9 qubits": (HEAD + "qreg q[1000000000]; creg c[1]; measure q[0] -> c[0];", "circuit.too_many_qubits"),
    "10^9 qubits in OpenQASM 3": (
        THREE + "qubit[1000000000] q; bit c; c = measure q[0];",
        "circuit.too_many_qubits",
    ),
    "a register of 10^30": (HEAD + f"qreg q[{10**30}];", "circuit.too_many_qubits"),
    "30 doublings": (doubling(30), "circuit.too_many_ops"),
    "200 doublings": (doubling(200), "circuit.too_many_ops"),
    "a gate that calls itself": (
        HEAD + "gate g a { g a; } qreg q[1];",
        "circuit.recursive_gate",
    ),
    "a loop of 10^12": (
        THREE + "qubit q; for int i in [0:1000000000000] { x q; } bit c = measure q;",
        "circuit.too_many_ops",
    ),
    "more than a megabyte": (one("x q[0]; " * 160_000), "circuit.too_large"),
    "nested loops": (
        THREE + "qubit q; " + "for int i in [0:999] { " * 12 + "x q;" + " }" * 12 + " bit c = measure q;",
        "circuit.too_many_ops",
    ),
    "a hundred thousand parentheses": (
        one("rx(" + "(" * 100_000 + "1" + ")" * 100_000 + ") q[0];"),
        "circuit.expression_too_deep",
    ),
    "a hundred thousand signs": (one("rx(" + "-" * 100_000 + "1) q[0];"), "circuit.expression_too_deep"),
    "twenty thousand blocks": (
        THREE + "qubit q; " + "if (true) { " * 20_000,
        "circuit.too_large",
    ),
    "a literal of a million digits": (
        one("rx(" + "9" * 1_000_000 + ") q[0];"),
        "circuit.bad_number",
    ),
    "five megabytes": (one("x q[0]; " * 640_000), "http.too_large"),
    "one over zero": (one("rx(1/0) q[0];"), "circuit.nonfinite_parameter"),
    "an infinite literal": (one("rx(1e999) q[0];"), "circuit.nonfinite_parameter"),
    "a power tower": (THREE + "qubit q; rx(9**9**9**9) q; bit c = measure q;", "circuit.nonfinite_parameter"),
    "a logarithm of less than nothing": (one("rx(ln(-1)) q[0];"), "circuit.nonfinite_parameter"),
    "a condition on ten thousand bits": (THREE + "qubit q; bit[10000] c; if (c) x q;", "circuit.unsupported"),
    "a condition of sixty levels": (
        THREE + f"qubit q; bit[2] c; if {levels(60)} x q; c[0] = measure q;",
        JobState.DONE.value,
    ),
    "a sum of ten thousand": (
        THREE + "input float a; qubit q; rx(a" + "+1" * 10_000 + ") q;",
        "circuit.expression_too_deep",
    ),
    "a loop that reads for days": (
        THREE + "qubit q; for int i in [0:9999] { const int k = i" + "+1" * 5_000 + "; }",
        "circuit.too_many_ops",
    ),
    "controls of controls": (
        THREE + "qubit[3001] q; " + "negctrl(200) @ " * 15 + f"x {', '.join(f'q[{n}]' for n in range(3001))};",
        "circuit.too_many_ops",
    ),
    "cases of cases": (cirq_circuit(wide_measurement(200), conditioned(3)), "circuit.too_many_ops"),
    "nothing, again and again": (
        cirq_circuit(repeated(",".join(['{"cirq_type": "Moment", "operations": []}'] * 1_000), 100_000)),
        "circuit.too_many_ops",
    ),
    "a name of a megabyte": (
        cirq_circuit(repeated(moment(wide_measurement(1)), 1000, ["x" * 190] * 5000)),
        "circuit.too_large",
    ),
    "the same qubit twice": (one("cx q[0],q[0];"), "circuit.duplicate_qubit"),
    "an index out of range": (one("x q[2];"), "circuit.index_out_of_range"),
    "a register declared twice": (one("qreg q[3];"), "circuit.duplicate_name"),
    "an unknown gate": (one("frobnicate q[0];"), "circuit.undeclared_name"),
    "a file of the node": (
        HEAD.replace("qelib1.inc", "/etc/passwd") + "qreg q[1];",
        "circuit.unsupported",
    ),
    "no measurement": (HEAD + "qreg q[1]; x q[0];", "circuit.no_measurement"),
    "zeros": ("\0" * 1000, "circuit.syntax"),
}


WIDER: Mapping[str, tuple[str, str]] = {
    f"{qubits} qubits": (entangled(qubits), "circuit.too_entangled") for qubits in (45, 64)
}

REQUESTS: Mapping[str, bytes] = {
    "shots as text": json.dumps({"program": BELL, "shots": "10"}).encode(),
    "shots as a fraction": json.dumps({"program": BELL, "shots": 1.5}).encode(),
    "shots as a truth": json.dumps({"program": BELL, "shots": True}).encode(),
    "not a number": b'{"program": "", "shots": NaN}',
    "an unknown field": json.dumps({"program": BELL, "shots": 1, "colour": "red"}).encode(),
    "a hundred thousand arrays": b"[" * 100_000,
    "broken text": b'{"program": "\xff\xfe", "shots": 1}',
    "half a request": b'{"program": "qreg',
    "a surrogate": b'{"program": "\\ud800", "shots": 1}',
}
SHOTS: Mapping[int, str] = {
    0: "job.bad_shots",
    -1: "job.bad_shots",
    10**12: "job.too_many_shots",
    10**18: "job.too_many_shots",
}


async def workers(client: NodeClient) -> set[int]:
    """Return the process ids of the workers of a node."""
    return {worker.pid for driver in await client.drivers() for worker in driver.workers}


def resident_bytes(pids: set[int]) -> int:
    """Return the resident memory of processes."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


async def refusal(client: NodeClient, submission: JobSubmission) -> str:
    """Return the code with which a submission ends, or how its job did."""
    try:
        view = await client.submit(submission, wait_s=30)
        while view.state in (JobState.QUEUED, JobState.RUNNING):
            view = await client.job(view.id, wait_s=30)
    except QedgeError as error:
        assert error.message
        return error.code
    return view.error.code if view.error is not None else view.state.value


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "programs", [pytest.param(PROGRAMS, id="all"), pytest.param(WIDER, id="wider", marks=pytest.mark.long)]
)
async def test_hostile_programs_and_requests_get_an_error_each_and_cost_the_node_nothing(
    tmp_path: Path, programs: Mapping[str, tuple[str, str]]
) -> None:
    daemon = DaemonProcess(tmp_path / "node", '[drivers.qpu]\ndriver = "sim_qpu"\n')
    daemon.start()
    try:
        await daemon.wait_up()
        async with NodeClient(daemon.socket) as client:
            assert await refusal(client, JobSubmission(program=BELL, shots=10)) == JobState.DONE.value
            pids = await workers(client) | {daemon.pid}
            before = resident_bytes(pids)
            found = {
                name: await refusal(client, JobSubmission(program=text, shots=10))
                for name, (text, _) in programs.items()
            }
            assert {name: code for name, code in found.items() if code != programs[name][1]} == {}
            for shots, code in SHOTS.items():
                assert await refusal(client, JobSubmission(program=BELL, shots=shots)) == code
            assert await statuses(daemon, REQUESTS) == dict.fromkeys(REQUESTS, (400, "http.bad_request"))
            assert await workers(client) | {daemon.pid} == pids, "a worker died or was replaced"
            assert resident_bytes(pids) - before < MAX_GROWTH_BYTES
            assert await refusal(client, JobSubmission(program=BELL, shots=10)) == JobState.DONE.value
    finally:
        daemon.stop()


async def statuses(daemon: DaemonProcess, bodies: Mapping[str, bytes]) -> dict[str, tuple[int, str]]:
    """Send bodies as they are and return the status and the code of each answer."""
    answers: dict[str, tuple[int, str]] = {}
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(daemon.socket))) as session:
        for name, body in bodies.items():
            headers = {"Content-Type": "application/json"}
            async with session.post("http://node/v1/jobs", data=body, headers=headers) as answer:
                answers[name] = (answer.status, str((await answer.json(content_type=None))["type"]).rpartition(":")[2])
    return answers
