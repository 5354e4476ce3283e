"""Every way in which an import can be ended or held up, short of kill -9: in order, and nothing lost or double."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.imports import Import, all_documents, read_events
from tests.faults.live_server import LiveServer, running
from tests.faults.small_vault import PEOPLE, SmallVault, make_empty_vault

COUNT = 800


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallVault:
    return make_empty_vault(tmp_path_factory.mktemp("vault") / "data")


@pytest.fixture
def server(made: SmallVault, tmp_path: Path) -> Iterator[LiveServer]:
    vault = made.copy_to(tmp_path / "data")
    with running(vault.folder, vault.credential, tmp_path / "server.log") as live:
        yield live


@pytest.fixture
def moving(server: LiveServer, made: SmallVault, tmp_path: Path) -> Import:
    credential = tmp_path / "credential"
    credential.write_text(made.credential)
    credential.chmod(0o600)
    file = many(tmp_path / "people.jsonl", 0, COUNT)
    return Import(
        server, file, PEOPLE, credential, ["--batch", "10", "--tokens", str(tmp_path / "tokens.csv")]
    )


def many(path: Path, start: int, count: int) -> Path:
    with path.open("a") as file:
        file.writelines(f'{{"email":"p{number}@example.com"}}\n' for number in range(start, start + count))
    return path


def check_all_there(moving: Import, count: int = COUNT) -> None:
    documents = all_documents(moving.server, PEOPLE)
    assert sorted(each["email"] for each in documents.values()) == sorted(
        f"p{n}@example.com" for n in range(count)
    )
    (head, *rows) = csv.reader((moving.file.with_name("tokens.csv")).read_text().splitlines())
    assert head == ["line", "token"]
    assert [int(line) for line, _ in rows] == list(range(1, count + 1))
    assert all(documents[token]["email"] == f"p{int(line) - 1}@example.com" for line, token in rows)


def test_ctrl_c_ends_in_order_and_says_how_to_go_on(moving: Import) -> None:
    with moving.running() as process:
        moving.wait_for_batches(3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"To go on: strongroom records import {moving.file}" in said
    assert "24 hours" not in said
    done = moving.finished_batches * 10
    assert 0 < done < COUNT
    assert len(all_documents(moving.server, PEOPLE)) == done
    assert json.loads(moving.state.read_text().splitlines()[-1])["paused"] is True
    assert f"Going on after line {done}: {done:,} records are done." in moving.run()
    check_all_there(moving)


def test_a_second_ctrl_c_ends_at_once(moving: Import) -> None:
    with moving.running() as process:
        moving.wait_for_batches(3)
        os.killpg(moving.server.pid, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            while "Stopping after what is on its way" not in process.stderr.readline():
                pass
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == -signal.SIGINT
        finally:
            os.killpg(moving.server.pid, signal.SIGCONT)
    moving.run()
    check_all_there(moving)


def test_ctrl_c_while_the_file_is_checked(moving: Import) -> None:
    moving.file.unlink()
    moving.file.write_text('{"a":1}\n' * 3_000_000)
    with moving.running("--json") as process:
        read_events(process.stdout, lambda each: each["event"] == "checking")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["imported"] == 0
    assert not moving.state.exists()
    assert all_documents(moving.server, PEOPLE) == {}


def test_a_server_that_goes_away_is_waited_for(moving: Import) -> None:
    with moving.running("--json") as process:
        moving.wait_for_batches(3)
        moving.server.stop()
        read_events(process.stdout, lambda each: each["event"] == "waiting" and each["waited_seconds"] > 1)
        moving.server.start()
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    events = [json.loads(line) for line in out.splitlines()]
    assert "resumed" in [each["event"] for each in events]
    assert (events[-1]["event"], events[-1]["imported"], events[-1]["refused"]) == ("finished", COUNT, 0)
    check_all_there(moving)


def test_ctrl_c_while_the_server_is_away(moving: Import) -> None:
    with moving.running("--json") as process:
        moving.wait_for_batches(3)
        moving.server.kill_all()
        read_events(process.stdout, lambda each: each["event"] == "waiting")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "stopped"
    assert "24 hours" in last["detail"]
    assert "Is the vault running?" in moving.run(exits=1)  # at its beginning it does not wait
    moving.server.start()
    moving.run()
    check_all_there(moving)


def test_a_file_that_grows_while_it_is_read(moving: Import) -> None:
    beginning = f'{{"email":"p{COUNT}@exam'
    with moving.running() as process:
        moving.wait_for_batches(3)
        with moving.file.open("a") as file:
            file.write(beginning)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"has grown by {len(beginning)} bytes" in said
    check_all_there(moving)
    with moving.file.open("a") as file:
        file.write('ple.com"}\n')
    many(moving.file, COUNT + 1, 20)
    assert "has grown" in moving.run()
    check_all_there(moving, COUNT + 21)
    assert "was finished before" in moving.run()


def test_a_last_line_without_an_end_that_grows_is_pointed_out(moving: Import) -> None:
    moving.file.write_bytes(moving.file.read_bytes()[:-1])
    with moving.running() as process:
        moving.wait_for_batches(3)
        with moving.file.open("a") as file:
            file.write(" ")
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"Line {COUNT} had no end" in said
    check_all_there(moving)


def small_files(size: int) -> Callable[[], None]:
    """For this process no file grows beyond so many bytes, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("name", "batch", "size", "refused"),
    [
        ("tokens.csv", 50, 8_000, 0),
        ("people.jsonl.refused.jsonl", 50, 9_000, 500),
        ("people.jsonl.strongroom-import", 5, 6_000, 0),
    ],
)
def test_a_full_disk_stops_it_and_nothing_is_lost_or_double(
    moving: Import, name: str, batch: int, size: int, refused: int
) -> None:
    lines = moving.file.read_text().splitlines(keepends=True)
    # Wherever the tokens are not what fills the disk, there are none.
    moving.options = ["--batch", str(batch)] + (moving.options[2:] if name == "tokens.csv" else [])
    moving.file.write_text("".join(lines[:300]) + '{"email":5}\n' * refused + "".join(lines[300:]))

    said = moving.run(exits=1, before=small_files(size))

    assert f"{name} cannot be written: File too large" in said
    assert "goes on where it stopped" in said
    assert 0 < len(all_documents(moving.server, PEOPLE)) < COUNT
    moving.run(exits=3 if refused else 0)
    if name == "tokens.csv":
        check_all_there(moving)
    emails = [each["email"] for each in all_documents(moving.server, PEOPLE).values()]
    assert sorted(emails) == sorted(f"p{number}@example.com" for number in range(COUNT))
    if refused:
        found = [json.loads(line)["line"] for line in moving.report.read_text().splitlines()]
        assert found == list(range(301, 301 + refused))
