"""The JSON of statuses, errors and diagnoses in a journal. What has no JSON, or cannot be read back, is None."""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing import _json
from codat_commerce_async.syncing.diagnosis import Diagnosis

__all__ = [
    "diagnosis_from_json",
    "diagnosis_to_json",
    "error_from_json",
    "error_to_json",
    "status_from_json",
    "status_to_json",
]

T = TypeVar("T")


def status_to_json(status: SyncStatus | None) -> str | None:
    """Return the status as text."""
    return _to_json(SyncStatus.to_dict, status)


def status_from_json(text: str | None) -> SyncStatus | None:
    """Return the status of which this text was made."""
    return _from_json(SyncStatus.from_dict, text)


def error_to_json(error: CodatError | None) -> str | None:
    """Return the error as text."""
    return _to_json(_json.error_to_dict, error)


def error_from_json(text: str | None) -> CodatError | None:
    """Return the error of which this text was made."""
    return _from_json(_json.error_from_dict, text)


def diagnosis_to_json(diagnosis: Diagnosis | None) -> str | None:
    """Return the diagnosis as text."""
    return _to_json(Diagnosis.to_dict, diagnosis)


def diagnosis_from_json(text: str | None) -> Diagnosis | None:
    """Return the diagnosis of which this text was made."""
    return _from_json(Diagnosis.from_dict, text)


def _to_json(to_values: Callable[[T], object], value: T | None) -> str | None:
    try:
        return None if value is None else json.dumps(to_values(value))
    except (TypeError, ValueError, CodatError):
        return None


def _from_json(from_values: Callable[[Mapping[str, object]], T], text: str | None) -> T | None:
    try:
        return None if text is None else from_values(json.loads(text))
    except (TypeError, ValueError, LookupError, RecursionError):
        return None
