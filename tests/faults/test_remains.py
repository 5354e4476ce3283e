"""What was erased or replaced is gone from every byte of the data folder, and not only from the rows."""

from __future__ import annotations

import itertools
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.live_server import LiveServer, wait_for
from tests.faults.small_vault import (
    CALLER,
    IS_GATE,
    SmallVault,
    change,
    erase,
    make_empty_vault,
    record_row,
    say,
    store,
)
from vault.bootstrap import Vault
from vault.core.bulk_results import Written
from vault.core.idempotency import RequestName
from vault.core.operations import CreateOperation, EraseOperation, UpdateOperation
from vault.core.record_drafts import NewDocument, Patch
from vault.core.rows import RecordRow

pytestmark = pytest.mark.sqlite_only("looks at what remains in SQLite's own files")

RECORDS = 2_000
LARGE_RECORDS = 5
WINDOW = 8
"""Eight bytes of a wrapped key or of a sealed document never occur by chance in a few megabytes."""
GONE_WITHIN_SECONDS = 60


def windows_of(row: RecordRow) -> Iterator[bytes]:
    """Every eight bytes of the wrapped key, and of the start, middle and end of the document."""
    assert row.wrapped_dek is not None
    assert row.sealed_document is not None
    document = row.sealed_document
    middle = len(document) // 2
    for part in (row.wrapped_dek, document[2:66], document[middle : middle + 64], document[-64:]):
        yield from (part[start : start + WINDOW] for start in range(len(part) - WINDOW + 1))


def found_in(folder: Path, wanted: set[bytes]) -> tuple[set[bytes], int]:
    """Which of these eight-byte strings occur in the folder's files, and how many bytes were read."""
    found: set[bytes] = set()
    size = 0
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            size += len(content)
            # What was overwritten with zeros needs no look.
            for run in re.split(rb"\0{64,}", content):
                found |= wanted.intersection({run[i : i + WINDOW] for i in range(len(run) - WINDOW + 1)})
    return found, size


@pytest.fixture
def made(tmp_path: Path) -> SmallVault:
    return make_empty_vault(tmp_path / "data", history=0)


def documents(count: int) -> Iterator[dict[str, str]]:
    rng = random.Random(6)
    for number in range(count):
        size = 300_000 if number < LARGE_RECORDS else int(100 * 200 ** rng.random())
        yield {"email": f"r{number}@example.org", "city": "Rome", "note": "n" * size}


def test_nothing_of_erased_records_remains(made: SmallVault) -> None:
    with made.opened() as vault:
        # How the pages are written does not depend on it, only how long the test waits for the disk.
        vault.engine.database.execute_sql("PRAGMA synchronous = off")
        tokens = [store(vault, data).token for data in documents(RECORDS)]
        wanted = {window for token in tokens for window in windows_of(record_row(vault, token))}
        kept = tokens[::100]
        genuine = {window for token in kept for window in windows_of(record_row(vault, token))}
        before, _ = found_in(made.folder, genuine)
        assert len(before) > 0.9 * len(genuine)

        for token in tokens:
            erase(vault, token)
        assert vault.engine.scrub()

        left, size = found_in(made.folder, wanted)
    say(f"{RECORDS:,} records erased; {size:,} bytes scanned for {len(wanted):,} strings: {len(left)} found")
    assert left == set()
    assert made.findings() == []


def test_nothing_of_replaced_generations_remains(made: SmallVault) -> None:
    with made.opened() as vault:
        vault.engine.database.execute_sql("PRAGMA synchronous = off")
        rows = [record_row(vault, store(vault, data).token) for data in documents(200)]
        wanted = {window for row in rows for window in windows_of(row)}
        for number, row in enumerate(rows):
            note = "s" * (number * 37 % 20_000)
            change(vault, row.token, {"email": f"r{number}@example.org", "city": "Oslo", "note": note})
        assert vault.engine.scrub()

        left, size = found_in(made.folder, wanted)
    say(f"200 records replaced; {size:,} bytes scanned for {len(wanted):,} strings: {len(left)} found")
    assert left == set()


