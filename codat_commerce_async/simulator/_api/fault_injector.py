"""Which fault comes next, for requests by operation and for webhooks by event type."""

import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

__all__ = ["ANY", "FaultInjector", "check_rate"]

F = TypeVar("F")

ANY = "*"
"""The name that stands for every operation, or event type."""


def check_rate(rate: float, kinds: Sequence[object]) -> None:
    """Raise ValueError for a rate that is no probability, or that has no kinds to choose from."""
    if not 0 <= rate <= 1:
        raise ValueError("rate must be a probability, 0 to 1")
    if rate and not kinds:
        raise ValueError("kinds must have at least one kind of fault")


class FaultInjector(Generic[F]):
    """Returns the next fault under a name: the scripted ones first, then random ones.

    `only` restricts the random faults to some names; `known` are all names that there are.
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
        self._random = random.Random(seed)  # noqa: S311 - repeatable chance, no secret
        self._only = None if only is None else frozenset(only)
        self._known = known
        self._noun = noun
        self._script: dict[str, deque[F | None]] = {}
        self._check(self._only or ())
        for name, steps in script.items():
            self.plan(name, steps)

    def plan(self, name: str, steps: Iterable[F | None]) -> None:
        """Append to the faults of the next exchanges under a name; None is an exchange without one."""
        self._check({name} - {ANY})
        self._script.setdefault(name, deque()).extend(steps)

    def next(self, name: str) -> F | None:
        """Return the fault of this exchange, if any."""
        for key in (name, ANY):
            if steps := self._script.get(key):
                return steps.popleft()
        if not self._rate or (self._only is not None and name not in self._only):
            return None
        return self._random.choice(self._kinds) if self._random.random() < self._rate else None

    def _check(self, names: Collection[str]) -> None:
        # A misspelled name would leave a test without the fault that it is about.
        for name in sorted(names):
            if name not in self._known:
                raise ValueError(f"there is no {self._noun} {name}")
