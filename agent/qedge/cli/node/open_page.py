"""`qedge open`: the live page in a browser, by a link that works once."""

from __future__ import annotations

import argparse
import html
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from qedge.cli.asking import ask

NAME: Final = "open"
SUMMARY: Final = "Open the live page of the node in a browser."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--print", action="store_true", dest="only_print", help="only print the link")


def run(args: argparse.Namespace) -> int:
    """Get a link, print it, and try to open it."""
    link = ask(args, lambda node: node.page_link())
    print(link.url)
    if args.only_print:
        return 0
    note = f"The link works once, within {link.expires_s:.0f} s."
    if has_display(os.environ) and open_in_browser(link.url):
        note += " A browser was asked to open it."
    print(note, file=sys.stderr)
    return 0


def has_display(environ: Mapping[str, str]) -> bool:
    """Say whether a graphical browser could appear; one for text would take over this terminal."""
    return sys.platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def open_in_browser(url: str) -> bool:
    """Open `url` by way of a private file, because every user of the box can read a browser's command line."""
    import webbrowser

    try:
        path = write_redirect(url, os.environ)
    except OSError:
        return False
    return webbrowser.open(path.as_uri())


def write_redirect(url: str, environ: Mapping[str, str]) -> Path:
    """Write a file that only this user can read and that sends a browser to `url`."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(runtime) if runtime else Path(environ.get("HOME") or "/") / ".cache" / "qedge"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "qedge-open.html"
    path.unlink(missing_ok=True)
    target = html.escape(url, quote=True)
    text = (
        '<!doctype html><meta charset="utf-8"><title>qedge</title>'
        f'<meta http-equiv="refresh" content="0; url={target}"><a href="{target}">Open the page</a>\n'
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path
