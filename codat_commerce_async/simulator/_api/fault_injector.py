"""Choose the next fault, for requests by operation and for webhooks by event type."""

import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from codat_commerce_async._core.validation import check_number, require

__all__ = ["ANY", "FaultInjector", "check_rate"]

F = TypeVar("F")

ANY = "*"
"""The name that stands for every operation, or event type."""


def check_rate(rate: float, kinds: Sequence[object]) -> None:
    """Raise ValueError unless the rate is a probability and there are kinds to choose from."""
    require(0 <= check_number("rate", rate) <= 1, "rate", "a probability between 0 and 1", rate)
    if rate and not kinds:
        raise ValueError("kinds must have at least one kind of fault, or rate must be 0")


class FaultInjector(Generic[F]):
    """Returns the next fault under a name: the scripted ones first, then random ones.

    `only` restricts the random faults to some names; `known` are all valid names.
    """

    def __init__(
        self,
        *,
        rate: float,
        kinds: Sequence[F],
        seed: int,
        only: Collection[str] | None,
        script: Mapping[str, Iterable[F | None]],
        known: Collection[str],
        noun: str,
    ) -> None:
        self._rate = rate
        self._kinds = kinds
        self._random = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self._only = None if only is None else frozenset(only)
        self._known = known
        self._noun = noun
        self._script: dict[str, deque[F | None]] = {}
        self._check(self._only or ())
        for name, steps in script.items():
            self.plan(name, steps)

    def plan(self, name: str, steps: Iterable[F | None]) -> None:
        """Append the faults of the next requests or events under a name; None stands for one without a fault."""
        self._check({name} - {ANY})
        self._script.setdefault(name, deque()).extend(steps)

    def next(self, name: str) -> F | None:
        """Return the fault of this request or event, if any."""
        for key in (name, ANY):
            if steps := self._script.get(key):
                return steps.popleft()
        if not self._rate or (self._only is not None and name not in self._only):
            return None
        return self._random.choice(self._kinds) if self._random.random() < self._rate else None

    def _check(self, names: Collection[str]) -> None:
        # A misspelled name would leave a test without its fault.
        for name in sorted(names):
            if name not in self._known:
                raise ValueError(f"{self._noun} must be one of Codat's (got {name!r})")
