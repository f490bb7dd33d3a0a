"""A griffe extension: leave special methods out of the reference, which mkdocstrings counts among the public names."""

from typing import Any

import griffe


class HideSpecialMethods(griffe.Extension):
    """Remove methods such as `__repr__` from classes. The constructor stays: it is shown with its class."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:  # noqa: ANN401 - as griffe calls it
        """Remove the special methods of one class."""
        for name in [each for each in cls.members if each.startswith("__") and each != "__init__"]:
            cls.del_member(name)
