"""What Codat may send: hypothesis strategies, and responses generated from the schemas of its specification."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from urllib.parse import unquote

from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
"""Any value that JSON can hold and doubles can represent."""

ODD_TIMES = (
    "",
    "0001-01-01T00:00:00",
    "0001-01-01T00:00:00Z",
    "2022-10-23",
    "2022-10-27T10:22:43.6464237Z",
    "2021-11-15T01:00:00",
    "2021-11-15T01:00:00-05:00",
    "2024-09-01T23:59:99Z",
    "9999-12-31T23:59:59.9999999",
    "soon",
)


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its reference followed and its `allOf` merged; what stands beside a reference counts too."""
    whole = dict(schema)
    while reference := whole.pop("$ref", None):
        target: Any = document
        for step in unquote(reference.removeprefix("#/")).split("/"):
            target = target[int(step) if isinstance(target, list) else step.replace("~1", "/")]
        whole = {**target, **whole}
    for part in whole.pop("allOf", ()):
        merged = resolved(document, part)
        whole["properties"] = {**whole.get("properties", {}), **merged.get("properties", {})}
        whole["required"] = [*whole.get("required", ()), *merged.get("required", ())]
        whole.setdefault("type", "object")
    return whole


class ResponseMaker:
    """Generate responses from a schema; with `odd`, also what is known to arrive without being in it."""

    def __init__(self, document: Mapping[str, Any], random: Random, *, odd: bool) -> None:
        self.document = document
        self.random = random
        self.odd = odd
        self._resolved: dict[int, dict[str, Any]] = {}

    def schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if id(schema) not in self._resolved:
            self._resolved[id(schema)] = resolved(self.document, schema)
        return self._resolved[id(schema)]

    def make(self, schema: Mapping[str, Any], name: str = "") -> Any:
        whole = self.schema(schema)
        if whole.get("nullable") and self.random.random() < 0.2:
            return None
        kind = whole.get("type", "object")
        makers: dict[str, Callable[[dict[str, Any], str], Any]] = {
            "object": self.object,
            "array": self.array,
            "string": self.string,
            "integer": self.integer,
            "boolean": lambda _schema, _name: self.random.random() < 0.5,
        }
        return makers[kind](whole, name)

    def object(self, schema: dict[str, Any], name: str) -> dict[str, Any] | str:
        made: dict[str, Any] = {}
        required = set(schema.get("required", ()))
        for key, inner in schema.get("properties", {}).items():
            if key in required or self.random.random() < 0.7:
                made[key] = self.make(inner, key)
                if self.odd and made[key] is not None and key not in {"id", "key"} and self.random.random() < 0.05:
                    made[key] = None
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            made |= {f"k {number}": self.make(values) for number in range(self.random.randrange(3))}
        if "datatype" in required:
            made["datatype" if self.random.random() < 0.5 else "dataType"] = made.pop("dataType", "invoices")
        if self.odd and values is None and self.random.random() < 0.1:
            made[self.random.choice(["addedLater", "_new", "nested new"])] = {"a": [1, None, {"b": 2.5}]}
        if self.odd and name == "" and set(schema.get("properties", {})) == {"text", "required"}:
            return (made.get("text") or "") if self.random.random() < 0.5 else made
        return made

    def array(self, schema: dict[str, Any], _name: str) -> list[Any]:
        return [self.make(schema["items"]) for _ in range(self.random.randrange(4))]

    def string(self, schema: dict[str, Any], name: str) -> str:
        if schema.get("title") == "Date time":
            return self.random.choice(ODD_TIMES) if self.odd else "2022-10-23T00:00:00Z"
        if "enum" in schema:
            return "NewerThanThis" if self.odd and self.random.random() < 0.2 else self.random.choice(schema["enum"])
        return self.random.choice(["", "café", f"{name} {self.random.randrange(10**6)}"])

    def integer(self, _schema: dict[str, Any], name: str) -> int | str:
        number = self.random.choice([0, 1, 2000, 4000, 5080, 2**31])
        return f"{number}," if self.odd and name == "syncStatusCode" and self.random.random() < 0.3 else number
