"""Forms of answers that the tests ask for: as Pydantic models and as JSON schemas."""

import json
from enum import Enum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from support import CLOSE, LISTING

SHAPES = Literal["circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring"]
COLORS = Literal["red", "green", "blue", "yellow", "orange", "purple", "pink", "black", "white", "gray"]


class Drawing(BaseModel):
    """What the model learned to tell of an image."""

    # Closed, for else a model that does not know when to stop may go on with properties of its own.
    model_config = ConfigDict(extra="forbid")
    shape: SHAPES
    color: COLORS
    count: int = Field(ge=1, le=5)


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Shop(BaseModel):
    """Nothing that the model ever saw."""

    model_config = ConfigDict(extra="forbid")
    sizes: list[Size] = Field(min_length=1, max_length=3)
    owner: "Owner | None"
    open: bool


class Owner(BaseModel):
    name: str = Field(max_length=8)
    age: int = Field(ge=18, le=99)


DRAWING = Drawing(**json.loads(LISTING["answer"]))
assert LISTING["smallest_logit_margin"] > CLOSE


def closed(properties, **more):
    """An object as strict schemas have it: every property required, no other allowed."""
    required = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **required, **more}


WORD = {"type": "string", "enum": ["red", "green", "a \"quoted\" word", "日本", "line\nbreak"]}
SCHEMAS = {
    "enum": closed({"color": WORD}),
    "const": closed({"kind": {"const": "shape"}, "version": {"const": 2}}),
    "nested": closed({"outer": closed({"inner": closed({"leaf": {"type": "boolean"}})})}),
    "array": closed({"words": {"type": "array", "items": WORD, "minItems": 2, "maxItems": 4}}),
    "objects": closed({"rows": {"type": "array", "items": closed({"color": WORD}), "minItems": 1, "maxItems": 2}}),
    "integers": closed(
        {
            "low": {"type": "integer", "minimum": 3, "maximum": 7},
            "negative": {"type": "integer", "minimum": -120, "maximum": -101},
            "open": {"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 12},
        }
    ),
    "number": closed({"part": {"type": "number", "minimum": 0, "maximum": 1}, "next": {"type": "null"}}),
    "any_of": closed({"value": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, WORD, {"type": "null"}]}}),
    "types": closed({"value": {"type": ["boolean", "null"]}}),
    "ref": closed(
        {"first": {"$ref": "#/$defs/point"}, "second": {"$ref": "#/$defs/point"}},
        **{"$defs": {"point": closed({"x": {"type": "integer", "minimum": 0, "maximum": 9}})}},
    ),
    "lengths": closed({"text": {"type": "string", "minLength": 2, "maxLength": 5}}),
    "pattern": closed({"code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}}),
    "tree": closed(
        {"root": {"$ref": "#/$defs/node"}},
        **{
            "$defs": {
                "node": closed(
                    {"name": WORD, "children": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2}}
                ),
                "leaf": closed({"name": WORD}),
            }
        },
    ),
}
