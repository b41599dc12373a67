"""The routes of the service.

What belongs here: what each route takes and answers. What does not: the form of requests and
responses (`schemas.py`). All that names a document or a question is in the body of a POST, because
proxies log URLs.
"""

from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from rag_assets.serving.service.access.callers import Caller
from rag_assets.serving.service.errors import NotReadyError
from rag_assets.serving.service.schemas import (
    ChunksRequest,
    ChunksResponse,
    ErrorResponse,
    ExplainRequest,
    ExplainResponse,
    IndexResponse,
    ReleaseModel,
    SearchRequest,
    SearchResponse,
)

if TYPE_CHECKING:
    from rag_assets.serving.service.service import Service

ERROR: dict[str, Any] = {"model": ErrorResponse}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: ERROR | {"description": description}
    for status, description in {
        400: "The request cannot be answered as it is.",
        401: "There is no token, or it is not accepted.",
        403: "The token does not allow this.",
        413: "The request is too large.",
        422: "A field of the request is missing or invalid.",
        429: "The service is busy; repeat the request after the time in Retry-After.",
        503: "The service cannot answer for now.",
        504: "The answer took too long.",
    }.items()
}

router = APIRouter()
data = APIRouter(prefix="/v1", responses=ERRORS)


def of_request(request: Request) -> "Service":
    """Return the service that a request is for."""
    return cast("Service", request.app.state.service)


def authenticated(request: Request) -> Caller:
    """Return who calls; it may ask the issuer, so it runs in a thread."""
    service = of_request(request)
    caller = service.authentication.caller(request.headers.get("Authorization"))
    request.state.caller = caller.name
    return caller


CallerOf = Annotated[Caller, Depends(authenticated)]


@data.post("/search")
async def search(request: Request, asked: SearchRequest, caller: CallerOf) -> SearchResponse:
    """Find the chunks that answer a question best."""
    service = of_request(request)
    if service.settings.serve_log_questions:
        request.state.question = asked.question
    answer = await service.search(asked, caller)
    request.state.hits = len(answer.hits)
    release = ReleaseModel.of(answer.release)
    return SearchResponse(hits=answer.hits, release=release, reranked=answer.reranked)


@data.post("/chunks")
async def chunks(request: Request, asked: ChunksRequest, caller: CallerOf) -> ChunksResponse:
    """Return chunks of one document, by their numbers."""
    answer = await of_request(request).chunks(asked, caller)
    return ChunksResponse(chunks=answer.hits, release=ReleaseModel.of(answer.release))


@data.post("/explain", responses={404: ERROR | {"description": "There is no such document."}})
async def explain(request: Request, asked: ExplainRequest, caller: CallerOf) -> ExplainResponse:
    """Explain why a document is, or is not, in the index and found by a question."""
    return ExplainResponse.of(*await of_request(request).explain(asked, caller))


@data.get("/release", dependencies=[Depends(authenticated)])
async def release(request: Request) -> ReleaseModel:
    """Return what queries are answered from."""
    serving = await of_request(request).run(lambda searcher: searcher.releases.current())
    return ReleaseModel.of(serving.release)


@data.get("/index")
async def index(request: Request, caller: CallerOf) -> IndexResponse:
    """Return what can be searched, and by which fields filters can compare."""
    service = of_request(request)
    return await service.run(
        lambda searcher: IndexResponse.of(
            searcher, service.settings.webserver_url, all_collections=caller.operator
        )
    )


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process is alive."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"description": "Queries cannot be answered yet."}})
async def readyz(request: Request, *, before_first: bool = False) -> JSONResponse:
    """Whether queries can be answered: the encoder is loaded and has encoded a question.

    With `before_first`, the service is also ready while no model has been live yet: there is none
    that another instance could answer from.
    """
    service = of_request(request)
    try:
        _ = service.searcher
    except NotReadyError as error:
        ready = before_first and service.unserved
        return JSONResponse({"ready": ready, "reason": str(error)}, 200 if ready else 503)
    return JSONResponse({"ready": True})


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Return the metrics of the service in Prometheus's text format."""
    return Response(of_request(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


router.include_router(data)
