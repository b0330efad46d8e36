"""The target of circuit workers, in process, with the simulated QPU and with drivers that lie."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Mapping

import pytest

from qedge.base.errors import QedgeError
from qedge.engine.believing import check_result, pack_counts, pack_device
from qedge.engine.circuit_host import CircuitHost
from qedge_driver_api import (
    DeviceStatus,
    JobStatus,
    OperationAt,
    OperationProperties,
    PackedCounts,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
)
from qedge_drivers.sim_qpu import SimQpu

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; creg d[9]; h q[0]; cx q[0],q[1]; measure q -> c;'


class Link:
    """The host's side of a worker, without a process."""

    def cancelled(self) -> bool:
        return False

    def random_bytes(self, n: int) -> bytes:
        return bytes(n)


def host(**settings: object) -> CircuitHost:
    init = {"driver": "sim_qpu", "instance": "qpu", "settings": settings, "state_dir": ""}
    made = CircuitHost(init, Link())  # type: ignore[arg-type] # a fake of the host's link
    made.handle("open", {})
    return made


def refused(made: CircuitHost, method: str, args: Mapping[str, object]) -> QedgeError:
    with pytest.raises(QedgeError) as caught:
        made.handle(method, args)
    return caught.value


def test_prepare_parses_and_estimates() -> None:
    answer = host().handle("prepare", {"program": BELL, "shots": 1000, "limits": {}})
    assert isinstance(answer, dict)
    assert (answer["qubits"], answer["clbits"], answer["operations"]) == (2, 11, 4)
    assert answer["registers"] == [["c", 2, 0], ["d", 9, 2]]
    assert answer["method"] == "state_vector"
    assert all(float(answer[key]) > 0 for key in ("memory_bytes", "time_s", "parse_s", "result_bytes"))  # type: ignore[arg-type] # numbers


def test_run_gives_packed_counts() -> None:
    answer = host().handle("run", {"program": BELL, "shots": 1000, "seed": 3, "limits": {}})
    assert isinstance(answer, dict)
    counts = answer["counts"]
    assert isinstance(counts, dict)
    keys, values = counts["keys"], counts["values"]
    assert isinstance(keys, bytes)
    assert isinstance(values, bytes)
    assert sorted(keys[i : i + 2] for i in range(0, len(keys), 2)) == [b"\0\0", b"\3\0"]
    assert sum(array("Q", values)) == 1000
    assert answer["metadata"]["method"] == "state_vector"
    assert answer["metadata"]["simulated"] is True
    assert {"parse", "run", "kernel"} <= set(answer["timings_s"])


def test_a_program_is_parsed_once() -> None:
    made = host()
    made.handle("prepare", {"program": BELL, "shots": 10})
    (first,) = made._parsed.values()
    made.handle("run", {"program": BELL, "shots": 10, "seed": 0})
    (second,) = made._parsed.values()
    assert first is second
    for number in range(200):
        made.handle("prepare", {"program": BELL + f"x q[{number % 2}];" * number, "shots": 10})
    assert len(made._parsed) <= 64


def test_other_limits_are_another_program() -> None:
    made = host()
    made.handle("prepare", {"program": BELL, "shots": 10})
    error = refused(made, "prepare", {"program": BELL, "shots": 10, "limits": {"max_operations": 2}})
    assert error.code == "circuit.too_many_ops"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"program": 5}, "job.bad_request"),
        ({"program": b"OPENQASM 2.0;"}, "job.bad_request"),
        ({"program": "OPENQASM 2.0; // \ud800"}, "job.bad_request"),
        ({"program": "OPENQASM 2.0;\x00"}, "circuit.syntax"),
        ({"program": "x" * 6_000_000}, "circuit.too_large"),
        ({"shots": 0}, "job.bad_shots"),
        ({"shots": 1.5}, "job.bad_shots"),
        ({"shots": "10"}, "job.bad_shots"),
        ({"shots": True}, "job.bad_shots"),
        ({"shots": 200_000_000}, "job.too_many_shots"),
        ({"limits": {"no_such": 1}}, "job.bad_request"),
        ({"limits": {"max_operations": -1}}, "job.bad_request"),
        ({"seed": -1}, "job.bad_request"),
        ({"seed": 2**32}, "job.bad_request"),
        ({"seed": None}, "job.bad_request"),
    ],
)
def test_requests_that_cannot_be_run_are_refused(changes: dict[str, object], code: str) -> None:
    assert refused(host(), "run", {"program": BELL, "shots": 1, "seed": 0, **changes}).code == code


def test_what_the_device_refuses_keeps_its_code() -> None:
    chain = "".join(f"t q[{i}]; cx q[{i}],q[{i + 1}];" for i in range(59))
    wide = f'OPENQASM 2.0; include "qelib1.inc"; qreg q[60]; creg c[60]; h q; {chain} measure q -> c;'
    assert refused(host(preset="plan"), "prepare", {"program": wide, "shots": 1}).code == "circuit.too_many_qubits"
    line = host(qubits=5, connectivity="line")
    far = BELL.replace("q[2]", "q[5]").replace("cx q[0],q[1]", "cx q[0],q[4]").replace("measure q", "measure q[0]")
    far = far.replace("-> c", "-> c[0]") + "if(c==1) x q[1];"
    error = refused(line, "prepare", {"program": far, "shots": 1})
    assert error.code == "circuit.unsupported"
    assert "0 and 4" in error.message


