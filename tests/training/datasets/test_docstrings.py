"""The corpus is read from sources, always the same, without repetitions and without signatures."""

import ast
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attar.errors import InvalidInput
from attar.training.data.pairs import Pair
from attar.training.datasets import docstrings

SUMMARY = "Say what it does in one line."
BODY = "The rest of what there is to know, at some length, so that it differs from others."


@pytest.fixture(scope="module")
def corpus() -> tuple[Pair, ...]:
    return docstrings.read(("numpy", "rich"))


Package = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Give a function that writes an importable package of some files and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files: str) -> str:
        name = f"made_{len(list(tmp_path.iterdir()))}"
        for path, source in {"__init__": "", **files}.items():
            file = tmp_path / name / f"{path}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, "utf-8")
        return name

    return write


def documented(name: str, *, summary: str = SUMMARY, body: str = BODY) -> str:
    return f'def {name}():\n    """{summary}\n\n    {body}\n    """\n'


def names(*packages: str) -> list[str]:
    return [pair.name for pair in docstrings.read(packages)]


def test_no_name_summary_or_body_occurs_twice(corpus: tuple[Pair, ...]) -> None:
    assert len(corpus) > 1000
    for part in ("name", "summary", "body"):
        assert len({getattr(pair, part) for pair in corpus}) == len(corpus)


def test_no_summary_is_a_signature(corpus: tuple[Pair, ...]) -> None:
    calls = [pair for pair in corpus if re.fullmatch(r"[\w.]+\(.*\)( -> .*)?", pair.summary)]
    assert calls == []


def test_summaries_and_bodies_are_single_lines_of_some_length(corpus: tuple[Pair, ...]) -> None:
    for pair in corpus:
        assert 16 <= len(pair.summary) <= 240
        assert len(pair.body) >= 80
        assert "\n" not in pair.summary + pair.body


def test_the_corpus_is_the_same_in_whatever_order_packages_are_named() -> None:
    one, other = docstrings.read(("email", "asyncio")), docstrings.read(("asyncio", "email"))
    assert one == other
    assert list(one) == sorted(one, key=lambda pair: pair.name)
    assert {pair.package for pair in one} == {"email", "asyncio"}


def test_each_package_gives_at_most_its_cap_and_the_draw_depends_on_the_seed() -> None:
    both = ("asyncio", "email")
    capped = docstrings.read(both, per_package=50)
    assert [sum(pair.package == name for pair in capped) for name in both] == [50, 50]
    assert set(capped) < set(docstrings.read(both))
    assert docstrings.read(both, per_package=50) == capped
    assert docstrings.read(both, per_package=50, seed=1) != capped
    assert docstrings.read(both, per_package=10**6) == docstrings.read(both)


def test_a_higher_cap_keeps_what_a_lower_one_drew() -> None:
    few, more = (set(docstrings.read(("asyncio",), per_package=n)) for n in (20, 60))
    assert few < more


def test_nothing_is_imported(package: Package) -> None:
    name = package(loud="raise SystemExit\n" + documented("quiet"))
    assert names(name) == [f"{name}.loud.quiet"]
    assert name not in sys.modules


def test_methods_and_classes_count_and_private_ones_do_not(package: Package) -> None:
    inner = documented("shown", body=BODY + " Shown.").replace("\n", "\n    ")
    source = (
        f'class Public:\n    """{SUMMARY} A class.\n\n    {BODY} A class.\n    """\n\n    '
        + inner.replace(SUMMARY, SUMMARY + " Shown.")
        + "\n"
        + documented("_hidden")
    )
    name = package(module=source)
    assert names(name) == [f"{name}.module.Public", f"{name}.module.Public.shown"]


def test_tests_and_private_folders_are_left_out(package: Package) -> None:
    files = {
        f"{folder}/module": documented("f", summary=f"{SUMMARY} {folder}", body=f"{BODY} {folder}")
        for folder in ("tests", "testing", "_vendor", "_core", "open")
    }
    name = package(**files)
    assert names(name) == [f"{name}._core.module.f", f"{name}.open.module.f"]


def test_a_file_that_is_no_python_is_passed_over(package: Package) -> None:
    name = package(template="def {{name}}(:\n", module=documented("f"), zeros="\0")
    assert names(name) == [f"{name}.module.f"]


def test_of_repeated_texts_the_first_by_name_is_kept(package: Package) -> None:
    other = documented("c", summary=SUMMARY + " Else.")  # another summary, the same body
    name = package(module=documented("b") + documented("a") + other)
    assert names(name) == [f"{name}.module.a"]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (f"{SUMMARY}\n\n{BODY}", (SUMMARY, BODY)),
        (f"\n    Say what\n    it does.\n\n    {BODY}\n", ("Say what it does.", BODY)),
        (f"dot(a, b, out=None)\n\n{BODY}", None),
        (f"numpy.dot(a, b) -> ndarray\n\n{BODY}", None),
        (f"dot(a, b)\ndot(a, b, c)\n\n{BODY}", None),
        (f"Add (as in algebra) two numbers.\n\n{BODY}", ("Add (as in algebra) two numbers.", BODY)),
        (f"Too short.\n\n{BODY}", None),
        (f"{SUMMARY * 10}\n\n{BODY}", None),
        (f"{SUMMARY}\n\nToo little.", None),
        (SUMMARY, None),
        ("", None),
    ],
)
def test_a_docstring_parts_at_its_first_blank_line(
    docstring: str, expected: tuple[str, str] | None
) -> None:
    assert docstrings.summary_and_body(docstring) == expected


@pytest.mark.parametrize("name", ["no_such_package", "ast"])
def test_a_package_that_is_not_there_or_is_one_module_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"no package '{name}' here; install it or leave it out"):
        docstrings.read((name,))
    with pytest.raises(InvalidInput, match=f"no package '{name}'"):
        docstrings.code_lines(1, packages=(name,))


def test_lines_of_code_are_distinct_first_lines_of_statements_in_the_sources() -> None:
    lines = docstrings.code_lines(100, packages=("numpy",))
    assert len(set(lines)) == len(lines) == 100
    statement = re.compile(r"(return|raise|if|elif|for|with|async for|async with)\b|.*=|[\w(\[*]")
    assert all(statement.match(line) and len(line) >= 16 for line in lines)
    words = [line for line in lines if not re.search(r"[=().\[\]:{]|^return|^raise", line)]
    assert words == []  # prose would have none of these


def test_a_line_of_code_is_found_where_a_form_feed_parts_the_source(package: Package) -> None:
    source = '"""Not code."""\n\x0c\n# A comment that is no statement.\nnumber = 1 + 2 + 3\n'
    assert ast.parse(source).body[1].lineno == 4
    name = package(module=source)
    assert docstrings.code_lines(1, packages=(name,)) == ("number = 1 + 2 + 3",)


def test_lines_of_code_are_decided_by_the_seed() -> None:
    state = random.getstate()
    lines = docstrings.code_lines(40, packages=("email",))
    assert docstrings.code_lines(40, packages=("email",)) == lines
    assert docstrings.code_lines(20, packages=("email",)) == lines[:20]
    assert docstrings.code_lines(40, packages=("email",), seed=1) != lines
    assert random.getstate() == state


def test_more_lines_than_there_are_is_refused(package: Package) -> None:
    name = package(module="number = 1 + 2 + 3\n")
    with pytest.raises(InvalidInput, match="2 lines of code were requested and 1 found"):
        docstrings.code_lines(2, packages=(name,))
