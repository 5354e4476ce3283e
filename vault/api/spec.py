"""The OpenAPI 3.1 description, generated from the routes.

APIFlask reads what its decorators note on a view. The parsing wrappers that those decorators return are not used:
record bodies are read by our own exact JSON reader, and a second validation would cost more than the whole handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from apiflask import APIBlueprint
from pydantic import BaseModel

from vault.api.problems import PROBLEM_TYPE
from vault.audit.events import Action

View = TypeVar("View", bound=Callable[..., Any])

REASONS = {
    400: "The body is not the JSON that was promised",
    401: "No valid credential",
    403: "The credential does not allow this",
    404: "No such collection or record",
    409: "Conflicts with what is stored; a duplicate names the field",
    410: "Erased or expired",
    412: "The record is not in the state that If-Match names",
    413: "Over a size limit",
    415: "Another content type is needed",
    422: "Breaks the schema or a rule; each violation with its JSON pointer",
    500: "Stored bytes are not what the vault wrote",
    428: "The collection demands If-Match",
    503: "Keys, store or audit cannot be reached; see Retry-After",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a view does, takes and gives.

    Attributes:
        action: what a refused request is audited as; None for views that need no credential.
        summary: one line.
        output: the body of the successful answer.
        media_type: of a successful answer that is text and not JSON.
        status: its status.
        query: query parameters.
        body: the JSON body.
        headers: request headers.
        refusals: the statuses with which it can refuse, beyond 401, 403 and 503.
        also: other statuses that come with ``output``, and what each means.
        takes_idempotency_key: whether the rim lets an Idempotency-Key through.
    """

    action: Action | None
    summary: str
    output: type[BaseModel] | None = None
    media_type: str | None = None
    status: int = 200
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    headers: type[BaseModel] | None = None
    refusals: tuple[int, ...] = ()
    also: Mapping[int, str] = field(default_factory=dict)
    takes_idempotency_key: bool = False


def describe(blueprint: APIBlueprint, operation: Operation) -> Callable[[View], View]:
    """Note an operation on its view."""

    def note(view: View) -> View:
        noted: Any = view
        if operation.output is not None:
            noted = blueprint.output(operation.output, status_code=operation.status)(noted)
        inputs = ((operation.query, "query"), (operation.body, "json"), (operation.headers, "headers"))
        for model, location in inputs:
            if model is not None:
                noted = blueprint.input(model, location=location)(noted)
        secured = (401, 403, 503) if operation.action is not None else ()
        responses: dict[int, Any] = {
            status: {"description": REASONS[status], "content": _PROBLEM}
            for status in sorted({*operation.refusals, *secured})
        }
        if operation.media_type is not None:
            text = {operation.media_type: {"schema": {"type": "string"}}}
            responses[operation.status] = {"description": "Done", "content": text}
        elif operation.output is None:
            responses[operation.status] = {"description": "Done"}
        else:
            schema = {"$ref": f"#/components/schemas/{operation.output.__name__}"}
            content = {"application/json": {"schema": schema}}
            responses |= {
                status: {"description": what, "content": content} for status, what in operation.also.items()
            }
        security = "bearer" if operation.action is not None else None
        noted = blueprint.doc(summary=operation.summary, responses=responses, security=security)(noted)
        # The notes move to the bare view; the wrappers that carry them here would read and render a second time.
        view._spec = noted._spec  # type: ignore[attr-defined]  # noqa: SLF001  # where APIFlask looks for them
        view.query_names = frozenset(operation.query.model_fields if operation.query else ())  # type: ignore[attr-defined]  # the rim refuses others
        view.takes_idempotency_key = operation.takes_idempotency_key  # type: ignore[attr-defined]  # the same
        view.action = operation.action  # type: ignore[attr-defined]  # the rim reads it for the audit log
        return view

    return note


_PROBLEM = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
