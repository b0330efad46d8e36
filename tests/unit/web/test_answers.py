"""Answers to requests: an error that passes says when to come back."""

from __future__ import annotations

from qedge.base.errors import QedgeError
from qedge.web.answers import problem_answer


def test_a_refusal_that_passes_says_when_to_try_again() -> None:
    said = problem_answer(QedgeError("job.queue_full", "Full.", retry_after_s=3.2))
    assert (said.status, said.headers["Retry-After"]) == (429, "4")
    assert problem_answer(QedgeError("job.shed", "Unwell.")).headers["Retry-After"] == "1"
    assert "Retry-After" not in problem_answer(QedgeError("job.unplaceable", "Never.")).headers
