"""What the commands of a fleet's authority share: its folder, its passphrase, its second signature."""

from __future__ import annotations

import asyncio
import getpass
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError

if TYPE_CHECKING:
    import argparse

    from qedge.crypto.authority import Authority, Ledger
    from qedge.crypto.authority_files import AuthorityFolder
    from qedge.workers.model import Msg

DEFAULT_FLEET: Final = "home"
_MAX_PASSPHRASE: Final = 1024
_SIGN_LIMIT_S: Final = 60.0


def add_authority_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the authority is and how its passphrase comes in."""
    parser.add_argument("--fleet", default="", metavar="NAME", help="name of the fleet (default: the only one here)")
    parser.add_argument("--folder", default="", metavar="PATH", help="folder of the authority (default: the user's)")
    parser.add_argument(
        "--passphrase-file", default="", metavar="FILE", help="read the passphrase from a file's first line"
    )


def fleets_folder() -> Path:
    """Return where this user's authorities are (XDG data folder)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if data.startswith("/") else Path(os.path.expanduser("~")) / ".local" / "share"
    return base / "qedge" / "fleets"


def folder_of(args: argparse.Namespace, *, new: str = "") -> AuthorityFolder:
    """Find the folder that the arguments mean; `new`: the name of a fleet that is to be founded."""
    from qedge.base.ids import is_name
    from qedge.crypto.authority_files import AuthorityFolder

    if args.folder:
        return AuthorityFolder(Path(args.folder))
    name = args.fleet or new
    if name:
        if not is_name(name):
            raise QedgeError("fleet.bad_name", f"{name!r} can be no fleet.", fix="Use letters, digits, - and _.")
        return AuthorityFolder(fleets_folder() / name)
    known = sorted(path.name for path in fleets_folder().glob("*") if AuthorityFolder(path).exists)
    if len(known) > 1:
        raise QedgeError("client.usage", f"There are several fleets: {', '.join(known)}.", fix="Name one with --fleet.")
    return AuthorityFolder(fleets_folder() / (known[0] if known else DEFAULT_FLEET))


def read_passphrase(args: argparse.Namespace, *, new: bool = False) -> str:
    """Read the passphrase from its file or the terminal, twice for a new one; raises `client.usage`, `client.file`."""
    if args.passphrase_file:
        return _passphrase_in(args.passphrase_file)
    if not sys.stdin.isatty():
        raise QedgeError(
            "client.usage",
            "The passphrase of the authority is needed, and there is no terminal to ask at.",
            fix="Give --passphrase-file FILE.",
        )
    passphrase = getpass.getpass("New passphrase of the fleet's authority: " if new else "Passphrase: ")
    if new and getpass.getpass("The same again: ") != passphrase:
        raise QedgeError("client.usage", "The two passphrases differ.", fix="Try again.")
    return passphrase


def read_new_passphrase(file: str, prompt: str) -> str:
    """Read a new passphrase from the first line of a file or twice from the terminal; raises as above."""
    if file:
        return _passphrase_in(file)
    if not sys.stdin.isatty():
        raise QedgeError(
            "client.usage",
            "A new passphrase is needed, and there is no terminal to ask at.",
            fix="Give --operator-passphrase-file FILE.",
        )
    passphrase = getpass.getpass(prompt)
    if getpass.getpass("The same again: ") != passphrase:
        raise QedgeError("client.usage", "The two passphrases differ.", fix="Try again.")
    return passphrase


def _passphrase_in(name: str) -> str:
    try:
        with Path(name).open(encoding="utf-8") as file:
            return file.readline(_MAX_PASSPHRASE).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise QedgeError("client.file", f"{name} cannot be read.", fix="Name a readable file.") from error


def open_authority(folder: AuthorityFolder, args: argparse.Namespace) -> Authority:
    """Open the issuing key."""
    folder.ledger()  # where there is none, say so before asking for a passphrase
    return folder.open(read_passphrase(args))


def found_fleet(
    folder: AuthorityFolder, fleet: str, level: int, days: int, args: argparse.Namespace, say: Callable[[str], None]
) -> Ledger:
    """Found a fleet in an empty folder; raises `fleet.exists` before anything is asked."""
    from qedge.crypto.authority import found

    if folder.exists:
        raise QedgeError("fleet.exists", f"{folder.path} has a fleet already.", fix="Choose another name or folder.")
    passphrase = read_passphrase(args, new=True)
    say(f"Founding fleet {fleet}: root ML-DSA-87 with a second signature of SLH-DSA, which takes some seconds ...")
    with SecondFamily() as second:
        ledger, root, issuing_seed = found(
            fleet,
            level=level,
            utc_ns=time.time_ns(),
            random_bytes=secrets.token_bytes,
            second=second,
            node_days=days,
        )
    folder.create(ledger, root, issuing_seed, passphrase, secrets.token_bytes)
    say(f"The authority is in {folder.path}, sealed by the passphrase. Keep a copy of the folder in a safe place;")
    say("root.sealed is needed only to make a new issuing key and is best moved away.")
    return ledger


class SecondFamily:
    """Signatures of the second family, made in a worker process."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __enter__(self) -> SecondFamily:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def keygen(self) -> tuple[bytes, bytes]:
        """Return public and secret key."""
        answer = self._call("keygen", {})
        return answer["public_key"], answer["secret_key"]

    def sign(self, secret_key: bytes, message: bytes, context: bytes) -> bytes:
        """Sign."""
        return self._call("sign", {"secret_key": secret_key, "message": message, "context": context})["signature"]

    def _call(self, method: str, arguments: dict[str, bytes]) -> dict[str, bytes]:
        answer = self._runner.run(_in_worker(method, arguments))
        if not isinstance(answer, dict) or not all(isinstance(value, bytes) for value in answer.values()):
            raise QedgeError("worker.bad_answer", "The worker for signatures gave no answer.")
        return {key: value for key, value in answer.items() if isinstance(value, bytes)}


async def _in_worker(method: str, arguments: dict[str, bytes]) -> Msg:
    from qedge.base.system_clock import SystemClock
    from qedge.crypto.authority import SECOND_ALGORITHM
    from qedge.crypto.pq_worker import TARGET
    from qedge.workers.model import WorkerSpec
    from qedge.workers.process import WorkerProcess

    worker = WorkerProcess(WorkerSpec("pq", TARGET), clock=SystemClock(), random_bytes=secrets.token_bytes)
    try:
        await worker.start()
        return await worker.call(method, {"algorithm": SECOND_ALGORITHM, **arguments}, deadline_s=_SIGN_LIMIT_S)
    finally:
        await worker.close()
