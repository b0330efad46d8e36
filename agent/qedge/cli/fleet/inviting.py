"""`qedge fleet invite`: makes room for boxes, and stays until they have joined, because it holds the issuing key."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.fleet.authority_desk import DEFAULT_FLEET, folder_of, found_fleet, open_authority
from qedge.cli.terminal import clean

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.crypto.authority import Authority
    from qedge.crypto.authority_files import AuthorityFolder
    from qedge.crypto.joining import Invitation
    from qedge.wire.trust import BrokerAddress, JoinAnswer, JoinRequest

_POLL_S: Final = 5.0
_RESTART_LIMIT_S: Final = 30.0
_MAX_COUNT: Final = 100
Say = Callable[[str], None]


def invite(args: argparse.Namespace, say: Say) -> int:
    """Invite; exit code 1 where not all invited boxes have joined in time."""
    if not 1 <= args.count <= _MAX_COUNT or not 0 < args.minutes <= 1440:
        raise QedgeError("client.usage", "--count is 1 to 100, --minutes up to 1440.", fix="See `--help`.")
    # Whether boxes can come at all is found out before anybody types a passphrase.
    ask(args, lambda node: node.fleet.broker(this_box=args.this_box))
    folder = folder_of(args, new=args.fleet)
    if not folder.exists:
        found_fleet(folder, args.fleet or folder.path.name or DEFAULT_FLEET, 3, 90, args, say)
    authority = open_authority(folder, args)
    joined = asyncio.run(_invite(args, folder, authority, say))
    if args.json:
        print_json({"joined": joined})
    return 0 if len(joined) == args.count else 1


async def _invite(args: argparse.Namespace, folder: AuthorityFolder, authority: Authority, say: Say) -> list[str]:
    from qedge.client.node import NodeClient

    async with NodeClient(args.socket) as node:
        await _be_member(node, folder, authority, say)
        broker = await node.fleet.broker(this_box=args.this_box)
        inviter = (await node.fleet.identity()).node
        desk = _Desk(folder, authority, broker, replace=args.replace)
        lines = [desk.invitation(inviter, args.minutes) for _ in range(args.count)]
        say(f"On the box that is to join, run `qedge join` and paste {'one line' if args.count > 1 else 'this line'}:")
        for line in lines:
            if args.json:
                print_json({"invitation": line})
            else:
                print(line, flush=True)
        say(f"Whoever has it can join within {args.minutes:g} minutes, once. Waiting; Ctrl-C ends.")
        return await _wait(node, desk, say)


async def _be_member(node: NodeClient, folder: AuthorityFolder, authority: Authority, say: Say) -> None:
    """Make the inviting box itself a member, where it is a fleet of one."""
    from qedge.wire.trust import NewIdentity

    identity = await node.fleet.identity()
    if identity.fleet == authority.fleet and not identity.standalone:
        return
    if not identity.standalone:
        raise QedgeError(
            "fleet.not_member",
            f"The node of this box belongs to fleet {identity.fleet}, not to {authority.fleet}.",
            fix="Name that fleet with --fleet, or invite on another box.",
        )
    level = authority.ledger.level
    request = await node.fleet.new_identity(NewIdentity(authority.fleet, identity.node, level))
    with folder.turn(authority):
        membership = authority.certify(request, utc_ns=time.time_ns(), random_bytes=secrets.token_bytes)
    await node.fleet.adopt(membership)
    await wait_for_member(node, authority.fleet)
    say(f"{identity.node} is now the first member of fleet {authority.fleet}.")


async def wait_for_member(node: NodeClient, fleet: str) -> None:
    """Wait until a node that has got a new identity is back and at its broker; raises `client.timeout`."""
    deadline = time.monotonic() + _RESTART_LIMIT_S
    while time.monotonic() < deadline:
        try:
            status = await node.status()
            if status.fleet == fleet and not status.standalone and status.bus.connected:
                return
        except QedgeError as error:
            if error.code not in ("client.no_daemon", "client.timeout", "internal.stopping", "http.busy"):
                raise
        await asyncio.sleep(0.1)
    raise QedgeError(
        "client.timeout",
        f"The node did not come back as a member of {fleet} within {_RESTART_LIMIT_S:g} s.",
        fix="`qedge status` shows what it waits for.",
    )


async def _wait(node: NodeClient, desk: _Desk, say: Say) -> list[str]:
    joined: dict[bytes, str] = {}
    while desk.open:
        try:
            waiting = await node.fleet.pending_joins(_POLL_S)
        except QedgeError as error:
            if error.code not in ("client.no_daemon", "client.timeout", "http.timeout", "internal.stopping"):
                raise
            await asyncio.sleep(0.5)
            continue
        for pending in waiting.requests:
            name, answer = desk.answer(pending.request)
            if answer is None:
                say(f"A request without a good invitation was ignored ({clean(pending.request.request.node)}).")
                continue
            await node.fleet.answer_join(pending.id, answer)
            token = pending.request.token
            if answer.membership is not None and token not in joined:
                joined[token] = name
                say(f"{clean(name)} has joined.")
            elif answer.membership is None:
                say(f"{clean(name)} was refused: {clean(answer.message)}")
    if desk.expired:
        say(f"{desk.expired} of the invitations expired unused.")
    return list(joined.values())


class _Desk:
    """The invitations that are open, and what becomes of requests for them."""

    def __init__(self, folder: AuthorityFolder, authority: Authority, broker: BrokerAddress, *, replace: bool) -> None:
        self._folder = folder
        self._authority = authority
        self._broker = broker
        self._replace = replace
        self._open: dict[bytes, Invitation] = {}
        self._used: dict[bytes, tuple[Invitation, JoinRequest, JoinAnswer]] = {}
        self.expired = 0

    @property
    def open(self) -> bool:
        """Whether an invitation is still good."""
        now_ns = time.time_ns()
        late = [token for token, each in self._open.items() if each.expires_utc_ns < now_ns]
        for token in late:
            del self._open[token]
        self.expired += len(late)
        return bool(self._open)

    def invitation(self, inviter: str, minutes: float) -> str:
        """Make one more line."""
        from qedge.crypto.joining import SECRET_BYTES, TOKEN_BYTES, Invitation, write_invitation
        from qedge.crypto.trust import pin

        made = Invitation(
            self._authority.fleet,
            inviter,
            self._authority.ledger.level,
            self._broker,
            pin(self._authority.ledger.anchor),
            secrets.token_bytes(TOKEN_BYTES),
            secrets.token_bytes(SECRET_BYTES),
            time.time_ns() + round(minutes * 60e9),
        )
        self._open[made.token] = made
        return write_invitation(made)

    def answer(self, request: JoinRequest) -> tuple[str, JoinAnswer | None]:
        """Answer a request; None: it does not prove an invitation, so nobody gets an answer.

        A box whose answer was lost asks again with the same request, and gets the same answer.
        """
        from qedge.crypto.joining import check_request, make_answer

        name = request.request.node
        used = self._used.get(request.token)
        if used is not None and used[1] == request:
            return name, used[2]
        invitation = self._open.get(request.token) or (used[0] if used is not None else None)
        if invitation is None:
            return name, None
        try:
            check_request(invitation, request, time.time_ns())
        except QedgeError as error:
            return name, make_answer(invitation, request, error) if error.code == "fleet.expired" else None
        if used is not None:
            gone = QedgeError("fleet.expired", "The invitation was used.", fix="Have a new one made.")
            return name, make_answer(invitation, request, gone)
        try:
            with self._folder.turn(self._authority):
                membership = self._authority.certify(
                    request.request,
                    utc_ns=time.time_ns(),
                    random_bytes=secrets.token_bytes,
                    replace=self._replace,
                    broker=self._broker,
                )
        except QedgeError as error:
            return name, make_answer(invitation, request, error)
        answer = make_answer(invitation, request, membership)
        self._used[request.token] = (self._open.pop(request.token), request, answer)
        return name, answer
