"""Devices behind QDMI; the device of a laboratory is the fake below, mqt-core's own is tested with all adapters."""

from __future__ import annotations

import math
import subprocess
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits
from qedge_driver_api import (
    BadSettingsError,
    Condition,
    ConditionKind,
    DeviceStatus,
    DriverContext,
    FatalError,
    FlatCircuit,
    Gate,
    JobStatus,
    OperatingState,
    ProgramError,
    ProgramFormat,
    QpuDriver,
    QpuTask,
    RetriableError,
    settings_from_mapping,
)
from qedge_driver_api.circuit import UNITARY_SHAPE, Op
from qedge_driver_api.conformance import run as run_kit
from qedge_drivers.qdmi import Qdmi
from qedge_drivers.qdmi.lowering import Branch, Step, lower
from qedge_drivers.qdmi.native import NAMES, Native, native_of
from qedge_drivers.qdmi.program import read_counts, write
from qedge_drivers.qdmi.settings import QdmiSettings
from qedge_drivers.sim_qpu.dense import apply_ops, zero_state

pytest.importorskip("mqt.core.qdmi", reason="the extra qedge[qdmi] is not installed")

DDSIM = (*(each[0] for each in NAMES.values() if each != ("cu",)), "mcx", "mcp", "if_else", "reset", "barrier")
DEVICES = {
    "ddsim": DDSIM,
    "plain": ("u3", "cx"),
    "transmon": ("rz", "sx", "x", "cz"),
    "tunable": ("r", "cz"),
    "ions": ("rz", "rx", "rxx"),
    "atoms": ("rz", "ry", "rzz"),
}
LINE = frozenset((i, i + 1) for i in range(4))


def op(gate: Gate, *qubits: int, params: Sequence[float] = (), arg: int = 0) -> Op:
    return (int(gate), qubits, tuple(map(float, params)), arg)


def ops_of(steps: Iterable[object]) -> Iterator[Op]:
    """Read statements back as operations."""
    gates = {name: gate for gate, names in NAMES.items() for name in names}
    for step in steps:
        assert isinstance(step, Step)
        if step.name == "r":
            # exp(-i θ/2 (cos φ X + sin φ Y)) = Rz(φ) Rx(θ) Rz(-φ)
            theta, phi = step.params
            yield from (op(Gate.RZ, *step.qubits, params=(-phi,)), op(Gate.RX, *step.qubits, params=(theta,)))
            yield op(Gate.RZ, *step.qubits, params=(phi,))
        else:
            yield op(Gate(gates[step.name]), *step.qubits, params=step.params, arg=step.controls)


def same_state(qubits: int, one: Sequence[Op], other: Sequence[Op]) -> bool:
    # the states are single precision, and long programs lose some of their length
    states = [apply_ops(qubits, ops, zero_state(qubits)).astype(complex) for ops in (one, other)]
    first, second = (state / np.linalg.norm(state) for state in states)
    return bool(abs(np.vdot(first, second)) > 1 - 1e-5)


def native(device: str, pairs: frozenset[tuple[int, int]] | None = None) -> Native:
    return native_of(DEVICES[device], pairs, controls=device == "ddsim")


# programs


@pytest.mark.parametrize("device", DEVICES)
def test_every_gate_is_broken_down_to_what_the_device_has(device: str) -> None:
    rng = np.random.default_rng(5)
    for gate, (width, params) in UNITARY_SHAPE.items():
        for controls in (0, 1, 3):
            n = width + controls
            if n == 0:
                continue
            spread = [op(Gate.U, i, params=rng.uniform(-3, 3, 3)) for i in range(n)]
            tested = op(gate, *rng.permutation(n).tolist(), params=rng.uniform(-7, 7, params), arg=controls)
            ops = [*spread, tested]
            lowered = list(lower(FlatCircuit(n, 0, tuple(ops)), native(device)))
            names = {step.name for step in lowered if isinstance(step, Step)}
            assert names <= set(DEVICES[device])
            assert same_state(n, ops, list(ops_of(lowered))), (gate.name, controls)


