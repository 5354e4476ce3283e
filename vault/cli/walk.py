"""The walk: every main thing a vault does, done for real, with each outcome checked."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from vault.cli.child_server import run_strongroom
from vault.cli.failure import Failure
from vault.cli.remains import search
from vault.cli.stage import Stage
from vault.client import Client, Duplicate, Gone, Record, RecordMetadata, StrongroomError
from vault.storage.inspection import raw_record

DATABASE_NAME = "strongroom.db"
_COLLECTION = "users"
_SHOWN_BYTES = 24
_PEOPLE_TRIED = 20


class Walk:
    """Walks one made-up person through the vault, from the first write to the last trace.

    Args:
        client: talks to the running server; its observer shows the requests.
        stage: where it is shown.
        data: the server's data folder.
    """

    def __init__(self, client: Client, stage: Stage, data: Path) -> None:
        self._client = client
        self._stage = stage
        self._data = data
        self._person: dict[str, Any] = {}
        self._created: RecordMetadata | None = None
        self._etag: str | None = None

    def run(self) -> None:
        """Take every step, in order.

        Raises:
            Failure: a step did not give what it should; names the step.
        """
        steps: list[tuple[str, Callable[[], None]]] = [
            ("Store a person", self._store),
            ("Find her by e-mail", self._look_up),
            ("See what the disk really holds", self._inspect),
            ("Read her masked, then plain", self._read),
            ("Change one field", self._change),
            ("See who did what", self._audit),
            ("Erase her", self._erase),
            ("Verify everything that is stored", self._verify),
        ]
        for number, (title, step) in enumerate(steps, start=1):
            self._stage.step(number, title)
            try:
                step()
            except StrongroomError as error:
                raise Failure(f"Step {number} ({title}) failed: {error}") from error
            except _UnexpectedError as error:
                raise Failure(f"Step {number} ({title}) failed: {error}") from error

    @property
    def _token(self) -> UUID:
        if self._created is None:
            raise _UnexpectedError("there is no record yet")
        return self._created.token

    def _store(self) -> None:
        # Another number if somebody with this one is still there from a walk that was cut short.
        for _ in range(_PEOPLE_TRIED):
            self._person = _made_up_person()
            try:
                self._created = self._client.create(_COLLECTION, self._person)
                break
            except Duplicate:
                continue
        self._stage.value("sent", json.dumps(self._person))
        self._stage.value("token", str(self._token))
        self._stage.remark("The token is all that your own database needs to keep.")
        _expect(self._created is not None and self._created.generation == 1, "a new record has generation 1")

    def _look_up(self) -> None:
        found = list(self._client.lookup(_COLLECTION, "email", self._person["email"].upper()))
        _expect(
            [record.token for record in found] == [self._token], "the e-mail finds this record and no other"
        )
        self._stage.value("found", f"{found[0].token}, {found[0].reveal}")
        self._stage.remark(
            "The address travelled in the body, in capitals: never in a URL, compared by a keyed hash."
        )

    def _inspect(self) -> None:
        row = raw_record(self._data / DATABASE_NAME, self._token)
        sealed, wrapped = row["sealed_document"], row["wrapped_dek"]
        if not isinstance(sealed, bytes) or not isinstance(wrapped, bytes):
            raise _UnexpectedError("expected that the row holds a sealed document and a wrapped data key")
        self._stage.value("sealed_document", _hex(sealed))
        self._stage.value("wrapped_dek", _hex(wrapped))
        phone = self._person["phone"]
        remains = search(
            self._data,
            {
                "name": [self._person["name"].encode()],
                "e-mail": [self._person["email"].encode()],
                "phone": [phone.encode(), phone.replace(" ", "").encode()],
                "wrapped key": [wrapped],
            },
        )
        counts = ", ".join(
            f"{what} {times}" for what, times in remains.found.items() if what != "wrapped key"
        )
        self._stage.value("occurrences", f"{counts}, in {remains.size_bytes:,} bytes ({remains.files} files)")
        # The search must be able to find what is there, or its zeros would say nothing.
        _expect(remains.found["wrapped key"] >= 1, "the search finds the wrapped key, which is on the disk")
        _expect(
            not any(remains.found[what] for what in ("name", "e-mail", "phone")),
            "no plain value is on the disk",
        )
        self._stage.remark("Whoever steals the database without the key file gets none of her data.")

    def _read(self) -> None:
        masked = self._client.get(_COLLECTION, self._token)
        plain = self._client.get(_COLLECTION, self._token, reveal="plain")
        self._etag = plain.etag
        self._stage.table(
            ["", "masked", "plain"],
            [[field, masked.data.get(field), plain.data.get(field)] for field in self._person],
        )
        _expect(masked.reveal == "masked" and "/email" in masked.masked, "a read without reveal is masked")
        _expect(not _shared_values(masked, self._person), "a masked answer holds none of the values")
        _expect(plain.reveal == "plain" and plain.data == self._person, "a plain read gives what was stored")

    def _change(self) -> None:
        after = self._client.patch(_COLLECTION, self._token, {"city": "Leipzig"}, if_match=self._etag)
        city = self._client.get(_COLLECTION, self._token, reveal="plain", fields=["city"]).data
        self._stage.value("generation", f"{after.generation}, sealed under a data key of its own")
        _expect(after.generation == 2, "a change makes the second generation")  # noqa: PLR2004 - one write, one change
        _expect(city == {"city": "Leipzig"}, "the change can be read back")

    def _audit(self) -> None:
        entries = list(self._client.audit(token=self._token))
        self._stage.table(
            ["time", "action", "result", "shown", "generation", "fields", "purpose"],
            [
                [e.time, e.action, e.result, e.reveal, e.generation, ",".join(e.fields) or None, e.purpose]
                for e in entries
            ],
        )
        self._stage.remark(
            "*other stands for names that the schema does not declare: those can be personal, too."
        )
        # One for each request that touched the record so far: create, lookup, three reads, patch.
        _expect(len(entries) >= 6, "every request so far has an audit entry")  # noqa: PLR2004 - counted above
        _expect(all(entry.token == self._token for entry in entries), "the entries are of this record")

    def _erase(self) -> None:
        self._client.erase(_COLLECTION, self._token)
        try:
            self._client.get(_COLLECTION, self._token)
        except Gone as error:
            self._stage.value("answer", f"{error.status} {error.code}: {error.detail}")
        else:
            raise _UnexpectedError("expected that an erased record answers 410")
        erasure = self._client.erasure(_COLLECTION, self._token)
        could_open = ", ".join(f"{key.keyring}/{key.version}" for key in erasure.key_versions)
        self._stage.value(
            "erasure", f"{erasure.state}; a backup could be opened by: {could_open or 'no key'}"
        )
        self._stage.remark(
            "Her row and its data key are gone. It is final when no backup can bring the key back."
        )

    def _verify(self) -> None:
        self._stage.command(f"strongroom verify --data {shlex.quote(str(self._data))}")
        verified = run_strongroom("verify", "--data", self._data)
        for line in verified.stdout.splitlines()[-3:]:
            self._stage.value("", line)
        _expect(verified.returncode == 0, f"verify finds nothing wrong (exit code {verified.returncode})")


class _UnexpectedError(Exception):
    """A step did not give what it should."""


def _expect(claim: bool, what: str) -> None:
    if not claim:
        raise _UnexpectedError(f"expected that {what}")


def _shared_values(masked: Record, person: dict[str, Any]) -> list[str]:
    return [field for field, value in person.items() if masked.data.get(field) == value]


def _made_up_person() -> dict[str, Any]:
    # Numbers that Ofcom keeps for drama, so nobody's phone rings.
    number = secrets.randbelow(10_000)
    return {
        "name": "Ada Wintergreen",
        "email": f"ada.{number:04}@example.com",
        "phone": f"+44 20 7946 0{number % 1000:03}",
        "city": "London",
    }


def _hex(value: bytes) -> str:
    more = " ..." if len(value) > _SHOWN_BYTES else ""
    return f"{value[:_SHOWN_BYTES].hex(' ')}{more}  ({len(value)} bytes)"
