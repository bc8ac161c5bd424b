"""Pattern: whether a regular expression of a tokenizer may take far longer than its text is.

Oniguruma goes back and tries again. A pattern is read here as the graph of which of its characters
may follow which. Time explodes where two ways through the graph take one text and what follows may
fail: within a repeat, exponentially; from a repeat to a later one, by a power for each. What cannot
be shown to be harmless is refused.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Final

MAX_PATTERN: Final = 2**14
"""Characters of a pattern."""
MAX_WAYS: Final = 1024
"""In which the parts of a pattern that are optional or chosen may be put together."""
MAX_WAYS_OF_REPEATS: Final = 64
"""The same where a part has no end: each way may be tried for each character of a text."""
MAX_PARTS: Final = 1000
"""Characters and sets of one alternative."""
MAX_DEPTH: Final = 50
MAX_WORK: Final = 50_000
"""Pairs of characters or sets that are compared."""
LONG: Final = 16
"""A count that may vary by so much is taken for one without an end."""

_ESCAPE: Final = (
    r"\\[pP]\{[^}]*\}|\\u[0-9A-Fa-f]{4}|\\x(?:\{[^}]*\}|[0-9A-Fa-f]{1,2})|\\0[0-7]{0,2}|\\."
)
_SIGN: Final = re.compile(
    rf"{_ESCAPE}|\[(?:\\.|\[(?:\\.|[^\]\\])*\]|[^\]\\\[])*\]|\(\?(?:<?[=!]|[:>]|<[A-Za-z_]\w*>"
    r"|(?:[im]+(?:-[im]+)?|-[im]+)[:)])|\([?*]|\{(?:\d+(?:,\d*)?|,\d+)\}|.",
    re.DOTALL,
)
"""An escape, a set of characters, the start of a group, a count, or a character."""
_UNKNOWN: Final = re.compile(r"\\[1-9gkKcCM]|\[\^?\]?|\(\?|\(\*")
"""Signs whose work or extent attar does not know: calls of groups and references back above all."""
_NO_WIDTH: Final = re.compile(r"[\^$]|\\[bBAzZGyY]")
_APART: Final = re.compile(r"\(\?(?:<?[=!]|>)")
"""The start of a group into which nothing goes back."""
_FOLDS: Final = re.compile(r"\(\?m*i[im-]*[:)]")
_ANY: Final = ""
_FEW: Final = 16
_LETTERS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b"}


def check_pattern(pattern: str) -> None:
    """Refuse, by a ValueError, a pattern that may take exponential time, or a high power of it."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"it has a pattern of {len(pattern)} characters; limit {MAX_PATTERN}")
    signs = []
    for sign in map(re.Match.group, _SIGN.finditer(pattern)):
        if _UNKNOWN.fullmatch(sign):
            raise ValueError(
                f"its pattern {pattern[:80]!r} has {sign!r}: calls of groups, references back and "
                "signs that attar does not know may take exponential time"
            )
        signs.append(sign)
    try:
        _Reader(signs).whole()
    except _CostlyError as error:
        raise ValueError(f"its pattern {pattern[:80]!r} {error}") from None


class _CostlyError(Exception):
    """Why a pattern is refused."""


