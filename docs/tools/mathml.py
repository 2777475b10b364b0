"""Formulas become MathML while a page is made, so that a reader's browser loads nothing.

Knows: the two ways in which pages write formulas, blocks fenced as `math` and `$...$` in a line, as GitHub reads them.
Does not know: what they mean.
"""

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

_BLOCK = re.compile(r"^```math\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_INLINE = r"(?<![\\$\w])\$(\S|\S[^$\n]*?\S)\$(?![\w$])"


def mathml(latex: str, display: str = "inline") -> str:
    """Return a formula as MathML; names of several letters stay words."""
    return convert(re.sub(r"\\mathrm\{(\w{2,})\}", r"\\text{\1}", latex), display=display)


def lines_of(latex: str) -> list[str]:
    """Return the lines of a block without the environment around them."""
    inner = re.sub(r"\\(begin|end)\{gathered\}", "", latex)
    return [line.strip() for line in re.split(r"\\\\\s", inner) if line.strip()]


class Blocks(Preprocessor):
    """A fence of kind `math` becomes a formula of its own, each of its lines one."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines of a page with its formulas stashed away."""

        def put(found: re.Match[str]) -> str:
            made = "".join(mathml(line, "block") for line in lines_of(found[1]))
            return self.md.htmlStash.store(f'<div class="formula">{made}</div>')

        return _BLOCK.sub(put, "\n".join(lines)).split("\n")


class Inline(InlineProcessor):
    """`$...$` in a line."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802
        """Return the formula and where it stood."""
        return self.md.htmlStash.store(mathml(m[1])), m.start(0), m.end(0)


class MathML(Extension):
    """Both, before fences of code and after white space is put in order."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register both."""
        md.preprocessors.register(Blocks(md), "math blocks", 28)
        md.inlinePatterns.register(Inline(_INLINE, md), "math", 185)


def makeExtension(**given: Any) -> MathML:  # noqa: N802
    """Return the extension, as Markdown asks for it."""
    return MathML(**given)
