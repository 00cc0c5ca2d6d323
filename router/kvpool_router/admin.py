"""The admin port: what the router knows, for the operator, for `kvpool` and for people."""

import hmac
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Annotated, TypeAlias

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from kvpool_api.wire import Decisions, RouterState
from starlette.exceptions import HTTPException as AnyHTTPException

from kvpool_router.admin_token import NoToken
from kvpool_router.decisions import DecisionLog
from kvpool_router.requests.refusal import Dialect, Refusal
from kvpool_router.siblings.deeds import BOOKINGS
from kvpool_router.siblings.giving import Streamed
from kvpool_router.siblings.snapshot import SNAPSHOT

MOST_DECISIONS = 10_000


Stream: TypeAlias = Callable[[], AsyncGenerator[bytes, None]]
"""Begins one stream of frames."""


def build_admin(
    state: Callable[[], RouterState],
    decisions: DecisionLog,
    router: str,
    token: Callable[[], str],
    bookings: Stream,
    snapshot: Stream,
    settled: Callable[[], bool],
) -> FastAPI:
    """`/state` and `/decisions` behind the token; `/docs` and `/openapi.json` are open, they hold no facts.

    `token` tells the one that counts now; it may raise NoToken. What is below `/siblings` holds prompts' tokens: it is
    for the pool's other routers, and not shown in the docs.

    Errors have the shape of the http port's: `{"error": {"message", "type", "param", "code"}}`.
    """
    app = FastAPI(
        title="kvpool router",
        summary="Who is in the pool, how far its cache map can be trusted, and why requests went where they went.",
        redoc_url=None,
        exception_handlers={AnyHTTPException: _refused, RequestValidationError: _misasked},
    )
    guarded = [Depends(_guard(token))]

    @app.get("/state", dependencies=guarded, responses={401: {"description": "No token, or not the right one."}})
    async def read_state() -> RouterState:
        """The pool as this router sees it. A worker's `draining` acknowledges that it gets nothing new from here."""
        return state()

    @app.get("/decisions", dependencies=guarded, responses={401: {"description": "No token, or not the right one."}})
    async def read_decisions(limit: Annotated[int, Query(ge=1, le=MOST_DECISIONS)] = 100) -> Decisions:
        """The last placements, newest first, with what each candidate was expected to cost. No prompt content."""
        return Decisions(router=router, decisions=decisions.latest(limit))

    @app.get(f"/siblings/{BOOKINGS}", dependencies=guarded, include_in_schema=False)
    async def give_bookings() -> Response:
        return Streamed(bookings())

    @app.get(f"/siblings/{SNAPSHOT}", dependencies=guarded, include_in_schema=False)
    async def give_snapshot() -> Response:
        if not settled():
            raise HTTPException(status_code=503, detail="This router is only just beginning and has no map to give.")
        return Streamed(snapshot())

    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)  # noqa: S101 - registered for nothing else
    return _told(Refusal(error.status_code, error.detail), error.headers or {})


async def _misasked(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return _told(Refusal(400, f"{name}: {first['msg']}; /docs says what each path takes.", param=name), {})


def _told(refusal: Refusal, headers: Mapping[str, str]) -> Response:
    body = refusal.body(Dialect.OPENAI)
    return Response(body, refusal.status, headers, media_type="application/json")


def _guard(token: Callable[[], str]) -> Callable[[str | None, str | None], None]:
    def check(
        authorization: Annotated[str | None, Header()] = None, x_kvpool_token: Annotated[str | None, Header()] = None
    ) -> None:
        """The API server's proxy strips `Authorization`, so a header of our own is taken as well."""
        given = x_kvpool_token or (authorization or "").removeprefix("Bearer ")
        try:
            expected = token()
        except NoToken as lacking:
            raise _unauthorized(f"Nobody is let in: {lacking}") from lacking
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise _unauthorized(
                "The admin token is missing or wrong; send `Authorization: Bearer TOKEN` or `X-Kvpool-Token`,"
                " TOKEN being key `token` of the Secret <pool>-admin. One that has just changed reaches a router's"
                " file within about two minutes."
            )

    return check


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(status_code=401, detail=detail, headers={"WWW-Authenticate": "Bearer"})
