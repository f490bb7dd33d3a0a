"""Codat's companies: your customers."""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async.models.base import UNSET, LenientModel, Model, Unset
from codat_commerce_async.models.connections import Connection
from codat_commerce_async.models.paging import Page

__all__ = ["Companies", "Company", "CompanyLinks", "CompanyReference", "CreateCompany", "UpdateCompany"]


@frozen(kw_only=True, slots=False)
class CompanyLinks(Model):
    """Links to a company in Codat's portal."""

    portal: str | None = None
    """The URL of the company in Codat's portal."""


@frozen(kw_only=True, slots=False)
class CompanyReference(Model):
    """A reference to a company."""

    id: str | None = None
    """The id of the company."""

    name: str | None = None
    """The name of the company."""

    description: str | None = None
    """Your description of the company."""

    links: CompanyLinks | None = None
    """Links to the company."""

    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    """Your own key-value pairs."""


@frozen(kw_only=True, slots=False)
class Company(LenientModel):
    """One of your customers.

    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Company
    """

    id: str
    """The id of the company."""

    name: str | None = None
    """The name of the company."""

    description: str | None = None
    """Your description of the company."""

    redirect: str | None = None
    """The URL where the company connects its platforms."""

    last_sync: datetime | None = None
    """When Codat last read data of the company."""

    created: datetime | None = None
    """When the company was created."""

    created_by_user_name: str | None = None
    """Who created the company."""

    products: tuple[str, ...] = ()
    """The Codat products that are enabled for the company."""

    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    """Your own key-value pairs."""

    owner_user_ids: tuple[str, ...] = ()
    """The Portal users who own the company; only the Portal can change them."""

    reference_parent_company: CompanyReference | None = None
    """The parent company, if any."""

    reference_subsidiary_companies: tuple[CompanyReference, ...] = ()
    """The subsidiaries."""

    data_connections: tuple[Connection, ...] = ()
    """The connections to the company's platforms."""


@frozen(kw_only=True, slots=False)
class Companies(Page[Company]):
    """A page of companies."""

    results: tuple[Company, ...] = ()
    """The companies of this page."""


@frozen(kw_only=True, slots=False)
class CreateCompany(Model):
    """A company to create.

    The name must match the specification's pattern: letters A to Z, digits, spaces and `-',&@.?!`, at least one
    character that is no space. `create_company` refuses other names before anything is sent. (Codat's Platform API
    drops such characters; a company of another name could not be found again after a lost response.) There can be up
    to 10 tags, with names of 1 to 27 characters and values of up to 100.
    Source: https://docs.codat.io/sync-for-commerce-api#/operations/create-company
    """

    name: str
    """The name of the company."""

    description: str | Unset | None = UNSET
    """Additional information about the company."""

    tags: Mapping[str, str] | Unset | None = field(default=UNSET, hash=False)
    """Your own key-value pairs."""


@frozen(kw_only=True, slots=False)
class UpdateCompany(Model):
    """Changes of a company; what is not sent stays. The limits are those of `CreateCompany`."""

    name: str | Unset | None = UNSET
    """The new name."""

    description: str | Unset | None = UNSET
    """The new description."""

    tags: Mapping[str, str] | Unset | None = field(default=UNSET, hash=False)
    """The new tags, which replace all others."""
