"""The description of the HTTP interface, in the form of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fcnlite
from fcnlite.serve.limits import Limits

_CLASS = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "description": "Value of the class in label maps."},
        "name": {"type": "string"},
        "colour": {"type": "string", "examples": ["#c00080"]},
        "pixels": {"type": "integer"},
        "share": {"type": "number", "description": "Of all pixels, 0 to 1."},
    },
}
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}}
_ERRORS = {
    "400": "The request is not understood.",
    "403": "It comes from another site's page.",
    "404": "There is no such net.",
    "408": "The picture did not arrive in time.",
    "413": "The file, or the picture, is too large.",
    "415": "This is not a picture, or it is damaged.",
    "422": "The net cannot take a picture of this size.",
    "503": "Too many pictures are waiting, or it took too long.",
}


def described(nets: Sequence[str], limits: Limits) -> dict[str, Any]:
    """The description for some nets, by name."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "fcnlite: semantic segmentation", "version": fcnlite.__version__},
        "paths": {
            "/api/nets": {
                "get": _operation("The nets, their classes, and the limits.", {"application/json": {}})
            },
            "/api/segment": {"post": _segment(nets, limits)},
        },
    }


def _operation(summary: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "Done.", "content": content}}, **more}


def _segment(nets: Sequence[str], limits: Limits) -> dict[str, Any]:
    summary = {
        "type": "object",
        "properties": {
            "net": {"type": "string"},
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "classes": {"type": "array", "items": _CLASS, "description": "Those present, most pixels first."},
            "png": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        },
    }
    operation = _operation(
        "The label map of a picture.",
        {"image/png": {}, "application/json": {"schema": summary}},
        description=f"At most {limits.upload:,} bytes and {limits.pixels:,} pixels. The PNG's values are the "
        "classes; its palette has their colours.",
        parameters=[
            _parameter("net", {"enum": list(nets)}, "The net; the first one unless given."),
            _parameter("format", {"enum": ["png", "json"], "default": "png"}, "Form of the answer."),
        ],
        requestBody={"required": True, "content": {"image/*": {"schema": {"format": "binary"}}}},
    )
    for status, meaning in _ERRORS.items():
        error = {"application/json": {"schema": _ERROR}}
        operation["responses"][status] = {"description": meaning, "content": error}
    return operation


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string", **schema}, "description": description}
