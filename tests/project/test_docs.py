"""The pages: what they show runs, what they name exists, and what they claim was measured."""

import ast
import pydoc
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from attar.cli.main import main
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import free_port, serving, settings

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ROOT / "training" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
ROOTS = {
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("build", "dist")
}
DATA = frozenset({"json", "toml", "text", "proto", "mermaid", "yaml"})
"""Languages of blocks that show and do nothing."""

CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "adr"]
"""The pages that describe what is there; the changelog and decisions also name other things."""

FILES = frozenset({"json", "toml", "service", "internal"})
"""What follows a dot in a file or a host, such as attar.service."""

PROGRAMS = frozenset(
    {
        "cd",
        "curl",
        "docker",
        "export",
        "git",
        "openssl",
        "pip",
        "pytest",
        "python",
        "source",
        "tensorboard",
    }
)
"""What else a shell block may start."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, and the line of the page its text begins at."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page; an odd fence raises."""
    language, start, lines = None, 0, list[str]()
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = re.match(r"\s*(```+|~~~+)\s*(\S*)", line)
        if language is None and fence:
            assert line.startswith("```"), (
                f"{page}:{number}: fence with ``` at the line's beginning"
            )
            language, start, lines = fence[2], number + 1, []
        elif language is not None and line.strip() == "```":
            yield Block(page, start, language, "\n".join(lines) + "\n")
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page}:{start}: this block never ends"


BLOCKS = [block for page in PAGES for block in blocks(page)]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a shell block; in `console`, of each line after a $."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list[str]()
        for word in lexer:
            if set(word) <= set("();<>|&"):
                yield words
                words = []
            else:
                words.append(word)
        yield words


def named() -> Iterator[tuple[str, list[str]]]:
    """Each command that the pages name, and where: in shell blocks, and in words like `make x`."""
    for block in BLOCKS:
        if block.language in ("sh", "console"):
            for words in commands(block):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield str(block), words
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`((?:attar|make) [^`\n]+)`", prose):
            yield str(page.relative_to(ROOT)), shlex.split(span)


NAMED = list(named())


def using(program: str) -> list[object]:
    return [
        pytest.param(words[1:], id=f"{where} {shlex.join(words)}")
        for where, words in NAMED
        if words[0] == program
    ]


@cache
def help_of(*command: str) -> str:
    """What `attar COMMAND --help` prints."""
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        for name, value in (("COLUMNS", "200"), ("TERM", "dumb")):
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["attar", *command, "--help"])
        with pytest.raises(SystemExit) as leaving:
            main()
    assert not leaving.value.code, f"attar {shlex.join(command)}: {out.getvalue()}"
    return out.getvalue()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run_checked_or_data(block: Block) -> None:
    assert block.language in {"python", "sh", "console"} | DATA


def is_curl(block: Block) -> bool:
    return block.language == "sh" and block.text.startswith("curl ")


def as_python(block: Block) -> str:
    """Give a block as Python, one of curl as the call of a shell."""
    if not is_curl(block):
        return block.text
    command = f"set -e\n{block.text}".replace("http://127.0.0.1:8000", "$URL")
    shell = ["bash", "-c", command]
    return f"import subprocess; subprocess.run({shell!r}, env={{'URL': url}}, check=True)"


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(b.page == p and b.language == "python" for b in BLOCKS)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_python_and_curl_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is a module; `student.attar` lies in its folder, and `target` and `url` serve it.

    Its commands of curl are run where they stand, against that server.
    """
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    code = [
        # Empty lines in front, so that a traceback tells the page's own line.
        ast.parse("\n" * (block.line - 1) + as_python(block), str(page))
        for block in BLOCKS
        if block.page == page and (block.language == "python" or is_curl(block))
    ]
    names = {node.id for tree in code for node in ast.walk(tree) if isinstance(node, ast.Name)}
    module.__dict__["bundle_path"] = tiny_bundle(tmp_path / "student.attar", name="student")
    with ExitStack() as stack:
        if "target" in names:
            port = free_port() if "url" in names else 0
            module.__dict__["url"] = f"http://127.0.0.1:{port}"
            chosen = settings(
                module.__dict__["bundle_path"], data_dir=tmp_path / "data", http_port=port
            )
            module.__dict__["target"] = stack.enter_context(serving(chosen))
        for tree in code:
            exec(compile(tree, str(page), "exec"), module.__dict__)  # noqa: S102 (the page itself)


@pytest.mark.parametrize(("where", "command"), NAMED)
def test_a_shell_block_starts_only_programs_that_are_checked(
    where: str, command: list[str]
) -> None:
    assert command[0] in PROGRAMS | {"attar", "make"}, where


@pytest.mark.parametrize("arguments", using("attar"))
def test_every_attar_command_and_flag_exists(arguments: list[str]) -> None:
    command = arguments[0]
    assert re.search(rf"^\W*{command} ", help_of(), re.MULTILINE), f"no command {command}"
    known = set(re.findall(r"--[a-z][a-z-]*", help_of(command)))

    assert {word.split("=")[0] for word in arguments if word.startswith("-")} <= known


@pytest.mark.parametrize("command", using("make"))
def test_every_make_target_and_variable_exists(command: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))

    for word in command:
        assert word in targets or word.partition("=")[0] in variables, word


@pytest.mark.parametrize("command", using("pip"))
def test_every_extra_exists(command: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    for extras in re.findall(r"(?:attar|\.)\[([\w,-]+)\]", " ".join(command)):
        assert {*extras.split(",")} <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [*re.findall(r"\]\(([^)\s]+)\)", prose), *re.findall(r'src="([^"]+)"', prose)]

    for link in links:
        if not link.startswith(("https:", "#")):
            assert (page.parent / link.partition("#")[0]).exists(), link


def dotted(page: Path) -> Iterator[str]:
    """The names of attar that a page mentions, such as `attar.training.loop.fit`."""
    for name in re.findall(
        r"(?<![\w./-])attar(?:\.[A-Za-z_]\w*)+(?![\w/:-])", page.read_text("utf-8")
    ):
        if name.rpartition(".")[2] not in FILES:
            yield name


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_of_attar_exists(page: Path) -> None:
    for name in dotted(page):
        assert pydoc.locate(name) is not None, name


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_of_the_repository_exists(page: Path) -> None:
    """A path begins at the root, or in training/README.md at its own folder."""
    for path in re.findall(r"(?<![\w./-])\.?\w+(?:/[\w.*-]+)+/?", page.read_text("utf-8")):
        if path.partition("/")[0] in ROOTS and (Path(path).suffix or path.endswith("/")):
            assert any(ROOT.glob(path.rstrip("/."))), path


def test_every_promise_of_the_security_page_names_what_holds_it() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    rows = page.partition("| promise | held by |")[2].partition("\n\n")[0].splitlines()[2:]

    assert rows
    for row in rows:
        named = re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", row.split("|")[2])
        assert named, row
        for path in named:
            assert (ROOT / path).is_file(), path


def test_every_measured_claim_is_what_the_kept_results_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.claims", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_readme_claims_something_measured() -> None:
    assert "<!-- claim: demo -->" in (ROOT / "README.md").read_text("utf-8")
