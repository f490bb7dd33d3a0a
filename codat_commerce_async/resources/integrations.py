"""Integrations: the platforms that Codat connects to."""

from typing import Unpack

from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pages import Paginator
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.validation import check_platform_key, page_query
from codat_commerce_async.models.integrations import Branding, Integration, Integrations
from codat_commerce_async.policies import CallOptions

__all__ = ["IntegrationsResource"]

LIST = Operation("list-integrations", "GET", "/config/integrations", Integrations)
GET_BRANDING = Operation("get-integration-branding", "GET", "/config/integrations/{platformKey}/branding", Branding)


class IntegrationsResource:
    """The platforms that Codat connects to. Every method also accepts the options of `CallOptions`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def list(
        self,
        *,
        page: int | None = None,
        page_size: int | None = None,
        query: str | None = None,
        order_by: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Paginator[Integrations, Integration]:
        """Return the platforms that Codat supports: `await` one page, or iterate over all with `async for`.

        GET /config/integrations.

        Args:
            page: The number of the page to begin with, from 1.
            page_size: Results per page, 1 to 5,000; Codat's default is 100.
            query: A filter in Codat's query language.
            order_by: The field to order by, with `-` before it for descending order.

        Raises:
            StatusError: 400, 401, 402, 403, 429, 500 or 503, each by its class.
        """
        first = page_query(page, page_size, query, order_by)
        return Paginator(lambda query: self._pipeline.call(LIST, query=query, **options), first)

    async def get_branding(self, platform_key: str, **options: Unpack[CallOptions]) -> Branding:
        """Return the logos and buttons of a platform, by its four-letter key.

        GET /config/integrations/{platformKey}/branding.

        Args:
            platform_key: The platform's four letters.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        key = check_platform_key("platform_key", platform_key)
        return await self._pipeline.call(GET_BRANDING, key, **options)
