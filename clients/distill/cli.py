"""`fedcart client distill`. Exit codes are those of `fedcart.py`."""

from pathlib import Path
from typing import Annotated

import typer

from clients.folder import ClientFolder
from privacy.cli.output import Format, number, write_json, write_lines, write_table

distill_commands = typer.Typer()


@distill_commands.command()
def distill(
    folder: Annotated[
        Path,
        typer.Option(envvar="FEDCART_CLIENT", help="The platform's folder; the current one where left out."),
    ] = Path(),
    neighbours: Annotated[
        int, typer.Option(min=1, help="At most so many items are kept after each item.")
    ] = 50,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="An encoder of the teacher, again for more; the model's where left out."),
    ] = None,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
) -> None:
    """Teach a small student with all that this platform has, for cheap serving, and say what it keeps.

    The student is local like its teacher: learned without noise from this platform's shoppers, it must never leave.
    """
    from clients.distill.run import distill as run

    made = run(ClientFolder(folder), encoder or (), neighbours)
    document = made.comparison.document()
    if format is Format.json:
        about = made.card.model_dump(exclude={"item_ids"})
        write_json({"name": made.name, "student": about, **document})
        return
    rows = [
        (part, str(q.shoppers), number(q.teacher_ndcg), number(q.student_ndcg), f"{100 * q.kept:.1f} %")
        for part, q in (("validation", made.comparison.validation), ("test", made.comparison.test))
        if q is not None
    ]
    write_table("NDCG@10", ("shoppers of", "shoppers", "teacher", "student", "kept"), rows)
    c = made.comparison
    write_lines(
        [
            f"size     {c.student_bytes / 1e6:.2f} MB of {c.teacher_bytes / 1e6:.2f} MB and the encoders",
            f"latency  {c.student_seconds / c.teacher_seconds:.3f} of the teacher's, one shopper at a time",
            f"student {made.name[:16]} is current. It holds this platform's shoppers without noise: it must not leave.",
        ]
    )
