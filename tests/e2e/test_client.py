"""The Python client against a real server, and with answers that get lost on the way."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import strongroom
from strongroom import Client, Create, Erase, Get, Lookup, Update

if TYPE_CHECKING:
    from conftest import Server

EMAIL = {"email": {"type": "string", "x-index": "unique", "x-normalize": "email", "x-mask": "email"}}


class LossyWay:
    """A way to a server on which answers get lost after the server has given them.

    Attributes:
        losing: how many of the next answers are lost.
        passed: how many requests the server was given.
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.losing = 0
        self.passed = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            # Closes after each answer, so that one connection is one request.
            with near, contextlib.suppress(OSError), socket.create_connection(self._server, 10) as far:
                near.settimeout(10)
                far.sendall(self._message(near))
                self.passed += 1
                answer = self._message(far)
                if self.losing:
                    self.losing -= 1
                else:
                    near.sendall(answer)

    @staticmethod
    def _message(side: socket.socket) -> bytes:
        """Read one message, whose length its head says."""
        got = b""

        def more() -> bytes:
            received = side.recv(65536)
            if not received:
                raise ConnectionResetError
            return received

        while b"\r\n\r\n" not in got:
            got += more()
        head, _, body = got.partition(b"\r\n\r\n")
        lines = [line.partition(b": ") for line in head.lower().split(b"\r\n")]
        length = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
        while len(body) < length:
            body += more()
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def vault(server: Server) -> Iterator[Client]:
    with Client(server.url, credential=server.credential) as client:
        yield client


@pytest.fixture
def people(define: Callable[..., str]) -> str:
    return define(EMAIL)


@pytest.fixture
def lossy(server: Server) -> Iterator[LossyWay]:
    with closing(LossyWay(server.url)) as way:
        yield way


def test_a_batch_of_everything(vault: Client, people: str, email: str) -> None:
    kept, changed, gone = (vault.create(people, {"email": f"{n}.{email}", "n": n}) for n in range(3))
    operations: list[strongroom.Operation] = [
        Create({"email": email}),
        Create({"email": f"0.{email}"}),
        Get(kept.token, reveal="plain", fields=["n"]),
        Get(uuid.UUID(int=0)),
        Update(changed.token, patch={"n": None}, if_match=changed.etag),
        Erase(gone.token),
        Lookup("email", f"0.{email}", reveal="plain"),
        Lookup("email", f"2.{email}"),
    ]
    result = vault.bulk(people, operations)
    new, taken, read, missing, written, erased, found, nobody = result.items
    assert (result.failed, result.replayed) == (2, False)
    assert [item.status for item in result.items] == [201, 409, 200, 404, 200, 204, 200, 200]
    assert isinstance(taken.error, strongroom.Duplicate)
    assert taken.error.fields == ("email",)
    assert isinstance(missing.error, strongroom.NotFound)
    assert (missing.token, erased.token) == (uuid.UUID(int=0), gone.token)
    assert read.record is not None
    assert (read.record.data, read.record.etag) == ({"n": 0}, kept.etag)
    assert found.found is not None
    assert [each.token for each in found.found] == [kept.token]
    assert found.found[0].data == {"email": f"0.{email}", "n": 0}
    assert (nobody.found, nobody.next_cursor) == ((), None)
    assert new.metadata is not None
    assert written.metadata is not None
    # What a batch tells is what a single request tells.
    for told in (new.metadata, written.metadata):
        single = vault.get(people, told.token, reveal="plain")
        assert {name: getattr(single, name) for name in strongroom.RecordMetadata.__slots__} == {
            name: getattr(told, name) for name in strongroom.RecordMetadata.__slots__
        }
    with pytest.raises(strongroom.Gone):
        vault.get(people, gone.token)


def test_all_or_nothing(vault: Client, people: str, email: str) -> None:
    operations = [Create({"email": f"{n}.{email}"}) for n in range(20)]
    operations[17] = Create({"email": f"3.{email}"})
    with pytest.raises(strongroom.Duplicate) as caught:
        vault.bulk(people, operations, atomic=True)
    assert (caught.value.index, caught.value.fields, caught.value.attempts) == (17, ("email",), 1)
    assert not caught.value.outcome_unknown
    assert list(vault.list(people)) == []


