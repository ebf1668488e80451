"""`fedcart client catalogue`: what of the catalogue the federation would see. Exit codes are those of `fedcart.py`."""

from pathlib import Path
from typing import Annotated

import typer

from clients.data.products import CodeReport, published
from clients.errors import SiteError
from clients.folder import ClientFolder
from clients.platform import read_catalogue
from federation.catalogue import make_catalogue
from federation.files import replace
from federation.keys import fingerprint, signing_text, spoken
from federation.signed import digest
from federation.validity import now
from privacy.cli.output import Format, write_json, write_lines
from shared_model.vocabulary_file import load_vocabulary

FolderOption = Annotated[
    Path, typer.Option(envvar="FEDCART_CLIENT", help="The platform's folder; the current one where left out.")
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]
_COLUMNS = ("key", "title", "brand", "category")
_SHOWN = 10


def catalogue(
    folder: FolderOption = Path(),
    out: Annotated[
        Path | None, typer.Option(help="Write the signed file for the federation's operator here.")
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(help="A version of the vocabulary (.safetensors), to say what of it is known."),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Show which products would be published: key, title, brand and category of each, and nothing else.

    Events play no part: a product that nobody bought is there like any other. Without --out nothing is written. Exit
    code 0: done; 2: the catalogue or a setting cannot be used; 4: something cannot be read or written.
    """
    place = ClientFolder(folder)
    site = place.site()
    items = read_catalogue(site)
    report = CodeReport.of(items, None if vocabulary is None else load_vocabulary(vocabulary))
    public = published(items)
    rows = list(zip(public.keys, public.titles, public.brands, public.categories, strict=True))
    wrote = None
    if out is not None:
        if site.federation is None:
            raise SiteError(
                f"{place.site_file}: federation: is missing; write the name that its operator gave you."
            )
        record = place.current()
        identity = place.keys(1 if record is None else record.keys).identity()
        data = make_catalogue(site.federation, site.name, public, identity, now())
        with place.log().act("catalogue", products=len(public), file=digest(data)):
            replace(out, data)
        wrote = fingerprint(signing_text(identity))
    if format is Format.json:
        first = [dict(zip(_COLUMNS, row, strict=True)) for row in rows[:_SHOWN]]
        said = {"products": len(public), "first": first, "codes": report.to_dict()}
        write_json(said | {"file": None if out is None else str(out), "fingerprint": wrote})
        return
    write_lines(
        [
            f"{site.name}: {len(public):,} products of {len(items):,} items; key, title, brand, category of the first:",
            *("  " + " · ".join(filter(None, row)) for row in rows[:_SHOWN]),
            *(["  …"] if len(rows) > _SHOWN else []),
            *report.lines(),
        ]
    )
    if out is None or wrote is None:
        write_lines(["Nothing was written. To write the signed file for the operator: --out FILE"])
        return
    write_lines(
        [
            f"wrote {out}, signed with the key {spoken(wrote)}",
            "Send it to the federation's operator. It is public.",
        ]
    )
