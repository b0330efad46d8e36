"""Writes `locks/run.txt` and `locks/dev.txt`: the versions installed in this environment, as pip requirements.

Run it as `make lock` after changing dependencies in pyproject.toml. Only what qedge needs, directly or not, is written;
packages that are needed on x86-64 alone carry that marker.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
X86_64: Final = "x86_64"
ELSEWHERE: Final = "aarch64"
HEAD: Final = "# Written by `make lock` from an environment in which all tests passed; do not edit.\n"


def closure(requirements: Iterable[str], machine: str) -> dict[str, str]:
    """Return name → version of everything that `requirements` need on a kind of machine."""
    environment = {**default_environment(), "platform_machine": machine}
    versions: dict[str, str] = {}
    waiting = [(Requirement(text), frozenset({""})) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, extras = waiting.pop()
        if requirement.marker and not any(_holds(requirement, environment, extra) for extra in extras):
            continue
        name = canonicalize_name(requirement.name)
        inner = frozenset({"", *requirement.extras})
        if (name, inner) in seen:
            continue
        seen.add((name, inner))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is needed but not installed here; run `make setup` first") from None
        versions[name] = found.version
        waiting += [(Requirement(text), inner) for text in found.requires or ()]
    return versions


def _holds(requirement: Requirement, environment: Mapping[str, object], extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**environment, "extra": extra})  # type: ignore[dict-item]  # the stubs of packaging want its own TypedDict


def lock_text(requirements: list[str]) -> str:
    """Write the pinned closure of `requirements`, one package a line."""
    here, elsewhere = closure(requirements, X86_64), closure(requirements, ELSEWHERE)
    lines = [
        f"{name}=={version}" + ("" if name in elsewhere else f"; platform_machine == '{X86_64}'")
        for name, version in sorted(here.items())
    ]
    return HEAD + "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    run = list(project["dependencies"])
    tools = ["hatchling", "editables"]  # install the source tree itself without a build environment of its own
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    (ROOT / "locks" / "run.txt").write_text(lock_text(run + tools))
    (ROOT / "locks" / "dev.txt").write_text(lock_text(run + tools + extras))


if __name__ == "__main__":
    main()