@pytest.mark.parametrize("device", ["plain", "transmon", "tunable", "ions", "atoms"])
def test_gates_on_coupled_pairs_are_written_in_the_order_that_the_device_has(device: str) -> None:
    rng = np.random.default_rng(6)
    ops = [op(Gate.U, i, params=rng.uniform(-3, 3, 3)) for i in range(5)]
    for gate in (Gate.CX, Gate.CZ, Gate.SWAP, Gate.RZZ, Gate.CU, Gate.ISWAP, Gate.CRY):
        width, params = UNITARY_SHAPE[gate]
        assert width == 2
        ops += [op(gate, *pair, params=rng.uniform(-7, 7, params)) for pair in ((2, 1), (3, 4))]
    lowered = lower(FlatCircuit(5, 0, tuple(ops)), native(device, LINE))
    assert all(step.qubits in LINE for step in lowered if isinstance(step, Step) and len(step.qubits) == 2)
    assert same_state(5, ops, list(ops_of(lowered)))
    with pytest.raises(ProgramError, match="does not couple qubits 0 and 2"):
        lower(FlatCircuit(5, 0, (op(Gate.CX, 0, 2),)), native(device, LINE))


def test_runs_of_turns_become_one() -> None:
    ops = tuple(op(gate, 0) for gate in (Gate.H, Gate.T, Gate.H, Gate.S, Gate.SX, Gate.H))
    (step,) = lower(FlatCircuit(1, 0, ops), native("plain"))
    assert isinstance(step, Step)
    assert step.name == "u3"
    assert lower(FlatCircuit(1, 0, (op(Gate.H, 0), op(Gate.H, 0))), native("tunable")) == ()


def test_what_a_device_lacks_is_named() -> None:
    asks = {
        "no H, nor gates": (("x", "cx"), (op(Gate.H, 0),)),
        "none of cx, cz": (("u3",), (op(Gate.CX, 0, 1),)),
        "no reset": (("u3", "cx"), (op(Gate.RESET, 0),)),
        "depend on measured bits": (("u3", "cx"), (op(Gate.IF), op(Gate.X, 0))),
        "7 controls": (("u3", "cx"), (op(Gate.H, *range(8), arg=7),)),
        "operation 250": (DDSIM, ((250, (0,), (), 0),)),
    }
    condition = Condition(ConditionKind.EQUALS, (0,), 1, 1)
    for message, (names, ops) in asks.items():
        with pytest.raises(ProgramError, match=message):
            lower(FlatCircuit(8, 1, ops, (condition,)), native_of(names, controls=True))


@pytest.mark.parametrize("language", ["qasm2", "qasm3"])
def test_programs_are_read_back_as_the_same_circuit(language: str) -> None:
    rng = np.random.default_rng(7)
    ops = []
    for gate, (width, params) in UNITARY_SHAPE.items():
        ops.append(op(gate, *rng.permutation(4)[:width].tolist(), params=rng.uniform(-1e-5, 7, params)))
    if language == "qasm3":
        ops += [op(Gate.X, 3, 1, 0, 2, arg=3), op(Gate.P, 3, 1, 0, 2, params=(1e-7,), arg=3)]
    ops += [op(Gate.MEASURE, 2, arg=5), op(Gate.MEASURE, 0, arg=3)]
    written = write(FlatCircuit(4, 9, tuple(ops)), native_of(DDSIM, controls=language == "qasm3"), 4, language)
    assert written.clbits == (3, 5)
    found = parse(written.text, ParseLimits()).bind({}).circuit
    assert found.num_clbits == 2
    assert [each[3] for each in found.ops if each[0] == Gate.MEASURE] == [1, 0]
    unitary = [[each for each in row if each[0] < Gate.MEASURE] for row in (ops, found.ops)]
    assert same_state(4, *unitary)


