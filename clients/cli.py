"""`fedcart client`. Its commands are imported one by one, when they are asked for (`fedcart.Client`): a service starts
without what training needs."""

import typer

client = typer.Typer(
    name="client", no_args_is_help=True, help="Take part in a federation with one platform's data."
)