@pytest.mark.parametrize("settings", [{}, {"qubits": 1}, {"preset": "plan", "connectivity": "grid"}])
def test_warming_works_on_any_device(settings: dict[str, object]) -> None:
    answer = host(**settings).handle("warm", {})
    assert isinstance(answer, dict)
    assert float(answer["warm_s"]) > 0  # type: ignore[arg-type] # a number


def test_the_device_describes_itself() -> None:
    answer = host(preset="plan").handle("qpu_properties", {})
    assert isinstance(answer, dict)
    assert (answer["num_qubits"], answer["status"], answer["formats"]) == (64, "idle", ["flat"])


def test_what_a_driver_tells_of_places_is_passed_on_and_not_believed() -> None:
    there = OperationProperties("cz", 2, 0.2, 0.99, at=(OperationAt((1, 0), 0.3, 0.98),))
    told = QpuProperties("lab", 2, DeviceStatus.CALIBRATION, operations=(there,), calibrated_at_s=1.7e9)
    answer = pack_device(told)
    assert isinstance(answer, dict)
    assert answer["operations"] == [
        {
            "name": "cz",
            "num_qubits": 2,
            "num_parameters": 0,
            "duration_us": 0.2,
            "fidelity": 0.99,
            "at": [{"qubits": [1, 0], "duration_us": 0.3, "fidelity": 0.98}],
        }
    ]
    assert (answer["status"], answer["calibrated_at_s"]) == ("calibration", 1.7e9)
    for lie in (OperationAt((0, 2)), OperationAt((0, 1), -1.0), OperationAt((0, 1), 0.1, float("nan"))):
        with pytest.raises(QedgeError):
            pack_device(dataclasses.replace(told, operations=(dataclasses.replace(there, at=(lie,)),)))


@pytest.mark.parametrize(
    "counts",
    [
        {0: 5},
        {0: 11},
        {0: 10, 4: 0},
        {4: 10},
        {-1: 10},
        {0: 11, 1: -1},
        {0: 10.0},
        {0.0: 10},
        {True: 10},
        {"0": 10},
        {0: float("nan")},
        [10],
        None,
    ],
)
def test_counts_that_cannot_be_true_are_a_lie(counts: object) -> None:
    with pytest.raises(QedgeError) as caught:
        check_result(QpuResult(counts, 10, {}), 2, 10)  # type: ignore[arg-type] # that is the point
    assert caught.value.code == "driver.lied"


class Liar(SimQpu):
    """Answers with one wrong thing."""

    estimate_answer: object = QpuEstimate(1, 1.0, "x")
    result_answer: object = QpuResult({0: 1}, 1, {"method": "x"})
    status_answer: object = JobStatus.DONE

    def qpu_properties(self) -> QpuProperties:
        return QpuProperties("liar", 64, DeviceStatus.IDLE)

    def estimate(self, task: QpuTask) -> QpuEstimate:
        return self.estimate_answer  # type: ignore[return-value] # that is the point

    def submit(self, task: QpuTask) -> str:
        return "1"

    def wait(self, job_id: str, timeout_s: float) -> JobStatus:
        return self.status_answer  # type: ignore[return-value] # that is the point

    def result(self, job_id: str) -> QpuResult:
        return self.result_answer  # type: ignore[return-value] # that is the point


@pytest.mark.parametrize(
    ("lie", "method"),
    [
        ({"estimate_answer": None}, "prepare"),
        ({"estimate_answer": QpuEstimate(1, math.nan, "x")}, "prepare"),
        ({"estimate_answer": QpuEstimate(-1, 1.0, "x")}, "prepare"),
        ({"result_answer": {0: 1}}, "run"),
        ({"result_answer": QpuResult({0: 2}, 2, {})}, "run"),
        ({"result_answer": QpuResult({0: 1}, 1, {"a_s": math.inf})}, "run"),
        ({"result_answer": QpuResult({0: 1}, 1, {"a": [1]})}, "run"),  # type: ignore[dict-item] # that is the point
        ({"status_answer": "fine"}, "run"),
    ],
)
def test_answers_that_cannot_be_true_are_lies(lie: dict[str, object], method: str) -> None:
    made = host()
    made._class = type("Liar", (Liar,), lie)
    made._driver = None
    assert refused(made, method, {"program": BELL, "shots": 1, "seed": 1}).code == "driver.lied"


def test_a_failed_job_without_reason_is_a_fault_of_the_driver() -> None:
    made = host()
    made._class = type("Liar", (Liar,), {"status_answer": JobStatus.FAILED})
    made._driver = None
    assert refused(made, "run", {"program": BELL, "shots": 1, "seed": 1}).code == "driver.fatal"


