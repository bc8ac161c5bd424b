"""`python -m attar.server BUNDLE...`: the server without the rest of the command line."""

import asyncio
import sys

from attar.errors import AttarError

from .app import serve
from .settings import read


def main() -> int:
    """Serve as arguments, environment and TOML file say; exit status 2 is a refusal to start."""
    try:
        asyncio.run(serve(read(sys.argv[1:])))
    except (AttarError, OSError) as error:
        sys.stderr.write(f"attar: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
