"""What mkdocstrings is told of our docstrings.

Knows: that `Example:` heads examples that run, which Griffe reads under the name `Examples:` alone.
Does not know: pages.
"""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Examples are shown as code and not read as prose."""

    def on_object(self, *, obj: griffe.Object, **given: Any) -> None:
        """Give the section the name that Griffe knows."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
