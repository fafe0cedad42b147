"""The web application: the page, its files, and the interface under /api."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fcnlite import vis
from fcnlite.errors import InputError
from fcnlite.serve.limits import Limits
from fcnlite.serve.model import Model, decode
from fcnlite.serve.openapi import described
from fcnlite.serve.turns import Busy, Turns

LOG = logging.getLogger("fcnlite.serve")
_PAGE = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    # Nothing on the page comes from elsewhere, and nothing goes there.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server:
    """The application that answers requests.

    Parameters
    ----------
    models : sequence of Model
    limits : Limits
    """

    def __init__(self, models: Sequence[Model], limits: Limits):
        self.models = {model.name: model for model in models}
        self.limits = limits
        self.turns = Turns(limits.waiting, limits.seconds)

    async def page(self, request: Request) -> Response:
        """The page, and the files it consists of."""
        name, kind = _PAGE[request.url.path.strip("/")]
        text = (files("fcnlite.serve") / "page" / name).read_text(encoding="utf-8")
        return Response(text, media_type=kind)

    async def nets(self, request: Request) -> Response:
        """The nets and the limits."""
        told = {"upload": self.limits.upload, "pixels": self.limits.pixels}
        return JSONResponse({"nets": [model.described() for model in self.models.values()], "limits": told})

    async def description(self, request: Request) -> Response:
        """The interface's description in OpenAPI's form."""
        return JSONResponse(described(list(self.models), self.limits))

    async def segment(self, request: Request) -> Response:
        """The label map of the picture in the request's body."""
        _refuse_other_sites(request)
        model = self._model(request.query_params.get("net"))
        form = request.query_params.get("format", "png")
        if form not in ("png", "json"):
            raise HTTPException(400, f"format '{form[:40]}' is unknown; there are png and json")
        body = await self._body(request)
        try:
            image = await asyncio.to_thread(decode, body, self.limits.pixels)
        except InputError as error:
            raise HTTPException(413 if "pixels, more than" in str(error) else 415, str(error)) from None
        try:
            label = await self.turns.run(model.segment, image)
        except Busy as error:
            raise HTTPException(503, str(error), {"Retry-After": "5"}) from None
        except (InputError, MemoryError):
            LOG.exception("net %s on a picture of %s", model.name, image.shape)
            height, width = image.shape[:2]
            raise HTTPException(422, f"the net cannot take a picture of {width} x {height}") from None
        if form == "json":
            return JSONResponse(model.summary(label))
        return Response(vis.encode_label(label), media_type="image/png")

    def _model(self, name: str | None) -> Model:
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise HTTPException(404, f"no net is called '{name[:80]}'; there are {', '.join(self.models)}")
        return self.models[name]

    async def _body(self, request: Request) -> bytes:
        """The request's body, as long as it is not too large and comes in time."""
        most = self.limits.upload
        too_large = HTTPException(413, f"the file is larger than {most:,} bytes")
        if int(request.headers.get("content-length", "0")) > most:
            raise too_large
        body = bytearray()
        try:
            async with _deadline(self.limits.reading):
                async for piece in request.stream():
                    body += piece
                    if len(body) > most:
                        raise too_large
        except (asyncio.TimeoutError, TimeoutError):
            raise HTTPException(408, "the picture did not arrive in time") from None
        except ClientDisconnect:
            raise HTTPException(400, "the connection ended before the picture") from None
        if not body:
            raise HTTPException(400, "the body is empty; POST a picture's file as it is")
        return bytes(body)


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Cancel the block after some time, as `asyncio.timeout` does from Python 3.11 on."""
    task = asyncio.current_task()
    assert task is not None
    passed = False

    def stop() -> None:
        nonlocal passed
        passed = True
        task.cancel()

    handle = asyncio.get_running_loop().call_later(seconds, stop)
    try:
        yield
    except asyncio.CancelledError:
        if passed:
            raise TimeoutError from None
        raise
    finally:
        handle.cancel()


def _refuse_other_sites(request: Request) -> None:
    """Refuse what another site's page sends: a browser tells where a request comes from."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "requests from other sites' pages are refused")


async def _told(request: Request, error: Exception) -> Response:
    """An error that a client caused, or should know of."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _hidden(request: Request, error: Exception) -> Response:
    """An error of ours: the log has it, the client only learns that there was one."""
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "something went wrong on the server; its log tells what"}, 500)


class _Headers:
    """Put `_HEADERS` on every answer."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
            await send(message)

        await self.app(scope, receive, with_headers)


def create_app(
    models: Sequence[Model],
    limits: Limits | None = None,
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]"),
) -> Starlette:
    """The application, for any ASGI server.

    Parameters
    ----------
    models : sequence of Model
        Nets to offer; the page shows two side by side.
    limits : Limits, optional
    hosts : sequence of str
        Names under which it may be addressed: pages of other sites cannot pretend to be on this machine.
    """
    server = Server(models, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        server.turns.close()

    routes = [
        *(Route(f"/{name}", server.page) for name in _PAGE),
        Route("/api/nets", server.nets),
        Route("/api/openapi.json", server.description),
        Route("/api/segment", server.segment, methods=["POST"]),
    ]
    middleware = [Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))]
    handlers: Any = {HTTPException: _told, Exception: _hidden}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)
