from __future__ import annotations

import gzip
import io
import json
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from vault.cli.failure import Failure
from vault.cli.moving import exporting
from vault.cli.moving.exporting import Export, ExportOptions, ExportSummary
from vault.cli.moving.part import FilePart, Part, StreamPart
from vault.cli.moving.progress import Count
from vault.cli.moving.stopping import Stop
from vault.client import (
    BulkItem,
    BulkResult,
    CollectionInfo,
    CollectionSettings,
    Get,
    Gone,
    InvalidRequest,
    NotAuthenticated,
    Record,
    StrongroomError,
)
from vault.client.results import RecordMetadata, RecordPage

NOW = datetime(2026, 11, 23, 14, tzinfo=UTC)
SERVER = "https://vault.example"
COLLECTION = CollectionInfo(
    name="users",
    schema_version=1,
    schema={"properties": {"email": {"type": "string"}, "n": {"type": "integer"}}},
    settings=CollectionSettings(),
    keyring="default",
    created_at=NOW,
    updated_at=NOW,
)


class Quiet:
    def show(self, count: Count) -> None:
        pass

    def say(self, event: str, sentence: str, **members: Any) -> None:
        pass


class FakeClient:
    """A collection of numbered records.

    Attributes:
        gone: those that are erased between list and read.
        fails_at: the call that fails, counted from now.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.gone: set[int] = set()
        self.read: list[int] = []
        self.fails_at = -1
        self.most_at_once = 1000
        self.error: Exception = KeyboardInterrupt()

    def collection(self, _name: str) -> CollectionInfo:
        return COLLECTION

    def list_page(self, _name: str, *, cursor: str | None, page_size: int) -> RecordPage:
        self._count_down()
        first = int(cursor or 0)
        last = min(first + page_size, self.count)
        items = tuple(RecordMetadata(**_metadata(number)) for number in range(first, last))
        return RecordPage(items=items, next_cursor=str(last) if len(items) == page_size else None)

    def bulk(self, _name: str, operations: Sequence[Get]) -> BulkResult:
        self._count_down()
        items = []
        for place, operation in enumerate(operations):
            number = UUID(str(operation.token)).int
            if place >= self.most_at_once:
                items.append(
                    BulkItem(status=413, error=InvalidRequest("No.", status=413, code="answer-too-large"))
                )
            elif number in self.gone:
                items.append(BulkItem(status=410, error=Gone("Gone.", status=410, code="record-erased")))
            else:
                self.read.append(number)
                data = {"email": f"p{number}@example.com", "n": number}
                record = Record(**_metadata(number), data=data, reveal=operation.reveal, masked=())
                items.append(BulkItem(status=200, record=record))
        return BulkResult(items=tuple(items), failed=0, replayed=False)

    def _count_down(self) -> None:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise self.error


def _metadata(number: int) -> dict[str, Any]:
    return {
        "token": UUID(int=number), "collection": "users", "generation": 1, "schema_version": 1, "created_at": NOW,
        "updated_at": NOW, "expires_at": None, "etag": None,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 3)


def options(form: Any = "jsonl", **more: Any) -> ExportOptions:
    return ExportOptions(collection="users", form=form, reveal="plain", **more)


def export(
    client: Any, where: Path | Callable[[], Part], chosen: ExportOptions | None = None
) -> ExportSummary:
    chosen = chosen or options()
    open_part = where if callable(where) else lambda: FilePart(where, chosen.plan(SERVER))
    return Export(chosen, client, display=Quiet(), stop=Stop()).run(open_part)


def numbers(path: Path) -> list[int]:
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return [json.loads(line)["data"]["n"] for line in text.splitlines()]


@pytest.mark.parametrize("count", [0, 1, 3, 6, 8])
def test_every_record_is_written_once(tmp_path: Path, count: int) -> None:
    path = tmp_path / "out.jsonl"
    summary = export(FakeClient(count), path)
    assert (summary.records, summary.gone, summary.is_finished) == (count, 0, True)
    assert numbers(path) == list(range(count))
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_is_an_envelope(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    export(FakeClient(1), path)
    assert path.read_text() == (
        '{"token":"00000000-0000-0000-0000-000000000000","generation":1,"created_at":"2026-11-23T14:00:00Z",'
        '"updated_at":"2026-11-23T14:00:00Z","expires_at":null,"data":{"email":"p0@example.com","n":0}}\n'
    )


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_it_goes_on_wherever_it_was_ended(tmp_path: Path, name: str) -> None:
    for fails_at in range(1, 9):
        path = tmp_path / str(fails_at) / name
        path.parent.mkdir()
        client = FakeClient(11)
        client.fails_at = fails_at
        with pytest.raises(KeyboardInterrupt):
            export(client, path)
        assert not path.exists()
        assert export(client, path).records == 11
        assert numbers(path) == list(range(11))
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_what_was_written_and_does_not_count_is_cut_off(tmp_path: Path, form: str) -> None:
    """As if the power had gone at every byte of the state, with more or less of the part already there."""
    client = FakeClient(8)
    whole = tmp_path / "whole"
    export(client, whole, options(form))
    client.fails_at = 6
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        export(client, broken, options(form))
    state, part = tmp_path / "broken.strongroom-export", tmp_path / "broken.part"
    state_bytes, part_bytes = state.read_bytes(), part.read_bytes()
    header = state_bytes.index(b"\n") + 1
    for kept in range(header, len(state_bytes) + 1, 7):
        target = tmp_path / f"{kept}"
        target.with_name(f"{kept}.strongroom-export").write_bytes(state_bytes[:kept])
        target.with_name(f"{kept}.part").write_bytes(part_bytes + b"half a li")
        export(client, target, options(form))
        assert target.read_bytes() == whole.read_bytes()


def test_all_written_and_not_yet_named_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient(8)
    path = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(FilePart, "finish", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(client, path)
    reads = len(client.read)
    assert export(client, path).records == 8
    assert len(client.read) == reads
    assert numbers(path) == list(range(8))


def test_named_and_not_yet_forgotten_does_no_harm(tmp_path: Path) -> None:
    client = FakeClient(4)
    path = tmp_path / "out"
    export(client, path)
    state = tmp_path / "out.strongroom-export"
    state.write_text('{"strongroom_export":1,"server":"x","collection":"users","options":{}}\n')
    with pytest.raises(Failure, match="has not made it"):
        export(client, path)
    path.rename(tmp_path / "kept")
    export(client, path)
    assert numbers(path) == list(range(4))
    assert not state.exists()


def test_what_is_erased_meanwhile_is_left_out_and_counted(tmp_path: Path) -> None:
    client = FakeClient(8)
    client.gone = {0, 3, 4, 5}
    summary = export(client, tmp_path / "out")
    assert (summary.records, summary.gone) == (4, 4)
    assert numbers(tmp_path / "out") == [1, 2, 6, 7]


def test_an_answer_that_is_too_large_is_asked_for_in_pieces(tmp_path: Path) -> None:
    client = FakeClient(8)
    client.most_at_once = 1
    export(client, tmp_path / "out")
    assert numbers(tmp_path / "out") == list(range(8))
    client.most_at_once = 0
    with pytest.raises(Failure):
        export(client, tmp_path / "other")


def test_a_table_has_its_heading_once(tmp_path: Path) -> None:
    client = FakeClient(5)
    client.fails_at = 1
    path = tmp_path / "out.csv.gz"
    with pytest.raises(KeyboardInterrupt):
        export(client, path, options("csv"))
    export(client, path, options("csv"))
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert lines[0] == "token,generation,created_at,updated_at,expires_at,data.email,data.n,data"
    assert [line.rsplit(",", 3)[1:] for line in lines[1:]] == [
        [f"p{n}@example.com", str(n), ""] for n in range(5)
    ]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    client = FakeClient(5)
    for name in ("out", "out.part"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(Failure, match="has not made it"):
            export(client, tmp_path / "out")
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()
    (tmp_path / "out.strongroom-export").write_text("Dear diary\n")
    with pytest.raises(Failure, match="not the state of an export"):
        export(client, tmp_path / "out")
    assert (tmp_path / "out.strongroom-export").read_text() == "Dear diary\n"


def test_other_options_do_not_go_on(tmp_path: Path) -> None:
    client = FakeClient(8)
    client.fails_at = 4
    with pytest.raises(KeyboardInterrupt):
        export(client, tmp_path / "out")
    with pytest.raises(Failure, match="another --fields"):
        export(client, tmp_path / "out", options(fields=["email"]))
    held = FilePart(tmp_path / "out", options().plan(SERVER))
    with pytest.raises(Failure, match="Another export is at work"):
        export(client, tmp_path / "out")
    held.close()
    assert export(client, tmp_path / "out").records == 8


@pytest.mark.parametrize(
    "error", [NotAuthenticated("No.", status=401), StrongroomError("Integrity.", status=500)]
)
def test_an_answer_for_good_stops_it(tmp_path: Path, error: Exception) -> None:
    client = FakeClient(8)
    client.error = error
    client.fails_at = 4
    with pytest.raises(Failure, match="3 records are exported so far") as caught:
        export(client, tmp_path / "out")
    assert "goes on where it stopped" in caught.value.next_step


def test_standard_output(tmp_path: Path) -> None:
    stream = io.BytesIO()
    assert export(FakeClient(4), lambda: StreamPart(stream)).records == 4
    assert len(stream.getvalue().splitlines()) == 4
    assert list(tmp_path.iterdir()) == []
