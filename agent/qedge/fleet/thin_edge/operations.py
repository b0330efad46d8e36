"""What local tools may have done, in the words of thin-edge.io. Pure: content comes and uploads go through ports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.thin_edge.commands import LocalCommand
from qedge.fleet.thin_edge.files import address
from qedge.fleet.thin_edge.mapping import Json

TYPE: Final = "qedge"
"""The one type of configuration, log and software that the node has."""

_ABOUT: Final[Mapping[str, Json]] = {"types": [TYPE]}
_TIMED: Final = msgspec.json.Decoder(dict)
_MAX_LINES: Final = 2000


class Uploader(Protocol):
    """The file transfer service."""

    @property
    def base(self) -> str:
        """Scheme, host and port."""
        ...

    async def put(self, url: str, data: bytes) -> None:
        """Upload. Raises `adapter.refused`, `adapter.not_uploaded`."""
        ...


class Upload:
    """Uploads something of the node; begun before a restart, it is done again, which is the same as once."""

    about = _ABOUT
    time_limit_s = 60.0

    def __init__(
        self, kind: str, service: str, uploader: Uploader, content: Callable[[LocalCommand], Awaitable[bytes]]
    ) -> None:
        """`content` makes what is uploaded and raises `QedgeError` where the command wants what is not there."""
        self.kind = kind
        self._service = service
        self._uploader = uploader
        self._content = content

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        """Make it, upload it, and return where it is."""
        if command.fields.get("type", TYPE) != TYPE:
            raise QedgeError("adapter.bad_command", f"The node has nothing of that type, only {TYPE}.")
        url = command.fields.get("tedgeUrl")
        if url is None:
            url = address(self._uploader.base, self._service, self.kind, f"{TYPE}-{command.id}")
        if not isinstance(url, str):
            raise QedgeError("adapter.bad_command", "tedgeUrl is no text.")
        await self._uploader.put(url, await self._content(command))
        return {"tedgeUrl": url}

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        """Do it again."""
        return await self.run(command)


class SoftwareList:
    """Tells what is installed: the program itself."""

    kind = "software_list"
    about = _ABOUT
    time_limit_s = 10.0

    def __init__(self, version: str) -> None:
        self._version = version

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        """List it."""
        return {"currentSoftwareList": [{"type": TYPE, "modules": [{"name": TYPE, "version": self._version}]}]}

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        """Do it again."""
        return await self.run(command)


class SoftwareUpdateHere:
    """Installs a bundle that is offered on the box. `install` goes on where a restart has cut it off."""

    kind = "software_update"
    about = _ABOUT

    def __init__(self, install: Callable[[str, str], Awaitable[None]], time_limit_s: float) -> None:
        """`install` takes a version (empty: the newest) and an id that stays the same for one command."""
        self._install = install
        self.time_limit_s = time_limit_s

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        """Install it."""
        await self._install(wanted_version(command.fields), command.topic)
        return {}

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        """Say how it ended, or go on: the updater has restarted the node in the middle."""
        return await self.run(command)


def wanted_version(fields: Mapping[str, Json]) -> str:
    """Return the version of an `updateList`; empty: the newest. Raises `adapter.bad_command`, `adapter.refused`.

    One action alone is carried out: to install this program from what is offered on the box. An address in the command
    is refused, since nobody has signed it.
    """
    found = [
        (group.get("type"), module)
        for group in _tables(fields.get("updateList"), "updateList")
        for module in _tables(group.get("modules"), "modules")
    ]
    if len(found) != 1:
        raise QedgeError("adapter.bad_command", f"The command has {len(found)} actions; one can be carried out.")
    kind, module = found[0]
    if kind != TYPE or module.get("name") != TYPE:
        raise QedgeError("adapter.refused", f"Only {TYPE} itself is installed, of the type {TYPE}.")
    if module.get("action", "install") != "install":
        raise QedgeError("adapter.refused", f"{TYPE} does not remove itself.")
    if module.get("url"):
        raise QedgeError(
            "adapter.refused",
            "An update does not come from an address in a command that nobody has signed.",
            fix="Put the signed bundle on the box, or order the update with a fleet operator's command.",
        )
    version = module.get("version", "")
    return version if isinstance(version, str) and version != "latest" else ""


def select_lines(lines: Sequence[str], fields: Mapping[str, Json]) -> bytes:
    """Return the lines of a log (JSON) between `dateFrom` and `dateTo`, at most `lines` of the newest.

    Raises `adapter.bad_command` where these cannot be read.
    """
    first, last = _moment(fields.get("dateFrom")), _moment(fields.get("dateTo"))
    number = wanted_lines(fields)
    kept = [line for line in lines if _is_between(line, first, last)]
    return "".join(f"{line}\n" for line in kept[-number:]).encode()


def wanted_lines(fields: Mapping[str, Json]) -> int:
    """Return how many lines a command wants; raises `adapter.bad_command`."""
    number = fields.get("lines", _MAX_LINES)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise QedgeError("adapter.bad_command", "lines is no number of lines.")
    return min(number, _MAX_LINES)


def wanted_text(fields: Mapping[str, Json]) -> str:
    """Return the text that lines have to contain; raises `adapter.bad_command`."""
    text = fields.get("searchText") or ""
    if not isinstance(text, str) or len(text) > 200:
        raise QedgeError("adapter.bad_command", "searchText is no text, or a very long one.")
    return text


def _tables(value: Json, name: str) -> list[dict[str, Json]]:
    if not isinstance(value, list):
        raise QedgeError("adapter.bad_command", f"{name} is no list.")
    found = [each for each in value if isinstance(each, dict)]
    if len(found) != len(value):
        raise QedgeError("adapter.bad_command", f"{name} has entries that are no tables.")
    return found


def _moment(value: Json) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise QedgeError("adapter.bad_command", "dateFrom and dateTo are dates of ISO 8601 with an offset.")
    return found


def _is_between(line: str, first: datetime | None, last: datetime | None) -> bool:
    if first is None and last is None:
        return True
    try:
        said = datetime.fromisoformat(str(_TIMED.decode(line).get("timestamp")))
    except (ValueError, msgspec.DecodeError):
        return False
    return (first is None or said >= first) and (last is None or said <= last)
