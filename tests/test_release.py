"""What would be released holds what git tracks and nothing else, and works without the repository."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what is released is what git tracks")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """The module `tools/release_check.py`."""
    spec = importlib.util.spec_from_file_location("release_check", ROOT / "tools" / "release_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist, built from what git tracks by the setuptools of this environment."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("release")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    program = "from setuptools import build_meta as b; b.build_sdist('../out'); b.build_wheel('../out')"
    (folder / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder / "source", capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = (folder / "out").glob("*.whl"), (folder / "out").glob("*.tar.gz")
    return wheel, sdist


def test_wheel_and_sdist_hold_the_package_and_its_licence(check: ModuleType, built: tuple[Path, Path]) -> None:
    check.check_contents(*built)


def test_a_wheel_that_lacks_a_file_or_holds_another_one_is_refused(
    check: ModuleType, built: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, sdist = built
    fewer = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(fewer, "w") as new:
        for name in old.namelist():
            if name != "polytask/page/templates/style.css":
                new.writestr(name, old.read(name))
    with pytest.raises(check.CheckFailed, match=r"the wheel lacks polytask/page/templates/style\.css"):
        check.check_contents(fewer, sdist)
    with zipfile.ZipFile(fewer, "w") as new, zipfile.ZipFile(wheel) as old:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("tests/secret.txt", "")
    with pytest.raises(check.CheckFailed, match=r"more than the package: tests/secret\.txt"):
        check.check_contents(fewer, sdist)
    shorter = tmp_path / sdist.name
    with tarfile.open(sdist) as old_archive, tarfile.open(shorter, "w:gz") as new_archive:
        for member in old_archive.getmembers():
            if not member.name.endswith("/LICENSE"):
                new_archive.addfile(member, old_archive.extractfile(member) if member.isfile() else None)
    with pytest.raises(check.CheckFailed, match="the sdist lacks LICENSE"):
        check.check_contents(wheel, shorter)


def test_the_wheel_works_without_the_repository(built: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import polytask; from polytask.cli import main; "
        "assert polytask.__file__.startswith(sys.path[0]), polytask.__file__; sys.argv[1:] = ['schema']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"tasks"' in done.stdout


@pytest.mark.parametrize(
    ("licence", "refused"),
    [
        ("Apache-2.0", False), ("GNU General Public License v3 (GPLv3)", True), ("LGPL-2.1-or-later", False),
        ("GPL-2.0-or-later OR MIT", False), ("AGPL-3.0", True), ("GNU Lesser General Public License v3", False),
        ("BSD License; GNU General Public License (GPL)", False),
    ],
)  # fmt: skip
def test_a_copyleft_licence_is_refused_unless_there_is_a_choice(check: ModuleType, licence: str, refused: bool) -> None:
    assert check.is_copyleft(licence) is refused


def test_every_extra_is_tried(check: ModuleType) -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    tried = {extra for one in check.EXTRAS.values() for extra in one.extras}
    # Engines need a cluster or Java (make engines), families a model of the hub; dev is for this repository.
    assert tried | {"ray", "spark", "beam", "families", "dev"} == set(extras)
