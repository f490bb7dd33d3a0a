"""Pages of results, and the links between them."""

from typing import Generic, TypeVar

from attrs import field, frozen

from codat_commerce_async.models.base import Model

__all__ = ["HalRef", "Links", "Page"]

T_co = TypeVar("T_co", covariant=True)


@frozen(kw_only=True, slots=False)
class HalRef(Model):
    """A link, relative to the API's address."""

    href: str | None = None
    """The path of the link."""


@frozen(kw_only=True, slots=False)
class Links(Model):
    """Links to the pages around this one."""

    this: HalRef | None = field(default=None, metadata={"key": "self"})
    """The page itself."""

    current: HalRef | None = None
    """The list, without a page number."""

    next: HalRef | None = None
    """The next page; None for the last one."""

    previous: HalRef | None = None
    """The previous page; None for the first one."""


@frozen(kw_only=True, slots=False)
class Page(Model, Generic[T_co]):
    """One page of results; `page_number` counts from 1, `page_size` and `total_results` count results.

    Codat's examples have zeros in all three numbers, so rely on `has_next`.
    Source: https://docs.codat.io/using-the-api/paging
    """

    results: tuple[T_co, ...] = ()
    """The results of this page."""

    page_number: int | None = None
    """The number of the page, from 1."""

    page_size: int | None = None
    """The number of results per page."""

    total_results: int | None = None
    """The number of results on all pages."""

    links: Links | None = field(default=None, metadata={"key": "_links"})
    """Links to the other pages."""

    @property
    def has_next(self) -> bool:
        """Whether another page follows."""
        return bool(self.links and self.links.next and self.links.next.href)
