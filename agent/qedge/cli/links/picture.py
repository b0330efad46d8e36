"""Rate against distance as a picture, by matplotlib, which is loaded for this alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from qedge.qkd.planning.plan import PlanPoint

_BLUE: Final = "#0b6e99"
_RED: Final = "#b23a48"
_GREY: Final = "#8a8f98"
_INK: Final = "#22262b"
_DASHES: Final = (0, (5, 2))
_MAX_DECADES: Final = 10


def draw(file: str, points: Sequence[PlanPoint], title: str) -> None:
    """Write the picture; the kind follows from the file's ending. Raises `client.usage`, `client.file`."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise QedgeError(
            "client.usage",
            "Pictures are drawn by matplotlib, which is not installed here.",
            fix="Install qedge[plot], or leave --plot away: the terminal shows the same.",
        ) from error
    # Text stays text, and the same plan gives the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "qedge", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        _curves(axes, points)
        _dress(axes, points, title)
        try:
            figure.savefig(file, metadata={"Date": None} if Path(file).suffix.lower() == ".svg" else None)
        except OSError as error:
            raise QedgeError(
                "client.file", f"{file} cannot be written: {error.strerror}.", fix="Name another file."
            ) from error


def _curves(axes: Axes, points: Sequence[PlanPoint]) -> None:
    km = [point.distance_km for point in points]
    mark = "o" if len(points) < 40 else ""
    bound = [point.bound_bits_per_s if math.isfinite(point.bound_bits_per_s) else math.nan for point in points]
    axes.plot(km, bound, color=_RED, linestyle=_DASHES, linewidth=1.8, label="PLOB bound: any link without a repeater")
    endless = [point.asymptotic_bits_per_s or math.nan for point in points]
    axes.plot(km, endless, color=_GREY, linestyle=":", linewidth=1.4, label="endless blocks: never delivered")
    sifted = [point.sifted_bits_per_s for point in points]
    axes.plot(km, sifted, color=_GREY, linewidth=1.0, label="sifted bits")
    secret = [point.secret_bits_per_s or math.nan for point in points]
    axes.plot(km, secret, color=_BLUE, marker=mark, markersize=3.5, linewidth=2.2, label="secret key, finite blocks")


def _dress(axes: Axes, points: Sequence[PlanPoint], title: str) -> None:
    """Scales, labels, legend."""
    axes.set_yscale("log")
    rates = [rate for p in points for rate in (p.secret_bits_per_s, p.bound_bits_per_s) if 0 < rate < math.inf]
    if rates:
        top = math.ceil(math.log10(max(rates)) + 0.05)
        least = min((p.secret_bits_per_s for p in points if p.secret_bits_per_s > 0), default=min(rates))
        axes.set_ylim(10.0 ** max(math.floor(math.log10(least)), top - _MAX_DECADES), 10.0**top)
    if len(points) > 1:
        axes.set_xlim(points[0].distance_km, points[-1].distance_km)
    axes.set_xlabel("fibre, km", color=_INK)
    axes.set_ylabel("bit per second", color=_INK)
    axes.yaxis.set_major_formatter(lambda value, _: _unit(value))
    axes.grid(visible=True, which="major", color="#e3e6ea", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _loss_scale(axes, points)
    head, _, tail = title.rpartition(", blocks of")
    axes.set_title(f"{head}\nblocks of{tail}", fontsize=10, color=_INK, loc="left")
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)


def _loss_scale(axes: Axes, points: Sequence[PlanPoint]) -> None:
    """Give the decibels above the kilometres."""
    import numpy as np

    if len(points) > 1 and points[-1].loss_db > points[0].loss_db:
        per_km = points[-1].loss_db / points[-1].distance_km

        def to_db(km: ArrayLike) -> ArrayLike:
            return np.asarray(km, np.float64) * per_km

        def to_km(db: ArrayLike) -> ArrayLike:
            return np.asarray(db, np.float64) / per_km

        losses = axes.secondary_xaxis("top", functions=(to_db, to_km))
        losses.set_xlabel("loss of the fibre, dB", color=_GREY)
        losses.tick_params(colors=_GREY)
        losses.spines["top"].set_color("#e3e6ea")


def _unit(value: float) -> str:
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g}"
