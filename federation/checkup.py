"""A doctor's findings: each check has passed, or says what is wrong and what to do about it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from privacy.errors import PrivacyError
from shared_model.errors import FedcartError

_UNREADABLE = 4


class ProblemError(Exception):
    """What a check found wrong, and the fix."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.detail, self.fix = detail, fix


@dataclass(frozen=True)
class Finding:
    """One check's outcome. `unreadable`: something that must be there cannot be read or written."""

    check: str
    passed: bool
    detail: str
    fix: str | None = None
    unreadable: bool = False


def examine(check: str, look: Callable[[], str]) -> Finding:
    """Run one check, which returns what is well or raises; whatever it cannot decide is a problem."""
    try:
        return Finding(check, True, look())
    except ProblemError as problem:
        return Finding(check, False, problem.detail, problem.fix)
    except (FedcartError, PrivacyError) as error:
        return Finding(check, False, str(error), unreadable=error.exit_code == _UNREADABLE)
    except OSError as error:
        return Finding(check, False, f"{error.filename or 'it'}: {error.strerror or error}.", unreadable=True)
    except Exception as error:
        return Finding(
            check,
            False,
            f"could not be checked ({type(error).__name__}: {error})",
            "Please report this as a bug.",
        )


def examine_all(checks: Sequence[tuple[str, Callable[[], str]]]) -> list[Finding]:
    """Run checks in order; one that fails of the same cause as an earlier one refers to it."""
    findings: list[Finding] = []
    for name, look in checks:
        found = examine(name, look)
        cause = next((f for f in findings if not f.passed and f.detail == found.detail), None)
        if cause is not None:
            found = replace(found, detail=f"could not be checked, see {cause.check!r}", fix=None)
        findings.append(found)
    return findings


def exit_code(findings: Sequence[Finding]) -> int:
    """0: all passed; 4: something is unreadable; 1: any other problem."""
    if any(finding.unreadable for finding in findings):
        return _UNREADABLE
    return 0 if all(finding.passed for finding in findings) else 1


def report_lines(findings: Sequence[Finding]) -> list[str]:
    """The findings for people."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(
            f"{'passed ' if finding.passed else 'PROBLEM'}  {finding.check:<{width}}  {finding.detail}"
        )
        if finding.fix is not None:
            lines.append(f"{'':<{width + 9}}  → {finding.fix}")
    problems = sum(not finding.passed for finding in findings)
    return [
        *lines,
        "",
        f"{problems} of {len(findings)} checks found a problem." if problems else "All is well.",
    ]


def report_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as JSON values."""
    return {
        "ok": all(finding.passed for finding in findings),
        "exit_code": exit_code(findings),
        "checks": [asdict(finding) for finding in findings],
    }
