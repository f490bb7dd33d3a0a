"""What can be a company's id."""

from codat_commerce_async._operation import Operation

__all__ = ["checked_company_id"]

_OF_A_COMPANY = Operation("get-company", "GET", "/companies/{companyId}", object)


def checked_company_id(text: str) -> str:
    """The text itself; raises ValueError when it would lead to another endpoint."""
    _OF_A_COMPANY.fill((text,))
    return text
