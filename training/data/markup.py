"""Markup: the sections of a Markdown, reStructuredText or HTML file as plain text.

A section is the text under one heading. Blocks of code are left out: they are no sentences, and an
encoder of sentences learns little from them. Code inside a sentence stays, without its marks.

Files may be hostile: reading takes time and memory in proportion to the size of a file. So no
pattern reads the same characters again and again, and a title is short.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^ {0,3}#{1,6}(?![^ \t])")
SETEXT = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
RULE = re.compile(r"^ {0,3}([-*_])[ \t]*(\1[ \t]*){2,}$")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:[ \t]")
TABLE_RULE = re.compile(
    r"^[ \t]*+\|?+[ \t]*+:?+-++:?+[ \t]*+(?:\|[ \t]*+:?+-++:?+[ \t]*+)*+\|?+[ \t]*+$"
)
ITEM = re.compile(r"^[ \t]*([-*+]|\d{1,9}[.)])[ \t]+")
QUOTE = re.compile(r"^[ \t]*(>[ \t]?)+")
FRONT_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*+[\"']?+(.*)", re.IGNORECASE)
IMAGE = re.compile(r"!\[[^\[\]]*\](\([^()]*\)|\[[^\[\]]*\])")
LINK = re.compile(r"\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
EMPHASIS = re.compile(r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}|~~|`+")

UNDERLINE = re.compile(r"^([!-/:-@[-`{-~])\1*[ \t]*$")
DIRECTIVE = re.compile(r"^\.\.[ \t]+(?:\|[^|]*\|[ \t]+)?([\w:.+-]+?)::")
ADMONITIONS = frozenset(
    (
        *("admonition", "attention", "caution", "danger", "error", "hint", "important", "note"),
        *("rubric", "seealso", "tip", "topic", "warning"),
    )
)
VERSIONS = frozenset(("deprecated", "versionadded", "versionchanged"))
ROLE = re.compile(r"(?<![\w:.+-]):[\w:.+-]+:`~?([^`<]*+)(?:<[^<>`]*+>)?`")
TARGET = re.compile(r"`([^`<]*+)<[^<>`]*+>`__?")
RST_MARKS = re.compile(r"\*{1,2}|`+_{0,2}|(?<=\w)_{1,2}(?=[\s.,;:!?)]|$)|\|(?=\S)|(?<=\S)\|")
FIELD = re.compile(r"^:[\w -]+:([ \t]|$)")

# A tag whose attributes are well formed, or one that has no other before its end; a declaration.
PAGE_TAG = re.compile(
    r"""<(?:(?P<end>/?)(?P<name>[a-zA-Z][^\s/<>"']*+)
        (?:(?:[^<>"']++|"[^"]*+"|'[^']*+')*+>|[^<>]*+>)
        |[!?/][^<>]*+>)""",
    re.VERBOSE,
)
NO_MARKUP = {
    name: re.compile(rf"</{name}(?![^\s/>])", re.IGNORECASE) for name in ("script", "style")
}
"""Elements whose content is no markup, and where each ends."""
HUGE_REFERENCE = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")
LONGEST_TITLE = 256  # characters; each section of a file repeats the title

SKIPPED = frozenset(
    ("script", "style", "template", "noscript", "svg", "pre", "nav", "footer", "form", "button")
)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
INLINE = frozenset(
    (
        *("a", "abbr", "b", "bdi", "bdo", "cite", "code", "em", "font", "i", "img", "kbd", "mark"),
        *("q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var"),
    )
)


@dataclass(frozen=True, slots=True)
class Section:
    """The text under one heading: its paragraphs, with a blank line between two.

    `title` is the heading after that of the file, as "Training: The loop"; "" where there is none.
    """

    title: str
    text: str


def markdown(text: str) -> tuple[Section, ...]:
    """Give the sections of a Markdown file (CommonMark 0.31.2; tables as GitHub has them).

    Front matter, fenced code, HTML tags, comments and images are left out; items of lists and rows
    of tables are paragraphs. Indented code is kept: an item's second paragraph looks the same.
    """
    title, body = _front_matter(text.splitlines())
    lines = _unfenced(_without("\n".join(body), "<!--", "-->").split("\n"))
    return _titled(title, _split(_markdown_headings(lines)))


def rst(text: str) -> tuple[Section, ...]:
    """Give the sections of a reStructuredText file (docutils' markup specification).

    Directives, comments, doctests and literal blocks are left out. The text of admonitions, such as
    notes, and of fields, such as `:param x:`, is kept.
    """
    return _titled("", _split(_rst_headings(_rst_prose(text.splitlines()))))


def page(text: str) -> tuple[Section, ...]:
    """Give the sections of an HTML page: what a reader sees, without code, navigation and forms.

    The page's title is that of its first `h1`, or without one, `title`.
    """
    reader = _Page()
    reader.read(_without(text, "<!--", "-->"))
    first = next((heading for level, heading, _ in reader.sections if level == "h1"), "")
    sections = ((heading, text) for _, heading, text in reader.sections)
    return _titled(first or reader.title, [(h, t) for h, t in sections if t])


def _titled(title: str, sections: Sequence[tuple[str, str]]) -> tuple[Section, ...]:
    """Put the title of a file before the headings of its sections; without one, the first is it."""
    title = title or next((heading for heading, _ in sections if heading), "")
    title = title[:LONGEST_TITLE]
    return tuple(
        Section(f"{title}: {heading}" if heading not in ("", title) else title, text)
        for heading, text in sections
        if text
    )


def _split(lines: Iterable[tuple[str | None, str]]) -> list[tuple[str, str]]:
    """Gather lines, each a heading or a line of text, to headings and the paragraphs below them."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for heading, line in lines:
        if heading is not None:
            sections.append((heading, []))
        else:
            sections[-1][1].append(line)
    return [(heading, _paragraphs(below)) for heading, below in sections]


def _paragraphs(lines: Iterable[str]) -> str:
    """Join lines to paragraphs, which blank lines separate."""
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if words := line.split():
            paragraphs[-1] += words
        elif paragraphs[-1]:
            paragraphs.append([])
    return "\n\n".join(" ".join(words) for words in paragraphs if words)


def _front_matter(lines: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Give the title that YAML or TOML before a text has, and the lines after it."""
    if not lines or lines[0].rstrip() not in ("---", "+++"):
        return "", lines
    mark = lines[0].rstrip()
    end = next((i for i, line in enumerate(lines[1:], start=1) if line.rstrip() == mark), 0)
    titles = (FRONT_TITLE.match(line) for line in lines[1:end])
    title = next((_unquoted(match[1]) for match in titles if match), "")
    return title, lines[end + 1 :] if end else lines


def _unquoted(text: str) -> str:
    """Leave out the blanks and the quotation mark at the end of a value of YAML or TOML."""
    bare = text.rstrip(" \t")
    return bare[:-1] if bare.endswith(("'", '"')) else bare


def _without(text: str, start: str, end: str) -> str:
    """Leave out what is between `start` and `end`, and these; without an end, all after it."""
    kept, here = [], 0
    while (at := text.find(start, here)) >= 0:
        kept.append(text[here:at])
        close = text.find(end, at + len(start))
        here = close + len(end) if close >= 0 else len(text)
    return "".join((*kept, text[here:]))


def _unfenced(lines: Iterable[str]) -> Iterator[str]:
    """Leave out blocks between fences; one without an end goes on to the end of the file."""
    fence = ""
    for line in lines:
        match = FENCE.match(line)
        if not fence:
            fence = match[1] if match else ""
            yield "" if match else line
        elif match and match[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""


def _markdown_headings(lines: Iterable[str]) -> Iterator[tuple[str | None, str]]:
    """Give each heading, and each line of text without its marks."""
    before = ""  # a line that the next may underline
    for line in (*lines, ""):
        if before and SETEXT.match(line):
            yield _markdown_text(before), ""
            before = ""
            continue
        if before:
            yield None, _markdown_text(before)
            before = ""
        if match := HEADING.match(line):
            yield _markdown_text(_closed(line[match.end() :])), ""
        elif RULE.match(line) or REFERENCE.match(line) or (line and TABLE_RULE.match(line)):
            yield None, ""
        elif ITEM.match(line) or line.lstrip().startswith("|"):
            yield None, ""
            yield None, _markdown_text(ITEM.sub("", line).replace("|", " "))
        else:
            before = QUOTE.sub("", line)
            if not before.strip():
                yield None, ""
                before = ""


def _closed(heading: str) -> str:
    """Leave out the number signs that may close a heading."""
    text = heading.strip(" \t")
    bare = text.rstrip("#")
    return bare if bare.rstrip(" \t") != bare or not bare else text


def _markdown_text(line: str) -> str:
    """Leave out the marks of a line."""
    bare = TAG.sub(" ", LINK.sub(r"\1", IMAGE.sub("", line)))
    return " ".join(_unescaped(EMPHASIS.sub("", bare)).split())


def _unescaped(text: str) -> str:
    """Replace character references; a number of thousands of digits is no character."""
    return html.unescape(HUGE_REFERENCE.sub("\ufffd", text))


def _rst_prose(lines: Sequence[str]) -> Iterator[str]:
    """Leave out directives, comments, doctests and literal blocks."""
    skipped_to: int | None = None  # a block that is left out has a larger indent than this
    in_doctest = False  # until a blank line
    for line in lines:
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        in_doctest = bool(bare) and (in_doctest or bare.startswith(">>>"))
        if in_doctest or (skipped_to is not None and (not bare or indent > skipped_to)):
            yield ""
            continue
        skipped_to = None
        if bare == ".." or bare.startswith(".. "):
            kept = _admonition(bare)
            skipped_to = indent if kept is None else None
            yield kept or ""
            yield ""
        elif match := FIELD.match(bare):
            yield ""
            yield bare[match.end() :]
        elif bare.endswith("::"):
            skipped_to = indent
            yield line[: line.rindex("::")] + (":" if bare != "::" else "")
        else:
            yield line


def _admonition(bare: str) -> str | None:
    """Give what a directive says on its own line; None where its block is left out too."""
    match = DIRECTIVE.match(bare)
    name = match[1].lower() if match else ""
    if match is None or name not in (*ADMONITIONS, *VERSIONS):
        return None
    return "" if name in VERSIONS else bare[match.end() :]  # a version is a number


def _rst_headings(lines: Iterable[str]) -> Iterator[tuple[str | None, str]]:
    """Give each underlined line as a heading, and each other line without its marks."""
    before = ""
    for line in (*lines, ""):
        is_rule = bool(UNDERLINE.match(line))
        if is_rule and before.strip() and len(line.rstrip()) >= len(before.rstrip()):
            yield _rst_text(before), ""
            before = ""
            continue
        if before.strip():
            yield None, _rst_text(before)
        if is_rule or not line.strip() or ITEM.match(line):
            yield None, ""
        before = "" if is_rule else ITEM.sub("", line)


def _rst_text(line: str) -> str:
    """Leave out the marks of a line."""
    bare = TARGET.sub(_label, ROLE.sub(_label, line))
    return " ".join(RST_MARKS.sub("", bare).split())


def _label(match: re.Match[str]) -> str:
    """Give the text of a role or a link, without the blanks before its target."""
    return match[1].rstrip(" \t")


class _Page:
    """Gathers a page's title, and the level, the heading and the text of each section.

    It reads tags as browsers do, but for a tag that another one begins in. The HTMLParser of Python
    up to 3.13.5 takes time that grows with the square of a page of tags that never end.
    """

    def __init__(self) -> None:
        self.title = ""
        self.sections: list[tuple[str, str, str]] = []
        self._open: list[str] = []  # what is left out, and is open
        self._depths: Counter[str] = Counter()  # how often each name is in it
        self._heading: tuple[str, str] = ("", "")
        self._in: str | None = None  # the title or a heading that is open
        self._pieces: list[str] = []

    def read(self, text: str) -> None:
        """Gather the sections of a page without comments."""
        at = 0
        while tag := PAGE_TAG.search(text, at):
            self._gather(text[at : tag.start()])
            at = tag.end()
            name = (tag["name"] or "").lower()
            if tag["end"]:
                self._end(name)
            elif name:
                self._start(name)
                if tag[0].endswith("/>"):
                    self._end(name)
                elif name in NO_MARKUP:
                    end = NO_MARKUP[name].search(text, at)
                    at = end.start() if end else len(text)
        self._gather(text[at:])
        self._end_section()

    def _start(self, tag: str) -> None:
        """Begin a title, a heading, a paragraph or a part that is left out."""
        if tag in SKIPPED:
            self._open.append(tag)
            self._depths[tag] += 1
        elif self._open:
            return
        elif tag == "title" or tag in HEADINGS:
            self._end_section()
            self._in = tag
        elif tag not in INLINE:
            self._pieces.append("\n\n")

    def _end(self, tag: str) -> None:
        """End what a tag began."""
        if self._depths[tag]:
            closed = ""
            while closed != tag:
                closed = self._open.pop()
                self._depths[closed] -= 1
        elif self._open:
            return
        elif tag == self._in:
            words = " ".join("".join(self._pieces).split()).rstrip("¶#").strip()
            self._pieces, self._in = [], None
            if tag == "title":
                self.title = self.title or words
            else:
                self._heading = (tag, words)
        elif tag not in INLINE:
            self._pieces.append("\n\n")

    def _gather(self, text: str) -> None:
        """Gather text; a line break in it is a blank."""
        if text and not self._open:
            self._pieces.append(re.sub(r"\s+", " ", _unescaped(text)))

    def _end_section(self) -> None:
        text = _paragraphs("".join(self._pieces).split("\n"))
        self.sections.append((*self._heading, text))
        self._pieces, self._heading, self._in = [], ("", ""), None
