"""The Sync flow, the pages where a merchant configures a sync: its URL, texts and visible accounts."""

from collections.abc import Iterator, Mapping

from attrs import field, frozen

from codat_commerce_async.models.base import Model

__all__ = ["Localization", "LocalizationInfo", "SyncFlowUrl", "VisibleAccounts"]


@frozen(kw_only=True, slots=False)
class SyncFlowUrl(Model):
    """The URL for a merchant; it contains a passcode that is valid once, for 30 seconds.

    The repr therefore does not contain the URL. Do not log or cache it.
    """

    url: str | None = field(default=None, repr=False)
    """The URL with its passcode."""


@frozen(kw_only=True, slots=False)
class Localization(Model):
    """A text of the Sync flow, and whether it is required."""

    text: str | None = None
    """The text."""

    required: bool | None = None
    """Whether the text must not be empty."""


@frozen(kw_only=True, slots=False)
class LocalizationInfo(Mapping[str, Localization], Model):
    """The texts of the Sync flow by their keys, such as `configure-misc-nextButton`; a mapping itself."""

    texts: Mapping[str, Localization] = field(factory=dict[str, Localization], hash=False)
    """The texts by their keys."""

    def __getitem__(self, key: str) -> Localization:
        return self.texts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __bool__(self) -> bool:
        return bool(self.texts)


@frozen(kw_only=True, slots=False)
class VisibleAccounts(Model):
    """Which accounts the Sync flow shows: None is all of them, an empty tuple only those that are required.

    Source: https://docs.codat.io/commerce/build/customizing-the-sync-configuration-flow
    """

    visible_accounts: tuple[str, ...] | None = None
    """The ids of the accounts that are shown."""
