"""A dictionary beside the vault: whatever is asked in whatever order, both must say the same.

The vault's clock goes in ticks of ten minutes; times that matter lie between two ticks, so that what the test itself
takes never decides anything.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.conftest import MERGE_PATCH, Answer
from tests.in_process import HOUR, InProcess, copy_vault
from tests.servers.database_homes import DatabaseHome, chosen_home

IS_GATE = os.environ.get("GATE_COUNTS") == "1"
LEAST_STEPS = 50_000 if IS_GATE else 10_000
STEPS_OF_RUN = 80
TICK = HOUR // 6
DAY = 25 * 6
KEY_TICKS = 24 * 6
PATH = "/v1/collections/people/records"
PEOPLE: dict[str, Any] = {
    "email": {"type": "string", "x-index": "unique", "x-normalize": "email"},
    "login": {"type": "string", "x-index": "unique"},
    "city": {"type": "string", "x-index": "lookup"},
    "age": {"type": "integer"},
}
MISMATCH = "idempotency-mismatch"
UNIQUE = ("email", "login")
VALUES = {
    "email": [f"{name}@example.org" for name in "abcd"],
    "login": ["one", "two", "three"],
    "city": ["Ulm", "Rom"],
}
GOOD = st.fixed_dictionaries(
    {},
    optional={name: st.sampled_from(values) for name, values in VALUES.items()} | {"age": st.integers(0, 9)},
)
BAD = st.sampled_from([{"age": "old"}, {"email": "no address"}, {"login": 5}])
PATCHES = st.fixed_dictionaries(
    {},
    optional={name: st.sampled_from([*values, None]) for name, values in VALUES.items()}
    | {"age": st.sampled_from([1, 2, None])},
)
PICK = st.integers(0, 40)
EXPIRY = st.sampled_from([None, None, 0, 1, 3])
MATCH = st.sampled_from([None, None, "right", "right", "wrong", "*"])
KEY = st.sampled_from([None, "k1", "k2", "k3"])


@dataclass
class Person:
    """A record as it must be. ``older`` is the generation before, if the collection kept it."""

    data: dict[str, Any]
    expires: int | None
    token: str = ""
    etag: str = ""
    generation: int = 1
    older: dict[str, Any] | None = None
    is_erased: bool = False

    def is_over(self, now: int) -> bool:
        return not self.is_erased and self.expires is not None and self.expires < now

    def gone(self, now: int) -> str | None:
        if self.is_erased:
            return "record-erased"
        return "record-expired" if self.is_over(now) else None


@dataclass
class Expected:
    """What the vault must answer: a status, and either a refusal, the person it is about, or who is found as what."""

    status: int
    code: str | None = None
    fields: list[str] = field(default_factory=list)
    person: Person | None = None
    found: list[tuple[Person, dict[str, Any]]] = field(default_factory=list)


@dataclass
class Kept:
    """What is remembered of one operation of a request with a key."""

    body: str
    expected: Expected
    token: str | None
    generation: int
    is_blank: bool = False


class Model:
    """The dictionary."""

    def __init__(self) -> None:
        self.now = 0
        self.people: list[Person] = []
        self.keys: dict[tuple[str, str], tuple[int, list[Kept]]] = {}

    def live(self) -> list[Person]:
        return [each for each in self.people if each.gone(self.now) is None]

    def erase(self, person: Person) -> None:
        person.is_erased, person.older = True, None
        for _, kept in self.keys.values():
            for each in kept:
                each.is_blank |= each.token == person.token

    def taken(self, data: dict[str, Any], me: Person | None) -> list[str]:
        """Erase expired holders of these unique values, and name those that live ones hold."""
        held = [
            (name, other)
            for name in UNIQUE
            for other in self.people
            if other is not me and not other.is_erased and name in data and other.data.get(name) == data[name]
        ]
        for _, other in held:
            if other.is_over(self.now):
                self.erase(other)
        return [name for name, other in held if not other.is_erased]

    def create(self, data: dict[str, Any], expires: int | None) -> Expected:
        if not is_good(data):
            return Expected(422, "schema-violation")
        taken = self.taken(data, None)
        if taken:
            return Expected(409, "duplicate-value", taken)
        self.people.append(Person(dict(data), expires))
        return Expected(201, person=self.people[-1])

    def reach(self, person: Person | None, match: str | None = None) -> Expected | None:
        if person is None:
            return Expected(404, "record-not-found")
        gone = person.gone(self.now)
        if gone is not None:
            return Expected(410, gone)
        return Expected(412, "precondition-failed") if match == "wrong" else None

    def update(
        self, person: Person | None, new: dict[str, Any] | None, match: str | None, **more: Any
    ) -> Expected:
        refused = self.reach(person, match)
        if refused or person is None:
            return refused or Expected(404)
        data = dict(new) if new is not None else merged(person.data, more["patch"])
        if not is_good(data):
            return Expected(422, "schema-violation")
        taken = self.taken(data, person)
        if taken:
            return Expected(409, "duplicate-value", taken)
        person.older, person.data = person.data, data
        person.generation += 1
        person.etag = ""
        if new is not None:
            person.expires = more["expires"]
        return Expected(200, person=person)

    def remove(self, person: Person | None, match: str | None) -> Expected:
        if person is None:
            return Expected(404, "record-not-found")
        if person.is_erased:
            return Expected(410, "record-erased")
        # An expired record has no ETag that anybody could read.
        if match == "wrong" or (match == "right" and person.is_over(self.now)):
            return Expected(412, "precondition-failed")
        self.erase(person)
        return Expected(204, person=person)

    def read(self, person: Person | None) -> Expected:
        return self.reach(person) or Expected(200, person=person)

    def look_up(self, name: str, value: str) -> Expected:
        return Expected(
            200, found=[(each, dict(each.data)) for each in self.live() if each.data.get(name) == value]
        )

    def work(self) -> None:
        for person in self.people:
            if person.is_over(self.now):
                self.erase(person)
        self.keys = {key: kept for key, kept in self.keys.items() if kept[0] + KEY_TICKS > self.now}

    def replay(self, path: str, key: str, bodies: list[str]) -> list[Expected] | None:
        """What a request with a key must answer if the key was used; None if it is new."""
        if (path, key) not in self.keys:
            return None
        _, kept = self.keys[path, key]
        if len(kept) != len(bodies) or any(
            not each.is_blank and each.body != body for each, body in zip(kept, bodies, strict=True)
        ):
            return [Expected(422, MISMATCH)]
        return [self._replayed(each) for each in kept]

    def _replayed(self, kept: Kept) -> Expected:
        if kept.expected.code is not None or kept.expected.status == 204:
            return kept.expected
        (person,) = [each for each in self.people if each.token == kept.token]
        return self.reach(person) or Expected(kept.expected.status, person=person)


def is_good(data: Any) -> bool:
    return "no address" not in data.values() and data.get("age") != "old" and data.get("login") != 5


def merged(data: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (data | patch).items() if value is not None}


OPERATION = st.one_of(
    st.tuples(st.just("create"), GOOD, EXPIRY),
    st.tuples(st.just("put"), PICK, GOOD, EXPIRY, MATCH),
    st.tuples(st.just("patch"), PICK, PATCHES, MATCH),
    st.tuples(st.just("erase"), PICK, MATCH),
    st.tuples(st.just("get"), PICK),
    st.tuples(st.just("lookup"), st.sampled_from(sorted(VALUES)), st.integers(0, 3)),
)


class Beside(RuleBasedStateMachine):
    """Asks the vault and the dictionary."""

    template: ClassVar[Path]
    credential: ClassVar[str]
    folders: ClassVar[Iterator[Path]]
    steps: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        folder = next(self.folders)
        copy_vault(self.template, folder)
        self.world = InProcess(folder, self.credential)
        self.model = Model()
        self.begin = self.world.clock()

    def teardown(self) -> None:
        for person in self.model.people:
            self._check_read(person)
        for name, values in VALUES.items():
            for value in values:
                self._check_found(name, value)
        held = sum(
            name in person.data for person in self.model.people if not person.is_erased for name in VALUES
        )
        assert self.world.rows("SELECT count(*) FROM index_entry") == [(held,)]
        kept = sum(len(each) + (path == "bulk") for (path, _), (_, each) in self.model.keys.items())
        assert self.world.rows("SELECT count(*) FROM idempotency_key") == [(kept,)]
        assert self.world.findings() == []
        self.world.close()
        chosen_home().forget(self.world.folder)

    # what both are asked

    def _count(self, name: str) -> None:
        self.steps[name] += 1

    def _person(self, pick: int) -> Person | None:
        """One of the records; seldom one that never was."""
        people = self.model.people
        return people[pick % len(people)] if people and pick else None

    def _path(self, person: Person | None) -> str:
        return f"{PATH}/{person.token if person else '6f1c0000-0000-4000-8000-000000000000'}"

    def _expires(self, ticks: int | None) -> int | None:
        return None if ticks is None else self.model.now + ticks

    def _moment(self, expires: int | None) -> str | None:
        if expires is None:
            return None
        return datetime.fromtimestamp((self.begin + expires * TICK + TICK // 2) / 1e6, UTC).isoformat()

    def _etag(self, person: Person | None, match: str | None) -> str | None:
        if match in (None, "*"):
            return match
        if match == "wrong" or person is None or person.gone(self.model.now):
            return '"0011223344556677"'
        return self.world.ask("GET", self._path(person)).etag

    def _check(self, answer: Answer, expected: Expected) -> None:
        if expected.code is not None:
            answer.refuses(expected.status, expected.code)
            if expected.fields:
                assert [each["pointer"] for each in answer.json["errors"]] == [
                    f"/{n}" for n in expected.fields
                ]
            return
        self._check_item(answer.gives(expected.status) or {}, expected, answer.headers.get("ETag"))

    def _check_item(self, item: Any, expected: Expected, etag: str | None) -> None:
        person = expected.person
        if person is None:
            assert [(each["token"], each["data"]) for each in item["items"]] == [
                (found.token, data) for found, data in expected.found
            ]
            return
        if expected.status == 204:
            return
        if not person.token:
            person.token = item["token"]
        assert (item["token"], item["generation"]) == (person.token, person.generation)
        assert (item["expires_at"] is None) == (person.expires is None)
        if "data" in item:
            assert item["data"] == person.data
        if etag is not None and not person.etag:
            person.etag = etag
        assert etag in (None, person.etag)

    def _check_read(self, person: Person) -> None:
        expected = self.model.read(person)
        self._check(self.world.ask("GET", f"{self._path(person)}?reveal=plain"), expected)
        if expected.code is None and person.generation > 1:
            older = self.world.ask(
                "GET", f"{self._path(person)}?reveal=plain&generation={person.generation - 1}"
            )
            assert older.gives(200)["data"] == person.older

    def _check_found(self, name: str, value: str) -> None:
        body = {"field": name, "value": value, "reveal": "plain"}
        self._check(self.world.post(f"{PATH}/lookup", body), self.model.look_up(name, value))

    # steps

    @rule(data=GOOD, ticks=EXPIRY)
    def create(self, data: dict[str, Any], ticks: int | None) -> None:
        self._count("create")
        expires = self._expires(ticks)
        answer = self.world.post(PATH, {"data": data, "expires_at": self._moment(expires)})
        self._check(answer, self.model.create(data, expires))

    @rule(data=BAD, pick=PICK)
    def write_what_is_wrong(self, data: dict[str, Any], pick: int) -> None:
        self._count("wrong")
        person = self._person(pick)
        self._check(self.world.post(PATH, {"data": data}), self.model.create(data, None))
        answer = self.world.ask("PUT", self._path(person), {"data": data})
        self._check(answer, self.model.update(person, data, None, expires=None))

    @rule(data=GOOD, ticks=EXPIRY, key=st.sampled_from(["k1", "k2", "k3", "k4"]))
    def create_with_key(self, data: dict[str, Any], ticks: int | None, key: str) -> None:
        expires = self._expires(ticks)
        self._create_once(key, data, expires)

    @precondition(lambda self: any(path == "create" for path, _ in self.model.keys))
    @rule(pick=PICK)
    def create_again(self, pick: int) -> None:
        used = [(key, kept) for (path, key), (_, kept) in self.model.keys.items() if path == "create"]
        key, ((sent),) = used[pick % len(used)]
        body = json.loads(sent.body)
        self._create_once(key, body["data"], None, body=body)

    def _create_once(
        self, key: str, data: dict[str, Any], expires: int | None, *, body: dict[str, Any] | None = None
    ) -> None:
        body = body or {"data": data, "expires_at": self._moment(expires)}
        answer = self.world.post(PATH, body, Idempotency_Key=key)
        text = json.dumps(body)
        replay = self.model.replay("create", key, [text])
        self._count("create with key" if replay is None else f"replay {replay[0].status}")
        if replay is not None:
            (expected,) = replay
            self._check(answer, expected)
            _, ((sent),) = self.model.keys["create", key]
            if expected.person is not None:
                assert answer.headers["Idempotency-Replayed"] == "true"
                assert ("ETag" in answer.headers) == (expected.person.generation == sent.generation)
            return
        expected = self.model.create(data, expires)
        self._check(answer, expected)
        assert "Idempotency-Replayed" not in answer.headers
        if expected.person is not None:
            kept = Kept(text, expected, expected.person.token, 1)
            self.model.keys["create", key] = self.model.now, [kept]

    @rule(pick=PICK)
    def get(self, pick: int) -> None:
        self._count("get")
        person = self._person(pick)
        if person is None:
            self._check(self.world.ask("GET", self._path(None)), self.model.read(None))
        else:
            self._check_read(person)

    @rule(pick=PICK, data=GOOD, ticks=EXPIRY, match=MATCH)
    def put(self, pick: int, data: dict[str, Any], ticks: int | None, match: str | None) -> None:
        self._count("put")
        person, expires = self._person(pick), self._expires(ticks)
        tag = self._etag(person, match)
        headers = {} if tag is None else {"If-Match": tag}
        body = {"data": data, "expires_at": self._moment(expires)}
        answer = self.world.ask("PUT", self._path(person), body, headers=headers)
        self._check(answer, self.model.update(person, data, match, expires=expires))

    @rule(pick=PICK, changes=PATCHES, match=MATCH)
    def patch(self, pick: int, changes: dict[str, Any], match: str | None) -> None:
        self._count("patch")
        person = self._person(pick)
        tag = self._etag(person, match)
        headers = {} if tag is None else {"If-Match": tag}
        answer = self.world.ask(
            "PATCH", self._path(person), changes, content_type=MERGE_PATCH, headers=headers
        )
        self._check(answer, self.model.update(person, None, match, patch=changes))

    @rule(pick=PICK, match=MATCH)
    def erase(self, pick: int, match: str | None) -> None:
        self._count("erase")
        person = self._person(pick)
        tag = self._etag(person, match)
        headers = {} if tag is None else {"If-Match": tag}
        answer = self.world.ask("DELETE", self._path(person), headers=headers)
        self._check(answer, self.model.remove(person, match))

    @rule(name=st.sampled_from(sorted(VALUES)), pick=PICK)
    def look_up(self, name: str, pick: int) -> None:
        self._count("lookup")
        self._check_found(name, VALUES[name][pick % len(VALUES[name])])

    @rule()
    def list_all(self) -> None:
        self._count("list")
        listed = self.world.ask("GET", f"{PATH}?limit=1000").gives(200)["items"]
        assert [item["token"] for item in listed] == [person.token for person in self.model.live()]

    @rule(
        many=st.lists(OPERATION, min_size=1, max_size=6), how=st.sampled_from(["", "", "atomic", "dry run"])
    )
    def bulk(self, many: list[Any], how: str) -> None:
        self._count(f"bulk {how}".strip())
        if how == "dry run":
            many = [each for each in many if each[0] not in {"get", "lookup"}] or [("create", {}, None)]
        operations, ask_model = self._prepared(many)
        self._batch(operations, ask_model, is_atomic=how == "atomic", is_dry_run=how == "dry run")

    @rule(
        many=st.lists(OPERATION, min_size=1, max_size=4),
        key=st.sampled_from(["k1", "k2", "k3"]),
        is_atomic=st.booleans(),
    )
    def bulk_with_key(self, many: list[Any], key: str, *, is_atomic: bool) -> None:
        many = [each for each in many if each[0] not in {"get", "lookup"}] or [("create", {}, None)]
        operations, ask_model = self._prepared(many)
        bodies = [json.dumps([is_atomic, each]) for each in operations]
        replay = self.model.replay("bulk", key, bodies)
        if replay is None:
            self._count("bulk with key")
            self._batch(operations, ask_model, is_atomic=is_atomic, key=key)
            return
        self._count("bulk under a used key")
        if replay[0].code == MISMATCH:
            body = {"operations": operations, "atomic": is_atomic}
            self._check(self.world.post(f"{PATH}/bulk", body, Idempotency_Key=key), replay[0])

    @precondition(lambda self: any(path == "bulk" for path, _ in self.model.keys))
    @rule(pick=PICK)
    def bulk_again(self, pick: int) -> None:
        self._count("bulk replay")
        used = [(key, kept) for (path, key), (_, kept) in self.model.keys.items() if path == "bulk"]
        key, kept = used[pick % len(used)]
        sent = [json.loads(each.body) for each in kept]
        body = {"operations": [operation for _, operation in sent], "atomic": sent[0][0]}
        answer = self.world.post(f"{PATH}/bulk", body, Idempotency_Key=key)
        expected = self.model.replay("bulk", key, [each.body for each in kept])
        assert expected is not None
        assert answer.headers["Idempotency-Replayed"] == "true"
        items = answer.gives(200)["items"]
        for item, each, was in zip(items, expected, kept, strict=True):
            self._check_in_batch(item, each, knows_fields=False)
            if each.person is not None and each.status != 204:
                assert (item["etag"] is None) == (each.person.generation != was.generation)

    def _prepared(self, many: list[Any]) -> tuple[list[Any], list[Callable[[], Expected]]]:
        """The operations for the vault, and what asks the dictionary the same."""
        named: set[int] = set()
        takes_over = self._wants_expired(
            [each for _, *rest in many for each in rest if isinstance(each, dict)]
        )
        operations: list[Any] = []
        ask_model: list[Callable[[], Expected]] = []
        for kind, *rest in many:
            if kind == "create":
                data, ticks = rest
                expires = self._expires(ticks)
                operations.append({"op": "create", "data": data, "expires_at": self._moment(expires)})
                ask_model.append(lambda data=data, expires=expires: self.model.create(data, expires))
                continue
            if kind == "lookup":
                name, number = rest
                value = VALUES[name][number % len(VALUES[name])]
                operations.append({"op": "lookup", "field": name, "value": value, "reveal": "plain"})
                ask_model.append(lambda name=name, value=value: self.model.look_up(name, value))
                continue
            place = rest[0] % len(self.model.people) if self.model.people and rest[0] else -1
            # Each once; and no expired record where one is taken over, perhaps by an operation behind this one.
            is_over = place >= 0 and self.model.people[place].is_over(self.model.now)
            if place in named or (is_over and takes_over):
                continue
            named.add(place)
            operations.append(self._naming(kind, place, rest[1:]))
            ask_model.append(lambda kind=kind, place=place, rest=rest: self._named(kind, place, rest[1:]))  # type: ignore[misc]
        if not operations:
            return self._prepared([("create", {}, None)])
        return operations, ask_model

    def _naming(self, kind: str, place: int, rest: list[Any]) -> dict[str, Any]:
        person = self.model.people[place] if place >= 0 else None
        body: dict[str, Any] = {"token": self._path(person).rpartition("/")[2]}
        if kind == "get":
            return body | {"op": "get", "reveal": "plain"}
        if rest[-1] is not None:
            body["if_match"] = self._etag(person, rest[-1])
        if kind == "erase":
            return body | {"op": "erase"}
        if kind == "patch":
            return body | {"op": "update", "patch": rest[0]}
        moment = self._moment(self._expires(rest[1]))
        return body | {"op": "update", "data": rest[0], "expires_at": moment}

    def _named(self, kind: str, place: int, rest: list[Any]) -> Expected:
        person = self.model.people[place] if place >= 0 else None
        if kind == "get":
            return self.model.read(person)
        if kind == "erase":
            return self.model.remove(person, rest[0])
        if kind == "patch":
            return self.model.update(person, None, rest[1], patch=rest[0])
        return self.model.update(person, rest[0], rest[2], expires=self._expires(rest[1]))

    def _batch(
        self,
        operations: list[Any],
        ask_model: list[Callable[[], Expected]],
        *,
        is_atomic: bool,
        is_dry_run: bool = False,
        key: str | None = None,
    ) -> None:
        before = copy.deepcopy(self.model)
        wants_expired = self._wants_expired(
            [each.get("data") or each.get("patch") or {} for each in operations]
        )
        expected: list[Expected] = []
        for ask in ask_model:
            expected.append(ask())
            if is_atomic and expected[-1].code is not None:
                break
        refused = expected[-1] if is_atomic and expected[-1].code is not None else None
        if refused or is_dry_run:
            self.model = before
        if refused and wants_expired:
            # Whether expired records whose values a refused batch wanted are erased is left open: not asked.
            return
        body = {"operations": operations, "atomic": is_atomic, "dry_run": is_dry_run}
        headers = {} if key is None else {"Idempotency_Key": key}
        answer = self.world.post(f"{PATH}/bulk", body, **headers)
        if refused:
            self._check(answer, refused)
            assert answer.json["index"] == len(expected) - 1
            return
        items = answer.gives(200)["items"]
        if is_dry_run:
            assert [item["status"] for item in items] == [each.status for each in expected]
            return
        for item, each in zip(items, expected, strict=True):
            self._check_in_batch(item, each)
        if key is not None:
            kept = [
                Kept(
                    json.dumps([is_atomic, operation]),
                    each,
                    each.person.token if each.person else operation.get("token"),
                    each.person.generation if each.person else 0,
                )
                for operation, each in zip(operations, expected, strict=True)
            ]
            self.model.keys["bulk", key] = self.model.now, kept

    def _wants_expired(self, wanted: list[dict[str, Any]]) -> bool:
        return any(
            person.is_over(self.model.now) and name in person.data and data.get(name) == person.data[name]
            for data in wanted
            for person in self.model.people
            for name in UNIQUE
        )

    def _check_in_batch(self, item: Any, expected: Expected, *, knows_fields: bool = True) -> None:
        assert item["status"] == expected.status, (item, expected)
        if expected.code is not None:
            problem = item["problem"]
            assert problem["type"] == f"urn:strongroom:error:{expected.code}"
            if expected.fields and knows_fields:
                assert [each["pointer"] for each in problem["errors"]] == [f"/{n}" for n in expected.fields]
            return
        self._check_item(item, expected, item.get("etag"))

    @rule(what=st.sampled_from([1, 2, 4, 1, 2, 4, "worker", "worker", "day", "restart", "restart"]))
    def time_goes_by(self, what: int | str) -> None:
        self._count(what if isinstance(what, str) else "ticks")
        if what == "restart":
            self.world.close()
            self.world.open()
            return
        ticks = DAY if what == "day" else what if isinstance(what, int) else 0
        self.model.now += ticks
        self.world.ahead += ticks * TICK
        if isinstance(what, str):
            self.world.work()
            self.model.work()


@pytest.fixture
def machine(database_home: DatabaseHome) -> Iterator[type[Beside]]:
    assert database_home
    with tempfile.TemporaryDirectory() as folder:
        made = InProcess.create(Path(folder) / "template")
        made.define("people", PEOPLE, history=1)
        made.close()
        Beside.template, Beside.credential = made.folder, made.credential
        Beside.folders = (Path(folder) / f"run{number}" for number in itertools.count())
        Beside.steps = Counter()
        yield Beside


@pytest.mark.counted
def test_the_vault_does_what_a_dictionary_does(machine: type[Beside]) -> None:
    runs = LEAST_STEPS // STEPS_OF_RUN * 6 // 5  # some end early
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS_OF_RUN,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    steps = machine.steps
    sys.stdout.write(f"{steps.total():,} steps: {dict(steps.most_common())}\n")
    assert steps.total() >= LEAST_STEPS
