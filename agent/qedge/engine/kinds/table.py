"""All kinds of tasks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from qedge.engine.kinds.model import Kind
from qedge.wire.tasks import AmplitudeTask, ExpectationTask, KernelTask, QaoaTask, QecTask, SampleTask, Task


@lru_cache(maxsize=16)
def kind_of(task: type[Task]) -> Kind[Any]:  # the kind takes the task it is asked for
    """Return what does a task; heavy libraries are loaded for the kinds that need them alone."""
    if task is SampleTask:
        from qedge.engine.kinds.sample import SampleKind

        return SampleKind()
    if task is ExpectationTask:
        from qedge.engine.kinds.expectation import ExpectationKind

        return ExpectationKind()
    if task is AmplitudeTask:
        from qedge.engine.kinds.amplitudes import AmplitudeKind

        return AmplitudeKind()
    if task is KernelTask:
        from qedge.engine.kinds.amplitudes import KernelKind

        return KernelKind()
    if task is QaoaTask:
        from qedge.engine.kinds.qaoa import QaoaKind

        return QaoaKind()
    if task is QecTask:
        from qedge.engine.kinds.qec import QecKind

        return QecKind()
    raise TypeError(f"{task.__name__} is no kind of task")