def test_conditions_are_written_out_and_bits_without_a_value_are_0() -> None:
    conditions = (
        Condition(ConditionKind.EQUALS, (0, 7, 1), 5, 1),
        Condition(ConditionKind.PARITY, (0, 1, 2, 7), 0, 1),
        Condition(ConditionKind.EQUALS, (7,), 1, 1),
        Condition(ConditionKind.EQUALS, (7,), 0, 1),
    )
    ops = [op(Gate.MEASURE, q, arg=q) for q in range(3)]
    for index in range(4):
        ops += [op(Gate.IF, arg=index), op(Gate.X, index)]
    text = write(FlatCircuit(4, 8, tuple(ops), conditions), native("ddsim"), 4, "qasm3").text
    assert text.splitlines()[3:] == [
        "bit[3] c;", "c[0] = measure q[0];", "c[1] = measure q[1];", "c[2] = measure q[2];",
        "if (c[0] && c[1]) {", "x q[0];", "}", "if (!((c[0] != c[1]) != c[2])) {", "x q[1];", "}", "x q[3];",
    ]  # fmt: skip
    early = (op(Gate.IF), op(Gate.X, 0), op(Gate.MEASURE, 0), op(Gate.MEASURE, 1, arg=1))
    assert 'bit[2] c = "00";' in write(FlatCircuit(4, 8, early, conditions), native("ddsim"), 4, "qasm3").text
    inner = lower(FlatCircuit(4, 8, early, conditions), native("ddsim"))[0]
    assert isinstance(inner, Branch)
    with pytest.raises(ProgramError, match="OpenQASM 3"):
        write(FlatCircuit(4, 8, early, conditions), native("ddsim"), 4, "qasm2")


@pytest.mark.parametrize(
    "histogram", [None, {"0": 10}, {"000": 10}, {"0x": 10}, {"00": 9}, {"00": 11, "01": -1}, {"00": 9.0}, {3: 10}]
)
def test_histograms_of_another_shape_are_a_fault_of_the_device(histogram: object) -> None:
    written = write(FlatCircuit(2, 2, BELL.ops), native("ddsim"), 2, "qasm2")
    assert read_counts({"01": 4, "10": 6}, written, 10) == {1: 4, 2: 6}
    with pytest.raises(FatalError):
        read_counts(histogram, written, 10)


# a device


class Status(Enum):
    OFFLINE = 0
    IDLE = 1
    BUSY = 2
    ERROR = 3
    MAINTENANCE = 4
    CALIBRATION = 5


class Format(Enum):
    QASM2 = 0
    QASM3 = 1


class Progress(Enum):
    QUEUED = 2
    RUNNING = 3
    DONE = 4
    CANCELED = 5
    FAILED = 6


class Site:
    def __init__(self, number: int) -> None:
        self.number = number

    def index(self) -> int:
        return self.number

    def t1(self) -> int:
        return 20_000 + 1000 * self.number

    def t2(self) -> int | None:
        return 30_000 if self.number else None

    def name(self) -> str:
        return f"QB{self.number + 1}"


SITES = [Site(number) for number in range(3)]


class Operation:
    def __init__(self, name: str, qubits: int, params: int) -> None:
        self.called, self.qubits, self.params = name, qubits, params

    def name(self) -> str:
        return self.called

    def qubits_num(self) -> int:
        return self.qubits

    def parameters_num(self) -> int:
        return self.params

    def duration(self, _sites: Sequence[Site] = ()) -> int:
        return 40 * self.qubits

    def fidelity(self, sites: Sequence[Site] = ()) -> float | None:
        return 0.99 - 0.01 * sites[0].number if sites else None

    def sites(self) -> list[Site] | None:
        return SITES

    def site_pairs(self) -> list[tuple[Site, Site]] | None:
        return [(SITES[0], SITES[1]), (SITES[2], SITES[1])] if self.qubits == 2 else None


