"""Sync flow settings: the texts and accounts that merchants see while they set up a sync."""

from collections.abc import Iterable, Mapping
from typing import Unpack

from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.validation import check_mapping, check_platform_key, check_str, check_str_list, require
from codat_commerce_async.models.enums import Locale
from codat_commerce_async.models.sync_flow import Localization, LocalizationInfo, VisibleAccounts
from codat_commerce_async.policies import CallOptions

__all__ = ["SyncFlowSettingsResource"]

GET_CONFIG_TEXT_SYNC_FLOW = Operation(
    "get-config-text-sync-flow", "GET", "/sync/commerce/config/ui/text", LocalizationInfo
)
UPDATE_CONFIG_TEXT_SYNC_FLOW = Operation(
    "update-config-text-sync-flow", "PATCH", "/sync/commerce/config/ui/text", LocalizationInfo
)
GET_VISIBLE_ACCOUNTS = Operation(
    "get-visible-accounts", "GET", "/clients/{clientId}/config/ui/accounts/platform/{platformKey}", VisibleAccounts
)
UPDATE_VISIBLE_ACCOUNTS_SYNC_FLOW = Operation(
    "update-visible-accounts-sync-flow",
    "POST",
    "/sync/commerce/config/ui/accounts/platform/{platformKey}",
    VisibleAccounts,
)


class SyncFlowSettingsResource:
    """The settings of the Sync flow. Every method also accepts the options of `CallOptions`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def get_config_text_sync_flow(
        self, *, locale: Locale | str, **options: Unpack[CallOptions]
    ) -> LocalizationInfo:
        """Return the texts of the Sync flow in one language, by their keys; `locale` is `en-us` or `fr-fr`.

        GET /sync/commerce/config/ui/text.

        Args:
            locale: The language, `en-us` or `fr-fr`.

        Raises:
            StatusError: 401, 402, 403, 429, 500 or 503, each by its class.
        """
        query = {"locale": _check_locale("locale", locale)}
        return await self._pipeline.call(GET_CONFIG_TEXT_SYNC_FLOW, query=query, **options)

    async def update_config_text_sync_flow(
        self,
        texts: Mapping[str, str | Localization | None],
        *,
        locale: Locale | str,
        **options: Unpack[CallOptions],
    ) -> LocalizationInfo:
        """Change texts of a language, and return all: a string sets one, `""` blanks it, None restores Codat's.

        PATCH /sync/commerce/config/ui/text.

        Args:
            texts: The texts to change, by their keys.
            locale: The language, `en-us` or `fr-fr`.

        Raises:
            StatusError: 400, 401, 402, 403 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        query = {"locale": _check_locale("locale", locale)}
        body = _localizations("texts", texts)
        return await self._pipeline.call(UPDATE_CONFIG_TEXT_SYNC_FLOW, query=query, body=body, **options)

    async def get_visible_accounts(
        self, client_id: str, platform_key: str, **options: Unpack[CallOptions]
    ) -> VisibleAccounts:
        """Return the accounts of a platform that the Sync flow shows; `client_id` is your id at Codat.

        GET /clients/{clientId}/config/ui/accounts/platform/{platformKey}.

        Args:
            client_id: Your id at Codat.
            platform_key: The platform's four letters.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        key = check_platform_key("platform_key", platform_key)
        return await self._pipeline.call(GET_VISIBLE_ACCOUNTS, client_id, key, **options)

    async def update_visible_accounts_sync_flow(
        self, platform_key: str, visible_accounts: Iterable[str] | None, **options: Unpack[CallOptions]
    ) -> VisibleAccounts:
        """Replace the accounts that the Sync flow shows, and return them; None shows all.

        POST /sync/commerce/config/ui/accounts/platform/{platformKey}.

        Args:
            platform_key: The platform's four letters.
            visible_accounts: The ids of the accounts to show; None for all.

        Raises:
            StatusError: 400, 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        key = check_platform_key("platform_key", platform_key)
        accounts = None if visible_accounts is None else check_str_list("visible_accounts", visible_accounts)
        body = {"visibleAccounts": accounts}
        return await self._pipeline.call(UPDATE_VISIBLE_ACCOUNTS_SYNC_FLOW, key, body=body, **options)


def _check_locale(name: str, value: Locale | str) -> str:
    require(Locale(check_str(name, value)).is_known, name, f"one of {', '.join(Locale)}", str(value))
    return str(value)


def _localizations(name: str, texts: Mapping[str, str | Localization | None]) -> dict[str, object]:
    """Return the texts as Codat accepts them, None as null."""
    check_mapping(name, texts)
    return {check_str(f"a key of {name}", key): _localization(f"{name}[{key!r}]", text) for key, text in texts.items()}


def _localization(name: str, text: str | Localization | None) -> object:
    return text if isinstance(text, Localization) else {"text": None if text is None else check_str(name, text)}
