"""Text of another party made safe to show: it steers no terminal, hides nothing, is no longer than it may be.

| in the text                                              | what is shown                              |
|----------------------------------------------------------|--------------------------------------------|
| control and escape characters, of C0 and C1              | one `HIDDEN` for a run of them             |
| marks and overrides of direction, zero-width characters  | the same: two texts that differ look so    |
| line ends, tabs, every other space                       | a space                                    |
| more characters than the limit                           | the first ones, and an ellipsis            |

What is left has no meaning to a terminal. Markup of a library (`[red]` of rich) is text like any other: whoever prints
it must not let the library read it.
"""

import re

LINE = 4000
"""Most characters of a line or a message."""
WORDS = 300
"""Most characters of what another party says within one: a reason, a name that nobody checked."""
HIDDEN = "\N{REPLACEMENT CHARACTER}"
"""Stands for what cannot be shown."""

# Shown as nothing at all, and yet printable to Python: fillers, joiners and selectors of variants.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def plain(value: object, limit: int = LINE) -> str:
    r"""Return the text of `value` as a person may be shown it, in at most `limit` characters.

    >>> plain("toys\x1b[2J"), plain("to\u200bys"), plain("two\nlines"), plain("abcdef", 4)
    ('toys�[2J', 'to�ys', 'two lines', 'abc…')
    """
    text = str(value)
    shown = "".join(" " if c.isspace() else c if c.isprintable() else HIDDEN for c in text[:limit])
    shown = re.sub(f"{HIDDEN}+", HIDDEN, _INVISIBLE.sub(HIDDEN, shown))
    return shown if len(text) <= limit else f"{shown[: limit - 1]}…"