def test_a_simulator_behind_an_adapter_is_named_one() -> None:
    init = {"driver": "cirq_sampler", "instance": "qpu", "settings": {}, "state_dir": ""}
    made = CircuitHost(init, Link())  # type: ignore[arg-type] # a fake of the host's link
    made.handle("open", {})
    answer = made.handle("run", {"program": BELL, "shots": 10, "seed": 1})
    assert isinstance(answer, dict)
    assert answer["metadata"] == {
        "method": "sampler",
        "sampler": "Simulator",
        "simulated": True,
        "driver": "cirq_sampler",
    }


SOON = {"time_s": 1.0, "memory_bytes": 2**26, "result_bytes": 2**20}


def test_a_short_job_is_run_in_the_call_that_looks_at_it_as_if_it_had_been_asked_for() -> None:
    made = host()
    args = {"program": BELL, "shots": 100, "limits": {}, "seed": 7}
    answer = made.handle("prepare", {**args, "at_once": SOON})
    assert isinstance(answer, dict)
    ran, asked = answer["answer"], made.handle("run", args)
    assert isinstance(ran, dict)
    assert isinstance(asked, dict)
    assert ran["counts"] == asked["counts"]
    assert isinstance(answer["perform_s"], float)


@pytest.mark.parametrize("bound", list(SOON))
def test_what_is_over_a_bound_or_would_fail_is_only_looked_at(bound: str) -> None:
    args = {"program": BELL, "shots": 100, "limits": {}, "seed": 7}
    assert "answer" not in host().handle("prepare", {**args, "at_once": {**SOON, bound: 0}})  # type: ignore[operator] # a dict
    assert "answer" not in host().handle("prepare", args)  # type: ignore[operator] # a dict


def test_nothing_runs_on_a_real_device_before_it_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = dataclasses.replace(SimQpu.describe(), simulated=False)
    monkeypatch.setattr(SimQpu, "describe", classmethod(lambda _: real))
    args = {"program": BELL, "shots": 100, "limits": {}, "seed": 7, "at_once": SOON}
    assert "answer" not in host().handle("prepare", args)  # type: ignore[operator] # a dict


def packed(packed: bytes, times: list[int] | array[int], width: int = 1) -> QpuResult:
    return QpuResult(PackedCounts(packed, times, width), 10, {})


@pytest.mark.parametrize(
    "result",
    [
        packed(b"\x04", [10]),
        packed(b"\x01\x00", [10]),
        packed(b"\x01\x00", [10], 2),
        packed(b"\x01", [9]),
        packed(b"\x01\x02", [11, -1]),
        packed(b"\x01", [10.0]),  # type: ignore[list-item] # that is the point
        packed(bytearray(b"\x01"), [10]),  # type: ignore[arg-type] # that is the point
    ],
)
def test_packed_counts_that_cannot_be_true_are_refused(result: QpuResult) -> None:
    with pytest.raises(QedgeError) as error:
        check_result(result, 2, 10)
    assert error.value.code == "driver.lied"


def test_packed_counts_read_as_a_mapping() -> None:
    counts = PackedCounts(b"\x01\x00\x00\x02", [3, 7], 2)
    assert check_result(QpuResult(counts, 10, {}), 10, 10).counts == {1: 3, 512: 7}
    assert (len(counts), list(counts), counts[512], sum(counts.values())) == (2, [1, 512], 7, 10)
    with pytest.raises(ValueError, match="twice"):
        dict(PackedCounts(b"\x01\x01", [1, 1], 1))


@pytest.mark.parametrize(
    "result",
    [
        packed(b"\x01\x02", array("Q", [11, 0])),
        packed(b"\x01\x02", array("Q", [2**63, 2**63])),
        packed(b"\x01\x02", array("Q", [2**64 - 1, 11])),
        packed(b"\x01", array("q", [10])),
        packed(b"\x01", array("d", [10.0])),  # type: ignore[arg-type] # that is the point
        packed(b"", array("Q")),
    ],
)
def test_packed_counts_with_an_array_that_cannot_be_true_are_refused(result: QpuResult) -> None:
    with pytest.raises(QedgeError) as error:
        check_result(result, 2, 10)
    assert error.value.code == "driver.lied"


def test_packed_counts_with_an_array_are_as_those_with_a_list() -> None:
    listed, arrayed = packed(b"\x01\x02", [3, 7]), packed(b"\x01\x02", array("Q", [3, 7]))
    assert check_result(arrayed, 2, 10).counts == listed.counts == {1: 3, 2: 7}
    assert (
        pack_counts(arrayed.counts, 2)
        == pack_counts(listed.counts, 2)
        == {
            "keys": b"\x01\x02",
            "values": array("Q", [3, 7]).tobytes(),
        }
    )


def test_programs_are_kept_as_long_as_their_texts_are_not_too_much() -> None:
    made = host()
    for number in range(6):
        made.handle("inspect", {"program": BELL + "//" + str(number) * 1_000_000})
    assert sum(len(text) for text, _ in made._parsed) <= 4 << 20
    assert made._cached_chars == sum(len(text) for text, _ in made._parsed)
    assert made._cached_operations == sum(len(each.template.stream) for each in made._parsed.values())
