"""A bar that shows how far a long piece of work has come."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import distributed


def progress_bar(what: str, *, visible: bool = True) -> Progress:
    """Give the bar of a work that is called `what`; of several processes the first one shows it."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        disable=not (visible and distributed.first()),
    )
