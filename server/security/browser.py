"""Browser: web pages of other sites are refused where no key distinguishes them from callers.

Every page that a user visits can send requests to what the user's machine reaches, and a page whose
name was made to resolve here (DNS rebinding) can read the answers too. What a page cannot choose
is what its browser says of it: `Host`, `Origin` and `Sec-Fetch-Site`.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attar.errors import PermissionDenied

OWN: Final = ("", "same-origin", "none")
"""What `Sec-Fetch-Site` is where no other site is behind the request; older browsers send none."""
PREFLIGHTED: Final = ("authorization", "inference-header-content-length")
"""Headers that a browser lets a page send only after a preflight, which is refused here."""
_PORT: Final = re.compile(r":\d{0,5}$")
_SHOWN: Final = 80  # characters of what a caller sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a server is called by, besides its addresses and localhost, and whose pages may call it.

    `names` are host names in lower case, `origins` as `Origin` has them.
    """

    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def refuse_pages(self, headers: Mapping[str, str], *, host: str | None = None) -> None:
        """Raise PermissionDenied for a request of another site's page; header names lower case.

        `host` is the authority of an absolute target, which counts in place of the header `Host`.
        """
        authority = headers.get("host") if host is None else host
        if authority is not None and not self._is_ours(authority):
            raise PermissionDenied(
                f"host is {_shown(authority)}, which is neither an address nor localhost; call the "
                "server by its address, or list that name in allowed_hosts"
            )
        origin = headers.get("origin")
        if origin in self.origins:
            return
        own = None if authority is None else authority.lower()
        if origin is not None and origin.partition("://")[2].lower() != own:
            raise PermissionDenied(
                f"origin is {_shown(origin)}, and pages of other sites may not call a server "
                "without keys; list it in cors_allow_origin"
            )
        if (site := headers.get("sec-fetch-site", "").lower()) not in OWN:
            raise PermissionDenied(
                f"sec-fetch-site is {_shown(site)}, and pages of other sites may not call a server "
                "without keys; type the address into the browser yourself"
            )

    def _is_ours(self, authority: str) -> bool:
        name = _PORT.sub("", authority).lower().removesuffix(".")
        if name == "localhost" or name in self.names:
            return True
        try:
            if name.startswith("[") and name.endswith("]"):
                ipaddress.IPv6Address(name[1:-1])
            else:
                ipaddress.IPv4Address(name)
        except ValueError:
            return False
        return True


def asks_first(headers: Mapping[str, str]) -> bool:
    """Whether a header makes a browser ask before a page may send this; header names lower case."""
    return any(name in headers for name in PREFLIGHTED)


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…")
