"""Routes of circuit jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_uuid
from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, caller_of, number_of
from qedge.web.route import Route
from qedge.wire.jobs import (
    BatchEntry,
    BatchView,
    JobBatch,
    JobEstimate,
    JobList,
    JobState,
    JobSubmission,
    JobView,
    TemplateText,
    TemplateView,
)
from qedge.wire.problem import problem_of

if TYPE_CHECKING:
    from qedge.web.jobs.ports import JobsPort

NODE: Final[web.AppKey[JobsPort]] = web.AppKey("qedge.web.jobs")

MAX_WAIT_S: Final = 30.0
MAX_LISTED: Final = 1000
ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


async def submit(request: web.Request) -> web.Response:
    """Accept a job: 202 with its view, with `wait_s` 200 once it has ended; with `dry_run` only the estimate."""
    wait_s = number_of(request, "wait_s", 0, 0, MAX_WAIT_S)
    submission = await body_of(request, JobSubmission)
    node = request.app[NODE]
    if submission.dry_run:
        return json_answer(await node.estimate(submission))
    job = await _whole(node, await node.submit(submission, caller_of(request).label))
    if wait_s:
        job = await node.wait_job(job.id, wait_s)
    answer = json_answer(job, 200 if job.state in ENDED else 202)
    answer.headers["Location"] = f"/v1/jobs/{job.id}"
    return answer


async def submit_batch(request: web.Request) -> web.Response:
    """Accept or refuse each job of a batch: 200 with one entry per job."""
    batch = await body_of(request, JobBatch)
    node, client = request.app[NODE], caller_of(request).label

    async def one_of(submission: JobSubmission) -> BatchEntry:
        try:
            return BatchEntry(job=await _whole(node, await node.submit(submission, client)))
        except QedgeError as error:
            return BatchEntry(error=problem_of(error))

    return json_answer(BatchView(tuple([await one_of(submission) for submission in batch.jobs])))


async def add_template(request: web.Request) -> web.Response:
    """Keep a program and answer with its hash."""
    text = await body_of(request, TemplateText)
    view = await request.app[NODE].add_template(text.program, caller_of(request).label)
    answer = json_answer(view, 201)
    answer.headers["Location"] = f"/v1/templates/{view.template}"
    return answer


async def template(request: web.Request) -> web.Response:
    """Give a program that the node keeps."""
    return json_answer(await request.app[NODE].template(request.match_info["hash"]))


async def listing(request: web.Request) -> web.Response:
    """List the newest jobs."""
    limit = int(number_of(request, "limit", 50, 1, MAX_LISTED))
    return json_answer(await request.app[NODE].jobs(limit))


async def one(request: web.Request) -> web.Response:
    """Give one job; with `wait_s` once it has ended, or as it is after that time."""
    wait_s = number_of(request, "wait_s", 0, 0, MAX_WAIT_S)
    node, job_id = request.app[NODE], _id(request)
    job = await (node.wait_job(job_id, wait_s) if wait_s else node.job(job_id))
    if job.result is not None:
        job = msgspec.structs.replace(job, receipt=await node.results.receipt(job_id))
    return json_answer(job)


async def cancel(request: web.Request) -> web.Response:
    """Cancel a job."""
    return json_answer(await request.app[NODE].cancel(_id(request)))


async def _whole(node: JobsPort, job: JobView) -> JobView:
    """Return a job with its result where it has ended already: who is told so does not ask again."""
    return await node.job(job.id) if job.state is JobState.DONE and job.result is None else job


def _id(request: web.Request) -> str:
    job_id = request.match_info["id"]
    if not is_uuid(job_id):
        raise QedgeError("job.not_found", "This is no job id: job ids are UUIDs.")
    return job_id


ROUTES: Final = (
    Route("GET", "/v1/jobs", Right.VIEW, listing, answer=JobList, query=("limit",)),
    Route(
        "POST",
        "/v1/jobs",
        Right.SUBMIT,
        submit,
        body=JobSubmission,
        answer=JobView | JobEstimate,
        status=202,
        query=("wait_s",),
    ),
    Route("POST", "/v1/batches", Right.SUBMIT, submit_batch, body=JobBatch, answer=BatchView),
    Route(
        "POST",
        "/v1/templates",
        Right.SUBMIT,
        add_template,
        body=TemplateText,
        answer=TemplateView,
        status=201,
    ),
    Route("GET", "/v1/templates/{hash}", Right.VIEW, template, answer=TemplateView),
    Route("GET", "/v1/jobs/{id}", Right.VIEW, one, answer=JobView, query=("wait_s",)),
    Route("DELETE", "/v1/jobs/{id}", Right.SUBMIT, cancel, answer=JobView),
)
