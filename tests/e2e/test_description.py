"""The OpenAPI description against the code: every route in it, every status it names possible, real answers valid."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import vault
from tests.in_process import configuration_of
from vault.api import bulk_models, key_models, models
from vault.api.app import create_app
from vault.bootstrap import open_vault

if TYPE_CHECKING:
    from conftest import Api, Server

RECORDS = "/v1/collections/users/records"
OPERATIONS = [{"op": "create", "data": {"email": "c@example.com"}}, {"op": "create", "data": {"email": "x"}}]
METHODS = {"get", "put", "post", "delete", "patch", "options", "head", "trace"}
# Routes that describe the API, and are not the API.
UNDESCRIBED = {"/openapi.json", "/docs", "/docs/assets/{name}"}


@pytest.fixture(scope="module")
def description(server: Server, make_api: Callable[..., Api]) -> dict[str, Any]:
    """What anyone can read without a credential."""
    answer = make_api(server.url).get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    spec: dict[str, Any] = answer.gives(200)
    return spec


@pytest.fixture(scope="module")
def routes(new_vault: Callable[[], tuple[Path, str]]) -> set[tuple[str, str]]:
    """(method, path) of every route of the application, as the description would write it."""
    opened = open_vault(configuration_of(new_vault()[0]))
    app = create_app(opened.services)
    found = {
        (method.lower(), re.sub(r"<(?:[^:>]*:)?([^>]+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    opened.close()
    return found


def _operations(description: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def test_it_is_valid_openapi_3_1(description: dict[str, Any]) -> None:
    assert description["openapi"] == "3.1.0"
    assert description["info"]["version"] == vault.__version__
    OpenAPIV31SpecValidator(description).validate()


@pytest.mark.own_home
def test_it_holds_every_route_and_no_other(description: dict[str, Any], routes: set[tuple[str, str]]) -> None:
    described = set(_operations(description))
    assert described == {(method, path) for method, path in routes if path not in UNDESCRIBED}
    assert len(described) >= 15


def test_every_operation_says_what_it_is_and_how_to_get_in(description: dict[str, Any]) -> None:
    operations = _operations(description)
    for (_, path), operation in operations.items():
        assert operation["summary"]
        assert (operation.get("security") == [{"bearer": []}]) == path.startswith("/v1/"), path
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    assert description["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}


def test_every_refusal_is_a_problem(description: dict[str, Any]) -> None:
    for where, operation in _operations(description).items():
        for status, response in operation["responses"].items():
            if int(status) >= 400 and where[1] != "/readyz":
                assert list(response["content"]) == ["application/problem+json"], (where, status)
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}


def test_bodies_and_parameters_are_described(description: dict[str, Any]) -> None:
    operations = _operations(description)
    for (method, path), operation in operations.items():
        parameters = {(each["in"], each["name"]) for each in operation.get("parameters", [])}
        for name in re.findall(r"{(\w+)}", path):
            assert ("path", name) in parameters, (method, path)
        has_body = method in {"put", "post", "patch"} and not path.endswith("/rotate")
        assert has_body == ("requestBody" in operation), (method, path)
    read = operations["get", "/v1/collections/{collection}/records/{token}"]
    assert {"reveal", "fields", "generation"} <= {each["name"] for each in read["parameters"]}
    patch = operations["patch", "/v1/collections/{collection}/records/{token}"]
    assert list(patch["requestBody"]["content"]) == ["application/merge-patch+json"]
    assert {"If-Match", "Strongroom-Purpose"} <= {each["name"] for each in patch["parameters"]}


class Asking:
    """Asks every operation in every way that needs no broken vault, and keeps the statuses by operation."""

    COLLECTION = "/v1/collections/{collection}"
    RECORDS = f"{COLLECTION}/records"
    RECORD = f"{RECORDS}/{{token}}"
    BULK = f"{RECORDS}/bulk"
    LONG = b" " * 2_000_000
    MERGE: ClassVar[dict[str, Any]] = {"content_type": "application/merge-patch+json"}
    TEXT: ClassVar[dict[str, Any]] = {"content_type": "text/plain"}

    def __init__(self, api: Api, strangers: Api, name: str, demanding: str) -> None:
        self.api, self.strangers, self.name = api, strangers, name
        self.here, self.nothing = f"/v1/collections/{name}", "/v1/collections/nothing"
        self.demanding = demanding
        self.seen: dict[tuple[str, str], set[int]] = {}

    def ask(
        self, method: str, template: str, *bodies: Any, expect: int, path: str = "", **options: Any
    ) -> None:
        target = path or template
        got = {self.api.request(method.upper(), target, *bodies, **options).status}
        assert got == {expect}, (method, target, got)
        if template.startswith("/v1/"):
            got.add(self.strangers.request(method.upper(), target).status)
        self.seen.setdefault((method, template), set()).update(got)

    def ask_all(self) -> dict[tuple[str, str], set[int]]:
        for path in ("/healthz", "/readyz", "/v1/collections", "/v1/keyrings", "/v1/jobs"):
            self.ask("get", path, expect=200)
        self.ask("get", "/metrics", expect=200)
        self.ask("get", "/metrics", expect=403, headers={"X-Forwarded-For": "192.0.2.1"})
        self.ask("get", "/v1/jobs/{job}", path="/v1/jobs/nothing", expect=404)
        self.ask("post", "/v1/keyrings/{keyring}/rotate", path="/v1/keyrings/nothing/rotate", expect=404)
        self.ask_collections()
        self.ask_with_bad_bodies()
        self.ask_records()
        self.ask_changes()
        self.ask_erasures()
        self.ask_again()
        self.ask_batches()
        return self.seen

    def ask_collections(self) -> None:
        schema = {"type": "object", "properties": {"email": {"type": "string", "x-index": "unique"}}}
        self.ask("get", self.COLLECTION, path=self.here, expect=200)
        self.ask("get", self.COLLECTION, path=self.nothing, expect=404)
        self.ask("put", self.COLLECTION, {"schema": schema}, path=f"{self.here}_new", expect=201)
        self.ask("put", self.COLLECTION, {"schema": schema}, path=f"{self.here}_new", expect=200)
        self.api.create({"email": "a"}, f"{self.name}_new")
        self.ask("put", self.COLLECTION, {"schema": {"type": "object"}}, path=f"{self.here}_new", expect=409)

    def ask_with_bad_bodies(self) -> None:
        for method, template, path in (
            ("put", self.COLLECTION, self.here),
            ("post", self.RECORDS, f"{self.here}/records"),
            ("post", f"{self.RECORDS}/lookup", f"{self.here}/records/lookup"),
            ("post", self.BULK, f"{self.here}/records/bulk"),
            ("post", "/v1/audit/search", "/v1/audit/search"),
        ):
            self.ask(method, template, body=b"{", path=path, expect=400)
            long = self.LONG * 9 if template == self.BULK else self.LONG
            self.ask(method, template, body=long, path=path, expect=413)
            self.ask(method, template, body=b"{}", path=path, expect=415, **self.TEXT)
            self.ask(method, template, {"x": 1}, path=path, expect=422)

    def ask_records(self) -> None:
        records, lookup, search = self.RECORDS, f"{self.RECORDS}/lookup", "/v1/audit/search"
        self.ask("post", search, {}, expect=200)
        person = {"collection": "nothing", "field": "email", "value": "a"}
        self.ask("post", search, {"person": person}, expect=404)
        self.ask("post", records, {"data": {"email": "a"}}, path=f"{self.here}/records", expect=201)
        self.ask("post", records, {"data": {"email": "a"}}, path=f"{self.here}/records", expect=409)
        self.ask("post", records, {"data": {}}, path=f"{self.nothing}/records", expect=404)
        self.ask("get", records, path=f"{self.here}/records", expect=200)
        self.ask("get", records, path=f"{self.nothing}/records", expect=404)
        self.ask("get", records, path=f"{self.here}/records?limit=0", expect=422)
        wanted = {"field": "email", "value": "a"}
        self.ask("post", lookup, wanted, path=f"{self.here}/records/lookup", expect=200)
        self.ask("post", lookup, wanted, path=f"{self.nothing}/records/lookup", expect=404)

    def ask_changes(self) -> None:
        live, gone = self.api.create({"email": "b"}, self.name), self.api.create({"email": "c"}, self.name)
        demanding = self.api.create({}, self.demanding)
        self.api.delete(gone).gives(204)
        for method, wrap, options in (
            ("put", lambda data: {"data": data}, {}),
            ("patch", lambda data: data, self.MERGE),
        ):
            good = wrap({"email": "b"})
            self.ask(method, self.RECORD, good, path=live, expect=200, **options)
            self.ask(method, self.RECORD, body=b"{", path=live, expect=400, **options)
            self.ask(method, self.RECORD, good, path=f"{self.here}/records/x", expect=404, **options)
            self.ask(method, self.RECORD, wrap({"email": "a"}), path=live, expect=409, **options)
            self.ask(method, self.RECORD, good, path=gone, expect=410, **options)
            stale = {"headers": {"If-Match": '"x"'}}
            self.ask(method, self.RECORD, good, path=live, expect=412, **stale, **options)
            self.ask(method, self.RECORD, body=self.LONG, path=live, expect=413, **options)
            self.ask(method, self.RECORD, body=b"{}", path=live, expect=415, **self.TEXT)
            self.ask(method, self.RECORD, wrap({"email": 5}), path=live, expect=422, **options)
            self.ask(method, self.RECORD, good, path=demanding, expect=428, **options)

    def ask_erasures(self) -> None:
        record, unknown = self.RECORD, f"{self.here}/records/x"
        path, demanding = self.api.create({}, self.name), self.api.create({}, self.demanding)
        self.ask("get", record, path=path, expect=200)
        self.ask("get", record, path=f"{path}?reveal=x", expect=422)
        self.ask("get", f"{record}/erasure", path=f"{path}/erasure", expect=409)
        self.ask("delete", record, path=path, expect=412, headers={"If-Match": '"x"'})
        self.ask("delete", record, path=path, expect=422, headers={"Strongroom-Purpose": "NO"})
        self.ask("delete", record, path=demanding, expect=428)
        self.ask("delete", record, path=path, expect=204)
        self.ask("delete", record, path=path, expect=410)
        self.ask("get", record, path=path, expect=410)
        self.ask("get", f"{record}/erasure", path=f"{path}/erasure", expect=200)
        for method, template in (("delete", record), ("get", record)):
            self.ask(method, template, path=unknown, expect=404)
        self.ask("get", f"{record}/erasure", path=f"{unknown}/erasure", expect=404)

    def ask_again(self) -> None:
        again: dict[str, Any] = {"path": f"{self.here}/records", "headers": {"Idempotency-Key": "k"}}
        self.ask("post", self.RECORDS, {"data": {"email": "again"}}, expect=201, **again)
        self.ask("post", self.RECORDS, {"data": {"email": "again"}}, expect=201, **again)
        (found,) = self.api.lookup("email", "again", self.name)["items"]
        self.api.delete(f"{self.here}/records/{found['token']}").gives(204)
        self.ask("post", self.RECORDS, {"data": {"email": "again"}}, expect=410, **again)

    def ask_batches(self) -> None:
        def ask(expect: int, *operations: Any, here: str = self.here, **members: Any) -> None:
            body = {"operations": list(operations)} | members
            self.ask("post", self.BULK, body, path=f"{here}/records/bulk", expect=expect)

        live, gone = (self.api.create({"n": 1}, self.name).rpartition("/")[2] for _ in range(2))
        self.api.delete(f"{self.here}/records/{gone}").gives(204)
        ask(200, {"op": "create", "data": {"email": "a"}})
        ask(409, {"op": "create", "data": {"email": "a"}}, atomic=True)
        ask(404, {"op": "create", "data": {}}, here=self.nothing)
        ask(410, {"op": "get", "token": gone}, atomic=True)
        ask(412, {"op": "erase", "token": live, "if_match": '"x"'}, atomic=True)
        demanding = self.api.create({}, self.demanding).rpartition("/")[2]
        ask(428, {"op": "erase", "token": demanding}, here=f"/v1/collections/{self.demanding}", atomic=True)


def test_every_status_that_it_names_is_given_and_every_status_given_is_named(
    description: dict[str, Any], server: Server, make_api: Callable[..., Api], define: Callable[..., str]
) -> None:
    name = define({"email": {"type": "string", "x-index": "unique"}})
    seen = Asking(server.api, make_api(server.url), name, define(if_match_required=True)).ask_all()
    described = {
        where: {int(status) for status in operation["responses"]}
        for where, operation in _operations(description).items()
    }
    # 403 waits for a second role, 503 for an outage (tests/faults); every operation behind a credential can give both.
    given = {
        where: statuses | ({403, 503} if where[1].startswith("/v1/") else set())
        for where, statuses in seen.items()
    }
    given["get", "/readyz"] |= {503}  # tests/e2e/test_health.py
    # tests/e2e/test_rotation.py: other tests of the shared server count on its first key version.
    given["post", "/v1/keyrings/{keyring}/rotate"] |= {202}
    given["get", "/v1/jobs/{job}"] |= {200}
    given["post", Asking.BULK] |= {500}  # tests/e2e/test_bulk.py
    assert given == described


def test_every_status_of_the_error_table_is_explained() -> None:
    from vault.api.problems import STATUS_OF
    from vault.api.spec import REASONS

    assert {status for _, status in STATUS_OF} == REASONS.keys()


def test_answers_are_what_the_models_say(api: Api, define: Callable[..., str]) -> None:
    name = define({"email": {"type": "string", "x-index": "unique", "x-normalize": "email"}}, history=1)
    records = f"/v1/collections/{name}/records"
    made = api.post(records, {"data": {"email": "a@example.com"}, "expires_at": "2999-01-01T00:00:00+02:00"})
    path = made.headers["Location"]
    for model, answer in (
        (models.RecordMetadata, made),
        (models.RecordMetadata, api.put(path, {"data": {"email": "b@example.com", "n": [1, None]}})),
        (models.RecordMetadata, api.patch(path, {"n": 1})),
        (models.Record, api.get(path)),
        (models.Record, api.get(f"{path}?reveal=plain&generation=2")),
        (models.RecordPage, api.get(records)),
        (models.FoundRecords, api.post(f"{records}/lookup", {"field": "email", "value": "b@example.com"})),
        (models.Collection, api.get(f"/v1/collections/{name}")),
        (models.CollectionList, api.get("/v1/collections")),
        (key_models.KeyringList, api.get("/v1/keyrings")),
        (key_models.JobList, api.get("/v1/jobs")),
        (models.AuditPage, api.post("/v1/audit/search", {"collection": name})),
        (models.HealthAnswer, api.get("/healthz")),
        (models.ReadinessAnswer, api.get("/readyz")),
        (bulk_models.BulkAnswer, api.post(f"{records}/bulk", {"operations": OPERATIONS, "dry_run": True})),
    ):
        assert answer.status < 300
        parsed = model.model_validate_json(answer.body)
        assert set(answer.json) == {field.alias or key for key, field in type(parsed).model_fields.items()}
    api.delete(path).gives(204)
    models.Erasure.model_validate_json(api.get(f"{path}/erasure").body)
    models.Problem.model_validate_json(api.get(path).body)
    models.Problem.model_validate_json(api.post(records, {"data": {"email": "x"}}).body)
    refused = api.post(f"{records}/bulk", {"operations": OPERATIONS, "atomic": True})
    assert models.Problem.model_validate_json(refused.body).index == 1


def test_a_census_counts_what_depends_on_each_key(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    api = server.api
    kept = api.create({"email": "a@example.com", "login": "a"})
    api.delete(api.create({"email": "b@example.com"})).gives(204)
    api.patch(kept, {"n": 1}).gives(200)
    (ring,) = api.get("/v1/keyrings").gives(200)["items"]
    assert (ring["name"], ring["provider"], ring["active_version"], ring["index_entries"]) == (
        "default",
        "disk",
        1,
        2,
    )
    (version,) = ring["versions"]
    assert (version["state"], version["compromised"], version["records"], version["history"]) == (
        "active",
        False,
        1,
        0,
    )
    assert version["stored_keys"] == 2
    assert server.stop() == 0


def test_no_route_is_described_by_hand() -> None:
    """Every view of the API goes through ``describe``, so that none can be forgotten above."""
    folder = Path(vault.__file__).parent / "api"
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = [ast.unparse(each) for each in node.decorator_list]
                routed = any(re.match(r"blueprint\.(get|put|post|patch|delete)\(", each) for each in names)
                if routed and file.name != "docs.py":
                    assert any(each.startswith("describe(") for each in names), (file.name, node.name)
