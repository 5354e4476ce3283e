from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vault import client as public
from vault.cli import main, walk
from vault.cli.by_hand import curl_lines, write_headers
from vault.cli.failure import Failure
from vault.cli.stage import Stage
from vault.cli.walk import Walk

CREDENTIAL = "strongroom_" + "a" * 43


def test_the_headers_file_is_new_and_private(tmp_path: Path) -> None:
    old = tmp_path / "curl-headers"
    old.write_text("old")
    old.chmod(0o666)
    path = write_headers(tmp_path, CREDENTIAL)
    assert path.read_text() == f"Authorization: Bearer {CREDENTIAL}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_headers_file_does_not_follow_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "curl-headers").symlink_to(elsewhere)
    write_headers(tmp_path, CREDENTIAL)
    assert elsewhere.read_text() == "mine"


def test_the_curl_lines_are_shell_with_every_value_on_standard_input(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    lines = curl_lines("http://127.0.0.1:8420", write_headers(folder, CREDENTIAL))
    (tmp_path / "curl").write_text(
        '#!/bin/sh\nprintf "%s\\0" "$@" >> "$LOG"\necho >> "$LOG"\ncat >> "$LOG.in"\n'
    )
    (tmp_path / "curl").chmod(0o700)
    subprocess.run(
        ["bash", "-eu", "-c", lines.replace("TOKEN=...", "TOKEN=t1")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    calls = [line.rstrip("\0").split("\0") for line in (tmp_path / "log").read_text().splitlines()]
    assert len(calls) == 7
    assert all(f"@{folder}/curl-headers" in call for call in calls)
    assert not any(
        "example.com" in part or "Grace" in part or CREDENTIAL in part for call in calls for part in call
    )
    bodies = (tmp_path / "log.in").read_text().replace("}\n{", "}\0{").split("\0")
    assert [list(json.loads(body)) for body in bodies] == [
        ["data"], ["field", "value"], ["city"], ["collection", "limit"],
    ]  # fmt: skip
    assert [call[-1].rpartition("/v1/")[2] for call in calls] == [
        "collections/users/records",
        "collections/users/records/lookup",
        "collections/users/records/t1",
        "collections/users/records/t1?reveal=plain",
        "collections/users/records/t1",
        "audit/search",
        "collections/users/records/t1",
    ]
    assert shlex.split(lines.splitlines()[1])[0] == "curl"


def test_made_up_people_have_numbers_that_nobody_owns() -> None:
    people = [walk._made_up_person() for _ in range(50)]
    assert len({person["email"] for person in people}) > 1
    assert all(
        person["phone"].startswith("+44 20 7946 0") and len(person["phone"]) == 16 for person in people
    )


class Refusing:
    """A client whose every call ends in one error."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def create(self, *_: Any) -> Any:
        self.calls += 1
        raise self.error


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    client: Any = Refusing(public.Unavailable("No keys."))
    with pytest.raises(Failure, match=r"Step 1 \(Store a person\) failed: No keys"):
        Walk(client, Stage(), tmp_path).run()


def test_somebody_left_from_a_walk_cut_short_is_walked_around(tmp_path: Path) -> None:
    client: Any = Refusing(public.Duplicate("Taken."))
    with pytest.raises(Failure, match="Step 1"):
        Walk(client, Stage(), tmp_path).run()
    assert client.calls > 1


def test_the_inspection_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Walk(Refusing(Exception()), Stage(), tmp_path)  # type: ignore[arg-type]
    subject._person = walk._made_up_person()
    subject._created = type("Created", (), {"token": None})()
    monkeypatch.setattr(
        walk, "raw_record", lambda *_: {"sealed_document": b"sealed", "wrapped_dek": b"\x01wrapped"}
    )
    with pytest.raises(walk._UnexpectedError, match="the search finds the wrapped key"):
        subject._inspect()
    (tmp_path / "db").write_bytes(b"\x01wrapped")
    subject._inspect()
    leak = tmp_path / "leak"
    for value in ("email", "name", "phone"):
        leak.write_text(subject._person[value])
        with pytest.raises(walk._UnexpectedError, match="no plain value"):
            subject._inspect()
    leak.write_text(subject._person["phone"].replace(" ", ""))
    with pytest.raises(walk._UnexpectedError, match="no plain value"):
        subject._inspect()


def test_a_vault_without_its_credential_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "strongroom.db").write_bytes(b"mine")
    refused = CliRunner().invoke(main, ["demo", "--data", str(tmp_path)])
    assert refused.exit_code == 1
    assert "init --new-credential" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["strongroom.db"]


def test_signals_mean_again_what_they_meant_before(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    (tmp_path / "strongroom.db").write_bytes(b"mine")
    CliRunner().invoke(main, ["demo", "--data", str(tmp_path)])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
