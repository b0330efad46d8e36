"""`qedge policy`: check, explain, test and simulate policies in files; show, reload and record at the node."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import Exit, QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.reading import read_file
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.security.model import Decision
    from qedge.security.policy.expectations import SubjectWords
    from qedge.security.policy.explain import Explanation
    from qedge.security.policy.model import PolicyDocument
    from qedge.wire.policy import PolicyView, RecordedResource

NAME: Final = "policy"
SUMMARY: Final = "Say what attached devices, apps and peers may do: check, explain, test and simulate policies."
_KINDS: Final = ("device", "app", "peer", "cloud")
_ACTIONS: Final = ("connect", "publish", "subscribe", "command")
_DAY_NS: Final = 86_400 * 1_000_000_000
_MAX_BUNDLE: Final = 1 << 20
_HELP: Final = "See `qedge policy explain --help`."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="policy_action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="list every fault of a policy")
    check.add_argument("file", metavar="FILE", help="the policy")
    explain = actions.add_parser("explain", help="tell how a request would be decided, rule by rule")
    explain.add_argument("file", metavar="FILE", help="the policy")
    _add_request(explain)
    test = actions.add_parser("test", help="compare a policy with what is expected of it")
    test.add_argument("file", metavar="FILE", help="expectations; they name the policy")
    test.add_argument("--policy", default="", metavar="FILE", help="another policy than the one that they name")
    simulate = actions.add_parser("simulate", help="replay recorded requests against a policy, and show what changes")
    simulate.add_argument("file", metavar="FILE", help="the policy")
    simulate.add_argument("--log", required=True, metavar="FILE", help="requests, one JSON object a line; -: input")
    simulate.add_argument("--exit-code", action="store_true", help="end with exit code 1 where anything would change")
    show = actions.add_parser("show", help="tell which policy the node enforces")
    reload = actions.add_parser("reload", help="have the node read its policy file again")
    take = actions.add_parser("take", help="give the node a policy that its fleet's authority signed")
    take.add_argument("file", metavar="FILE", help="what `qedge fleet policy --out FILE` wrote")
    record = actions.add_parser("record", help="print the next requests that the node decides, for simulate")
    record.add_argument("--count", type=int, default=1000, metavar="N", help="at most so many (default: 1000)")
    record.add_argument("--seconds", type=float, default=10.0, metavar="S", help="at most so long (default: 10)")
    for action in (check, explain, test, simulate, show, reload, take):
        action.add_argument("--json", action="store_true", help="print JSON")


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subject", required=True, metavar="ID", help="who asks")
    parser.add_argument("--kind", choices=_KINDS, default="device", help="kind of the subject (default: device)")
    parser.add_argument("--class", dest="device_class", default="", metavar="NAME", help="class of the device")
    parser.add_argument("--group", action="append", default=[], metavar="NAME", help="a group it is in (again)")
    parser.add_argument("--attribute", action="append", default=[], metavar="K=V", help="an attribute of it (again)")
    parser.add_argument("--segment", default="", metavar="NAME", help="its own segment")
    parser.add_argument("--location", default="", metavar="TAG", help="where it is")
    parser.add_argument("--posture", action="append", default=[], metavar="TAG", help="what is attested of it (again)")
    parser.add_argument("--trust", type=int, default=50, metavar="N", help="its trust, 0 to 100 (default: 50)")
    parser.add_argument("--qkd", action="store_true", help="its session is QKD-backed")
    parser.add_argument("--action", required=True, choices=_ACTIONS, help="what it wants to do")
    parser.add_argument(
        "--resource",
        required=True,
        metavar="WHAT",
        help="with what: node, segment:NAME/CHANNEL, device:ID/COMMAND@SEGMENT or app:NAME",
    )
    parser.add_argument("--at", default="", metavar="UTC", help='when, as "2027-01-04T12:00:00" (default: now)')


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    alone = {"check": _check, "explain": _explain, "test": _test, "simulate": _simulate, "record": _record}
    if args.policy_action in alone:
        return alone[args.policy_action](args)
    if args.policy_action == "show":
        view = ask(args, lambda node: node.policy.show())
    elif args.policy_action == "reload":
        view = ask(args, lambda node: node.policy.reload())
    else:
        signed = read_file(args.file, _MAX_BUNDLE)
        view = ask(args, lambda node: node.policy.take(signed))
    if args.json:
        print_json(view)
    else:
        print("\n".join(view_lines(view)))
    return 0


def view_lines(view: PolicyView) -> list[str]:
    """Describe the policy in force."""
    if view.source == "none":
        lines = ["no policy is in force: everything is denied"]
    else:
        of = f"the fleet, serial {view.serial}" if view.source == "fleet" else clean(view.file)
        held = f"{_count(view.rules, 'rule')}, {_count(view.segments, 'segment')}"
        lines = [f"policy of {of}: {held}, sha256 {view.sha256[:16]}"]
    if view.expires_utc_ns:
        days = (view.expires_utc_ns - time.time_ns()) // _DAY_NS
        lines.append(
            f"it expires in {_count(days, 'day')}" if days >= 0 else "the fleet's policy has expired; sign it again"
        )
    if view.source == "fleet" and view.file:
        lines.append(f"{clean(view.file)} is not used while the fleet has a policy")
    if view.refused:
        lines.append(f"not taken: {clean(view.refused)}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def read_policy(path: str) -> PolicyDocument:
    """Read a policy; raises `client.file`, `policy.invalid`."""
    from qedge.security.policy.document import MAX_DOCUMENT_BYTES, parse_document

    return parse_document(read_file(path, MAX_DOCUMENT_BYTES + 1), path)


def _check(args: argparse.Namespace) -> int:
    from qedge.cli.configuration.check import as_json
    from qedge.config import Verdict
    from qedge.security.policy.document import MAX_DOCUMENT_BYTES, read_document

    reading = read_document(read_file(args.file, MAX_DOCUMENT_BYTES + 1), args.file)
    faults = reading.faults
    if args.json:
        print(as_json(Verdict(None, faults, (args.file,))))
    elif reading.document is not None:
        document = reading.document
        held = f"{_count(len(document.rules), 'rule')}, {_count(len(document.segments), 'segment')}"
        print(f"ok ({args.file}: {held})")
    else:
        print("\n".join([*map(str, faults), _count(len(faults), "fault")]))
    return int(Exit.CONFIG if faults else Exit.OK)


def _explain(args: argparse.Namespace) -> int:
    from qedge.security.model import Action
    from qedge.security.policy.expectations import moment_ns, resource_of, subject_of
    from qedge.security.policy.explain import explain

    document = read_policy(args.file)
    utc_ns = moment_ns(args.at) if args.at else time.time_ns()
    if utc_ns is None:
        raise QedgeError("client.usage", f"{args.at!r} is no moment.", fix='Write it as "2027-01-04T12:00:00", in UTC.')
    subject = subject_of(args.subject, _subject_words(args), lease_until_ns=1)
    told = explain(document, subject, Action(args.action), resource_of(args.resource), 0, utc_ns)
    if args.json:
        print_json({"decision": told.decision, "findings": told.findings})
    else:
        print("\n".join(explanation_lines(told)))
    return 0


def _subject_words(args: argparse.Namespace) -> SubjectWords:
    from qedge.base.settings import check
    from qedge.security.policy.expectations import SubjectWords

    pairs = [each.partition("=") for each in args.attribute]
    values: dict[str, object] = {
        "kind": args.kind,
        "id": args.subject,
        "class": args.device_class,
        "groups": args.group,
        "attributes": {key: value for key, _, value in pairs},
        "segment": args.segment,
        "location": args.location,
        "posture": args.posture,
        "trust": args.trust,
        "qkd": args.qkd,
    }
    faults = check(SubjectWords, values)
    if faults:
        raise QedgeError(
            "client.usage", f"There is no such subject: {faults[0]}.", fix="See `qedge policy explain -h`."
        )
    import msgspec

    return msgspec.convert(values, SubjectWords)


def explanation_lines(told: Explanation) -> list[str]:
    """Write an explanation for a person: the decision, then what became of each rule that comes near."""
    terminal, decision = terminal_of(), told.decision
    head = terminal.good("allowed") if decision.allowed else terminal.bad(f"denied ({decision.reason})")
    lines = [f"{head} by rule {decision.rule}" if decision.rule else head]
    near = [each for each in told.findings if not each.part]
    rows = [
        (
            clean(each.rule),
            each.effect.value,
            "applies" if each.applies else f"fails at {each.condition}",
            clean(each.detail),
        )
        for each in near
    ]
    if rows:
        lines += table_lines(("RULE", "EFFECT", "", ""), rows, terminal=terminal)
    far = len(told.findings) - len(near)
    if far:
        lines.append(f"{far} other rule{'s are' if far > 1 else ' is'} about other subjects, actions or resources")
    return lines


def _test(args: argparse.Namespace) -> int:
    from qedge.security.policy.expectations import read_expectations, run_expectations

    text = read_file(args.file, 1 << 20).decode("utf-8", "replace")
    expectations, lines = read_expectations(text, args.file)
    policy = args.policy or (str(Path(args.file).parent / expectations.policy) if expectations.policy else "")
    if not policy:
        raise QedgeError(
            "client.data", "The expectations name no policy.", fix='Write policy = "FILE" at the top, or give --policy.'
        )
    outcomes = list(run_expectations(read_policy(policy), expectations, lines))
    failed = [each for each in outcomes if not each.met]
    if args.json:
        rows = [
            {"line": each.line, "expected": each.expectation, "decision": each.decision, "met": each.met}
            for each in outcomes
        ]
        print_json({"policy": policy, "ok": not failed, "outcomes": rows})
    else:
        for each in failed:
            wanted = each.expectation
            asked = f"{wanted.subject} {wanted.action} {wanted.resource}"
            expected = f"{wanted.reason} by {wanted.rule}" if wanted.rule else wanted.reason
            print(f"{args.file}:{each.line}: {asked}: is {_told(each.decision)}; expected {expected}")
        print(f"{len(outcomes) - len(failed)} of {_count(len(outcomes), 'expectation')} met")
    return int(Exit.FAILED if failed else Exit.OK)


def _simulate(args: argparse.Namespace) -> int:
    from qedge.security.policy.replay import MAX_LINE_BYTES, simulate

    document = read_policy(args.file)
    try:
        with sys.stdin.buffer if args.log == "-" else Path(args.log).open("rb") as log:
            outcome = simulate(document, iter(lambda: log.readline(MAX_LINE_BYTES + 1), b""))
    except OSError as error:
        raise QedgeError(
            "client.file", f"{args.log} cannot be read: {error.strerror or error}.", fix="Name a readable file."
        ) from error
    changed = outcome.requests - outcome.same
    if args.json:
        print_json(outcome)
    else:
        for each in sorted(outcome.changes, key=lambda each: -each.count):
            asked = each.example
            who = clean(asked.subject.id if asked.subject else "somebody unknown")
            print(f"{_count(each.count, 'request')}: {_told(each.before)}, would be {_told(each.after)}")
            print(f"  for instance {who} {clean(asked.action)} {clean(_written(asked.resource))}")
        if outcome.more:
            print(f"{_count(outcome.more, 'request')} more, of other kinds of change")
        print(
            f"{_count(outcome.requests, 'request')}, {changed} decided otherwise: "
            f"{outcome.newly_denied} newly denied, {outcome.newly_allowed} newly allowed"
        )
    return int(Exit.FAILED if changed and args.exit_code else Exit.OK)


def _told(decision: Decision) -> str:
    """Say a decision in two words, or three."""
    return clean(f"{decision.reason} by {decision.rule}" if decision.rule else decision.reason.value)


def _written(resource: RecordedResource) -> str:
    """Write a recorded resource as the command line takes it."""
    if resource.kind == "segment":
        return f"segment:{resource.segment}/{resource.name}"
    if resource.kind == "device":
        return f"device:{resource.owner}/{resource.name}" + (f"@{resource.segment}" if resource.segment else "")
    return f"{resource.kind}:{resource.name}" if resource.name else resource.kind


def _record(args: argparse.Namespace) -> int:
    import msgspec

    from qedge.wire.policy import RecordCommand

    if not (1 <= args.count <= 2000 and 0 < args.seconds <= 20):
        raise QedgeError("client.usage", "At most 2000 requests and 20 seconds.", fix="Run it again for more.")
    command = RecordCommand(args.count, args.seconds)
    for each in ask(args, lambda node: node.policy.record(command)):
        print(msgspec.json.encode(each).decode())
    return 0
