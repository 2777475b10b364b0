"""From the text of a filter to its tree: a Pratt parser (Pratt, 1973).

Each operator has a power, and an expression takes the operators behind it that bind more strongly than the
one before it.
"""

import re
from datetime import timedelta
from typing import NamedTuple, NoReturn

from segue.data.values.parsing import LARGEST
from segue.errors import ArgumentError
from segue.recommend.filters.expressions import (
    KEYWORDS,
    UNITS,
    Absent,
    AllOf,
    Among,
    AnyOf,
    Arithmetic,
    Compare,
    Condition,
    Constant,
    Field,
    Negation,
    Node,
    Now,
    Term,
)

#: Characters of a filter, and how many signs, brackets and `not` it may have: its tree is read by recursion.
LONGEST, OPERATIONS = 10_000, 100
_TOKENS = re.compile(
    r"""(?P<blank>\s+)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?P<unit>[^\W\d_]+)?
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<name>[^\W\d]\w*|`[^`]+`)
    |(?P<sign><=|>=|!=|==|[=<>()+\-*/,.$])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_POWERS = {"or": 1, "and": 2, "in": 4, "is": 4, "not": 4, "+": 5, "-": 5, "*": 6, "/": 6}
_POWERS |= dict.fromkeys(("=", "==", "!=", "<", "<=", ">", ">="), 4)
_NOT, _COMPARED, _MINUS = 3, 4, 7


class _Token(NamedTuple):
    kind: str  # number, text, name, sign, word (of the language), end
    text: str
    at: int
    unit: str = ""


def parse(text: str) -> Condition:
    """Return the tree of a filter.

    Raises:
        ArgumentError: the text is no filter; the message has the position, what was expected and what came.

    Cost: O(length).

    Example:
        >>> print(parse("genre = 'Comedy' and not tag in ('adult', 'trailer') and released > now() - 90d"))
        genre = "Comedy" and not tag in ("adult", "trailer") and released > (now() - 90d)
        >>> parse("price <")
        Traceback (most recent call last):
        ...
        segue.errors.ArgumentError: where, position 8: expected a value or a column, came the end of the filter. \
Write a condition such as price < 20.
    """
    if len(text) > LONGEST:
        raise ArgumentError(f"where: expected at most {LONGEST:,} characters, came {len(text):,}. Use parameters.")
    return _Parser(_tokens(text)).whole()


def duration_of(text: str, name: str) -> timedelta:
    """Return the duration that a text such as "30d" writes.

    Raises:
        ArgumentError: it writes none; the message begins with `name`.

    Example:
        >>> duration_of("1.5h", "within")
        datetime.timedelta(seconds=5400)
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d*)?)([a-z]+)", text.strip())
    if found is None or found[2] not in UNITS:
        raise ArgumentError(f'{name}: expected a duration in {", ".join(UNITS)}, came "{text[:40]}". Write 30d or 12h.')
    return timedelta(seconds=float(found[1]) * UNITS[found[2]])


def wrong(at: int, expected: str, came: str, advice: str = "Write a condition such as price < 20.") -> NoReturn:
    """Raise the error of a place in a filter."""
    where = f"where, position {at}" if at else "where"
    raise ArgumentError(f"{where}: expected {expected}, came {came}. {advice}")


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in _TOKENS.finditer(text):
        kind, token, at = match.lastgroup or "", match[0], match.start() + 1
        if kind == "unit":
            if match["unit"] not in UNITS:
                wrong(at, "a number, or a duration in " + ", ".join(UNITS), f'"{token[:40]}"', "Write 90d, 12h, 30min.")
            found.append(_Token("number", match["number"], at, match["unit"]))
        elif kind == "other":
            hint = "Close the quotes." if token in "\"'`" else 'Texts stand in quotes: genre = "Comedy".'
            wrong(at, "a filter", f"the character {token}", hint)
        elif kind == "name" and token.lower() in KEYWORDS:
            found.append(_Token("word", token.lower(), at))
        elif kind != "blank":
            found.append(_Token(kind, token, at))
    return [*found, _Token("end", "", len(text) + 1)]


