"""Store the texts of the Sync flow by locale; the keys and defaults are invented."""

from collections.abc import Mapping

from attrs import frozen

__all__ = ["LOCALES", "Texts"]

_DEFAULTS: dict[str, dict[str, tuple[str, bool]]] = {
    "en-us": {
        "accountsTitle": ("Map your accounts", True),
        "connectTitle": ("Connect your accounting software", True),
        "feesSubtitle": ("Where should we put your fees?", False),
        "finishButton": ("Finish", True),
        "paymentsSubtitle": ("Where should we put your payments?", False),
        "salesSubtitle": ("Where should we put your sales?", False),
    },
    "fr-fr": {
        "accountsTitle": ("Associez vos comptes", True),
        "connectTitle": ("Connectez votre logiciel comptable", True),
        "feesSubtitle": ("Où placer vos frais ?", False),
        "finishButton": ("Terminer", True),
        "paymentsSubtitle": ("Où placer vos paiements ?", False),
        "salesSubtitle": ("Où placer vos ventes ?", False),
    },
}

LOCALES = frozenset(_DEFAULTS)


@frozen
class _Text:
    text: str
    required: bool


class Texts:
    """The texts of a client; a key without a default can be set too."""

    def __init__(self) -> None:
        self._changed: dict[str, dict[str, _Text]] = {locale: {} for locale in LOCALES}

    def serialize(self, locale: str) -> dict[str, object]:
        """Return a `LocalizationInfo` of every text."""
        texts = {key: _Text(*default) for key, default in _DEFAULTS[locale].items()} | self._changed[locale]
        return {key: {"text": text.text, "required": text.required} for key, text in texts.items()}

    def update(self, locale: str, changes: Mapping[str, object]) -> None:
        """Set texts: a string sets, "" blanks, null restores the default; also inside `{"text": ...}`.

        Raises ValueError with the key for anything else, and changes nothing then.
        """
        parsed = {key: _parse(key, value) for key, value in changes.items()}
        for key, (text, required) in parsed.items():
            if text is None:
                self._changed[locale].pop(key, None)
                continue
            default = _DEFAULTS[locale].get(key, ("", False))[1]
            self._changed[locale][key] = _Text(text, default if required is None else required)


def _parse(key: str, value: object) -> tuple[str | None, bool | None]:
    if isinstance(value, dict):
        text, required = value.get("text"), value.get("required")
    else:
        text, required = value, None
    if not (text is None or isinstance(text, str)) or not (required is None or isinstance(required, bool)):
        raise ValueError(key)
    return text, required
