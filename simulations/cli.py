"""`fedcart simulate`."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from privacy.cli.output import say
from shared_model.device import resolve_device
from shared_model.errors import BadInputError

if TYPE_CHECKING:
    from simulations.folder import RunFolder
    from simulations.scenario import Scenario


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


class Backend(StrEnum):
    """Where simulated clients run."""

    inline = "inline"
    ray = "ray"


def simulate(
    scenario: Annotated[
        Path | None, typer.Option(help="Scenario file (TOML); the grocery scenario where left out.")
    ] = None,
    epsilon: Annotated[str | None, typer.Option(help='ε for each member, or "none".')] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of the federation.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulation.")] = None,
    backend: Annotated[Backend | None, typer.Option(help="Where the clients run.")] = None,
    secure_noise: Annotated[
        bool, typer.Option("--secure-noise", help="Noise as in a deployed client: private, not repeatable.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the run's folder.")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a run to continue, model and ledgers together.")
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only write the run's folder, for `flwr run`.")
    ] = False,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
) -> None:
    """Simulate a federation of shopping platforms on this machine.

    Progress goes to standard error, the result to standard output and to the run's folder.
    """
    # Here, so that the other commands of the front door need not wait for torch.
    import torch

    from simulations.folder import new_run, open_run
    from simulations.report import show
    from simulations.run import load
    from simulations.run import simulate as run_simulation
    from simulations.scenario import load_scenario

    # Small operations lose more to waiting for a second thread than they win, above all on a busy machine.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    if resume is not None:
        if any(option is not None for option in (scenario, epsilon, rounds, seed, backend)) or secure_noise:
            raise BadInputError("--resume continues a run as it was started; it takes no other settings.")
        run, chosen = open_run(resume)
    else:
        chosen = (load_scenario(scenario) if scenario else _default()).with_options(
            epsilon=epsilon,
            rounds=rounds,
            seed=seed,
            backend=backend.value if backend else None,
            noise="secure" if secure_noise else None,
        )
        resolve_device(chosen.compute.device)
        run = new_run(out, chosen)
    say(f"run {run.path}")
    if run.result.exists():
        result = json.loads(run.result.read_text(encoding="utf-8"))
    else:
        try:
            simulation = load(run, chosen, say)
            if prepare:
                sys.stdout.write(_flwr_command(run, len(simulation.sites)))
                return
            result = run_simulation(simulation)
        except KeyboardInterrupt:
            say(f"interrupted; nothing is lost: fedcart simulate --resume {run.path}")
            raise
    if format is Format.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        show(result, Console(width=None if sys.stdout.isatty() else 120))
        say(f"written to {run.path}")


def _flwr_command(run: "RunFolder", members: int) -> str:
    return (
        f"flwr run . --stream --federation-config 'num-supernodes={members}' "
        f"--run-config 'run-dir=\"{run.path}\"'\nfedcart simulate --resume {run.path}\n"
    )


def _default() -> "Scenario":
    from simulations.default import grocery_scenario
    from simulations.folder import cache_folder

    return grocery_scenario(cache_folder() / "grocery")
