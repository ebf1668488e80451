"""The Flower ServerApp: reads the run's settings from its folder, runs the rounds, writes the model."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from safetensors.numpy import save_file

from federation.lock import held
from federation.telemetry import exporting
from privacy.errors import PrivacyError
from server.events import EventLog
from server.lines import say_json, say_lines
from server.presence import Observer
from server.rounds import run_rounds
from server.settings import FederationSettings
from server.traces import RunTrace
from shared_model.errors import BadInputError, FedcartError, RunFailedError
from shared_model.version import VERSION

app = ServerApp()
MODEL = "model.safetensors"
LOCK = "app.lock"


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
    with (
        held(folder / LOCK, f"The server app of run {settings.instructions.run_id}"),
        exporting("fedcart-server"),
    ):
        run(grid, settings, folder)


def run(grid: Grid, settings: FederationSettings, folder: Path) -> None:
    """Run the rounds and write the model; what happens is in the run's events."""
    run_id, log = settings.instructions.run_id, EventLog(folder)
    say = say_json(run_id) if settings.log == "json" else say_lines
    with RunTrace(run_id) as trace:

        def observe(event: str, values: Mapping[str, Any]) -> None:
            log.write(event, **values)
            say(event, values)
            trace.observe(event, values)

        observe("started", {"run": run_id, "versions": versions()})
        _run(grid, settings, folder, observe)


def _run(grid: Grid, settings: FederationSettings, folder: Path, observe: Observer) -> None:
    try:
        outcome = run_rounds(grid, settings, folder, observe)
    except (FedcartError, PrivacyError) as error:
        observe("failed", {"code": error.code, "exit_code": error.exit_code, "message": str(error)})
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        observe("failed", {"code": "internal", "exit_code": FedcartError.exit_code, "message": message})
        raise RunFailedError(f"The server failed: {type(error).__name__}: {error}") from error
    temporary = folder / f"{MODEL}.tmp"
    save_file(outcome.arrays, temporary)
    temporary.replace(folder / MODEL)
    observe("finished", {"rounds": outcome.rounds})
