"""The HTTP interface described by itself: OpenAPI 3.1, made from the route table."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec

from qedge import __version__
from qedge.web.route import Route
from qedge.wire.problem import Problem

_PREFIX: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {"$ref": _PREFIX.format(name="Problem")}
_IN_PATH: Final = re.compile(r"{(\w+)}")


def document(routes: Sequence[Route]) -> bytes:
    """Return the description as JSON."""
    return _document(tuple(routes))


@functools.lru_cache(maxsize=1)
def _document(routes: tuple[Route, ...]) -> bytes:
    types: list[type[msgspec.Struct]] = [Problem]
    for route in routes:
        types += [kind for kind in (route.body, *_answers(route), *_said(route)) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_anything, ref_template=_PREFIX)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.pattern.startswith(("/v1/", "/health/")) and (route.messages or not route.endless):
            paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, by_type)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "qedge",
            "version": __version__,
            "description": "A quantum edge node. The unix socket carries all of it, loopback TCP what is public.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=1)


def _anything(kind: type) -> dict[str, Any]:
    """Describe what may be any JSON, as members are that vendors add to keys."""
    if kind is object:
        return {"description": "any JSON"}
    raise NotImplementedError(kind)


def _answers(route: Route) -> tuple[type[msgspec.Struct], ...]:
    if route.answer is None:
        return ()
    return get_args(route.answer) or (route.answer,)


def _said(route: Route) -> tuple[type[msgspec.Struct], ...]:
    return tuple(kind for side in route.messages for kind in get_args(side))


def _operation(route: Route, by_type: dict[type[msgspec.Struct], dict[str, Any]]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(route.pattern)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": {"type": "number", "minimum": 0}}
        for name in route.query
    ]
    answers = [by_type[kind] for kind in _answers(route)]
    good: dict[str, Any] = {"description": "Done."}
    if answers:
        schema = answers[0] if len(answers) == 1 else {"anyOf": answers}
        good["content"] = {"application/json": {"schema": schema}}
    operation: dict[str, Any] = {
        "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.pattern}").strip("_"),
        "tags": [str(route.right.value)],
        "parameters": parameters,
        "responses": {
            str(route.status): good,
            "default": {
                "description": "It did not work: the error, with its code and what to do.",
                "content": {"application/problem+json": {"schema": _PROBLEM}},
            },
        },
    }
    if route.messages:
        asked, answered = ([by_type[kind] for kind in get_args(side)] for side in route.messages)
        del operation["responses"][str(route.status)]
        operation["responses"]["101"] = {"description": "The connection is a WebSocket now."}
        operation["x-websocket"] = {"caller": {"anyOf": asked}, "node": {"anyOf": answered}}
    if route.status == 202:
        operation["responses"]["200"] = good
    if route.pattern == "/health/ready":
        operation["responses"]["503"] = good
    if route.body is not None:
        schema = by_type[route.body]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation
