"""Teacher and student side by side on one platform: quality, size and time, in the same run."""

import time
from dataclasses import asdict, dataclass, replace
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.split import Part
from clients.distill.student import Student
from clients.distill.teach import Teacher, teach
from clients.evaluation import CHOICE_USERS, Scorer, evaluate
from clients.platform import Platform
from shared_model.metrics import ndcg_at, top_items

DECAYS = (0.1, 0.3, 0.6, 1.0)
POPULARITY_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0)
TIMED = 200
"""So many shoppers are asked for, one at a time, by turns of teacher and student."""


@dataclass(frozen=True, eq=False)
class StudentScorer:
    """A student on the platform that it was made for."""

    platform: Platform
    student: Student

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores for shoppers at positions `users`."""
        items, ages = self.platform.recent(which)
        return torch.from_numpy(self.student.scores(items[users], ages[users]))


@dataclass(frozen=True)
class Quality:
    """NDCG@10 and Recall@10 of both over the same shoppers, and their paired difference's standard error."""

    shoppers: int
    teacher_ndcg: float
    student_ndcg: float
    teacher_recall: float
    student_recall: float
    ndcg_error: float

    @property
    def kept(self) -> float:
        """The part of the teacher's NDCG@10 that the student keeps."""
        return self.student_ndcg / self.teacher_ndcg if self.teacher_ndcg else float("nan")


@dataclass(frozen=True)
class Comparison:
    """What a student costs and brings. Sizes in bytes, times in seconds for one shopper's ten best, median."""

    validation: Quality | None
    test: Quality | None
    teacher_bytes: int
    student_bytes: int
    teacher_seconds: float
    student_seconds: float

    def document(self) -> dict[str, object]:
        """Return it for JSON, with the ratios that are meant to be read."""
        parts = {
            name: None if quality is None else asdict(quality) | {"ndcg_kept": quality.kept}
            for name, quality in (("validation", self.validation), ("test", self.test))
        }
        return {
            **parts,
            "bytes": {"teacher": self.teacher_bytes, "student": self.student_bytes},
            "ratios": {
                "size": self.student_bytes / self.teacher_bytes,
                "latency": self.student_seconds / self.teacher_seconds,
            },
        }


def choose_student(platform: Platform, taught: Student) -> Student:
    """Return the student with the decay and popularity weight of the best NDCG@10 on validation shoppers.

    `taught` must know nothing of what they are asked for. Without validation shoppers: the first popularity weight above
    0, and the decay next to the prior's.
    """
    users = platform.valid_users[:CHOICE_USERS]
    if not len(users):
        return replace(taught, decay=DECAYS[1], popularity=POPULARITY_WEIGHTS[1])
    choices = [replace(taught, decay=d, popularity=p) for d in DECAYS for p in POPULARITY_WEIGHTS]
    values = [_ndcg(platform, StudentScorer(platform, choice), "valid", users).mean() for choice in choices]
    return choices[int(np.argmax(values))]


def _ndcg(platform: Platform, scorer: Scorer, which: Part, users: NDArray[np.int64]) -> NDArray[np.float64]:
    return ndcg_at(evaluate(platform, scorer, which, users).ranks, 10)


def compare(
    platform: Platform, teacher: Scorer, ask: Teacher, student: Student, neighbours: int, teacher_bytes: int
) -> Comparison:
    """Compare a teacher with a student whose weights are chosen.

    For the test, another student is taught by the same teacher with what came before the test, and gets the same
    weights; for validation likewise. What is held out is known to neither of them.
    """
    qualities: dict[Part, Quality | None] = {}
    scorers: dict[Part, StudentScorer] = {}
    for which, users in (("valid", platform.valid_users), ("test", platform.test_users)):
        part: Part = "valid" if which == "valid" else "test"
        near = teach(platform, ask, part, neighbours)
        scorers[part] = StudentScorer(
            platform, replace(near, decay=student.decay, popularity=student.popularity)
        )
        qualities[part] = _quality(platform, teacher, scorers[part], part, users) if len(users) else None
    users = (platform.test_users if len(platform.test_users) else np.arange(len(platform)))[:TIMED]
    old, new = _times(teacher, scorers["test"], users)
    size = len(student.to_bytes())
    return Comparison(qualities["valid"], qualities["test"], teacher_bytes, size, old, new)


def _quality(
    platform: Platform, teacher: Scorer, student: Scorer, which: Part, users: NDArray[np.int64]
) -> Quality:
    old, new = (evaluate(platform, scorer, which, users).ranks for scorer in (teacher, student))
    gains = ndcg_at(new, 10) - ndcg_at(old, 10)
    return Quality(
        shoppers=len(users),
        teacher_ndcg=float(ndcg_at(old, 10).mean()),
        student_ndcg=float(ndcg_at(new, 10).mean()),
        teacher_recall=float((old <= 10).mean()),
        student_recall=float((new <= 10).mean()),
        ndcg_error=float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("nan"),
    )


def _times(teacher: Scorer, student: Scorer, users: NDArray[np.int64]) -> tuple[float, float]:
    """Return the median time of both to score all items for one shopper and take the ten best."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn, user in enumerate([*users[:3], *users]):
        for times, scorer in zip(taken, (teacher, student), strict=True):
            start = time.perf_counter()
            top_items(scorer.scores("test", np.array([user])), 10)
            if turn >= 3:  # the first ones warm up
                times.append(time.perf_counter() - start)
    return median(taken[0]), median(taken[1])
