"""What Codat does and says about companies, their connections and their configurations."""

import re

from codat_commerce_async.simulator._calls import Call, invalid
from codat_commerce_async.simulator._catalog import PLATFORMS, Platform
from codat_commerce_async.simulator._configuration_rules import flaws
from codat_commerce_async.simulator._exchange import Refusal
from codat_commerce_async.simulator._paging import paged
from codat_commerce_async.simulator._present import present_company, present_company_details, present_connection
from codat_commerce_async.simulator._records import STATUSES, Company, Connection
from codat_commerce_async.simulator._world import World

__all__ = [
    "company_of",
    "create_company",
    "create_connection",
    "get_configuration",
    "list_companies",
    "list_connections",
    "platform_of",
    "set_configuration",
    "update_authorization",
    "update_connection",
]

_NAME = re.compile(r"[A-Za-z0-9\s\-',&@.?!]+", re.ASCII)
_PLATFORM_KEY = re.compile(r"[a-z]{4}", re.ASCII)
_TAG = re.compile(r".{1,27}")
_MOST_TAGS, _LONGEST_TAG_VALUE = 10, 100
_COMPANY_FIELDS = frozenset({"id", "name", "description", "created", "lastSync", "redirect", "createdByUserName"})
_CONNECTION_FIELDS = frozenset(
    {
        "id",
        "integrationId",
        "integrationKey",
        "sourceId",
        "sourceType",
        "platformName",
        "status",
        "created",
        "lastSync",
    }
)


def company_of(world: World, call: Call) -> Company:
    """The company that a call speaks of; refused with 404 when there is none."""
    company = world.companies.get(call.values[0])
    if company is None:
        raise Refusal(404, f"There is no company with the id {call.values[0]}.", service="ClientsApi")
    return company


def platform_of(key: str, source_type: str | None = None) -> Platform:
    """The integration under this key; refused with 404 when there is none, or none of this type."""
    platform = PLATFORMS.get(key)
    if platform is None or source_type not in {None, platform.source_type}:
        raise Refusal(404, f"There is no such integration: {key}.")
    return platform


def list_companies(world: World, call: Call) -> object:
    """A page of the companies."""
    return paged(
        call.path,
        call.parameters,
        world.companies.values(),
        present_company,
        _COMPANY_FIELDS,
        look=present_company_details,
    )


def create_company(world: World, call: Call) -> object:
    """A new company, unless the plan has no room for it."""
    body = call.object_body()
    name, description, tags = body.get("name"), body.get("description"), body.get("tags")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid("name", "name takes letters, digits and simple punctuation, at least one.")
    if not (description is None or isinstance(description, str)):
        raise invalid("description", "description takes text.")
    checked = _tags(tags)
    if world.company_limit is not None and len(world.companies) >= world.company_limit:
        # Codat's own example of this body says 429 under the HTTP status 402.
        raise Refusal(402, f"The plan has room for {world.company_limit} companies.", body_status=429)
    company = world.add_company(call.now, name)
    company.description, company.tags = description, checked
    return present_company(company)


def list_connections(world: World, call: Call) -> object:
    """A page of the company's connections."""
    company = company_of(world, call)
    return paged(
        call.path,
        call.parameters,
        company.connections.values(),
        lambda connection: present_connection(company, connection),
        _CONNECTION_FIELDS,
    )


def create_connection(world: World, call: Call) -> object:
    """A new connection, which waits for the merchant's authorization."""
    company = company_of(world, call)
    key = call.object_body().get("platformKey")
    if not isinstance(key, str) or not _PLATFORM_KEY.fullmatch(key):
        raise invalid("platformKey", "platformKey takes four lower-case letters.")
    connection = world.add_connection(company, platform_of(key), call.now, "PendingAuth")
    return present_connection(company, connection)


def update_authorization(world: World, call: Call) -> object:
    """The connection, linked by the credentials in the body; which ones are needed is not checked."""
    company, connection = _connection_of(world, call)
    if not all(isinstance(value, str) for value in call.object_body().values()):
        raise invalid("", "Every value of an authorization takes text.")
    world.set_status(company, connection, "Linked", call.now)
    return present_connection(company, connection)


def update_connection(world: World, call: Call) -> object:
    """The connection with another status."""
    company, connection = _connection_of(world, call)
    body = call.object_body()
    if unknown := sorted(body.keys() - {"status"}):
        raise invalid(unknown[0], "Only status can be changed.")
    status = body.get("status")
    if status is not None:
        if not isinstance(status, str) or status not in STATUSES:
            raise invalid("status", f"status takes one of {', '.join(STATUSES)}.")
        world.set_status(company, connection, status, call.now)
    return present_connection(company, connection)


def get_configuration(world: World, call: Call) -> object:
    """The company's configuration."""
    return world.configuration(company_of(world, call))


def set_configuration(world: World, call: Call) -> object:
    """The configuration of the body, in place of the old one, fields that nobody knows included."""
    company = company_of(world, call)
    body = call.object_body()
    if found := flaws(body):
        raise Refusal(400, "The request is not valid.", invalid=found)
    world.set_configuration(company, body, call.now)
    return world.configuration(company)


def _connection_of(world: World, call: Call) -> tuple[Company, Connection]:
    company = company_of(world, call)
    connection = company.connections.get(call.values[1])
    if connection is None:
        raise Refusal(404, f"There is no connection {call.values[1]}.")
    return company, connection


def _tags(tags: object) -> dict[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, dict) or len(tags) > _MOST_TAGS:
        raise invalid("tags", f"tags takes an object of at most {_MOST_TAGS} fields.")
    for key, value in tags.items():
        if not _TAG.fullmatch(key) or not isinstance(value, str) or len(value) > _LONGEST_TAG_VALUE:
            raise invalid("tags", f"A tag takes 27 characters on one line, its value {_LONGEST_TAG_VALUE}.")
    return tags
