"""What is built holds all that was written."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("orchestra", "transfers", "schedulers")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_of_code_is_left_out_for_want_of_an_init(package: str) -> None:
    folders = {module.parent for module in (ROOT / package).rglob("*.py")}
    assert folders, f"no code below {ROOT / package}"
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def test_every_dependency_is_held_to_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    held = {line.partition("==")[0] for line in lines if "==" in line}
    assert {requirement.partition(">=")[0] for requirement in wanted} <= held
