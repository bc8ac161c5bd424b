"""attar's own operators, in another library: what graphs call them, and whether it is installed.

The library is the distribution attar-native (folder native/): C++, compiled for the machine, and
optional. A bundle holds no code; it names the library, which the user installs and so trusts.
"""

DOMAIN = "attar.native"
"""The operators' domain in a graph."""

LIBRARY = "attar-native"
"""The distribution that has them, as a manifest's `requires.library` names it."""


def library_path(name: str) -> str | None:
    """Give where the library of operators of that name lies; None where it is not installed."""
    if name != LIBRARY:
        return None
    try:
        import attar_native
    except ImportError:
        return None
    return str(attar_native.LIBRARY)
