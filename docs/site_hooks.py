"""Links out of docs/ become plain text in the site, which holds the pages alone."""

import re
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace each link to a file of the repository that is no page by its text."""
    up = "../" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\[([^]]*)\]\({re.escape(up)}[^)]*\)", r"\1", markdown)
