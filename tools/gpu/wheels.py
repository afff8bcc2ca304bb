"""Whether a folder of wheels can be installed on another machine, and whether it is complete.

    python tools/gpu/wheels.py FOLDER --python 3.12 --present numpy torch ...

Needs the standard library and pip alone: it runs before anything else is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Collection, Sequence
from email.parser import HeaderParser
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ImportError:  # not installed yet; importing pip changes how setuptools finds distutils
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(wheel: Path) -> str:
    """The package of a wheel."""
    return normal(wheel.name.split("-")[0])


def requirements(wheel: Path, python: str) -> list[Requirement]:
    """What a wheel needs on that version of Python, extras aside."""
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)]
        headers = HeaderParser().parsestr(archive.read(entry).decode("utf-8"))
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    wanted = [Requirement(line) for line in headers.get_all("Requires-Dist", [])]
    return [one for one in wanted if one.marker is None or one.marker.evaluate(environment)]


def faults(wheels: Sequence[Path], python: str, present: Collection[str]) -> list[str]:
    """What is wrong with the folder, a line each; nothing for one that will do.

    Args:
        present: packages that the other machine has.
    """
    found: list[str] = []
    versions: dict[str, str] = {}
    for wheel in wheels:
        name, version = name_of(wheel), wheel.name.split("-")[1]
        if name in versions:
            found.append(f"{name} is there twice: {versions[name]} and {version}")
        versions[name] = version
        python_tag = wheel.stem.split("-")[-3]
        digits = python.replace(".", "")
        abi = wheel.stem.split("-")[-2]
        if not (python_tag.startswith("py") or f"cp{digits}" in python_tag or "abi3" in abi):
            found.append(f"{wheel.name} is not for Python {python}")
    there = {normal(name) for name in present}
    for wheel in wheels:
        for wanted in requirements(wheel, python):
            name = normal(wanted.name)
            if name in versions:
                if not wanted.specifier.contains(versions[name], prereleases=True):
                    found.append(f"{name_of(wheel)} needs {wanted}, here is {versions[name]}")
            elif name not in there:
                found.append(f"{name_of(wheel)} needs {wanted}, which is neither here nor present")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Check the folder and list it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/gpu/wheels.py", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version of the other machine's Python")
    parser.add_argument("--present", nargs="*", default=[], help="packages that it has")
    options = parser.parse_args(argv)
    wheels = sorted(options.folder.glob("*.whl"))
    found = faults(wheels, options.python, options.present)
    if not wheels:
        found.append(f"{options.folder} holds no wheels")
    for fault in found:
        print(f"error: {fault}", file=sys.stderr)
    if found:
        return 1
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 2**20:8.2f} MiB  {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
