"""The Flower ServerApp: reads the run's settings from its folder, runs the rounds, writes the model."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from safetensors.numpy import save_file

from privacy.errors import PrivacyError
from server.events import EventLog
from server.rounds import run_rounds
from server.settings import FederationSettings
from shared_model.errors import BadInputError, FedcartError, RunFailedError
from shared_model.version import VERSION

app = ServerApp()
MODEL = "model.safetensors"


def versions() -> dict[str, str]:
    """The versions here that a model depends on."""
    return {"fedcart": VERSION, **{name: version(name) for name in ("flwr", "torch", "numpy")}}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run a federation whose settings lie in the folder `run-dir` of the run's configuration."""
    location = context.run_config.get("run-dir")
    if not isinstance(location, str) or not location:
        raise BadInputError("run-dir is empty: pass --run-config 'run-dir=\"/path/of/a/prepared/run\"'.")
    folder = Path(location)
    settings = FederationSettings.load(folder)
    log = EventLog(folder)

    def observe(event: str, values: Mapping[str, Any]) -> None:
        log.write(event, **values)
        line = describe(event, values)
        if line:
            sys.stderr.write(line + "\n")

    started = {"run": settings.instructions.run_id, "strategy": settings.strategy, "versions": versions()}
    observe("started", started)
    try:
        outcome = run_rounds(grid, settings, folder, observe)
    except (FedcartError, PrivacyError) as error:
        observe("failed", {"code": error.code, "message": str(error)})
        raise
    except Exception as error:
        observe("failed", {"code": "internal", "message": f"{type(error).__name__}: {error}"})
        raise RunFailedError(f"The server failed: {type(error).__name__}: {error}") from error
    temporary = folder / f"{MODEL}.tmp"
    save_file(outcome.arrays, temporary)
    temporary.replace(folder / MODEL)
    observe("finished", {"rounds": outcome.rounds})


def describe(event: str, values: Mapping[str, Any]) -> str | None:
    """Return a line for the person who watches, or None."""
    match event:
        case "round":
            spent = ", ".join(f"{name} ε {value:.2f}" for name, value in values["epsilon"].items())
            return (
                f"  round {values['round']:>3}/{values['rounds']}  "
                f"{len(values['platforms'])} replies  update {values['update_norm']:.3f}  {spent}"
            ).rstrip()
        case "client-failed":
            return f"  round {values['round']:>3}  {values['platform']} left out: {values['reason']}"
        case "no-reply":
            waited = f"{values['timeout_s']:.0f} s"
            return f"  round {values['round']:>3}  {values['clients']} clients gave no reply in {waited}"
        case "witness-mended":
            return f"  {values['bytes']} bytes of a witness line that a crash left unfinished were removed"
        case "resumed":
            return f"  resumed after round {values['after_round']} of {values['rounds']}"
        case _:
            return None
