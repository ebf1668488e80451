"""`fedcart client serve` and `fedcart client recommend`. Exit codes are those of `fedcart.py`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from clients.folder import ClientFolder
from clients.serving.asks import ItemList, RecommendAsk, Who
from clients.serving.shelf import Filters
from privacy.cli.output import Format, number, say, write_json, write_lines, write_table
from shared_model.errors import FedcartError

serving_commands = typer.Typer()

FolderOption = Annotated[
    Path, typer.Option(envvar="FEDCART_CLIENT", help="The platform's folder; the current one where left out.")
]
FormatOption = Annotated[Format, typer.Option(help="What is printed on standard output.")]


@serving_commands.command()
def serve(
    folder: FolderOption = Path(),
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; [serving] host where left out.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; [serving] port where left out.")] = None,
) -> None:
    """Serve recommendations of this platform over gRPC, until SIGTERM or Ctrl-C."""
    from clients.serving.serve import run_serving

    place = ClientFolder(folder)
    settings = place.site().serving
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}

    def ready(address: str) -> None:
        say(f"serving recommendations of {place.site().name} on {address}")

    run_serving(place, settings.model_copy(update=changes), ready)


@serving_commands.command()
def recommend(
    shopper: Annotated[
        str, typer.Argument(metavar="[SHOPPER]", help="The platform's own id; none for a session.")
    ] = "",
    item: Annotated[list[str] | None, typer.Option(help="An item of the session; again for more.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Words that were typed; again for more.")] = None,
    count: Annotated[int, typer.Option(help="How many.")] = 10,
    category: Annotated[list[str] | None, typer.Option(help="Only this category; again for more.")] = None,
    min_price: Annotated[float | None, typer.Option(help="Not below this price.")] = None,
    max_price: Annotated[float | None, typer.Option(help="Not above this price.")] = None,
    diversity: Annotated[float, typer.Option(help="From 0 to 1: how unlike each other.")] = 0.0,
    folder: FolderOption = Path(),
    format: FormatOption = Format.table,
) -> None:
    """Recommend items to a shopper or session with the adopted model; no server is needed."""
    from clients.serving.engine import recommend as answers
    from clients.serving.load import load_snapshot

    # The question is checked before anything is loaded.
    who = Who(shopper, "", tuple(item or ()), tuple(text or ()))
    filters = Filters(categories=frozenset(category or ()), min_price=min_price, max_price=max_price)
    ask = RecommendAsk(who, count, filters, diversity)
    snapshot = load_snapshot(ClientFolder(folder))
    ask = replace(ask, filters=replace(filters, leave_out_seen=snapshot.leave_out_seen))
    (answer,) = answers(snapshot, [ask])
    if isinstance(answer, FedcartError):
        raise answer
    _show(answer, format)


def _show(answer: ItemList, format: Format) -> None:
    if format is Format.json:
        write_json(_document(answer))
        return
    if answer.unknown:
        write_lines([f"not in the catalogue: {', '.join(answer.unknown)}"])
    if answer.cold:
        write_lines(["nothing is known of this shopper or session: what is popular"])
    rows = [
        (str(place), entry.item, number(entry.score), entry.title)
        for place, entry in enumerate(answer.items, 1)
    ]
    write_table(f"Recommendations ({answer.version[:16]})", ("", "item", "score", "title"), rows)


def _document(answer: ItemList) -> dict[str, Any]:
    return {
        "model_version": answer.version,
        "arm": answer.arm,
        "cold": answer.cold,
        "unknown_item_ids": list(answer.unknown),
        "items": [{"item_id": i.item, "score": i.score, "title": i.title} for i in answer.items],
    }
