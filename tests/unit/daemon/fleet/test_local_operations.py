"""A command of a local tool is carried out by the executor of signed commands that does the same."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.daemon.fleet.telemetry import ExecutorOperation
from qedge.fleet.commands.ports import AfterCrash, Progress, Recovered
from qedge.fleet.thin_edge.commands import LocalCommand, Status
from qedge.wire.commands import CommandRequest, OperatorRole


class Uploaded(msgspec.Struct, frozen=True, tag_field="type", tag="uploaded/1"):
    """What the executor below returns."""

    url: str


class FakeExecutor:
    """Keeps requests, and recovers as a test says."""

    kind = "logs"
    lane = "logs"
    role = OperatorRole.VIEWER
    two_persons = False
    time_limit_s = 42.0

    def __init__(self, after_crash: AfterCrash = AfterCrash.FAIL, recovered: Recovered | None = None) -> None:
        self.after_crash = after_crash
        self.requests: list[CommandRequest] = []
        self._recovered = recovered or Recovered()

    def check(self, request: CommandRequest) -> None:
        if request.arguments == b"bad":
            raise QedgeError("job.bad_request", "Bad.")

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        await progress("half", 0.5)
        self.requests.append(request)
        return Uploaded("http://x")

    async def recover(self, request: CommandRequest) -> Recovered:
        return self._recovered


def operation(executor: FakeExecutor) -> ExecutorOperation:
    tools = SimpleNamespace(clock=ManualClock(), random_bytes=bytes, identity=SimpleNamespace(fleet="f", node="box-1"))
    return ExecutorOperation(
        "log_upload",
        executor,
        tools,  # type: ignore[arg-type] # what it needs of them
        arguments=lambda command: str(command.fields["lines"]).encode(),
        fields=lambda result: {"tedgeUrl": result.url} if isinstance(result, Uploaded) else {},
    )


def command(lines: str) -> LocalCommand:
    return LocalCommand(
        "te/device/main/service/qedge/cmd/log_upload/1", "log_upload", "1", Status.INIT, {"lines": lines}
    )


async def test_fields_become_arguments_and_the_result_becomes_fields() -> None:
    executor = FakeExecutor()
    made = operation(executor)
    assert (made.kind, made.time_limit_s) == ("log_upload", 42.0)
    assert await made.run(command("10")) == {"tedgeUrl": "http://x"}
    [request] = executor.requests
    assert (request.kind, request.fleet, request.node, request.arguments) == ("logs", "f", "box-1", b"10")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=CommandRequest) == request
    assert "thin-edge 1" in request.note
    assert json.dumps(made.about) == "{}"


async def test_arguments_that_are_wrong_are_refused_before_anything_is_done() -> None:
    executor = FakeExecutor()
    with pytest.raises(QedgeError):
        await operation(executor).run(command("bad"))
    assert executor.requests == []


@pytest.mark.parametrize(
    ("after", "recovered", "result", "runs"),
    [
        (AfterCrash.RERUN, None, {"tedgeUrl": "http://x"}, 1),
        (AfterCrash.CHECK, Recovered(result=Uploaded("http://y")), {"tedgeUrl": "http://y"}, 0),
        (AfterCrash.CHECK, Recovered(go_on=True), {"tedgeUrl": "http://x"}, 1),
        (AfterCrash.FAIL, None, None, 0),
    ],
)
async def test_what_was_begun_before_a_crash_ends_as_its_executor_says(
    after: AfterCrash, recovered: Recovered | None, result: dict[str, str] | None, runs: int
) -> None:
    executor = FakeExecutor(after, recovered)
    assert await operation(executor).recover(command("1")) == result
    assert len(executor.requests) == runs
