"""`qedge qkd probe`: our conformance suite of ETSI GS QKD 014 as a tool for anyone's key manager."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import Exit, QedgeError
from qedge.cli.asking import print_json
from qedge.cli.terminal import Terminal, clean, terminal_of

if TYPE_CHECKING:
    from qedge.client.probe.stand import Stand
    from qedge.client.probe.verdict import CaseResult, ProbeReport

NAME: Final = "qkd"
SUMMARY: Final = "Probe key managers for conformance to ETSI GS QKD 014."
PREFIX: Final = "qedge-probe-"
BAD_KINDS: Final = ("expired", "revoked", "unregistered", "two-names")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    probe = actions.add_parser("probe", help="run the conformance cases that a client can run")
    probe.add_argument("url", metavar="URL", help="https://HOST:PORT of the key manager")
    probe.add_argument("--cert", required=True, metavar="FILE", help="certificate of the master SAE (PEM)")
    probe.add_argument("--key", required=True, metavar="FILE", help="its private key (PEM)")
    probe.add_argument("--ca", required=True, metavar="FILE", help="authority of the key manager (PEM)")
    probe.add_argument("--slave", required=True, metavar="ID", help="SAE id of the slave")
    probe.add_argument("--master", default="", metavar="ID", help="SAE id of the certificate (default: as status says)")
    probe.add_argument("--additional", action="append", default=[], metavar="ID", help="one more slave (again)")
    probe.add_argument("--stranger", default="", metavar="ID", help="an SAE that no key is for; needs --sae")
    probe.add_argument(
        "--sae",
        action="append",
        default=[],
        nargs=4,
        metavar=("ID", "CERT", "KEY", "URL"),
        help="certificate of another SAE and its key manager: the slave, additional ones, the stranger (again)",
    )
    probe.add_argument(
        "--bad",
        action="append",
        default=[],
        nargs=3,
        metavar=("KIND", "CERT", "KEY"),
        help=f"a certificate that has to be refused; KIND is {', '.join(BAD_KINDS)} (again)",
    )
    probe.add_argument("--kme-id", default="", metavar="ID", help="what the key manager shall call itself")
    probe.add_argument("--consume", action="store_true", help="allow cases that take keys, some thousand in all")
    probe.add_argument("--case", action="append", type=int, default=[], metavar="N", help="only this case (again)")
    probe.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Probe; exit code 1 where a case failed."""
    from qedge.client.probe.verdict import Verdict

    report = asyncio.run(_probe(args, terminal_of()))
    if args.json:
        print_json(report)
    else:
        counts = ", ".join(f"{report.count(verdict)} {verdict}" for verdict in Verdict)
        print(f"{report.url}: {counts}; {report.keys_consumed} keys taken")
    return int(Exit.FAILED) if report.count(Verdict.FAILED) else 0


async def _probe(args: argparse.Namespace, terminal: Terminal) -> ProbeReport:
    from qedge.client.probe.run import probe
    from qedge_driver_api.held_folder import HeldFolder

    with HeldFolder(PREFIX) as folder:
        stand = await make_stand(args, folder)

        def tell(result: CaseResult) -> None:
            if not args.json:
                print(line(result, terminal), flush=True)

        return await probe(stand, consume=args.consume, only=args.case, told=tell)


def line(result: CaseResult, terminal: Terminal) -> str:
    """Describe how a case ended."""
    paint = {"passed": terminal.good, "failed": terminal.bad, "warned": terminal.warn}.get(result.verdict, terminal.dim)
    reason = f": {clean(result.reason)}" if result.reason else ""
    return f"{result.id:>3}  {paint(f'{result.verdict:<7}')}  {result.title}{reason}"


async def make_stand(args: argparse.Namespace, folder: Path) -> Stand:
    """Put together what the arguments name; raises `client.usage`, `client.file` and what the first status raises."""
    from qedge.client.kme import KmeClient
    from qedge.client.kme_link import Credentials, place_of
    from qedge.client.probe.run import foreign_credentials
    from qedge.client.probe.stand import Person, Stand

    authorities, place = Path(args.ca), place_of(args.url)
    own = Credentials(Path(args.cert), Path(args.key), authorities)
    async with KmeClient(args.url, own) as kme:
        status = await kme.status(args.slave)
    master = args.master or status.master_SAE_ID
    people = {
        sae: Person(sae, Credentials(Path(certificate), Path(key), authorities), place_of(url))
        for sae, certificate, key, url in args.sae
    }
    bad = {kind: Credentials(Path(certificate), Path(key), authorities) for kind, certificate, key in args.bad}
    if unknown := sorted(set(bad) - set(BAD_KINDS)):
        raise QedgeError("client.usage", f"--bad {unknown[0]}: no such kind.", fix=f"Use {', '.join(BAD_KINDS)}.")
    bad["unknown-authority"] = foreign_credentials(folder, master, authorities)
    people[master] = Person(master, own, place)
    return Stand(
        master=master,
        slave=args.slave,
        people=people,
        additional=tuple(args.additional),
        stranger=args.stranger,
        bad=bad,
        kme_id=args.kme_id,
    )
