"""Markup gives the sections that a reader sees, titled, without code and marks."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.training.data.markup import Section, markdown, page, rst

PARSERS: dict[str, Callable[[str], tuple[Section, ...]]] = {
    "markdown": markdown,
    "rst": rst,
    "page": page,
}

MARKDOWN = """---
title: "The guide"
draft: false
---
Before <!-- a comment
of lines --> all.

# Install `attar`

Run [pip](https://pypi.org "x") **now**, ![badge](b.svg)
and wait &mdash; a while.

```sh
# not a heading
pip install attar
```

- first item
- second [item][ref]

[ref]: https://example.org

Options
-------

| name | what |
|---|---|
| `a` | one |

> quoted __init__

***
"""


def test_a_markdown_file_gives_its_sections() -> None:
    assert markdown(MARKDOWN) == (
        Section("The guide", "Before all."),
        Section(
            "The guide: Install attar",
            "Run pip now, and wait — a while.\n\nfirst item\n\nsecond item",
        ),
        Section("The guide: Options", "name what\n\na one\n\nquoted __init__"),
    )


def test_the_first_heading_is_the_title_where_front_matter_has_none() -> None:
    assert markdown("+++\nx = 1\n+++\n# One\na\n## Two\nb\n") == (
        Section("One", "a"),
        Section("One: Two", "b"),
    )
    assert markdown("--- a rule, no front matter\n\ntext") == (
        Section("", "--- a rule, no front matter\n\ntext"),
    )


RST = """
.. _start:

=====
Guide
=====

Use :func:`~attar.load` or ``attar.Client``, see `the page <https://x.org>`_ and link_.

.. note:: Read *this*.

   It matters.

.. code-block:: python

   attar.load("x")

Install
=======

Write::

    pip install attar

and then:

>>> 1 + 1
2

- one
- two

.. versionadded:: 1.2
.. a comment
   of lines
:param x: kept
"""


def test_a_restructuredtext_file_gives_its_sections() -> None:
    assert rst(RST) == (
        Section(
            "Guide",
            "Use attar.load or attar.Client, see the page and link.\n\nRead this.\n\nIt matters.",
        ),
        Section("Guide: Install", "Write:\n\nand then:\n\none\n\ntwo\n\nkept"),
    )


PAGE = """<!doctype html><html><head><title>A site &amp; more</title><style>p {}</style></head>
<body><nav><a href="/">Home</a></nav><h1>The <b>guide</b><a href="#g">¶</a></h1>
<p>One <em>two</em>
three.</p><pre>code()</pre><ul><li>a</li><li>b</li></ul>
<h2>Install</h2><script>alert(1)</script>Run it.<br>Wait.<footer>2026</footer></body></html>"""


def test_a_page_gives_its_sections() -> None:
    assert page(PAGE) == (
        Section("The guide", "One two three.\n\na\n\nb"),
        Section("The guide: Install", "Run it.\n\nWait."),
    )
    assert page("<title>Alone</title><p>text") == (Section("Alone", "text"),)


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff", "-" * 80, "<!--", "```", "<script>x"])
def test_what_has_no_text_has_no_section_with_text(
    parse: Callable[[str], tuple[Section, ...]], text: str
) -> None:
    assert all(section.text.strip() for section in parse(text))


marks = st.sampled_from(
    ["#", "# a", "word", "```", "---", "===", "<p>", "</p>", "<pre>", "..", ".. note::", "::"]
)


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@given(st.one_of(st.text(max_size=80), st.lists(marks, max_size=20).map("\n".join)))
def test_any_text_has_sections_of_folded_paragraphs(
    parse: Callable[[str], tuple[Section, ...]], text: str
) -> None:
    for section in parse(text):
        paragraphs = section.text.split("\n\n")
        assert all(paragraph == " ".join(paragraph.split()) != "" for paragraph in paragraphs)


HUGE = {
    "a line of words": "word " * 200_000,
    "a line without blanks": "x" * 1_000_000,
    "brackets": "[" * 100_000,
    "tags": "<a " * 100_000,
    "comments": "<!-- " * 100_000,
    "marks": "*`|_" * 50_000,
    "headings": "# a\n" * 50_000,
    "colons": ":" * 100_000,
}


# Python's own parser of HTML takes the square of a text of tags that never end.
CASES = [(kind, name) for kind in PARSERS for name in HUGE if (kind, name) != ("page", "tags")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_huge_text_takes_no_more_than_its_length(kind: str, name: str) -> None:
    PARSERS[kind](HUGE[name])
