"""Handles, outcomes and diagnoses are fields of pydantic's models and bodies of FastAPI; keys are never written."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Annotated

import httpx
import pytest
from attrs import evolve
from fastapi import Body, FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError

from codat_commerce_async import (
    CodatError,
    Diagnosis,
    FailureCause,
    NotFoundError,
    OutcomeUnknownError,
    Resolver,
    Retry,
    SyncHandle,
    SyncOutcome,
    SyncRequest,
    SyncStatus,
    SyncWaitTimeoutError,
)
from codat_commerce_async.models.call import Call
from codat_commerce_async.models.error_message import ErrorMessage
from codat_commerce_async.syncing.diagnosis import Action, Evidence, ItemProblem
from tests.support.cases import all_cases

HANDLE = SyncHandle(
    company_id="company-1",
    commerce_sync_id="commerce-1",
    requested_at=datetime(2024, 1, 15, 12, tzinfo=UTC),
    idempotency_key="key-1",
)
WITHOUT_KEY = evolve(HANDLE, idempotency_key=None)
WRITTEN = {"company_id": "company-1", "token": HANDLE.to_token()}

DIAGNOSIS = Diagnosis(
    company_id="company-1",
    code=5130,
    cause=FailureCause.ITEMS_NOT_WRITTEN,
    summary="at least one item could not be written",
    actions=(Action(resolver=Resolver.MERCHANT, text="correct the item", path="payments"),),
    retry=Retry.LATER,
    retry_at=datetime(2024, 1, 15, 12, tzinfo=UTC),
    evidence=(Evidence(kind="push_operation", items=(ItemProblem(item_id="1", message="no tax rate"),)),),
    unchecked=("syncs: 503",),
    requests=2,
)


CALL = Call(operation="request-sync", method="POST", path="/x", idempotency_key="key-1", attempts=())
STATUS = SyncStatus(sync_id="sync-1", sync_status_code=5130, error_message="not written")
OUTCOME = SyncOutcome(
    request=SyncRequest(company_id="company-1", sync_to=datetime(2024, 1, 15, tzinfo=UTC)),
    handle=HANDLE,
    status=STATUS,
    error=None,
    polls=3,
    elapsed=2.5,
    ticket_id="ticket-1",
    diagnosis=DIAGNOSIS,
)


class Job(BaseModel):
    """A model of an application."""

    name: str = "nightly"
    handle: SyncHandle
    others: list[SyncHandle] = []


def test_a_handle_is_written_as_company_id_and_token_and_read_from_them() -> None:
    job = Job(handle=HANDLE, others=[HANDLE])
    assert job.handle is HANDLE, "the key stays in the process"
    assert (
        job.model_dump() == job.model_dump(mode="json") == {"name": "nightly", "handle": WRITTEN, "others": [WRITTEN]}
    )
    assert "key-1" not in job.model_dump_json()
    restored = Job.model_validate_json(job.model_dump_json())
    assert (restored.handle, restored.others) == (WITHOUT_KEY, [WITHOUT_KEY])
    adapter = TypeAdapter(SyncHandle | None)
    assert adapter.validate_python({**WRITTEN, "added_later": 1}) == WITHOUT_KEY
    assert adapter.dump_python(None) is None


@all_cases(
    ("value", "location", "words"),
    [
        ({**WRITTEN, "token": "x"}, ("handle",), "a sync token must be what `SyncHandle.to_token` returns"),
        ({**WRITTEN, "company_id": ".."}, ("handle",), "company_id must be an id other than '.' and '..'"),
        ({"token": WRITTEN["token"]}, ("handle", "company_id"), "Field required"),
        ({**WRITTEN, "company_id": 7}, ("handle", "company_id"), "valid string"),
        ({"company_id": "company-1"}, ("handle", "token"), "Field required"),
        (HANDLE.to_json(), ("handle",), "valid dictionary"),
        (json.loads(HANDLE.to_json()), ("handle", "token"), "Field required"),
    ],
)
def test_anything_else_is_a_validation_error_with_its_place(
    value: object, location: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({"handle": value})
    [error] = caught.value.errors()
    assert error["loc"] == location
    assert words in error["msg"]


def test_the_json_schema_describes_both_members() -> None:
    for mode in ("validation", "serialization"):
        schema = Job.model_json_schema(mode=mode)
        described = schema["$defs"]["SyncHandle"]
        assert schema["properties"]["others"]["items"] == {"$ref": "#/$defs/SyncHandle"}
        assert (described["type"], described["required"]) == ("object", ["company_id", "token"])
        assert {name: each["type"] for name, each in described["properties"].items()} == dict.fromkeys(
            WRITTEN, "string"
        )
        assert described["description"].startswith("The identity of a sync")


def test_a_diagnosis_is_written_and_read_as_its_own_json() -> None:
    adapter = TypeAdapter(Diagnosis)
    assert adapter.validate_python(DIAGNOSIS) is DIAGNOSIS
    assert adapter.validate_json(adapter.dump_json(DIAGNOSIS)) == DIAGNOSIS
    assert adapter.dump_python(DIAGNOSIS) == json.loads(adapter.dump_json(DIAGNOSIS)) == DIAGNOSIS.to_dict()
    for value in ("text", {**DIAGNOSIS.to_dict(), "summary": 7}):
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_the_schema_of_a_diagnosis_has_what_its_json_has() -> None:
    for mode in ("validation", "serialization"):
        schema = TypeAdapter(Diagnosis).json_schema(mode=mode)
        properties, written = schema["properties"], DIAGNOSIS.to_dict()
        assert (schema["title"], schema["description"]) == ("Diagnosis", "Why a sync failed, and who has to do what.")
        assert set(properties) == set(written)
        assert {"cause", "summary", "actions", "retry"} <= set(schema["required"])
        assert "retry_at" not in schema["required"]
        assert properties["retry_at"]["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "null"}]
        evidence = properties["evidence"]["items"]["properties"]
        assert set(evidence) == set(written["evidence"][0])  # type: ignore[index]
        assert set(evidence["items"]["items"]["properties"]) == {"item_id", "message", "validator_name"}
        assert set(schema["$defs"]["FailureCause"]["enum"]) == set(FailureCause)


def test_an_outcome_is_written_without_its_key_and_read_back() -> None:
    adapter = TypeAdapter(SyncOutcome)
    assert adapter.validate_python(OUTCOME) is OUTCOME, "the key stays in the process"
    written = adapter.dump_python(OUTCOME)
    assert written == json.loads(adapter.dump_json(OUTCOME))
    assert written == {
        "company_id": "company-1",
        "ok": False,
        "adopted": False,
        "request": {"company_id": "company-1", "sync_to": "2024-01-15T00:00:00+00:00", "start": None, "finish": None},
        "handle": WRITTEN,
        "status": STATUS.to_dict(),
        "error": None,
        "polls": 3,
        "elapsed": 2.5,
        "ticket_id": "ticket-1",
        "diagnosis": DIAGNOSIS.to_dict(),
    }
    assert adapter.validate_json(adapter.dump_json(OUTCOME)) == evolve(OUTCOME, handle=WITHOUT_KEY)


@pytest.mark.parametrize(
    "error",
    [
        CodatError("broken"),
        NotFoundError("unknown", CALL, 404, ErrorMessage(error="no", correlation_id="id"), 1.5),
        OutcomeUnknownError("unknown", CALL, HANDLE.requested_at, "id", HANDLE, ("a", "b")),
        SyncWaitTimeoutError("late", HANDLE, STATUS, 3.5, 4),
    ],
)
def test_the_error_of_an_outcome_is_written_without_its_key_and_read_back(error: CodatError) -> None:
    adapter = TypeAdapter(SyncOutcome)
    text = adapter.dump_json(evolve(OUTCOME, handle=None, status=None, error=error))
    assert b"key-1" not in text
    written = json.loads(text)["error"]
    assert (written["type"], written["message"]) == (type(error).__name__, str(error))
    read = adapter.validate_json(text)
    assert type(read.error) is type(error)
    assert str(read.error) == str(error)
    # All but the key is there: it is written in the same way again.
    assert adapter.dump_json(read) == text


@pytest.mark.parametrize(
    "change",
    [
        {"polls": "3"},
        {"request": None},
        {"handle": {**WRITTEN, "token": "x"}},
        {"handle": WRITTEN["token"]},
        {"handle": {"token": WRITTEN["token"]}},
        {"status": {"syncUtc": 7}},
        {"error": {"type": "CodatError"}},
        {"error": {"type": "OutcomeUnknownError", "args": ["m", None, {"type": "datetime", "value": "soon"}]}},
        {"diagnosis": {}},
    ],
)
def test_what_is_no_outcome_is_a_validation_error(change: dict[str, object]) -> None:
    adapter = TypeAdapter(SyncOutcome)
    for value in ("text", {**adapter.dump_python(OUTCOME), **change}):
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_the_schema_of_an_outcome_has_what_its_json_has() -> None:
    adapter = TypeAdapter(SyncOutcome)
    for mode in ("validation", "serialization"):
        schema = adapter.json_schema(mode=mode)
        properties = schema["properties"]
        assert schema["title"] == "SyncOutcome"
        assert schema["description"].startswith("The result of one company's sync")
        assert set(properties) == set(adapter.dump_python(OUTCOME))
        assert set(properties["request"]["properties"]) == {"company_id", "sync_to", "start", "finish"}
        assert properties["handle"]["anyOf"] == [{"$ref": "#/$defs/SyncHandle"}, {"type": "null"}]
        assert properties["status"]["anyOf"] == [{"$ref": "#/$defs/SyncStatus"}, {"type": "null"}]
        assert properties["diagnosis"]["anyOf"] == [{"$ref": "#/$defs/Diagnosis"}, {"type": "null"}]
        error = properties["error"]["anyOf"][0]
        assert {name: each["type"] for name, each in error["properties"].items()} == {
            "type": "string",
            "message": "string",
            "args": "array",
        }
        assert {name: properties[name]["type"] for name in ("company_id", "ok", "adopted", "polls", "elapsed")} == {
            "company_id": "string",
            "ok": "boolean",
            "adopted": "boolean",
            "polls": "integer",
            "elapsed": "number",
        }
        assert schema["required"] == ["request", "polls", "elapsed"]


app = FastAPI()


@app.get("/outcomes")
async def outcomes() -> list[SyncOutcome]:
    return [OUTCOME]


@app.post("/outcomes")
async def store(outcome: Annotated[SyncOutcome, Body()]) -> bool:
    return outcome == evolve(OUTCOME, handle=WITHOUT_KEY)


@app.get("/diagnosis")
async def diagnose() -> Diagnosis:
    return DIAGNOSIS


@app.post("/syncs")
async def start() -> SyncHandle:
    return HANDLE


@app.post("/jobs")
async def create(job: Job) -> Job:
    return job


@app.post("/waits")
async def wait(handle: Annotated[SyncHandle, Body()]) -> bool:
    return handle == WITHOUT_KEY


async def test_fastapi_takes_and_returns_handles_and_outcomes() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web:
        started = await web.post("/syncs")
        assert (started.status_code, started.json()) == (200, WRITTEN)
        assert (await web.post("/waits", json=started.json())).json() is True
        assert (await web.post("/jobs", json={"handle": WRITTEN})).json()["handle"] == WRITTEN
        refused = await web.post("/jobs", json={"handle": {**WRITTEN, "token": "x"}})
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "handle"])
        assert (await web.get("/diagnosis")).json() == DIAGNOSIS.to_dict()
        [outcome] = (await web.get("/outcomes")).json()
        assert (await web.post("/outcomes", json=outcome)).json() is True
    schemas = app.openapi()["components"]["schemas"]
    for type_name in ("SyncHandle", "SyncOutcome"):
        assert [name for name in schemas if name.startswith(type_name)] == [type_name]


def test_a_handle_loads_no_pydantic() -> None:
    script = (
        "import sys; sys.modules['pydantic'] = sys.modules['pydantic_core'] = None\n"
        "from codat_commerce_async import SyncHandle\n"
        "handle = SyncHandle(company_id='c', sync_id='s')\n"
        "assert SyncHandle.from_token(handle.to_token(), 'c') == handle == SyncHandle.from_json(handle.to_json())"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own words