def test_history_goes_with_the_record(tmp_path: Path) -> None:
    made = make_empty_vault(tmp_path / "data", history=3)
    with made.opened() as vault:
        row = record_row(vault, store(vault, {"email": "h@example.org", "note": "n" * 9_000}).token)
        change(vault, row.token, {"email": "h@example.org", "note": "newer"})
        wanted = set(windows_of(row))
        assert vault.engine.scrub()
        assert found_in(made.folder, wanted)[0] > wanted - set(list(wanted)[: len(wanted) // 2])

        erase(vault, row.token)
        assert vault.engine.scrub()

    assert found_in(made.folder, wanted)[0] == set()


def test_nothing_of_what_was_erased_in_batches_remains(made: SmallVault) -> None:
    """Neither records and generations, nor what an Idempotency-Key kept of the bodies."""
    with made.opened() as vault:
        vault.engine.database.execute_sql("PRAGMA synchronous = off")
        bulk, claim_of = vault.services.bulk, vault.services.idempotency.claim
        creates = [CreateOperation(NewDocument(data)) for data in itertools.islice(documents(300), 300)]
        name = RequestName("POST", "/v1/collections/people/records/bulk", "key-1")
        with claim_of(CALLER, name, list(range(300))) as claim:
            items = bulk.run(CALLER, "people", creates, claim=claim).items
        tokens = [item.row.token for item in items if isinstance(item, Written)]
        assert len(tokens) == 300
        wanted = {window for token in tokens for window in windows_of(record_row(vault, token))}
        bulk.run(CALLER, "people", [UpdateOperation(token, Patch({"note": "new"}), None) for token in tokens])
        wanted |= {window for token in tokens for window in windows_of(record_row(vault, token))}
        hashes = {row[0][:WINDOW] for row in receipts(vault) if row[0] is not None}
        assert len(hashes) == 300
        assert found_in(made.folder, hashes)[0] == hashes

        bulk.run(CALLER, "people", [EraseOperation(token, None) for token in tokens])
        assert vault.engine.scrub()

        left, size = found_in(made.folder, wanted | hashes)
        assert [row[0] for row in receipts(vault)] == [None] * 301
    say(
        f"300 records erased in a batch; {size:,} bytes scanned for {len(wanted):,} strings: {len(left)} found"
    )
    assert left == set()
    assert made.findings() == []


def receipts(vault: Vault) -> list[tuple[bytes | None]]:
    with vault.engine.read() as database:
        rows: list[tuple[bytes | None]] = database.execute_sql(
            "SELECT body_hash FROM idempotency_key"
        ).fetchall()
        return rows


class QuickScrubber(LiveServer):
    """A server whose workers clear the log more often, so that the test need not wait as long."""

    def command(self) -> list[str]:
        program = "import vault.bootstrap.serving; vault.bootstrap.serving.SCRUB_SECONDS = 1.0; import vault.cli; vault.cli.main()"
        return [sys.executable, "-P", "-c", program]


def test_a_running_server_clears_what_is_erased(made: SmallVault, tmp_path: Path) -> None:
    kind = LiveServer if IS_GATE else QuickScrubber
    server = kind(made.folder, made.credential, tmp_path / "server.log")
    path = "/v1/collections/people/records"
    try:
        server.start()
        with server.caller() as caller:
            data = {"email": "gone@example.org", "city": "Rome", "note": "n" * 9_000}
            token = caller.ask("POST", path, {"data": data}).json["token"]
            with made.opened() as vault:
                first = record_row(vault, bytes.fromhex(token.replace("-", "")))
            assert found_in(made.folder, set(windows_of(first)))[0]
            caller.ask("PUT", f"{path}/{token}", {"data": data | {"note": "newer" * 400}})
            with made.opened() as vault:
                second = record_row(vault, bytes.fromhex(token.replace("-", "")))
            assert caller.ask("DELETE", f"{path}/{token}").status == 204
        wanted = {*windows_of(first), *windows_of(second)}

        seconds = wait_for(
            lambda: not found_in(made.folder, wanted)[0], "bytes gone", seconds=GONE_WITHIN_SECONDS
        )
    finally:
        server.stop()
    say(f"gone {seconds:.1f} s after the erasure, while the server ran")


def test_a_server_that_stops_leaves_nothing_behind(made: SmallVault, tmp_path: Path) -> None:
    server = LiveServer(made.folder, made.credential, tmp_path / "server.log")
    path = "/v1/collections/people/records"
    try:
        server.start()
        with server.caller() as caller:
            token = caller.ask("POST", path, {"data": {"email": "gone@example.org"}}).json["token"]
            with made.opened() as vault:
                row = record_row(vault, bytes.fromhex(token.replace("-", "")))
            assert caller.ask("DELETE", f"{path}/{token}").status == 204
    finally:
        server.stop()

    assert found_in(made.folder, set(windows_of(row)))[0] == set()
