"""`qedge link plan`: secret rate against distance, before there is a link; asks no daemon."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.terminal import table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.qkd.planning.channel import Receiver
    from qedge.qkd.planning.plan import LinkDesign, PlanPoint

SUMMARY: Final = "predict secret rate against distance"
DESCRIPTION: Final = (
    "Predict the secret rate of a decoy-state BB84 link against distance, with the settings of the source that give "
    "most, beside the PLOB bound. Needs no daemon."
)
MAX_POINTS: Final = 1000
PICTURES: Final = (".png", ".svg", ".pdf")

_DETECTORS: Final = ("snspd", "ingaas", "lim2014", "rusca2018", "gys2004")
_LEAST_BLOCK: Final = 1000
_MOST_BLOCK: Final = 1 << 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--distance",
        default="0:150:5",
        metavar="KM",
        help="FROM:TO:STEP, or some with commas (default: %(default)s)",
    )
    parser.add_argument(
        "--detector",
        default="snspd",
        choices=_DETECTORS,
        metavar="NAME",
        help=f"receiver: {', '.join(_DETECTORS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--block",
        default="2^22",
        metavar="BITS",
        help="sifted key bits in one block, 2^22 or 4e6 (default: %(default)s)",
    )
    parser.add_argument(
        "--decoys",
        type=int,
        default=2,
        choices=(1, 2),
        metavar="N",
        help="decoy intensities, 1 or 2 (default: %(default)s)",
    )
    parser.add_argument("--clock", type=float, default=1e9, metavar="HZ", help="pulses per second (default: 1e9)")
    parser.add_argument(
        "--fibre-loss", type=float, default=0.2, metavar="DB", help="per kilometre (default: %(default)s)"
    )
    parser.add_argument(
        "--epsilon", type=float, default=1e-10, metavar="E", help="total epsilon of one block (default: %(default)s)"
    )
    parser.add_argument(
        "--reconciliation",
        type=float,
        default=1.15,
        metavar="F",
        help="disclosed bits / Shannon limit (default: %(default)s)",
    )
    of = parser.add_argument_group("receiver, in place of what --detector says")
    of.add_argument("--efficiency", type=float, metavar="P", help="chance that a photon is detected")
    of.add_argument("--dark-counts", type=float, metavar="P", help="per slot and detector")
    of.add_argument("--misalignment", type=float, metavar="P", help="chance that a photon goes to the wrong detector")
    of.add_argument("--afterpulses", type=float, metavar="P", help="per detection")
    of.add_argument("--receiver-loss", type=float, metavar="DB", help="decibels between fibre and detectors")
    of.add_argument("--dead-time", type=float, metavar="NS", help="nanoseconds after a detection")
    of.add_argument("--max-counts", type=float, metavar="HZ", help="detections per second at most")
    parser.add_argument(
        "--published", action="store_true", help="estimate as the papers print it, not strictly, to compare figures"
    )
    parser.add_argument("--plot", default="", metavar="FILE", help="draw a picture: .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Plan, and print or draw it; raises `client.usage`."""
    from qedge.qkd.planning.plan import plan

    distances = distances_of(args.distance)
    if args.plot and not args.plot.lower().endswith(PICTURES):
        raise _wrong(f"--plot {args.plot}: the name of a picture ends with {', '.join(PICTURES)}.")
    try:
        design = _design(args)
        points = plan(design, distances)
    except ValueError as error:
        raise _wrong(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    if args.plot:
        from qedge.cli.links.picture import draw

        draw(args.plot, points, _title(args, design))
    if args.json:
        _print_json(args, design, points)
    else:
        print("\n".join(_text(args, design, points)))
    return 0


def distances_of(text: str) -> list[float]:
    """Read `FROM:TO:STEP` (the end included), one distance, or several with commas; kilometres, rising."""
    try:
        if ":" in text:
            first, last, step = map(float, text.split(":"))
            if not (step > 0 and 0 <= first <= last and (last - first) / step < MAX_POINTS):
                raise ValueError
            found = [round(first + i * step, 9) for i in range(math.floor((last - first) / step + 1e-9) + 1)]
        else:
            found = sorted(map(float, text.split(",")))
    except ValueError:
        found = []
    if not found or len(found) > MAX_POINTS or not all(0 <= each <= 10_000 for each in found):
        raise _wrong(f"--distance {text}: expected kilometres as FROM:TO:STEP, one number, or numbers with commas.")
    return found


def block_of(text: str) -> int:
    """Read a size such as `4194304`, `2^22` or `4e6`."""
    try:
        base, power, exponent = text.partition("^")
        if power and not (0 < float(base) <= 64 and 0 < float(exponent) <= 64):
            raise ValueError
        number = float(base) ** float(exponent) if power else float(text)
        if not _LEAST_BLOCK <= number <= _MOST_BLOCK:
            raise ValueError
    except (ValueError, OverflowError):
        raise _wrong(f"--block {text}: expected a number of bits from {_LEAST_BLOCK} to 2^40, such as 2^22.") from None
    return int(number)


def _design(args: argparse.Namespace) -> LinkDesign:
    from qedge.qkd.finite_key.model import EpsilonBudget, Estimate
    from qedge.qkd.planning.expectation import PostProcessing
    from qedge.qkd.planning.plan import LinkDesign

    if not (1 <= args.reconciliation <= 10 and 0 <= args.fibre_loss <= 100 and 1 <= args.clock <= 1e12):
        raise ValueError("reconciliation discloses 1 to 10 times the limit, fibre loss and clock are what exists")
    if not 0 < args.epsilon <= 0.01:
        raise ValueError("the total epsilon is above 0 and at most 0.01")
    return LinkDesign(
        _receiver(args),
        block_of(args.block),
        args.decoys,
        args.clock,
        args.fibre_loss,
        budget=EpsilonBudget.of_total(args.epsilon),
        processing=PostProcessing(args.reconciliation),
        estimate=Estimate.PUBLISHED if args.published else Estimate.STRICT,
    )


def _receiver(args: argparse.Namespace) -> Receiver:
    from dataclasses import replace

    from qedge.qkd.planning.channel import RECEIVERS

    said = {
        "efficiency": args.efficiency,
        "dark_counts": args.dark_counts,
        "misalignment": args.misalignment,
        "afterpulses": args.afterpulses,
        "loss_db": args.receiver_loss,
        "dead_time_s": None if args.dead_time is None else args.dead_time * 1e-9,
        "max_counts_per_s": args.max_counts,
    }
    return replace(RECEIVERS[args.detector], **{name: value for name, value in said.items() if value is not None})


def _title(args: argparse.Namespace, design: LinkDesign) -> str:
    decoys = "two decoys" if design.decoys == 2 else "one decoy"
    block = args.block if "^" in args.block else f"{design.block:,}"
    return (
        f"BB84 with {decoys}, receiver {args.detector}, {design.clock_hz / 1e9:g} GHz, "
        f"{design.loss_db_per_km:g} dB/km, blocks of {block} bits, epsilon {args.epsilon:g}"
    )


def _text(args: argparse.Namespace, design: LinkDesign, points: list[PlanPoint]) -> list[str]:
    from qedge.cli.links.plot import plot_lines

    terminal = terminal_of()
    lines = [terminal.bold(_title(args, design))]
    if len(points) > 2:
        lines += ["", *plot_lines(points, terminal), ""]
    rows = [_row(point) for point in points]
    lines += table_lines(
        ("KM", "DB", "SIFTED/S", "ERRORS", "SECRET/S", "PLOB/S", "BLOCK", "MU", "PZ"), rows, terminal=terminal
    )
    silent = next((point for point in points if not point.secret_bits_per_s), None)
    if silent is not None:
        lines.append(f"No key at {silent.distance_km:g} km: {silent.block.key.why_zero}.")
    lines.append(
        terminal.dim(
            "SECRET: finite-size key after authentication. PLOB: bound of any link without a repeater.\n"
            "MU: mean photons of signal and decoy. PZ: how often the key basis. --json has all settings."
        )
    )
    return lines


def _row(point: PlanPoint) -> tuple[str, ...]:
    return (
        f"{point.distance_km:g}",
        f"{point.loss_db:.1f}",
        of_bits(point.sifted_bits_per_s),
        f"{point.qber:.2%}",
        of_bits(point.secret_bits_per_s) if point.secret_bits_per_s else "-",
        of_bits(point.bound_bits_per_s),
        _of_seconds(point.block.seconds),
        "/".join(f"{each:.2f}" for each in point.protocol.mean_photon_numbers[:2]),
        f"{point.protocol.z_probability_alice:.2f}",
    )


def of_bits(number: float) -> str:
    """Write a number of bits with three digits and a unit."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * factor:
            return f"{number / factor:.3g} {unit}bit"
    return f"{number:.3g} bit"


def _of_seconds(seconds: float) -> str:
    for factor, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _print_json(args: argparse.Namespace, design: LinkDesign, points: list[PlanPoint]) -> None:
    from dataclasses import asdict

    from qedge.cli.asking import print_json

    print_json(
        {
            "detector": args.detector,
            "receiver": {name: value for name, value in asdict(design.receiver).items() if math.isfinite(value)},
            "decoys": design.decoys,
            "clock_hz": design.clock_hz,
            "fibre_loss_db_per_km": design.loss_db_per_km,
            "block_bits": design.block,
            "estimate": design.estimate.value,
            "epsilon": {**asdict(design.budget), "total": design.budget.total},
            "points": [_point(point) for point in points],
        }
    )


def _point(point: PlanPoint) -> dict[str, object]:
    key = point.block.key
    return {
        "distance_km": point.distance_km,
        "loss_db": point.loss_db,
        "sifted_bits_per_s": point.sifted_bits_per_s,
        "qber": point.qber,
        "secret_bits_per_s": point.secret_bits_per_s,
        "plob_bound_bits_per_s": point.bound_bits_per_s if math.isfinite(point.bound_bits_per_s) else None,
        "asymptotic_bits_per_s_not_delivered": point.asymptotic_bits_per_s,
        "block_seconds": point.block.seconds,
        "key_bits": key.bits,
        "why_zero": key.why_zero.value,
        "phase_error": key.phase_error,
        "leaked_bits": key.leaked_bits,
        "mean_photon_numbers": point.protocol.mean_photon_numbers,
        "intensity_probabilities": point.protocol.intensity_probabilities,
        "z_probability": point.protocol.z_probability_alice,
    }


def _wrong(message: str) -> QedgeError:
    return QedgeError("client.usage", message, fix="`qedge link plan --help` shows what is possible.")
