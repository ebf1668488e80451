"""What a student keeps of its teacher on real platforms, how small it is, and how quick, in one run.

    python -m benchmarks.distill DATA/s3rec_beauty DATA/amazon_food [--encoder hashed-words] [--format json]

Each folder holds `interactions.parquet` and `items.parquet`. The teacher is the prior with its local layer; all choices
are made on validation shoppers. Sizes and times are ratios of student to teacher.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from clients.distill.compare import Comparison, Quality
from clients.distill.run import distilled
from clients.distill.student import Student
from clients.evaluation import choose_local
from clients.platform import HashableSite, prepare_platform
from clients.site import SiteSettings
from privacy.cli.output import Format, write_json, write_table


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders of platforms.")],
    encoder: Annotated[list[str] | None, typer.Option(help="Encoders of the teacher.")] = None,
    neighbours: Annotated[list[int] | None, typer.Option(help="Sizes of students.")] = None,
    format: Annotated[Format, typer.Option(help="What is printed.")] = Format.table,
) -> None:
    """Distil each platform's teacher and print what is kept."""
    torch.set_num_threads(1)
    found: list[Found] = []
    with tempfile.TemporaryDirectory() as work:
        for folder in folders:
            platform = prepare_platform(
                HashableSite(_site(folder, Path(work))), tuple(encoder or ["hashed-words"]), 0, 20
            )
            layer = choose_local(platform)
            for size in neighbours or [50, 200]:
                student, comparison = distilled(platform, None, layer, size)
                found.append(Found(folder.name, len(platform.catalogue), size, student, comparison))
    if format is Format.json:
        write_json([one.document() for one in found])
    else:
        columns = ("platform", "N", "validation NDCG@10", "test NDCG@10", "size", "latency")
        write_table("Students", columns, [one.row() for one in found])


@dataclass(frozen=True, eq=False)
class Found:
    """One student of one platform."""

    platform: str
    items: int
    neighbours: int
    student: Student
    comparison: Comparison

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        about = {"platform": self.platform, "items": self.items, "neighbours": self.neighbours}
        chosen = {"decay": self.student.decay, "popularity": self.student.popularity}
        return about | chosen | self.comparison.document()

    def row(self) -> list[str]:
        """Return it for the table."""
        c = self.comparison
        kept = [_kept(quality) for quality in (c.validation, c.test)]
        size, latency = c.student_bytes / c.teacher_bytes, c.student_seconds / c.teacher_seconds
        return [self.platform, str(self.neighbours), *kept, f"{size:.2f}", f"{latency:.3f}"]


def _kept(quality: Quality | None) -> str:
    if quality is None:
        return "-"
    return f"{quality.teacher_ndcg:.4f} → {quality.student_ndcg:.4f} ({100 * quality.kept:.1f} %)"


def _site(folder: Path, work: Path) -> SiteSettings:
    return SiteSettings(
        name=folder.name,
        events=folder / "interactions.parquet",
        items=folder / "items.parquet",
        population_size=1,
        epsilon_cap=1.0,
        ledger="none",
        work=work,
        cache=work,
    )


if __name__ == "__main__":
    typer.run(main)
