"""Advanced controls: companies, and how their syncs are configured."""

import re
from collections.abc import Mapping
from typing import Unpack

from codat_commerce_async._core.claims import Claims
from codat_commerce_async._core.operation import Operation, Query
from codat_commerce_async._core.pages import Paginator
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.reconcile import Candidate
from codat_commerce_async._core.validation import (
    as_utc,
    check_instance,
    check_str,
    check_str_mapping,
    check_url_text,
    page_query,
    require,
)
from codat_commerce_async.models.base import UNSET
from codat_commerce_async.models.companies import Companies, Company, CreateCompany
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.resources._create import Search, create_exactly_once

__all__ = ["AdvancedControlsResource", "check_company_name", "check_tags"]

LIST_COMPANIES = Operation("list-companies", "GET", "/companies", Companies)
CREATE_COMPANY = Operation("create-company", "POST", "/companies", Company)
GET_CONFIGURATION = Operation("get-configuration", "GET", "/config/companies/{companyId}/sync/commerce", Configuration)
SET_CONFIGURATION = Operation("set-configuration", "POST", "/config/companies/{companyId}/sync/commerce", Configuration)

# The pattern of create-company in the specification.
_COMPANY_NAME = re.compile(r"[A-Za-z0-9\s\-',&@.?!]+", re.ASCII)
_MAX_TAGS = 10
_MAX_TAG_NAME = 27
_MAX_TAG_VALUE = 100
_NEWEST: Query = {"orderBy": "-created", "pageSize": 100}


class AdvancedControlsResource:
    """Companies and their configuration. Every method also accepts the options of `CallOptions`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._claims = Claims()

    def list_companies(
        self,
        *,
        page: int | None = None,
        page_size: int | None = None,
        query: str | None = None,
        order_by: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Paginator[Companies, Company]:
        """Return your companies: `await` one page, or iterate over all with `async for`.

        GET /companies.

        Args:
            page: The number of the page to begin with, from 1.
            page_size: Results per page, 1 to 5,000; Codat's default is 100.
            query: A filter in Codat's query language.
            order_by: The field to order by, with `-` before it for descending order.

        Raises:
            StatusError: 400, 401, 402, 403, 404, 429, 500 or 503, each by its class.

        Example:
            ```python
            async for company in codat.advanced_controls.list_companies(order_by="-created"):
                print(company.id, company.name)
            ```
        """
        first = page_query(page, page_size, query, order_by)
        return Paginator(lambda query: self._pipeline.call(LIST_COMPANIES, query=query, **options), first)

    async def create_company(
        self,
        *,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        **options: Unpack[CallOptions],
    ) -> Company:
        """Create a company; its people connect their platforms at its `redirect`.

        The name must match the specification's pattern: letters A to Z, digits, spaces and `-',&@.?!`, at least one
        character that is no space; other names are refused before anything is sent. There can be up to 10 tags, with
        names of 1 to 27 characters and values of up to 100.

        If the response is lost or is a 5xx, a company of this name that was created since is adopted, with a warning in
        the log, unless another call of this client may have created it.

        POST /companies.

        Args:
            name: The name of the company.
            description: Additional information about the company.
            tags: Your own key-value pairs.

        Raises:
            StatusError: 400, 401, 402 (a free plan has 50 companies), 403 or 429, each by its class.
            OutcomeUnknownError: It is not known whether the company was created.

        Example:
            ```python
            company = await codat.advanced_controls.create_company(name="Alder Bakery", tags={"region": "uk"})
            print(company.redirect)
            ```
        """
        body = CreateCompany(
            name=check_company_name("name", name),
            description=UNSET if description is None else check_url_text("description", description),
            tags=UNSET if tags is None else check_tags("tags", tags),
        )

        async def find_candidates() -> list[Candidate[Company]]:
            page = await self._pipeline.call(LIST_COMPANIES, query=_NEWEST)
            return [
                Candidate(
                    one,
                    one.id,
                    one.created and as_utc(one.created),
                    matches=(one.description or "") == (description or ""),
                )
                for one in page.results
                if one.name == name
            ]

        return await create_exactly_once(
            self._pipeline,
            CREATE_COMPANY,
            body=body,
            search=Search(find_candidates, lambda company: company.id, self._claims, name),
            options=options,
        )

    async def get_configuration(self, company_id: str, **options: Unpack[CallOptions]) -> Configuration:
        """Return the company's configuration. It preserves unknown fields, so it can be changed and written back.

        GET /config/companies/{companyId}/sync/commerce.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_CONFIGURATION, company_id, **options)

    async def set_configuration(
        self, company_id: str, configuration: Configuration, **options: Unpack[CallOptions]
    ) -> Configuration:
        """Replace the company's configuration, and return the stored one.

        Read it, change it with `attrs.evolve` or the functions of `models.configuration_changes`, and write it back:
        whatever was not changed is sent back as it was received.

        POST /config/companies/{companyId}/sync/commerce.

        Args:
            company_id: The id of the company.
            configuration: The configuration to store.

        Raises:
            StatusError: 400, 401, 402, 403, 404, 409 or 429, each by its class.
            ValueError: The configuration is that of another company.
            OutcomeUnknownError: The response was lost or is a 5xx.

        Example:
            ```python
            configuration = await codat.advanced_controls.get_configuration(company_id)
            enabled = attrs.evolve(configuration, enable=True)
            await codat.advanced_controls.set_configuration(company_id, enabled)
            ```
        """
        check_instance("configuration", configuration, Configuration)
        if configuration.company_id not in {None, company_id}:
            raise ValueError(
                "configuration must be the one of the same company; to copy it, evolve it with the other's company_id"
            )
        return await self._pipeline.call(SET_CONFIGURATION, company_id, body=configuration, **options)


def check_company_name(name: str, value: str) -> str:
    """Return the value if Codat accepts it as a company's name, else raise TypeError or ValueError.

    Args:
        name: The name of the argument, for the message.
        value: The company's name.
    """
    valid = _COMPANY_NAME.fullmatch(check_str(name, value)) and value.strip()
    expected = "one or more letters A to Z, digits, spaces and - ' , & @ . ? !, and not only spaces"
    require(bool(valid), name, expected, value)
    return value


def check_tags(name: str, value: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the value if Codat accepts it as a company's tags, else raise TypeError or ValueError.

    Args:
        name: The name of the argument, for the message.
        value: The company's tags.
    """
    tags = check_str_mapping(name, value)
    require(len(tags) <= _MAX_TAGS, name, f"at most {_MAX_TAGS} tags", len(tags))
    for tag, content in tags.items():
        require(1 <= len(tag) <= _MAX_TAG_NAME, name, f"tags with names of 1 to {_MAX_TAG_NAME} characters", tag)
        require(len(content) <= _MAX_TAG_VALUE, name, f"tags with values of up to {_MAX_TAG_VALUE} characters", content)
    return tags
