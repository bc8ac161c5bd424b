"""What in a server's data folder is damaged, on the console."""

from pathlib import Path

from attar.errors import InvalidInput
from attar.server.data_check import look

from .console import console


def show_damage(data_dir: Path) -> bool:
    """Print a line for each thing of a data folder; whether none of them is damaged.

    Raises InvalidInput where there is nothing of a server's in the folder.
    """
    compared = 0
    undamaged = True
    for entry in look(data_dir):
        console.print(f"{entry.what}: {entry.result}")
        compared += 1
        undamaged = undamaged and not entry.is_damaged
    if not compared:
        raise InvalidInput(f"{data_dir} has nothing that a server keeps; give a server's data_dir")
    return undamaged
