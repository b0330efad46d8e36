"""A driver from somebody else's package is built, installed, found and tested; and the guide to it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "thirdparty-driver"
GUIDE = ROOT / "docs" / "guides" / "write-a-driver.md"


def _python(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=100
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    done = _python(*pip, "--no-build-isolation", "--target", str(target), str(EXAMPLE), path=target, cwd=target)
    assert done.returncode == 0, done.stderr
    return target


def test_the_example_is_found_by_its_entry_point_and_passes_the_kit(installed: Path) -> None:
    ran = _python("-m", "qedge_driver_api.conformance", "coin_qrng", "--json", path=installed, cwd=installed)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    assert (report["driver"], report["kind"], report["ok"]) == ("coin_qrng", "qrng", True)
    assert all(check["outcome"] == "passed" for check in report["checks"] if check["name"] != "reconfigure")


def test_the_node_loads_the_example_as_it_loads_its_own_drivers(installed: Path) -> None:
    code = (
        "from qedge.workers.driver_host import DriverHost, load_driver\n"
        "import coin_qrng, os, sys\n"
        "class Link:\n"
        "    def random_bytes(self, number): return os.urandom(number)\n"
        "    def cancelled(self): return False\n"
        "assert coin_qrng.__file__.startswith(sys.argv[1])\n"
        "assert load_driver('coin_qrng') is coin_qrng.CoinQrng\n"
        "init = {'driver': 'coin_qrng', 'instance': 'coin', 'settings': {'bias': 0.1, 'min_entropy': 0.7}}\n"
        "host = DriverHost(init, Link())\n"
        "host.handle('open', {})\n"
        "print(len(host.handle('read', {'num_bytes': 100})['data']), host.handle('health', {})['state'])\n"
    )
    ran = _python("-c", code, str(installed), path=installed, cwd=installed)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["100", "up"]


def test_the_examples_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--rootdir", str(tmp_path), "-c", os.devnull)
    ran = _python("-m", "pytest", *options, str(EXAMPLE / "tests"), path=installed, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_blocks_of_the_guide_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python[^\n]*\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {"__name__": "guide"}
    for number, block in enumerate(blocks, 1):
        code = compile(block, f"block {number} of the guide", "exec", dont_inherit=True)
        exec(code, names)  # noqa: S102 - our own documentation
    said = capsys.readouterr().out
    assert "['port', 'sides', 'timeout_s']" in said
    assert said.count(", 0 failed") == 2


def test_the_guide_names_all_methods_of_the_contract() -> None:
    from qedge_driver_api import QkdKeySource, QkdTransceiver, QpuDriver, QrngDriver

    text = GUIDE.read_text("utf-8")
    for protocol in (QpuDriver, QrngDriver, QkdTransceiver, QkdKeySource):
        own = [name for name in vars(protocol) if not name.startswith("_") and callable(getattr(protocol, name))]
        assert [name for name in own if f"`{name}`" not in text] == []