class Lab:
    """The device of a laboratory: three qubits in a line, in CZ and turns about axes in the plane."""

    progress = Progress.DONE
    state = Status.IDLE
    stubborn = False
    fault: Exception | None = None

    def __init__(self) -> None:
        self.programs: list[tuple[str, Enum, int]] = []
        self.cancelled = 0
        self.histogram: Any = {"000": 10}

    def name(self) -> str:
        return "Lab"

    def version(self) -> str:
        return "1"

    def library_version(self) -> str:
        return "1.3"

    def status(self) -> Status:
        return self.state

    def qubits_num(self) -> int:
        return 3

    def regular_sites(self) -> list[Site]:
        return SITES[::-1]

    def operations(self) -> list[Operation]:
        return [Operation("prx", 1, 2), Operation("cz", 2, 0), Operation("measure", 1, 0)]

    def coupling_map(self) -> list[tuple[Site, Site]]:
        return [(SITES[0], SITES[1]), (SITES[2], SITES[1])]

    def queue_length(self) -> int:
        raise RuntimeError("Not supported.")

    def duration_unit(self) -> str:
        return "us"

    def duration_scale_factor(self) -> float:
        return 0.001

    def supported_program_formats(self) -> list[Format]:
        return [Format.QASM2]

    def submit_job(self, program: str, program_format: Enum, num_shots: int, **custom: object) -> Lab:
        assert not custom
        if self.fault is not None:
            raise self.fault
        self.programs.append((program, program_format, num_shots))
        return self

    def check(self) -> Progress:
        return self.progress

    def wait(self, timeout: int) -> bool:
        assert timeout >= 1
        self.progress = Progress.DONE
        return True

    def cancel(self) -> None:
        self.cancelled += 1
        if self.stubborn:
            raise RuntimeError("Not supported.")
        self.progress = Progress.CANCELED

    def get_counts(self) -> Any:
        return self.histogram


BELL = FlatCircuit(2, 2, (op(Gate.H, 0), op(Gate.CX, 0, 1), op(Gate.MEASURE, 0), op(Gate.MEASURE, 1, arg=1)))
THREE = FlatCircuit(3, 3, tuple(op(Gate.MEASURE, q, arg=q) for q in range(3)))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    device = Lab()
    known: list[str] = []
    fake: Any = types.ModuleType("mqt.core.qdmi")
    fake.ProgramFormat = Format
    fake.device_ids = lambda: known
    fake.open_device = lambda device_id, **given: (device, setattr(device, "given", (device_id, given)))[0]
    fake.builtin_driver = types.SimpleNamespace(
        registered_device_ids=lambda: known, add_manifest=lambda path: known.append(Path(path).stem)
    )
    monkeypatch.setitem(sys.modules, "mqt.core.qdmi", fake)
    return device


@pytest.fixture
def opened(lab: Lab, tmp_path: Path) -> Qdmi:
    (tmp_path / "lab").write_text("{}")
    (tmp_path / "token").write_text("hush\n")
    values = {"device": "lab", "manifest": str(tmp_path / "lab"), "token_file": str(tmp_path / "token")}
    driver = Qdmi(settings_from_mapping(QdmiSettings, {**values, "project": "edge"}))
    driver.probe()
    driver.open(DriverContext("lab", "", bytes, lambda: False))
    return driver


def test_describing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from qedge_drivers.qdmi import Qdmi as D; D.describe(); D(D.Settings()).probe();"
        "print(sorted({'numpy', 'mqt.core.qdmi'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_it_passes_the_kit() -> None:
    report = run_kit(Qdmi, {}, limit_s=60.0, cycles=3)
    assert report.failed == (), report.text()
    assert "passed   ghz" in report.text()


def test_a_device_is_told_with_its_sites_operations_and_couplings(opened: Qdmi) -> None:
    told = opened.qpu_properties()
    assert isinstance(opened, QpuDriver)
    assert (told.num_qubits, told.status, told.queue_length) == (3, DeviceStatus.IDLE, 0)
    assert told.formats == (ProgramFormat.FLAT, ProgramFormat.QASM2)
    assert told.coupling == ((0, 1), (1, 2))
    assert [(site.name, site.t1_us, site.t2_us) for site in told.sites] == [
        ("QB1", 20, 0), ("QB2", pytest.approx(21), 30), ("QB3", 22, 30),
    ]  # fmt: skip
    assert [site.readout_error for site in told.sites] == pytest.approx([0.01, 0.02, 0.03])
    turn, pair, _ = told.operations
    assert (turn.name, turn.num_parameters, turn.duration_us) == ("r", 2, pytest.approx(0.04))
    assert turn.fidelity == pytest.approx(0.98)
    assert [(each.qubits, each.fidelity) for each in pair.at] == [
        ((0, 1), pytest.approx(0.99)), ((2, 1), pytest.approx(0.97)),
    ]  # fmt: skip


