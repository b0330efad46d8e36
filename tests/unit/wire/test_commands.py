"""Commands of fleet operators and what nodes say of them: what was written once stays readable."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qedge.wire import command_kinds as kinds
from qedge.wire.commands import (
    Approval,
    CancelCommand,
    CommandOrder,
    CommandReport,
    CommandRequest,
    KindView,
    NodeCommands,
)

GOLDEN = Path(__file__).parent / "golden_commands"
UTC_NS = 1_800_000_000_000_000_000
ID = "01a2246a-6fcc-7d9f-829a-ff8a1f1967df"
CASES: dict[str, msgspec.Struct] = {
    "command-request-1": CommandRequest(ID, "fleet", "box", "drain", 7, UTC_NS, UTC_NS + 10**9, b"\x80", 30.0, "why"),
    "command-request-1-bound": CommandRequest(
        ID, "fleet", "box", "wipe", 8, UTC_NS, UTC_NS + 10**9, b"\x80", node_key="00112233445566778899aabbccddeeff"
    ),
    "command-order-1": CommandOrder(b"signed", (Approval("sue", (b"leaf", b"issuing"), b"signature"),)),
    "command-report-1": CommandReport(ID, "drain", "executing", 3, UTC_NS, "olga", "2 jobs left", 0.5),
    "command-report-1-failed": CommandReport(ID, "x", "failed", 1, UTC_NS, reason="No.", code="order.role"),
    "cancel-command-1": CancelCommand(ID),
    "node-commands-1": NodeCommands("box", UTC_NS, (KindView("wipe", "trust", "security", True, 60.0),)),
    "restart-outcome-1": kinds.RestartOutcome(1, 2, "a", "b"),
    "worker-command-1": kinds.WorkerCommand("qpu"),
    "drain-command-1": kinds.DrainCommand(undo=True, wait=True),
    "driver-command-1": kinds.DriverCommand("qpu", "locked", {"shots": 3, "names": ["a"]}, True),
    "driver-outcome-1": kinds.DriverOutcome("qpu", True, "locked", "up", "why"),
    "device-command-1": kinds.DeviceCommand("pump-1", kinds.DeviceOperation.REVOKE, "sold"),
    "device-outcome-1": kinds.DeviceOutcome("pump-1", "revoked", False),
    "serial-outcome-1": kinds.SerialOutcome(9),
    "certificate-ask-1": kinds.CertificateAsk(new_key=True),
    "certificate-outcome-1": kinds.CertificateOutcome("00ff", UTC_NS),
    "log-ask-1": kinds.LogAsk(5, "warning", "order."),
    "log-lines-1": kinds.LogLines(("{}",), 3),
    "diagnostics-ask-1": kinds.DiagnosticsAsk(2),
    "diagnostics-part-1": kinds.DiagnosticsPart(2, 3, "00ff", b"data"),
    "self-test-outcome-1": kinds.SelfTestOutcome(False, (kinds.CheckResult("broker", False, 0.5, "no"),)),
    "benchmark-ask-1": kinds.BenchmarkAsk(1.5),
    "benchmark-outcome-1": kinds.BenchmarkOutcome((kinds.BenchmarkFigure("signature", 900.0, 1.1, 90),)),
    "wipe-command-1": kinds.WipeCommand("box", "sold"),
    "wipe-outcome-1": kinds.WipeOutcome(UTC_NS),
}


@pytest.mark.parametrize("name", CASES)
def test_golden_files_are_read_and_written_as_ever(name: str) -> None:
    body = CASES[name]
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert msgspec.msgpack.decode(golden, type=type(body)) == body
    assert msgspec.msgpack.encode(body) == golden


def test_every_golden_file_belongs_to_a_case_and_to_the_tag_of_its_struct() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)
    for name, body in CASES.items():
        assert name.startswith(str(body.__struct_config__.tag).replace("/", "-"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "not-an-id"),
        ("id", "01a2246a-6fcc-4d9f-829a-ff8a1f1967df"),
        ("serial", 0),
        ("node", "a/b"),
        ("arguments", bytes(128 * 1024 + 1)),
        ("time_limit_s", -1.0),
        ("expires_utc_ns", -1),
        ("node_key", ""),
        ("node_key", "00FF"),
    ],
)
def test_a_request_with_a_field_out_of_bounds_is_not_read(field: str, value: object) -> None:
    encoded = msgspec.msgpack.encode(msgspec.structs.replace(CASES["command-request-1"], **{field: value}))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encoded, type=CommandRequest)


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    later = msgspec.to_builtins(CASES["command-request-1"], builtin_types=(bytes,)) | {"colour": "green"}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(later), type=CommandRequest) == CASES["command-request-1"]
