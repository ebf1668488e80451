"""The question that only a person can answer: does this fingerprint come from whom it should?"""

import sys

import typer

from federation.keys import spoken
from privacy.cli.output import say


def confirmed_fingerprint(given: str | None, digits: str, whose: str) -> str | None:
    """Return the fingerprint that a person confirms: the one given, or the file's if they say so at a terminal."""
    if given is not None or not sys.stdin.isatty():
        return given
    say(f"Fingerprint of {whose}:")
    say(f"  {spoken(digits)}")
    question = "Is it the one that you were told by another way (telephone, in person)?"
    return digits if typer.confirm(question, default=False, err=True) else None
