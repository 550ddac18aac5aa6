"""The application: the routes, their OpenAPI document, the page, and the middleware in front."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import shlex
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from polytask.serving.batcher import Predictor
from polytask.serving.inference import ROOT, InferenceRoutes
from polytask.serving.inference_forms import (
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
)
from polytask.serving.messages import Health, PredictRequest, PredictResponse, Problem, TasksResponse
from polytask.serving.middleware import OPEN, RequestMiddleware, refusal
from polytask.serving.options import ServeOptions
from polytask.serving.questions import Faults, SystemOneRequest, SystemOneResponse
from polytask.serving.service import Service
from polytask.version import __version__

_REFUSALS = {
    400: "the body cannot be parsed",
    401: "the API key is missing or wrong",
    408: "the body did not arrive in time",
    413: "the body or a text is over its limit",
    422: "the request has the wrong form, names an unknown task, or has too many texts or one that no task can read",
    429: "too many texts are waiting; Retry-After says when to try again",
    404: "no model of this name is served",
    500: "the model failed on this request",
    503: "the server is stopping",
    504: "the model did not answer in time",
}
_SCHEMAS = "#/components/schemas/"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def create_app(
    model: Predictor, options: ServeOptions | None = None, failed: Callable[[], None] | None = None
) -> RequestMiddleware:
    """Return an ASGI application that serves a model.

    Args:
        model: the model.
        options: options of the server.
        failed: called if the model's thread ends with an error; /health and all requests are then answered with 503.

    >>> uvicorn.run(create_app(polytask.load("runs/reviews/model")))  # doctest: +SKIP
    """
    service = Service(model, options or ServeOptions(), failed)
    example = service.example

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        service.batcher.start()
        yield
        service.close()

    # The usual API pages load scripts from other servers, so only the document is served.
    api = FastAPI(
        title="polytask", version=__version__, description="One text model for several tasks.",
        docs_url=None, redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    answers = _refusals(400, 401, 408, 413, 422, 429, 500, 503, 504)
    answers[200] = {"content": {"application/json": {"example": example[1]}}}
    # The route reads the body itself: sizes first, and outside the event loop.
    body = {"requestBody": _body("PredictRequest")}
    api.post("/predict", response_model=PredictResponse, responses=answers, openapi_extra=body)(service.predict)
    faulty: dict[int | str, dict[str, Any]] = {
        422: {"model": Faults, "description": "no head can answer the questions"}
    }
    refusals = _refusals(400, 401, 408, 413, 429, 500, 503, 504) | faulty
    body = {"requestBody": _body("SystemOneRequest")}
    route = api.post("/v1/systemone", response_model=SystemOneResponse, responses=refusals, openapi_extra=body)
    route(service.ask)
    api.get("/tasks", response_model=TasksResponse, responses=_refusals(401))(service.tasks)
    unready: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": _REFUSALS[503]}}
    api.get("/health", response_model=Health, responses=unready)(service.health)
    text_response: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    api.get("/metrics", response_class=Response, responses=text_response | _refusals(401))(service.exposed)
    inference = InferenceRoutes(service)
    _add_inference(api, inference)
    page = files("polytask.serving").joinpath("page.html").read_text("utf-8")
    headers = {"Content-Security-Policy": _policy(page), "Referrer-Policy": "no-referrer"}

    @api.get("/", response_class=HTMLResponse)
    async def show_page() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Show a page to enter a text and see all predictions."""
        return HTMLResponse(page, headers=headers)

    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(Exception, _failed)
    api.add_exception_handler(405, functools.partial(_wrong_method, service))
    _document(api, service, example[0])
    _document_inference(api, inference)
    paths = [path.replace("{name}", inference.name) for path in api.openapi()["paths"]]
    return RequestMiddleware(api, service.options, service.metrics, frozenset([*paths, "/openapi.json"]))


