"""Find what an object keeps in memory."""

import asyncio
import gc
from collections.abc import Iterator
from types import FrameType, FunctionType, ModuleType

__all__ = ["reachable"]

# What these refer to belongs to the whole process.
_SHARED = (type, ModuleType, FunctionType, FrameType, asyncio.AbstractEventLoop)


def reachable(root: object) -> Iterator[object]:
    """Yield every object that is kept alive by this one."""
    seen = {id(root)}
    left = [root]
    while left:
        each = left.pop()
        yield each
        if isinstance(each, _SHARED):
            continue
        # The garbage collector does not visit keys that are strings.
        for one in (*gc.get_referents(each), *(each if isinstance(each, dict) else ())):
            if id(one) not in seen:
                seen.add(id(one))
                left.append(one)
