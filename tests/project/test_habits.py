"""The files of the project's hosts: they parse, and what they run exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = (
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
    ROOT / "mkdocs.yml",
    *sorted((ROOT / ".github").rglob("*.yml")),
)


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_file_is_yaml(path: Path) -> None:
    assert isinstance(parsed(path), dict)


def test_the_workflow_runs_targets_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    steps = [
        step["run"]
        for job in parsed(ROOT / ".github/workflows/ci.yml")["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]

    assert steps
    assert {re.fullmatch(r"make (\w+)( [A-Z]+=\w+)*", step)[1] for step in steps} <= targets  # type: ignore[index]


def test_contributing_names_the_pythons_of_the_workflow() -> None:
    matrix = parsed(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    first, *_, last = matrix["python-version"]

    page = " ".join((ROOT / "CONTRIBUTING.md").read_text("utf-8").split())
    assert f"Python {first} to {last}" in page


def test_the_hooks_name_files_that_exist() -> None:
    hooks = parsed(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    for path in re.findall(r"tests/[\w/]+\.py", " ".join(hook["entry"] for hook in hooks)):
        assert (ROOT / path).is_file(), path


def test_every_page_of_the_site_is_in_its_menu() -> None:
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}

    assert set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))) == pages


def test_the_citation_names_each_paper_of_the_recipes() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    papers = set(re.findall(r"\| [^|]*?arXiv:(\d{4}\.\d{5})", page))
    references = parsed(ROOT / "CITATION.cff")["references"]
    cited = {reference["identifiers"][0]["value"] for reference in references}

    assert papers
    assert {f"arXiv:{paper}" for paper in papers} <= cited


def test_the_citation_gives_each_paper_its_title_and_all_authors() -> None:
    for reference in parsed(ROOT / "CITATION.cff")["references"]:
        assert not reference["title"].startswith("arXiv:")
        for author in reference["authors"]:
            assert author.keys() == {"family-names", "given-names"}, reference["title"]