class _Parser:
    """Reads the tokens of one filter, from the left to the right."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._place, self._operations = tokens, 0, 0

    def whole(self) -> Condition:
        """Return the tree of all tokens."""
        found = self._condition(self._expression(0))
        if self._next.kind != "end":
            self._wrong("and, or, or the end")
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *signs: str) -> _Token | None:
        """Return the next token and go on, if it is one of these signs or words."""
        token = self._next
        if token.kind not in ("sign", "word") or token.text not in signs:
            return None
        self._place += 1
        return token

    def _need(self, sign: str, after: str) -> None:
        if not self._take(sign):
            self._wrong(f"{sign} {after}")

    def _wrong(self, expected: str) -> NoReturn:
        token = self._next
        wrong(token.at, expected, "the end of the filter" if token.kind == "end" else f'"{token.text[:40]}"')

    def _count(self) -> None:
        self._operations += 1
        if self._operations > OPERATIONS:
            wrong(self._next.at, f"at most {OPERATIONS} signs, brackets and not", "more", "Write in (...) for many.")

    def _expression(self, least: int) -> Node:
        """Return what stands here, with the operators behind it that bind more strongly than `least`."""
        left = self._prefix()
        while self._next.kind in ("sign", "word") and _POWERS.get(self._next.text, 0) > least:
            left = self._infix(left)
        return left

    def _prefix(self) -> Node:
        at = self._next.at
        if self._take("not"):
            self._count()
            return Negation(self._condition(self._expression(_NOT)), at)
        if self._take("-"):
            self._count()
            value = self._term(self._expression(_MINUS))
            if isinstance(value, Constant) and isinstance(value.value, int | float | timedelta):
                return Constant(-value.value, at)
            return Arithmetic("-", Constant(0, at), value, at)
        if self._take("("):
            self._count()
            found = self._expression(0)
            self._need(")", "after what is in brackets")
            return found
        return self._atom()

    def _atom(self) -> Term:
        token = self._next
        if truth := self._take("true", "false"):
            return Constant(truth.text == "true", token.at)
        if token.kind == "number":
            self._place += 1
            return Constant(_number(token), token.at)
        if token.kind == "text":
            self._place += 1
            return Constant(re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL), token.at)
        if token.kind == "name" or token.text == "$":
            return self._field()
        self._wrong("a value or a column")

    def _field(self) -> Field | Now:
        token = self._next
        if self._take("$"):
            return Field("$", self._name("a parameter"), token.at)
        name = self._name("a column")
        if token.text == "now" and self._take("("):
            self._need(")", "after now(")
            return Now(token.at)
        if token.text in ("user", "current") and self._take("."):
            return Field("user" if name == "user" else "current", self._name("a column"), token.at)
        return Field("item", name, token.at)

    def _name(self, what: str) -> str:
        token = self._next
        if token.kind not in ("name", "word"):
            self._wrong(what)
        self._place += 1
        return token.text.strip("`")

    def _infix(self, left: Node) -> Node:
        token = self._next
        self._place += 1
        sign, at = token.text, token.at
        if sign in ("and", "or"):
            first, second = self._condition(left), self._condition(self._expression(_POWERS[sign]))
            return _joined(AllOf, first, second, at) if sign == "and" else _joined(AnyOf, first, second, at)
        if sign in "+-*/":
            self._count()
            return Arithmetic(sign, self._term(left), self._term(self._expression(_POWERS[sign])), at)
        term = self._term(left)
        if sign == "is":
            return self._absent(term, at)
        if sign == "not":
            self._need("in", "after not")
            return Negation(Among(term, self._several(), at), at)
        if sign == "in":
            return Among(term, self._several(), at)
        return Compare("=" if sign == "==" else sign, term, self._term(self._expression(_COMPARED)), at)

    def _absent(self, term: Term, at: int) -> Condition:
        negated = self._take("not")
        self._need("missing", "after is")
        if not isinstance(term, Field):
            wrong(at, "a column before is missing", f'"{term}"', "Write price is missing.")
        return Negation(Absent(term, at), at) if negated else Absent(term, at)

    def _several(self) -> tuple[Term, ...] | Field:
        if not self._take("("):
            found = self._field() if self._next.kind == "name" or self._next.text == "$" else None
            if not isinstance(found, Field):
                self._wrong("( or a parameter after in")
            return found
        if self._take(")"):
            return ()
        values = [self._term(self._expression(_COMPARED))]
        while self._take(","):
            values.append(self._term(self._expression(_COMPARED)))
        self._need(")", "or , after a value")
        return tuple(values)

    def _condition(self, node: Node) -> Condition:
        if isinstance(node, Constant | Field | Now | Arithmetic):
            wrong(node.at, "a condition", f'"{str(node)[:40]}"')
        return node

    def _term(self, node: Node) -> Term:
        if not isinstance(node, Constant | Field | Now | Arithmetic):
            wrong(node.at, "a value", f'the condition "{str(node)[:40]}"')
        return node


def _number(token: _Token) -> int | float | timedelta:
    number = int(token.text) if token.text.isdecimal() and len(token.text) < 19 else float(token.text)
    if abs(number) * UNITS.get(token.unit, 0) > 1e12 or abs(number) > LARGEST:
        wrong(token.at, "a number below 1e300, a duration below 30,000 years", f'"{token.text[:40]}{token.unit}"')
    return timedelta(seconds=number * UNITS[token.unit]) if token.unit else number


def _joined(kind: type[AllOf] | type[AnyOf], first: Condition, second: Condition, at: int) -> Condition:
    """Return conditions side by side: `a and b and c` is one node of three."""
    return kind((*(first.of if isinstance(first, kind) else (first,)), second), at)
