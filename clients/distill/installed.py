"""Students in a platform's folder.

students/<name>/student.json, student.safetensors   never changed; the name is the SHA-256 of student.json
students/current.json                               which one is current; replaced at once, after the student is whole
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clients.distill.student import Student, student_from_bytes
from clients.errors import SiteError
from federation.errors import FolderError
from federation.files import create, make_folder, replace
from federation.signed import digest

CARD, TABLES, CURRENT = "student.json", "student.safetensors", "current.json"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StudentCard(_Strict):
    """What a student is: whose, of which teacher, and its tables' hash."""

    format: Literal["fedcart-student/1"] = "fedcart-student/1"
    platform: str
    teacher: str
    """The model that taught: a version's name, or "prior"."""
    encoders: list[str]
    neighbours: Annotated[int, Field(ge=1)]
    decay: Positive
    popularity: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    catalogue: str
    """Fingerprint of the catalogue."""
    tables: str
    """SHA-256 of the tables."""
    item_ids: list[str]


class _Current(_Strict):
    name: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, eq=False)
class InstalledStudent:
    """The current student, every byte checked."""

    name: str
    card: StudentCard
    student: Student

    def recommend(self, history: Sequence[str], count: int = 10) -> list[str]:
        """Return at most `count` item ids for a history of item ids, the oldest first, each a basket of its own.

        Items that it does not know are passed over; what the shopper had is left out.
        """
        rows = {item: row for row, item in enumerate(self.card.item_ids)}
        known = np.array([rows[item] for item in history if item in rows], dtype=np.int64)[None, :]
        ages = np.arange(known.shape[1], 0, -1, dtype=np.int64)[None, :]
        scores = self.student.scores(known, ages)[0]
        scores[known[0]] = -np.inf
        order = np.argsort(-scores, kind="stable")[: min(count, len(scores) - len(set(known[0].tolist())))]
        return [self.card.item_ids[row] for row in order]


def install_student(folder: Path, card: StudentCard, tables: bytes) -> str:
    """Install a student in a platform's folder and make it current: all of it or nothing. Return its name."""
    data = json.dumps(card.model_dump(), sort_keys=True).encode()
    name = digest(data)

    def fill(new: Path) -> None:
        create(new / TABLES, tables, 0o600)
        create(new / CARD, data, 0o600)

    students = folder / "students"
    if not (students / name).is_dir() or not _whole(students, name):
        if (students / name).exists():
            raise FolderError(f"{students / name}: was changed since it was installed; remove that folder.")
        make_folder(students / name, fill)
    replace(students / CURRENT, _Current(name=name).model_dump_json().encode() + b"\n", 0o600)
    return name


def remove_students(folder: Path) -> bool:
    """Delete all students of a platform's folder; return whether there was one. Raises FolderError if it cannot."""
    students = folder / "students"
    if not students.exists():
        return False
    try:
        shutil.rmtree(students)
    except OSError as error:
        raise FolderError(f"{students}: cannot be deleted ({error.strerror}). Delete it yourself.") from None
    return True


def load_student(folder: Path) -> InstalledStudent:
    """Return a platform's current student.

    Raises SiteError if there is none, FolderError if anything of it was changed or cannot be read.
    """
    students = folder / "students"
    file = students / CURRENT
    try:
        name = _Current.model_validate_json(file.read_bytes()).name
    except FileNotFoundError:
        raise SiteError(f"{folder}: there is no student yet: fedcart client distill.") from None
    except (OSError, ValidationError):
        raise FolderError(
            f"{file}: cannot be read. Make the student again: fedcart client distill."
        ) from None
    return _read(students, name)


def _whole(students: Path, name: str) -> bool:
    try:
        _read(students, name)
    except FolderError:
        return False
    return True


def _read(students: Path, name: str) -> InstalledStudent:
    folder = students / name
    fix = "Remove that folder and make the student again: fedcart client distill."
    try:
        data, tables = (folder / CARD).read_bytes(), (folder / TABLES).read_bytes()
    except OSError as error:
        raise FolderError(f"{folder}: cannot be read ({error.strerror}). {fix}") from None
    changed = FolderError(f"{folder}: was changed since it was installed. {fix}")
    if digest(data) != name:
        raise changed
    try:
        card = StudentCard.model_validate_json(data)
        if digest(tables) != card.tables:
            raise changed
        student = student_from_bytes(tables, card.decay, card.popularity)
    except ValueError as error:
        raise FolderError(f"{folder}: is no student ({error}). {fix}") from None
    if len(student.log_popularity) != len(card.item_ids):
        raise FolderError(f"{folder}: names another number of items than it holds. {fix}")
    return InstalledStudent(name, card, student)
