"""The library transformers: imported only when a folder needs it, offline and without output."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attar.errors import MissingExtra


def transformers(what: str) -> Any:
    """Give the library, which `what` needs, or raise MissingExtra."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # transformers and its dependencies warn about one another
            import transformers as library
    except ModuleNotFoundError as error:
        raise MissingExtra(what, "hf") from error
    return library


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """Silence transformers' log, progress bars and warnings for a while."""
    noisy = library.utils.logging
    verbosity, bars = noisy.get_verbosity(), noisy.is_progress_bar_enabled()
    noisy.set_verbosity_error()
    noisy.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        noisy.set_verbosity(verbosity)
        if bars:
            noisy.enable_progress_bar()