def test_credentials_come_from_files_and_are_not_told(opened: Qdmi, lab: Lab) -> None:
    assert lab.given == ("lab", {"project_id": "edge", "token": "hush"})  # type: ignore[attr-defined]
    assert "hush" not in str(opened.properties())


def test_a_program_is_written_for_the_whole_device(opened: Qdmi, lab: Lab) -> None:
    lab.histogram = {"11": 6, "00": 4}
    job = opened.submit(QpuTask(BELL, 10, 1))
    assert opened.wait(job, 30) is JobStatus.DONE
    result = opened.result(job)
    assert result.counts == {3: 6, 0: 4}
    assert result.metadata["simulated"] is False
    ((text, language, shots),) = lab.programs
    assert (language, shots) == (Format.QASM2, 10)
    assert "qreg q[3];" in text
    assert {line.split()[0].split("(")[0] for line in text.splitlines()[4:]} == {"r", "cz", "measure"}


def test_estimates_count_the_durations_of_the_device(opened: Qdmi) -> None:
    one, many = (opened.estimate(QpuTask(BELL, shots, 1)).time_s for shots in (1, 100_001))
    # H, CX and a measurement one after the other: 40 + 80 + 40 ns, and the 10 us of the setting
    assert (many - one) / 100_000 == pytest.approx(10e-6 + 0.16e-6)


def test_a_job_that_runs_is_cancelled_at_the_device(opened: Qdmi, lab: Lab) -> None:
    lab.progress = Progress.RUNNING
    job = opened.submit(QpuTask(THREE, 10, 1))
    assert opened.wait(job, 0.01) is JobStatus.RUNNING
    assert opened.qpu_properties().status is DeviceStatus.BUSY
    with pytest.raises(RetriableError):
        opened.result(job)
    opened.cancel(job)
    assert lab.progress is Progress.CANCELED
    assert opened.wait(job, 30) is JobStatus.CANCELLED
    with pytest.raises(FatalError, match="cancelled"):
        opened.result(job)
    opened.free(job)
    assert lab.cancelled == 1


def test_a_device_that_cannot_cancel_is_told_of_in_the_health(opened: Qdmi, lab: Lab) -> None:
    lab.progress, lab.stubborn = Progress.QUEUED, True
    job = opened.submit(QpuTask(THREE, 10, 1))
    assert opened.qpu_properties().queue_length == 1
    opened.cancel(job)
    assert opened.wait(job, 30) is JobStatus.CANCELLED
    assert "could not be cancelled" in opened.health().reason
    opened.close()


def test_a_long_wait_is_left_to_the_device(opened: Qdmi, lab: Lab) -> None:
    lab.progress = Progress.RUNNING
    assert opened.wait(opened.submit(QpuTask(THREE, 10, 1)), 3) is JobStatus.DONE


def test_a_failed_job_and_a_refused_program_are_told_apart(opened: Qdmi, lab: Lab) -> None:
    lab.progress = Progress.FAILED
    job = opened.submit(QpuTask(THREE, 10, 1))
    assert opened.wait(job, 30) is JobStatus.FAILED
    with pytest.raises(RetriableError, match="no reason"):
        opened.result(job)
    assert opened.health().state is OperatingState.DEGRADED
    lab.fault = ValueError("Invalid argument.")
    with pytest.raises(ProgramError, match="refused"):
        opened.submit(QpuTask(THREE, 10, 1))
    lab.fault = RuntimeError("Timeout.")
    with pytest.raises(RetriableError, match="Timeout"):
        opened.submit(QpuTask(THREE, 10, 1))


