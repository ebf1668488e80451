"""Commands as a user types them, through the front door, in this process."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

import fedcart


@dataclass(frozen=True)
class FrontDoor:
    """Runs `fedcart <before> … <after>` and returns its exit code, standard output and standard error."""

    capfd: pytest.CaptureFixture[str]
    before: tuple[object, ...] = ()
    after: tuple[object, ...] = ()

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Run a command; whatever its end, no traceback reaches the user."""
        self.capfd.readouterr()
        code = fedcart.run([str(part) for part in (*self.before, *arguments, *self.after)])
        captured = self.capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    def json(self, *arguments: object) -> Any:
        """Run a command that succeeds and return the document that `--format json` prints."""
        code, out, err = self(*arguments, "--format", "json")
        assert code == 0, err
        return json.loads(out)
