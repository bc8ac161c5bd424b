"""The examples in docstrings give what they say."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import attar
from attar import bundle, encodings, heads, runtime, token_vectors
from attar.training import objectives
from benchmarks.support.bundles import tiny_bundle

OBJECTIVES = [
    importlib.import_module(f"{objectives.__name__}.{module.name}")
    for module in pkgutil.iter_modules(objectives.__path__)
    if not module.name.startswith("_")
]
MODULES = [bundle, encodings, heads, runtime, token_vectors, *OBJECTIVES]
EXAMPLES = [
    example
    for module in MODULES
    for example in doctest.DocTestFinder().find(
        module, extraglobs={"attar": attar, "np": np, "torch": torch}
    )
    if example.examples
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the bundle that the examples open."""
    path = tmp_path_factory.mktemp("x") / "student.attar"
    return tiny_bundle(path, name="student", tokens=True).parent


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_gives_what_it_says(
    example: doctest.DocTest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not result.failed, "".join(report)


def functions(module: ModuleType) -> list[Callable[..., object]]:
    """Give the public functions that a module defines."""
    return [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and function.__module__ == module.__name__
    ]


@pytest.mark.parametrize("module", [encodings, *OBJECTIVES], ids=lambda module: module.__name__)
def test_every_public_function_has_an_example(module: ModuleType) -> None:
    assert not [
        function.__qualname__
        for function in functions(module)
        if ">>> " not in (inspect.getdoc(function) or "")
    ]


def test_load_and_every_method_of_an_encoder_have_an_example() -> None:
    methods = inspect.getmembers(attar.Encoder, inspect.isfunction)
    public: list[Any] = [method for name, method in methods if not name.startswith("_")]
    assert not [
        function.__qualname__
        for function in [attar.load, *public]
        if ">>> " not in (inspect.getdoc(function) or "")
    ]
