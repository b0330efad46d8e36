"""What a job for other nodes must satisfy before it is looked at any further. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from qedge.base.errors import QedgeError
from qedge.engine.config import EngineConfig
from qedge.engine.ports import ANY
from qedge.wire.jobs import JobSubmission


def check_node(wanted: str, known: Iterable[str]) -> None:
    """Raise `job.no_node` for a name that nobody in the fleet has."""
    names = sorted(known)
    if wanted != ANY and wanted not in names:
        raise QedgeError(
            "job.no_node",
            f"No node of the fleet is named {wanted!r}.",
            fix=f"Known: {', '.join(names[:20]) or 'nobody but this node'}. `qedge peers` shows them.",
        )


def check_room(submission: JobSubmission, away: int, config: EngineConfig) -> None:
    """Raise `job.queue_full` where `away` jobs are too many, or what is wrong with the number of shots."""
    if away >= config.queue_limit:
        raise QedgeError("job.queue_full", f"{away} jobs are away already.", fix="Try again later.")
    if submission.shots < 1 or submission.shots > config.max_shots:
        code = "job.bad_shots" if submission.shots < 1 else "job.too_many_shots"
        raise QedgeError(code, f"{submission.shots} shots are out of range.", limit=config.max_shots)
