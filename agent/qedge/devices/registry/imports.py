"""Lists of devices in files, CSV or TOML. Pure.

CSV has a header line; columns are `name` and any of `tier`, `class`, `segment`, `location`, `groups` and `posture`
(separated by spaces), `safety` (true or false), `root` (hex), `claim_code`; every other column is an attribute. TOML
has one table `[[device]]` for each device with the same keys, lists for `groups` and `posture`, and a table
`attributes`.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.gateway import DeviceDraft

MAX_DEVICES: Final = 100_000
_PROFILE: Final = {"class": "device_class", "segment": "segment", "location": "location"}
_LISTS: Final = ("groups", "posture")
_OWN: Final = ("name", "tier", "root", "claim_code")


def read_csv(text: str) -> list[DeviceDraft]:
    """Read a list in CSV; raises `device.bad_import` with the line."""
    rows = csv.DictReader(io.StringIO(text), strict=True)
    drafts: list[DeviceDraft] = []
    try:
        if not rows.fieldnames or "name" not in rows.fieldnames:
            raise _bad(1, "the header line has no column `name`")
        for row in rows:
            drafts.append(_draft(_of_row(row, rows.line_num), rows.line_num))
            if len(drafts) > MAX_DEVICES:
                raise _bad(rows.line_num, f"there are more than {MAX_DEVICES} devices")
    except csv.Error as error:
        raise _bad(rows.line_num, str(error)) from error
    return _distinct(drafts)


def read_toml(text: str) -> list[DeviceDraft]:
    """Read a list in TOML; raises `device.bad_import` with the number of the device."""
    try:
        tables = tomllib.loads(text).get("device", [])
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _bad(0, str(error)) from error
    if not isinstance(tables, list) or len(tables) > MAX_DEVICES:
        raise _bad(0, f"`device` has to be a list of at most {MAX_DEVICES} tables")
    drafts = []
    for number, table in enumerate(tables, 1):
        if not isinstance(table, dict):
            raise _bad(number, "a device is a table")
        drafts.append(_draft(_of_table(table), number))
    return _distinct(drafts)


def _of_row(row: Mapping[str | None, object], line: int) -> dict[str, object]:
    if None in row or None in row.values():
        raise _bad(line, "it has another number of columns than the header")
    values = {str(name).strip(): str(value).strip() for name, value in row.items()}
    profile: dict[str, object] = {field: values.pop(name, "") for name, field in _PROFILE.items()}
    profile |= {name: values.pop(name, "").split() for name in _LISTS}
    safety = values.pop("safety", "").lower()
    if safety not in ("", "true", "false"):
        raise _bad(line, "`safety` is true or false")
    profile["safety"] = safety == "true"
    own: dict[str, object] = {name: values.pop(name) for name in _OWN if name in values}
    if not own.get("tier"):
        own.pop("tier", None)
    profile["attributes"] = {name: value for name, value in values.items() if value}
    return {**own, "profile": profile}


def _of_table(table: Mapping[str, object]) -> dict[str, object]:
    own = {name: value for name, value in table.items() if name in _OWN}
    rest = {_PROFILE.get(name, name): value for name, value in table.items() if name not in _OWN}
    return {**own, "profile": rest}


def _draft(values: Mapping[str, object], place: int) -> DeviceDraft:
    try:
        draft = msgspec.convert(values, DeviceDraft)
    except msgspec.ValidationError as error:
        raise _bad(place, str(error)) from error
    if draft.tier == "rich" and (draft.root or draft.claim_code):
        raise _bad(place, "only constrained devices have a root or a claim code")
    if draft.claim_code and not draft.root:
        raise _bad(place, "a claim code without a root is of no use")
    return draft


def _distinct(drafts: list[DeviceDraft]) -> list[DeviceDraft]:
    seen: set[str] = set()
    for draft in drafts:
        if draft.name in seen:
            raise _bad(0, f"{draft.name} stands in it twice")
        seen.add(draft.name)
    return drafts


def _bad(place: int, why: str) -> QedgeError:
    where = f" (at {place})" if place else ""
    return QedgeError(
        "device.bad_import",
        f"The list of devices cannot be read{where}: {why}.",
        fix="See `qedge device import --help`; nothing was added.",
    )