def _add_inference(api: FastAPI, inference: InferenceRoutes) -> None:
    """Add the routes of the Open Inference Protocol."""
    model = f"{ROOT}/models/{{name:path}}"
    unready: Any = {503: {"model": Ready, "description": _REFUSALS[503]}}
    api.get(f"{ROOT}/health/live", response_model=Live, responses={503: {"model": Live}})(inference.live)
    api.get(f"{ROOT}/health/ready", response_model=Ready, responses=unready)(inference.ready)
    api.get(f"{ROOT}/", include_in_schema=False)(inference.server)
    api.get(ROOT, response_model=ServerMetadata, responses=_errors(401))(inference.server)
    unready = _errors(401, 404) | {503: {"model": ModelReady, "description": _REFUSALS[503]}}
    api.get(f"{model}/ready", response_model=ModelReady, responses=unready)(inference.model_ready)
    api.post(
        f"{model}/infer", response_model=InferenceResponse, openapi_extra={"requestBody": _body("InferenceRequest")},
        responses=_errors(400, 401, 404, 408, 413, 429, 500, 503, 504),
    )(inference.infer)  # fmt: skip
    api.get(model, response_model=ModelMetadata, responses=_errors(401, 404))(inference.model)


def _body(form: str) -> dict[str, Any]:
    """Return the description of a body in the OpenAPI document."""
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{form}"}}}}


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem, "description": _REFUSALS[code]} for code in codes}


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": InferenceError, "description": _REFUSALS[code]} for code in codes}


def _policy(page: str) -> str:
    """Return the content security policy of the page: only its own script and style, and this server."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    directives = [f"{kind}-src {' '.join(hashes)}" for kind, hashes in allowed.items()]
    rest = ["connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    return "; ".join(["default-src 'none'", *directives, *rest])


def _document(api: FastAPI, service: Service, example: dict[str, Any]) -> None:
    """Add what is specific to this server to the OpenAPI document: an example, its tasks and limits, its key."""
    document = api.openapi()
    form = PredictRequest.model_json_schema(ref_template=_SCHEMAS + "{model}")
    document["components"]["schemas"] |= {**form.pop("$defs", {}), "PredictRequest": form}
    form["examples"] = [example, {**example, "tasks": [service.names[0]]}]
    form["properties"]["texts"]["maxItems"] = service.options.max_texts
    names = next(part for part in form["properties"]["tasks"]["anyOf"] if part["type"] == "array")
    names["items"]["enum"] = list(service.names)
    typed_form = SystemOneRequest.model_json_schema(ref_template=_SCHEMAS + "{model}")
    document["components"]["schemas"] |= {**typed_form.pop("$defs", {}), "SystemOneRequest": typed_form}
    if service.typed_example is not None:
        typed_form["examples"] = [service.typed_example]
    if service.options.api_key is not None:
        keys = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["components"]["securitySchemes"] = keys
        for path in document["paths"].keys() - OPEN:
            for operation in document["paths"][path].values():
                operation["security"] = [{name: []} for name in keys]


def _document_inference(api: FastAPI, inference: InferenceRoutes) -> None:
    """Add the form of a request and the name of the model to the OpenAPI document."""
    document = api.openapi()
    form = InferenceRequest.model_json_schema(ref_template=_SCHEMAS + "{model}")
    document["components"]["schemas"] |= {**form.pop("$defs", {}), "InferenceRequest": form}
    form["examples"] = [inference.example]
    for path, operations in document["paths"].items():
        if not path.startswith(ROOT):
            continue
        for operation in operations.values():
            operation["responses"].pop("422", None)  # from FastAPI's own checks of the path, which cannot fail
            for parameter in operation.get("parameters", []):
                parameter["schema"]["enum"] = [inference.name]


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(request.scope["path"], str(error.detail), error.status_code, error.headers)


async def _wrong_method(service: Service, request: Request, error: Exception) -> Response:
    """Explain how to call a route, also to a user who opened its URL in a browser."""
    allowed = (getattr(error, "headers", None) or {}).get("Allow", "POST")
    message = f"{request.method} {request.url.path[:80]}: this address accepts only {allowed}"
    example = {"/predict": service.example[0], "/v1/systemone": service.typed_example}.get(request.url.path)
    if example is not None:
        key = "" if service.options.api_key is None else " -H 'Authorization: Bearer KEY'"
        body = shlex.quote(json.dumps(example, ensure_ascii=False))
        message += (
            f"; to try the model, open {request.base_url} in a browser, or send JSON:\n\n"
            f"curl {shlex.quote(str(request.url))}{key} -H 'Content-Type: application/json' -d {body}\n"
        )
    headers = {"Allow": allowed}
    if "text/html" in request.headers.get("accept", ""):
        return PlainTextResponse(message, 405, headers)
    return refusal(request.scope["path"], message, 405, headers)


async def _failed(request: Request, error: Exception) -> Response:
    del error
    return refusal(request.scope["path"], "the server failed on this request; its log says where", 500)
