"""/docs: the API's description for people, offline. Everything it loads is package data, never a CDN."""

from __future__ import annotations

import gzip
from pathlib import Path

from apiflask import APIBlueprint
from flask import Response, request
from werkzeug.exceptions import NotFound

ASSETS = Path(__file__).parent / "assets"
# Swagger UI sets inline styles; scripts come from us alone.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_TYPES: dict[str, str] = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
}


def docs_blueprint() -> APIBlueprint:
    """Routes for the documentation page and its assets."""
    blueprint = APIBlueprint("docs", __name__, enable_openapi=False)

    @blueprint.get("/docs")
    def page() -> Response:
        return _asset("docs.html")

    @blueprint.get("/docs/assets/<name>")
    def asset(name: str) -> Response:
        return _asset(name)

    return blueprint


def _asset(name: str) -> Response:
    path = ASSETS / name
    compressed = ASSETS / (name + ".gz")
    # A name from the URL is compared, not opened: some names are an error for every file system.
    shipped = {file.name for file in ASSETS.iterdir()}
    if path.suffix not in _TYPES or shipped.isdisjoint({name, compressed.name}):
        raise NotFound
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    if path.is_file():
        body = path.read_bytes()
    elif request.accept_encodings.quality("gzip") > 0:
        body = compressed.read_bytes()
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    else:
        body = gzip.decompress(compressed.read_bytes())
    return Response(body, headers=headers, content_type=f"{_TYPES[path.suffix]}; charset=utf-8")