@pytest.mark.parametrize(
    ("state", "health"),
    [
        (Status.OFFLINE, OperatingState.DOWN),
        (Status.ERROR, OperatingState.DOWN),
        (Status.MAINTENANCE, OperatingState.DEGRADED),
        (Status.CALIBRATION, OperatingState.DEGRADED),
        (Status.BUSY, OperatingState.UP),
    ],
)
def test_the_status_of_the_device_is_its_health(opened: Qdmi, lab: Lab, state: Status, health: OperatingState) -> None:
    lab.state = state
    assert opened.health().state is health
    assert opened.qpu_properties().status.name == state.name
    if health is not OperatingState.UP:
        with pytest.raises(RetriableError, match="takes no jobs"):
            opened.submit(QpuTask(THREE, 10, 1))


def test_a_language_that_the_device_does_not_take_is_refused(opened: Qdmi) -> None:
    conditions = (Condition(ConditionKind.EQUALS, (0,), 1, 1),)
    deciding = FlatCircuit(1, 1, (op(Gate.MEASURE, 0), op(Gate.IF), op(Gate.X, 0)), conditions)
    with pytest.raises(ProgramError, match="depend on measured bits"):
        opened.submit(QpuTask(deciding, 10, 1))
    none = Qdmi(settings_from_mapping(QdmiSettings, {"device": "mqt.sc.iqm.garnet"}))
    with pytest.raises(RetriableError):
        none.submit(QpuTask(BELL, 10, 1))


def test_a_device_that_is_not_there_does_not_open(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="no device 'other'"):
        Qdmi(QdmiSettings(device="other")).open(DriverContext("lab", "", bytes, lambda: False))
    with pytest.raises(FatalError, match="token_file: there is no file"):
        Qdmi(QdmiSettings(token_file=str(tmp_path / "none"))).probe()


@pytest.mark.parametrize(
    ("values", "key"), [({"device": ""}, "device"), ({"device": "a\nb"}, "device"), ({"project": "a\0"}, "project")]
)
def test_settings_that_cannot_work_are_refused_by_name(values: dict[str, object], key: str) -> None:
    with pytest.raises(BadSettingsError) as caught:
        Qdmi(settings_from_mapping(QdmiSettings, values))
    assert caught.value.key == key


def test_real_calibrations_are_read() -> None:
    driver = Qdmi(QdmiSettings(device="mqt.sc.iqm.garnet"))
    driver.open(DriverContext("garnet", "", bytes, lambda: False))
    told = driver.qpu_properties()
    assert (told.num_qubits, len(told.sites), len(told.coupling)) == (20, 20, 30)
    assert told.sites[0].name == "QB1"
    assert 10 < told.sites[0].t1_us < 100
    by_name = {each.name: each for each in told.operations}
    assert len(by_name["cz"].at) == 30
    assert all(0.98 < each.fidelity < 1 for each in by_name["cz"].at)
    with pytest.raises(ProgramError, match="no OpenQASM"):
        driver.submit(QpuTask(BELL, 10, 1))


def test_the_simulators_estimate_follows_what_a_program_superposes() -> None:
    driver = Qdmi(QdmiSettings())
    driver.open(DriverContext("ddsim", "", bytes, lambda: False))
    ghz = [op(Gate.H, 0), *(op(Gate.CX, i, i + 1) for i in range(19))]
    spread = [op(Gate.RY, i, params=(0.3,)) for i in range(20)]
    last = [op(Gate.MEASURE, i, arg=i) for i in range(20)]
    cheap, dear = (
        driver.estimate(QpuTask(FlatCircuit(20, 20, (*ops, *last)), 10, 1)) for ops in (ghz, spread + ghz[1:])
    )
    assert cheap.memory_bytes < 100 << 20
    assert dear.memory_bytes > 1 << 30
    assert not math.isclose(cheap.time_s, dear.time_s)
    sizes = {each.name: each.num_qubits for each in driver.qpu_properties().operations}
    assert (sizes["mcx"], sizes["ccx"]) == (0, 3)