def test_a_dry_run_stores_nothing(vault: Client, people: str, email: str) -> None:
    result = vault.bulk(people, [Create({"email": email}), Create({"email": email})], dry_run=True)
    assert [(item.status, item.token, item.metadata) for item in result.items] == [
        (201, None, None),
        (409, None, None),
    ]
    assert list(vault.list(people)) == []


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_of_another_size_is_refused(vault: Client, people: str, count: int) -> None:
    with pytest.raises(strongroom.InvalidRequest) as caught:
        vault.bulk(people, [Create({})] * count)
    assert (caught.value.code, caught.value.errors[0].pointer) == ("body-members", "/operations")
    assert list(vault.list(people)) == []


def test_a_lost_answer_is_fetched_again_and_nothing_is_stored_twice(
    server: Server, lossy: LossyWay, people: str, email: str
) -> None:
    with Client(lossy.url, credential=server.credential) as vault:
        lossy.losing = 2
        created = vault.create(people, {"email": email})
        assert (created.replayed, lossy.passed) == (True, 3)
        lossy.losing = 1
        batch = vault.bulk(people, [Create({"n": 1}), Create({"email": email})])
        assert (batch.replayed, lossy.passed) == (True, 5)
        assert [item.status for item in batch.items] == [201, 409]
        assert isinstance(batch.items[1].error, strongroom.Duplicate)
        lossy.losing = 1
        assert vault.get(people, created.token).token == created.token
    stored = {record.token for record in server_records(server, people)}
    assert stored == {created.token, batch.items[0].token}


def test_what_stays_open_is_settled_with_the_key(
    server: Server, lossy: LossyWay, vault: Client, people: str, email: str
) -> None:
    with Client(lossy.url, credential=server.credential, retries=0) as once:
        lossy.losing = 1
        with pytest.raises(strongroom.ConnectionFailed) as caught:
            once.create(people, {"email": email})
    assert caught.value.outcome_unknown
    settled = vault.create(people, {"email": email}, idempotency_key=caught.value.idempotency_key)
    assert settled.replayed
    assert [record.token for record in vault.list(people)] == [settled.token]


def test_a_change_whose_answer_is_lost_is_not_made_twice(
    server: Server, lossy: LossyWay, vault: Client, people: str
) -> None:
    created = vault.create(people, {"n": 1})
    with Client(lossy.url, credential=server.credential) as far:
        lossy.losing = 1
        with pytest.raises(strongroom.ConnectionFailed) as caught:
            far.patch(people, created.token, {"n": 2})
    assert (caught.value.outcome_unknown, caught.value.attempts, lossy.passed) == (True, 1, 1)
    assert vault.get(people, created.token).generation == 2


def test_a_key_names_one_creation(vault: Client, people: str) -> None:
    key = uuid.uuid4().hex
    first = vault.create(people, {"n": 1}, idempotency_key=key)
    again = vault.create(people, {"n": 1}, idempotency_key=key)
    assert (first.token, first.etag, first.replayed) == (again.token, again.etag, False)
    assert again.replayed
    with pytest.raises(strongroom.InvalidRequest) as caught:
        vault.create(people, {"n": 2}, idempotency_key=key)
    assert caught.value.code == "idempotency-mismatch"
    vault.patch(people, first.token, {"n": 3})
    assert vault.create(people, {"n": 1}, idempotency_key=key).etag is None
    vault.erase(people, first.token)
    with pytest.raises(strongroom.Gone):
        vault.create(people, {"n": 1}, idempotency_key=key)
    assert list(vault.list(people)) == []


def test_a_job_that_is_run_again_stores_nothing_twice(vault: Client, people: str, email: str) -> None:
    documents: list[dict[str, Any]] = [{"email": f"{n}.{email}"} for n in range(1500)]
    documents[1200] = {"email": f"3.{email}"}
    runs = [list(vault.create_many(people, iter(documents), idempotency_key=email)) for _ in range(2)]
    first, again = runs
    assert [item.status for item in first] == [201] * 1200 + [409] + [201] * 299
    assert [(item.status, item.token) for item in again] == [(item.status, item.token) for item in first]
    assert not any(item.metadata.replayed for item in first if item.metadata)
    assert all(item.metadata.replayed for item in again if item.metadata)
    assert len(list(vault.list(people, page_size=1000))) == 1499


def server_records(server: Server, collection: str) -> list[strongroom.RecordMetadata]:
    with Client(server.url, credential=server.credential) as vault:
        return list(vault.list(collection))
