"""What LOCKED=1 installs is what the requirements ask for, all of it with hashes."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = {
    "requirements.lock": ("requirements.txt", "requirements-dev.txt"),
    "requirements-gpu.lock": ("requirements.txt", "requirements-dev.txt", "requirements-gpu.txt"),
}


def asked(path: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def locked(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Name -> version and hashes."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        pin, *hashes = line.split(" --hash=")
        requirement = Requirement(pin)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        pins[canonicalize_name(requirement.name)] = specifier.version, [h.strip() for h in hashes]
    return pins


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_holds_what_the_requirements_ask_for(root: Path, lock):
    pins = locked(root / lock)
    for name in LOCKS[lock]:
        for requirement in asked(root / name):
            version, _ = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement}: {lock} has {version}"
    assert "setuptools" in pins  # installs the project itself, without asking for anything more
    for version, hashes in pins.values():
        assert version and hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes)


def test_the_lock_names_no_host(root: Path):
    for lock in LOCKS:
        assert not re.search(r"https?:|index|find-links|file:", (root / lock).read_text())


def test_both_locks_have_the_same_versions(root: Path):
    plain, gpu = (locked(root / lock) for lock in LOCKS)
    assert {name: gpu[name] for name in plain} == plain
    assert all(name.startswith("nvidia-") for name in gpu.keys() - plain.keys())


def test_ci_installs_from_the_lock(root: Path):
    assert "LOCKED=1 bash scripts/test.sh" in (root / ".ci/run").read_text()
    assert "--require-hashes" in (root / "scripts/install.sh").read_text()
