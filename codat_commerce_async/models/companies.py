"""Codat's companies: your customers."""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async.models.base import UNSET, LenientModel, Model, Unset
from codat_commerce_async.models.connections import Connection
from codat_commerce_async.models.paging import Page

__all__ = ["Companies", "Company", "CompanyLinks", "CompanyReference", "CreateCompany", "UpdateCompany"]


@frozen(kw_only=True)
class CompanyLinks(Model):
    """Links to a company in Codat's portal."""

    portal: str | None = None


@frozen(kw_only=True)
class CompanyReference(Model):
    """A reference to a company."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    links: CompanyLinks | None = None
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)


@frozen(kw_only=True)
class Company(LenientModel):
    """One of your customers.

    `redirect` is the page where the company connects its platforms, `last_sync` when Codat last read its data,
    `products` the Codat products that are on for it, `tags` your own key-value pairs, `owner_user_ids` the Portal users
    who own it, whom only the Portal can change.
    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Company
    """

    id: str
    name: str | None = None
    description: str | None = None
    redirect: str | None = None
    last_sync: datetime | None = None
    created: datetime | None = None
    created_by_user_name: str | None = None
    products: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    owner_user_ids: tuple[str, ...] = ()
    reference_parent_company: CompanyReference | None = None
    reference_subsidiary_companies: tuple[CompanyReference, ...] = ()
    data_connections: tuple[Connection, ...] = ()


@frozen(kw_only=True)
class Companies(Page[Company]):
    """A page of companies."""

    results: tuple[Company, ...] = ()


@frozen(kw_only=True)
class CreateCompany(Model):
    """A company to create.

    The name must match the specification's pattern: letters A to Z, digits, spaces and `-',&@.?!`, at least one
    character that is no space. `create_company` refuses other names before anything is sent. (Codat's Platform API
    drops such characters; a company of another name could not be found again after a lost response.) There can be up
    to 10 tags, with names of 1 to 27 characters and values of up to 100.
    Source: https://docs.codat.io/sync-for-commerce-api#/operations/create-company
    """

    name: str
    description: str | Unset | None = UNSET
    tags: Mapping[str, str] | Unset | None = field(default=UNSET, hash=False)


@frozen(kw_only=True)
class UpdateCompany(Model):
    """Changes of a company; what is not sent stays. The limits are those of `CreateCompany`."""

    name: str | Unset | None = UNSET
    description: str | Unset | None = UNSET
    tags: Mapping[str, str] | Unset | None = field(default=UNSET, hash=False)
