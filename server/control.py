"""SuperLink's control interface, on this machine and with its key: submit a run, ask what became of it, stop it."""

from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from federation.address import join_address
from federation.bundle import digest
from server.control_key import ControlKey, read_control_key
from server.errors import ServerAwayError
from server.folder import ServerFolder


@dataclass(frozen=True)
class FlowerRun:
    """A run as SuperLink knows it."""

    number: int
    finished: bool
    details: str


class Control:
    """A client of one federation's SuperLink. Every call raises ServerAwayError if it does not answer.

    Raises KeyFileError if the control key cannot be read.
    """

    def __init__(self, folder: ServerFolder) -> None:
        settings = folder.settings().superlink
        self._address = join_address(settings.host, settings.port)
        self._client = ControlHttpClient.from_server_address(
            self._address,
            insecure=False,
            root_certificates=str(folder.control_certificates),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr"),
                ControlKey(read_control_key(folder)),
            ],
        )

    def submit(self, bundle: bytes, run_folder: Path) -> int:
        """Submit a run and return its number."""
        request = StartRunRequest(
            fab=fab_to_proto(Fab(digest(bundle), bundle, {})),
            override_config=user_config_to_proto({"run-dir": str(run_folder)}),
        )
        try:
            return self._client.StartRun(request).run_id
        except httpx.HTTPError as error:
            raise self._away(error) from None

    def find(self, number: int) -> FlowerRun | None:
        """Return a run, None if SuperLink does not know it."""
        try:
            runs = self._client.ListRuns(ListRunsRequest(run_id=number)).run_dict
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise self._away(error) from None
        except httpx.HTTPError as error:
            raise self._away(error) from None
        if number not in runs:
            return None
        status = runs[number].status
        return FlowerRun(number, status.status == "finished", f"{status.sub_status} {status.details}".strip())

    def stop(self, number: int) -> None:
        """Stop a run; one that has ended stays as it is."""
        try:
            self._client.StopRun(StopRunRequest(run_id=number))
        except httpx.HTTPStatusError:
            return
        except httpx.HTTPError as error:
            raise self._away(error) from None

    def _away(self, error: httpx.HTTPError) -> ServerAwayError:
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.FORBIDDEN:
            return ServerAwayError(
                f"SuperLink at {self._address} was started with another control key than keys/control.secret. "
                "Restart it: fedcart server start"
            )
        return ServerAwayError(
            f"SuperLink at {self._address} does not answer ({type(error).__name__}). Is it running? fedcart server "
            "start"
        )
