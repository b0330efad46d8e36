"""What a probe has to work with: the key manager, the applications whose certificates it holds, and what they say."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from qedge.client.kme import path_of
from qedge.client.kme_link import Credentials, KmeLink, Place, Reply
from qedge.client.probe.verdict import FailedError, SkippedError, expect

NOT_FOUND: Final = "one or more keys specified are not found on KME"
UNSUPPORTED: Final = "not all extension_mandatory parameters are supported"
UNMET: Final = "not all extension_mandatory request options could be met"
BAD_SIZE: Final = "size shall be a multiple of 8"
COUNTERS: Final = (
    "key_size",
    "stored_key_count",
    "max_key_count",
    "max_key_per_request",
    "max_key_size",
    "min_key_size",
    "max_SAE_ID_count",
)
NAMES: Final = ("source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID")


@dataclass(frozen=True, slots=True)
class Person:
    """An application whose certificate the probe holds, and the key manager that it is attached to."""

    id: str
    credentials: Credentials
    place: Place


@dataclass(slots=True)
class Stand:
    """The whole set-up. `master` asks its key manager for keys with `slave`.

    `people` has everyone whose certificate is here by SAE id; `additional` may be named as further slaves; `stranger`
    is somebody no key is for; `bad` has certificates that must be refused, by kind: `expired`, `revoked`,
    `unregistered`, `two-names`, `unknown-authority`. `kme_id` and `slave_kme_id` are what status must say, where they
    are known.
    """

    master: str
    slave: str
    people: dict[str, Person]
    additional: tuple[str, ...] = ()
    stranger: str = ""
    bad: Mapping[str, Credentials] = field(default_factory=dict)
    kme_id: str = ""
    slave_kme_id: str = ""
    consumed: int = 0
    seen: dict[str, str] = field(default_factory=dict)
    _links: dict[str, KmeLink] = field(default_factory=dict)
    _limits: dict[str, int] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where the key manager of the master is."""
        return self.people[self.master].place

    def person(self, sae_id: str, what: str) -> Person:
        """Return somebody whose certificate is here, or skip the case."""
        if not sae_id or sae_id not in self.people:
            raise SkippedError(f"needs the certificate of {what}")
        return self.people[sae_id]

    def fresh(
        self,
        sae_id: str = "",
        *,
        low: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        high: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
    ) -> KmeLink:
        """Return a new connection of somebody to their key manager."""
        person = self.people[sae_id or self.master]
        return KmeLink(person.place, person.credentials.context(low=low, high=high))

    def link(self, sae_id: str = "") -> KmeLink:
        """Return the connection of somebody that is used again and again."""
        sae_id = sae_id or self.master
        if sae_id not in self._links:
            self._links[sae_id] = self.fresh(sae_id)
        return self._links[sae_id]

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(link.close() for link in self._links.values()))
        self._links.clear()

    async def status(self, *, who: str = "", slave: str = "") -> dict[str, object]:
        """Return Status, which has to come."""
        reply = await self.link(who).request("GET", path_of(slave or self.slave, "status"))
        return good(reply)

    async def limits(self) -> dict[str, int]:
        """Return the counters of a status that was asked once."""
        if not self._limits:
            found = await self.status()
            self._limits = {name: number(found, name) for name in COUNTERS}
        return self._limits

    async def stored(self) -> int:
        """Return how many keys are stored now; −1 where the number is at its limit and so tells nothing."""
        found = await self.status()
        stored = number(found, "stored_key_count")
        return stored if stored < number(found, "max_key_count") else -1

    async def post(self, call: str, other: str, value: object, *, who: str = "") -> Reply:
        """POST a JSON value; bytes are sent as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return await self.link(who).request("POST", path_of(other, call), body)

    async def ask(self, value: object, *, slave: str = "", who: str = "") -> Reply:
        """Ask for fresh keys by POST."""
        return await self.post("enc_keys", slave or self.slave, value, who=who)

    async def ask_by_query(self, query: str) -> Reply:
        """Ask for fresh keys by GET."""
        mark = "?" if query else ""
        return await self.link().request("GET", f"{path_of(self.slave, 'enc_keys')}{mark}{query}")

    async def take(self, number_of_keys: int = 1, **more: object) -> dict[str, str]:
        """Take fresh keys, which have to come; returns Base64 by id."""
        return self.keys_in(await self.ask({"number": number_of_keys, **more}))

    async def collect(self, ids: Sequence[str], *, who: str = "", master: str = "") -> Reply:
        """Collect keys by POST, as the slave unless `who` says otherwise."""
        who = who or self.slave
        self.person(who, "the slave")
        value = {"key_IDs": [{"key_ID": key_id} for key_id in ids]}
        return await self.post("dec_keys", master or self.master, value, who=who)

    async def collect_by_query(self, query: str, *, who: str = "") -> Reply:
        """Collect by GET."""
        who = who or self.slave
        self.person(who, "the slave")
        return await self.link(who).request("GET", f"{path_of(self.master, 'dec_keys')}?{query}")

    def keys_in(self, reply: Reply) -> dict[str, str]:
        """Return what a key container holds, in its order; Base64 by id."""
        container = good(reply)
        listed = container.get("keys")
        expect(isinstance(listed, list) and listed, "a key container has the member keys, an array")
        keys: dict[str, str] = {}
        for entry in listed if isinstance(listed, list) else ():
            expect(isinstance(entry, dict), "an entry of keys is no object")
            key_id, key = entry.get("key_ID"), entry.get("key")
            if not isinstance(key_id, str) or not isinstance(key, str):
                raise FailedError("an entry of keys has no key_ID or key that is a string")
            expect(key_id not in keys, "a key_ID is given twice in one container")
            keys[key_id] = key
        return keys

    def note_fresh(self, keys: Mapping[str, str]) -> None:
        """Count keys that were taken, and see that none of them ever came before."""
        self.consumed += len(keys)
        for key_id, key in keys.items():
            expect(key_id not in self.seen, "a key_ID came before")
            expect(len(key) < 16 or key not in self.seen.values(), "the bytes of a key came before")
            self.seen[key_id] = key


def good(reply: Reply) -> dict[str, object]:
    """Return the JSON object of an answer 200."""
    expect(reply.status == 200, f"200 expected, got {reply.status}: {message_of(reply)}")
    return json_of(reply)


def refused(reply: Reply, *codes: int, exact: str = "") -> str:
    """See that an answer is one of `codes` (400 unless given) with an Error body; returns its message."""
    expect(reply.status in (codes or (400,)), f"{' or '.join(map(str, codes or (400,)))} expected, got {reply.status}")
    message = json_of(reply).get("message")
    if not isinstance(message, str) or not message:
        raise FailedError("the Error body has no message that is a string")
    expect(not exact or message == exact, f"the message has to be exactly {exact!r}, got {message!r}")
    return message


def json_of(reply: Reply) -> dict[str, object]:
    """Return the body as a JSON object."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    expect(kind == "application/json", f"Content-Type is {kind or 'missing'}, not application/json")
    try:
        value = json.loads(reply.body.decode("utf-8"))
    except ValueError:
        raise FailedError(f"the body of the answer {reply.status} is no JSON") from None
    if not isinstance(value, dict):
        raise FailedError("the body is no JSON object")
    return value


def message_of(reply: Reply) -> str:
    """Return the message of an error for a report, never anything else of its body."""
    try:
        value = json.loads(reply.body)
    except ValueError:
        return "no JSON"
    return str(value.get("message", ""))[:200] if isinstance(value, dict) else ""


def number(found: Mapping[str, object], name: str) -> int:
    """Return a counter, which has to be a JSON integer."""
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FailedError(f"{name} is no JSON integer")
    return value