_NESTED: Final = "repeats what repeats or chooses, which may take exponential time"


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a pattern: the positions that may be its first and last, and how it may vary."""

    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    empty: bool = True  # it may match nothing
    ways: int = 1


@dataclass(slots=True)
class _Graph:
    """The positions of one alternative, which may follow which, and the repeats without an end."""

    folds: bool  # a letter may be taken for another
    signs: list[str] = field(default_factory=list)
    after: list[list[int]] = field(default_factory=list)  # a position twice where by two ways
    endless: list[range] = field(default_factory=list)
    apart: set[int] = field(default_factory=set)  # groups of their own that take a text's time
    compared: int = 0

    def add(self, sign: str) -> _Part:
        if len(self.signs) >= MAX_PARTS:
            raise _CostlyError(f"has an alternative of more than {MAX_PARTS} characters")
        self.signs.append(sign)
        self.after.append([])
        here = (len(self.signs) - 1,)
        return _Part(here, here, empty=False)

    def join(self, lasts: Sequence[int], firsts: Sequence[int]) -> None:
        for last in lasts:
            self.after[last] += firsts
            if len(self.after[last]) > MAX_PARTS:
                raise _CostlyError(_NESTED)

    def then(self, one: _Part, other: _Part) -> _Part:
        self.join(one.last, other.first)
        return _Part(
            one.first + (other.first if one.empty else ()),
            other.last + (one.last if other.empty else ()),
            empty=one.empty and other.empty,
            ways=_ways(one.ways * other.ways),
        )

    def check(self, whole: _Part) -> None:
        """Refuse two ways for one text where what follows may fail."""
        if self.endless and whole.ways > MAX_WAYS_OF_REPEATS:
            raise _CostlyError(
                f"may match in {whole.ways} ways, each of which may be tried for each character of "
                f"a repeat; limit {MAX_WAYS_OF_REPEATS}"
            )
        ends = set(whole.last)
        for body in self.endless:
            if ends.issuperset(body) and body.start not in self.apart:
                continue  # whatever is taken, the alternative has matched
            for position in body:
                below = [after for after in self.after[position] if after in body]
                if any(self._overlap(one, other) for one, other in combinations(below, 2)):
                    raise _CostlyError(_NESTED)
            if any(one.stop <= body.start and self._leads(one, body) for one in self.endless):
                raise _CostlyError(
                    "has two repeats that may take the same characters before something that may "
                    "fail, which takes a power of the time that a text should"
                )

    def _leads(self, one: range, other: range) -> bool:
        """Tell whether one text may go round a repeat, on to another, and round that."""
        todo, seen = list(one), set(one)
        while todo:
            for after in self.after[todo.pop()]:
                if after in seen or not any(self._overlap(after, p) for p in one):
                    continue
                if after in other:
                    return True
                seen.add(after)
                if any(self._overlap(after, p) for p in other):
                    todo.append(after)
        return False

    def _overlap(self, one: int, other: int) -> bool:
        self.compared += 1
        if self.compared > MAX_WORK:
            raise _CostlyError("has repeats that are too many, or too long, to tell what they cost")
        return one == other or _overlap(self.signs[one], self.signs[other], folds=self.folds)


class _Reader:
    """Reads the signs of a pattern, one after another."""

    def __init__(self, signs: Sequence[str]) -> None:
        self._signs = signs
        self._folds = any(_FOLDS.fullmatch(sign) for sign in signs)
        self._next = 0
        self._depth = 0

    def whole(self) -> bool:
        """Read all, or up to the end of a group, each alternative as a pattern of its own.

        Tells whether there is a repeat without an end.
        """
        endless = False
        while True:
            graph = _Graph(self._folds)
            graph.check(self._sequence(graph))
            endless = endless or bool(graph.endless)
            if self._peek() == ")" and not self._depth:
                raise _CostlyError("closes a group that is not open")
            if self._peek() != "|":
                return endless
            self._next += 1

    def _peek(self) -> str:
        return self._signs[self._next] if self._next < len(self._signs) else _ANY

    def _sequence(self, graph: _Graph) -> _Part:
        read = _Part()
        while (sign := self._peek()) not in {_ANY, "|", ")"}:
            self._next += 1
            start = len(graph.signs)
            part = self._counted(graph, self._one(graph, sign), start)
            read = graph.then(read, part)
        return read

    def _one(self, graph: _Graph, sign: str) -> _Part:
        """Read a character, a set, or a group."""
        if sign[0] != "(":
            return graph.add(_ANY if _NO_WIDTH.fullmatch(sign) else sign)
        if self._depth == MAX_DEPTH:
            raise _CostlyError(f"has groups more than {MAX_DEPTH} deep")
        self._depth += 1
        if _APART.fullmatch(sign):
            endless = self.whole()
            part = graph.add(_ANY)
            if endless:
                graph.apart.update(part.first)
                graph.endless.append(range(part.first[0], part.first[0] + 1))
        else:
            part = self._choice(graph)
        self._depth -= 1
        if sign[-1] != ")":  # an option within holds up to the end of what is around
            self._next += 1
        return part

    def _choice(self, graph: _Graph) -> _Part:
        parts = [self._sequence(graph)]
        while self._peek() == "|":
            self._next += 1
            parts.append(self._sequence(graph))
        return _Part(
            tuple(p for part in parts for p in part.first),
            tuple(p for part in parts for p in part.last),
            empty=any(part.empty for part in parts),
            ways=_ways(sum(part.ways for part in parts)),
        )

    def _counted(self, graph: _Graph, part: _Part, start: int) -> _Part:
        """Read the counts after a part whose positions begin at `start`, and apply them."""
        while (count := _count(self._peek())) is not None:
            sign, (least, most) = self._peek(), count
            self._next += 1
            keeps = self._peek() == "+" and sign[0] != "{"
            if keeps or self._peek() == "?":
                self._next += 1
                least = 0 if self._signs[self._next - 1] == "?" and least == most else least
            body = range(start, len(graph.signs))
            varies = part.ways > 1 or any(body.start <= one.start for one in graph.endless)
            if most > 1 and (part.empty or (varies and (keeps or most < _ENDLESS))):
                raise _CostlyError(_NESTED)
            ways = part.ways + 1 if least == 0 and most < _ENDLESS else part.ways
            long = most - least >= LONG
            if long and not graph.apart.isdisjoint(body):
                raise _CostlyError(_NESTED)
            if not keeps and most > max(least, 1):
                graph.join(part.last, part.first)
                ways *= 1 if long else most - least + 1
            if long:
                graph.endless.append(body)
            part = _Part(part.first, part.last, empty=part.empty or least == 0, ways=_ways(ways))
        return part


_ENDLESS: Final = 10**9


def _count(sign: str) -> tuple[int, int] | None:
    """Give the least and the most times that a sign says, or None where it is no count."""
    match sign:
        case "*":
            return 0, _ENDLESS
        case "+":
            return 1, _ENDLESS
        case "?":
            return 0, 1
    if len(sign) < 2 or sign[0] != "{":
        return None
    least, comma, most = sign[1:-1].partition(",")
    low = int(least or 0)
    high = int(most or _ENDLESS) if comma else low
    return min(low, high), max(low, high)


def _ways(ways: int) -> int:
    if ways > MAX_WAYS:
        raise _CostlyError(f"may match in more than {MAX_WAYS} ways, each of which may be tried")
    return ways


@lru_cache(maxsize=4096)
def _overlap(one: str, other: str, *, folds: bool) -> bool:
    """Tell whether one character may be what both signs take; False only where none can."""
    if folds and r"\p" in {one[:2].lower(), other[:2].lower()}:
        return True
    if re.fullmatch(r"\\[swdhp].*", one.lower()) and one[1] == other[1:2].swapcase():
        return one[0] != other[0] or one[2:] != other[2:]
    kinds, others = _kinds(one), _kinds(other)
    if kinds and others:
        return any(a.startswith(b) or b.startswith(a) for a in kinds for b in others)
    for sign, against in ((one, other), (other, one)):
        few = _few(sign)
        if few is not None and not (folds and few.lower() != few.upper()):
            return any(_takes(against, character) is not False for character in few)
    return True


def _kinds(sign: str) -> Sequence[str]:
    """Give the categories of Unicode of which a sign may take characters, if they are known."""
    match sign[:2]:
        case r"\w":
            return "L", "M", "N", "Pc", "So", "Cf"
        case r"\d":
            return ("Nd",)
        case r"\s":
            return "Z", "Cc"
        case r"\p" if re.fullmatch("[LMNPSZ][a-z]?", sign[3:-1]):
            return (sign[3:-1],)
    return ()


def _few(sign: str) -> str | None:
    """Give the characters that a sign takes, where they are few and listed."""
    if len(sign) > 2 and sign[0] == "[":
        if sign[1] == "^" or "[" in sign[1:] or "&&" in sign or "-" in sign[2:-2]:
            return None
        characters = [_in_set(part) for part in re.findall(rf"{_ESCAPE}|.", sign[1:-1], re.DOTALL)]
    else:
        characters = [_literal(sign)]
    if len(characters) > _FEW or None in characters:
        return None
    return "".join(c for c in characters if c is not None)


def _literal(sign: str) -> str | None:
    """Give the character that a sign stands for, or None where it is not one."""
    if len(sign) == 1:
        return None if sign == "." else sign
    if sign[:2] == r"\u":
        return chr(int(f"0x{sign[2:]}", 0))
    if len(sign) != 2 or sign[0] != "\\":
        return None
    return _LETTERS.get(sign[1], None if sign[1].isalnum() else sign[1])


def _takes(sign: str, character: str) -> bool | None:
    """Tell whether a sign takes a character; None where attar cannot tell."""
    if len(sign) > 2 and sign[0] == "[":
        return _set_takes(sign, character)
    if (literal := _literal(sign)) is not None:
        return literal == character
    kind = unicodedata.category(character)
    if kind == "Cn" or (kind in {"Nl", "No", "So", "Cf"} and sign[1:2] in {"w", "W"}):
        return None
    match sign[:2]:
        case r"\w" | r"\W":
            taken = kind[0] in "LM" or kind in {"Nd", "Pc"}
        case r"\d" | r"\D":
            taken = kind == "Nd"
        case r"\s" | r"\S":
            taken = kind[0] == "Z" or character in "\t\n\v\f\r\x85"
        case r"\p" | r"\P" if re.fullmatch("[LMNPSZ][a-z]?", sign[3:-1]):
            taken = kind.startswith(sign[3:-1])
        case _:
            return None
    return taken != sign[1].isupper()


def _set_takes(sign: str, character: str) -> bool | None:
    if "[" in sign[1:] or "&&" in sign:
        return None
    negated = sign[1] == "^"
    parts = re.findall(rf"{_ESCAPE}|.", sign[1 + negated : -1], re.DOTALL)
    taken = list(_each(parts, character))
    if True in taken:
        return not negated
    return None if None in taken else negated


def _each(parts: Sequence[str], character: str) -> Iterator[bool | None]:
    """Tell of each part of a set, a range or not, whether it takes a character."""
    at = 0
    while at < len(parts):
        if parts[at + 1 : at + 2] == ["-"] and at + 2 < len(parts):
            low, high = _in_set(parts[at]), _in_set(parts[at + 2])
            yield None if low is None or high is None else low <= character <= high
            at += 3
        else:
            literal = _in_set(parts[at])
            yield _takes(parts[at], character) if literal is None else literal == character
            at += 1


def _in_set(part: str) -> str | None:
    return part if len(part) == 1 else _literal(part)
