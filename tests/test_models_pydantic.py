"""Handles and diagnoses are fields of pydantic's models and bodies of FastAPI; a handle is written without its key."""

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

from codat_commerce_async import Diagnosis, FailureCause, Resolver, Retry, SyncHandle
from codat_commerce_async.syncing.diagnosis import Action, Evidence, ItemProblem

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


@pytest.mark.parametrize(
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


app = FastAPI()


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


async def test_fastapi_takes_and_returns_handles() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web:
        started = await web.post("/syncs")
        assert (started.status_code, started.json()) == (200, WRITTEN)
        assert (await web.post("/waits", json=started.json())).json() is True
        assert (await web.post("/jobs", json={"handle": WRITTEN})).json()["handle"] == WRITTEN
        refused = await web.post("/jobs", json={"handle": {**WRITTEN, "token": "x"}})
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "handle"])
        assert (await web.get("/diagnosis")).json() == DIAGNOSIS.to_dict()
    [name] = [name for name in app.openapi()["components"]["schemas"] if name.startswith("SyncHandle")]
    assert name == "SyncHandle"


def test_a_handle_loads_no_pydantic() -> None:
    script = (
        "import sys; sys.modules['pydantic'] = sys.modules['pydantic_core'] = None\n"
        "from codat_commerce_async import SyncHandle\n"
        "handle = SyncHandle(company_id='c', sync_id='s')\n"
        "assert SyncHandle.from_token(handle.to_token(), 'c') == handle == SyncHandle.from_json(handle.to_json())"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own words
