"""The `attar` command: what goes wrong by the user's hand is one line on stderr, status 2."""

import sys

from attar.errors import AttarError


def main() -> None:
    """Run the command line; without typer, name the extra that brings it.

    A missing file, a bad value and a diverged run are for the user to fix, so they get the message
    without a traceback. Flags that do not parse are typer's to explain, with status 2 as well.
    """
    try:
        from .app import app

        app()
    except (AttarError, FloatingPointError, OSError) as error:
        sys.stderr.write(f"attar: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
