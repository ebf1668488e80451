"""Local layers that a service chose, a file for each model and data; chosen on shoppers, so an erasure clears them."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from clients.recommender import LocalLayer
from federation.errors import FolderError
from federation.files import replace as replace_file


class _Chosen(BaseModel):
    """A file's content."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    popularity: float
    transitions: float
    own: bool
    others: bool
    decay: float
    sharpness: float
    isolation: float


def cache_file(place: Path, key: str, ending: str) -> Path:
    """Return the file in a folder for what a key stands for."""
    return place / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.{ending}"


def kept_choice(place: Path, key: str) -> LocalLayer | None:
    """Return what was chosen under a key, None where there is nothing that can be read."""
    try:
        kept = _Chosen.model_validate_json(cache_file(place, key, "json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    return LocalLayer(**kept.model_dump())


def keep_choice(place: Path, key: str, layer: LocalLayer) -> None:
    """Keep what was chosen; raise OSError where it cannot be written."""
    place.mkdir(mode=0o700, exist_ok=True)
    replace_file(cache_file(place, key, "json"), json.dumps(asdict(layer)).encode())


def clear_choices(place: Path) -> None:
    """Delete all choices; indexes hold items only and stay. Raises FolderError where one cannot be deleted."""
    try:
        for file in place.glob("*.json"):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(f"{place}: cannot be cleared ({error.strerror}). Delete it yourself.") from None
