"""What in a server's data folder is damaged, on the console."""

from pathlib import Path

from attar.server.data_check import look

from .console import console


def show_damage(data_dir: Path) -> bool:
    """Print a line for each thing of a data folder; whether none of them is damaged."""
    whole = True
    for one in look(data_dir):
        console.print(f"{one.what}: {one.result}")
        whole = whole and not one.is_damaged
    return whole
