"""Moving in: the real command, a real server, and every kind of file that a customer may have."""

from __future__ import annotations

import csv
import gzip
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

Run = Callable[..., subprocess.CompletedProcess[str]]
CANARY = "hildegard"
FIELDS: dict[str, Any] = {
    "email": {"type": "string", "x-index": "unique", "x-normalize": "email"},
    "phone": {"type": "string", "x-index": "lookup", "x-normalize": "phone"},
    "age": {"type": "integer"},
}


def credential_file(server: Server, folder: Path) -> dict[str, str]:
    file = folder / "credential"
    file.write_text(server.credential + "\n")
    file.chmod(0o600)
    return {"STRONGROOM_SERVER": server.url, "STRONGROOM_CREDENTIAL_FILE": str(file)}


@pytest.fixture
def here(server: Server, tmp_path: Path) -> dict[str, str]:
    return credential_file(server, tmp_path)


@pytest.fixture
def people(define: Callable[..., str]) -> str:
    """A collection of its own for each test."""
    return define(FIELDS)


@pytest.fixture
def moved(strongroom: Run, here: dict[str, str], people: str) -> Callable[..., str]:
    """Imports into that collection, asserts the exit code and gives what was said."""

    def run(*arguments: str | Path, exits: int = 0, **options: Any) -> str:
        result = strongroom(
            "records", "import", *arguments, "--collection", people, environment=here, **options
        )
        assert result.returncode == exits, (arguments, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr
        assert CANARY not in (result.stdout + result.stderr).lower()
        return result.stdout + result.stderr

    return run


@pytest.fixture
def stored(api: Api, people: str) -> Callable[[], list[dict[str, Any]]]:
    """All documents of that collection, in the order in which they were stored."""
    return lambda: all_of(api, people)


def all_of(api: Api, collection: str) -> list[dict[str, Any]]:
    path = f"/v1/collections/{collection}/records"
    cursor, tokens = "", []
    while cursor is not None:
        page = api.get(f"{path}?limit=1000" + (f"&cursor={cursor}" if cursor else "")).gives(200)
        tokens += [item["token"] for item in page["items"]]
        cursor = page["next_cursor"]
    documents = []
    for start in range(0, len(tokens), 500):
        operations = [
            {"op": "get", "token": token, "reveal": "plain"} for token in tokens[start : start + 500]
        ]
        items = api.post(f"{path}/bulk", {"operations": operations}).gives(200)["items"]
        documents += [item["data"] for item in items]
    return documents


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def many(path: Path, count: int, start: int = 0) -> Path:
    with path.open("a") as file:
        file.writelines(f'{{"email":"p{number}@example.com"}}\n' for number in range(start, start + count))
    return path


def emails(documents: list[dict[str, Any]]) -> list[str]:
    return sorted(document["email"] for document in documents)


def numbered(count: int) -> list[str]:
    return sorted(f"p{number}@example.com" for number in range(count))


def report(path: Path) -> list[tuple[int, str, str]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["line"], line["pointer"], line["rule"]) for line in lines]


def test_a_table_with_all_that_tables_have(
    moved: Callable[..., str], stored: Callable[[], Any], api: Api, people: str, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "crm.csv",
        "\ufeffID,E-Mail,age,address.street,Note,ends,land,tel\r\n"
        'K1,Ada@Example.com,36,"12, Main St","two\r\nlines ""quoted""",,DE,030 1234567\r\n'
        "K2,hildegard.bad,,,,,,\r\n"
        "K3,bob@example.com,hildegard,,,,,\r\n"
        "\r\n"
        "K4,cyd@example.com,,,,2090-01-02,FR,01 23 45 67 89\r\n"
        'K5,"hildegard"x,,,,,,\r\n'
        "K6,ADA@example.com,,,,,,\r\n"
        "K7,hildegard@example.com,1\r\n"
        "K8,dan@example.com,,,,2001-01-01,,\r\n",
    )
    said = moved(
        file, "--map", "E-Mail=email", "--map", "ends=@expires_at", "--map", "land=@region", "--map", "tel=phone",
        "--map", "age=age", "--drop", "ID", "--tokens", tmp_path / "tokens.csv", "--key", "ID", "--batch", "2", exits=3,
    )  # fmt: skip
    assert "2 records imported, 6 refused" in said
    refusals = file.with_name("crm.csv.refused.jsonl")
    assert str(refusals) in said
    assert report(refusals) == [
        (4, "/email", "x-normalize"), (5, "/age", "type"), (8, "", "quotes"), (9, "/email", "duplicate"),
        (10, "", "cells"), (11, "/expires_at", "past"),
    ]  # fmt: skip
    # Batches of one import are on their way together, so either may be first.
    assert sorted(stored(), key=lambda document: str(document["email"])) == [
        {"email": "Ada@Example.com", "age": 36, "address": {"street": "12, Main St"},
         "Note": 'two\r\nlines "quoted"', "phone": "030 1234567"},
        {"email": "cyd@example.com", "phone": "01 23 45 67 89"},
    ]  # fmt: skip
    (head, ada, cyd) = list(csv.reader((tmp_path / "tokens.csv").read_text().splitlines()))
    assert head == ["line", "ID", "token"]
    assert (ada[:2], cyd[:2]) == (["2", "K1"], ["7", "K4"])
    path = f"/v1/collections/{people}/records/{cyd[2]}"
    assert api.get(path).gives(200)["expires_at"] == "2090-01-02T00:00:00.000000Z"
    assert [each["token"] for each in api.lookup("phone", "+33123456789", people)["items"]] == [cyd[2]]
    for name in ("tokens.csv", "crm.csv.refused.jsonl", "crm.csv.strongroom-import"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        content = (tmp_path / name).read_text().lower()
        assert CANARY not in content
        assert "ada@" not in content


def test_lines_of_json_packed_and_exact(
    moved: Callable[..., str], stored: Callable[[], Any], tmp_path: Path
) -> None:
    lines = [
        '{"email":"a@example.com","big":1180591620717411303424,"price":1.10}',
        '{"email":"b@example.com"',
        '{"email":"b@example.com","hildegard":1,"hildegard":2}',
        '["hildegard"]',
        "",
        '{"email":5}',
        '{"email":"c@example.com","note":"' + "x" * 1_048_600 + '"}',
        '{"email":"d@example.com"}',
    ]
    file = tmp_path / "people.jsonl.gz"
    half = len(lines) // 2
    packed = [
        gzip.compress("".join(f"{line}\n" for line in part).encode()) for part in (lines[:half], lines[half:])
    ]
    file.write_bytes(b"".join(packed))
    moved(file, exits=3)
    assert report(tmp_path / "people.jsonl.gz.refused.jsonl") == [
        (2, "", "unexpected-end"), (3, "", "duplicate-key"), (4, "", "type"), (6, "/email", "type"), (7, "", "too-large"),
    ]  # fmt: skip
    first, second = stored()
    assert (first["big"], str(first["price"])) == (2**70, "1.10")
    assert second == {"email": "d@example.com"}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("packed", [False, True])
def test_standard_input(
    moved: Callable[..., str],
    stored: Callable[[], Any],
    tmp_path: Path,
    form: str,
    packed: bool,  # noqa: FBT001
) -> None:
    text = "email\nÄnn@example.com\n" if form == "csv" else '{"email":"Änn@example.com"}\n'
    data = text.encode()
    if packed:
        file = tmp_path / "piped"
        file.write_bytes(gzip.compress(data))
        with file.open("rb") as stream:
            moved("-", "--format", form, stdin=stream, input=None)
    else:
        moved("-", "--format", form, input=text, encoding="utf-8")
    assert stored() == [{"email": "Änn@example.com"}]
    assert "name of the file does not say it" in moved("-", exits=2)


def test_standard_input_goes_on_if_it_is_the_same(
    moved: Callable[..., str], stored: Callable[[], Any], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    lines = [f'{{"email":"p{number}@example.com"}}\n' for number in range(50)]
    options = ("-", "--format", "jsonl", "--state", state, "--batch", "10", "--refused", tmp_path / "refused")
    moved(*options, input="".join(lines))
    # As if it had been killed after its third batch.
    kept = [line for line in state.read_text().splitlines(keepends=True) if '"finished"' not in line]
    state.write_text("".join(kept[:5]))
    other = [*lines[:10], '{"email":"hildegard@example.com"}\n', *lines[11:]]
    assert "not what this import was begun with" in moved(*options, input="".join(other), exits=1)
    assert "not what this import was begun with" in moved(*options, input="".join(lines[:20]), exits=1)
    assert "Going on after line 30" in moved(*options, input="".join(lines))
    assert emails(stored()) == numbered(50)


@pytest.mark.parametrize(
    ("encoding", "option"),
    [("utf-8-sig", None), ("utf-16", "utf-16"), ("cp1252", "windows-1252"), ("utf-16-be", "utf-16-be")],
)
def test_encodings(
    moved: Callable[..., str], stored: Callable[[], Any], tmp_path: Path, encoding: str, option: str | None
) -> None:
    file = write(tmp_path / "file.csv", "email,name\njörg@example.com,Jürgen\n", encoding)
    moved(file, *(["--encoding", option] if option else []))
    assert stored() == [{"email": "jörg@example.com", "name": "Jürgen"}]


BAD_FILES = [
    (
        "email\nok@example.com\nhildegard\xfc@example.com\n".encode("latin-1"),
        "Line 3 holds a byte that is not utf-8",
    ),
    ("email\nhildegard@example.com\n".encode("utf-16"), "byte-order mark of utf-16"),
    (b'email,n\na@example.com,1\nb@example.com,"hildegard\nc@example.com,2\n', "Line 3: the quoted cell"),
    (b"name,n\nhildegard,1\n", "demands 'email'"),
    (b"email,e-mail\nhildegard,1\n", "--map e-mail=email"),
    (b"email,email\nhildegard,1\n", "a column twice"),
    (b"hildegard@example.com,Hilde\nada@example.com,Ada\n", "does not look like a header"),
    (b"email;n\nhildegard;1\n", "--delimiter"),
    (b"", "empty"),
    (b'email,"n\n', "Line 1: the quoted cell"),
    (gzip.compress(b"email\n" + b"hildegard@example.com\n" * 99)[:-9], "ends too early"),
    (b"email\rhildegard@example.com\r", "carriage return"),
]


@pytest.mark.parametrize(("content", "said"), BAD_FILES, ids=[said for _, said in BAD_FILES])
def test_a_file_that_cannot_be_imported_changes_nothing(
    moved: Callable[..., str], api: Api, people: str, tmp_path: Path, content: bytes, said: str
) -> None:
    schema = {"type": "object", "properties": FIELDS, "required": ["email"]}
    api.put(f"/v1/collections/{people}", {"schema": schema}).gives(200)
    file = tmp_path / "file.csv"
    file.write_bytes(content)
    there = set(tmp_path.iterdir())
    answer = moved(file, "--tokens", tmp_path / "tokens.csv", exits=1)
    assert said in answer
    assert "Nothing was sent." in answer
    assert all_of(api, people) == []
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--map", "Mail=email"], 1, "no column 'Mail'"),
        (["--drop", "Mail"], 1, "no column 'Mail'"),
        (["--map", "email"], 2, "COLUMN=FIELD"),
        (["--map", "email=@id"], 2, "@expires_at and @region"),
        (["--delimiter", "||"], 2, "one character"),
        (["--encoding", "klingon"], 1, "no text encoding"),
        (["--batch", "1001"], 2, "1001"),
        (["--key", "email"], 2, "--tokens"),
        (["--format", "jsonl", "--map", "a=b"], 2, "lines of JSON have none"),
        (["--dry-run", "--tokens", "t"], 2, "dry run"),
        (["--tokens", "t", "--refused", "t"], 2, "files of their own"),
        (["--tokens", "/nowhere/at/all/t.csv"], 1, "No such file"),
    ],
)
def test_wrong_options_change_nothing(
    moved: Callable[..., str],
    stored: Callable[[], Any],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    file = write(tmp_path / "file.csv", "email\nhildegard@example.com\n")
    assert said in moved(file, *arguments, exits=code)
    assert stored() == []


def test_a_finished_import_is_not_done_again(
    moved: Callable[..., str], stored: Callable[[], Any], tmp_path: Path
) -> None:
    file = many(tmp_path / "file.jsonl", 30)
    moved(file, "--tokens", tmp_path / "tokens.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "was finished before: 30 records imported" in moved(file, "--tokens", tmp_path / "tokens.csv")
    assert "another --tokens" in moved(file, exits=1)
    assert "another --batch" in moved(file, "--tokens", tmp_path / "tokens.csv", "--batch", "7", exits=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "has not made it" in moved(
        file, "--state", tmp_path / "other", "--tokens", tmp_path / "tokens.csv", exits=1
    )
    many(file, 1, start=5)
    file.write_bytes(file.read_bytes().replace(b"p7@", b"q7@"))
    assert "is not the file that this import was begun with" in moved(
        file, "--tokens", tmp_path / "tokens.csv", exits=1
    )
    assert emails(stored()) == numbered(30)


def test_a_file_that_has_grown_is_imported_on(
    moved: Callable[..., str], stored: Callable[[], Any], tmp_path: Path
) -> None:
    file = many(tmp_path / "file.jsonl", 25)
    moved(file, "--tokens", tmp_path / "tokens.csv", "--batch", "10")
    many(file, 15, start=25)
    said = moved(file, "--tokens", tmp_path / "tokens.csv", "--batch", "10")
    assert "has grown" in said
    assert "40 records imported" in said
    assert emails(stored()) == numbered(40)
    lines = [row[0] for row in csv.reader((tmp_path / "tokens.csv").read_text().splitlines())]
    assert lines == ["line", *(str(number) for number in range(1, 41))]


def test_a_dry_run_tells_what_the_import_would_say_and_stores_nothing(
    moved: Callable[..., str], stored: Callable[[], Any], api: Api, people: str, tmp_path: Path
) -> None:
    api.create({"email": "taken@example.com"}, people)
    file = many(tmp_path / "file.jsonl", 30)
    with file.open("a") as more:
        more.write(
            '{"email":"TAKEN@example.com"}\n{"email":"P3@Example.com"}\n{"email":5}\n{"email":"p40@example.com"}\n'
        )
    for _ in range(2):
        said = moved(file, "--dry-run", "--batch", "10", exits=3)
        assert "31 records would be imported, 3 refused" in said
        assert len(stored()) == 1
    told = report(tmp_path / "file.jsonl.dry-run.refused.jsonl")
    assert told == [(31, "/email", "duplicate"), (32, "/email", "duplicate"), (33, "/email", "type")]
    assert not (tmp_path / "file.jsonl.strongroom-import").exists()
    moved(file, "--batch", "10", exits=3)
    assert report(tmp_path / "file.jsonl.refused.jsonl") == told
    assert len(stored()) == 32


def test_what_the_server_refuses_as_a_whole_stops_it(
    moved: Callable[..., str],
    strongroom: Run,
    here: dict[str, str],
    define: Callable[..., str],
    tmp_path: Path,
) -> None:
    file = many(tmp_path / "file.jsonl", 5)
    strict = define(FIELDS, purpose_required=True)
    arguments = ("records", "import", file, "--collection", strict)
    refused = strongroom(*arguments, environment=here)
    assert refused.returncode == 1
    assert "--purpose" in refused.stderr
    assert "run the same command again" in refused.stderr
    assert strongroom(*arguments, "--purpose", "moving-in", environment=here).returncode == 0
    nowhere = strongroom("records", "import", file, "--collection", "nowhere", environment=here)
    assert nowhere.returncode == 1
    assert "strongroom collections list" in nowhere.stderr
    wrong = write(tmp_path / "wrong", "strongroom_" + "A" * 43)
    wrong.chmod(0o600)
    assert "init --new-credential" in moved(file, "--credential-file", wrong, exits=1)


def test_after_a_day_it_asks_before_it_sends_again(
    moved: Callable[..., str], stored: Callable[[], Any], tmp_path: Path
) -> None:
    file = many(tmp_path / "file.jsonl", 30)
    state = tmp_path / "file.jsonl.strongroom-import"
    moved(file, "--batch", "10")
    lines = [json.loads(line) for line in state.read_text().splitlines()][:3]
    old = [line | {"at": line["at"] - 24 * 3600} for line in lines]
    state.write_text("".join(json.dumps(line) + "\n" for line in old))
    said = moved(file, "--batch", "10", exits=1)
    assert "after line 10" in said
    assert "--resend" in said
    moved(file, "--batch", "10", "--resend")
    assert emails(stored()) == numbered(30)
    # One that was paused has nothing on its way, and may be of any age.
    state.write_text(
        "".join(json.dumps(line) + "\n" for line in [*old, {"paused": True, "at": old[-1]["at"]}])
    )
    moved(file, "--batch", "10")


@pytest.mark.counted
def test_memory_does_not_grow_with_the_file(here: dict[str, str], people: str, tmp_path: Path) -> None:
    # VmHWM, not getrusage: that one begins with what the parent had when it forked.
    measuring = (
        "import atexit, pathlib, sys\n"
        "from vault.cli import main\n"
        "def peak():\n"
        "    lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "    print(next(line for line in lines if line.startswith('VmHWM')).split()[1], file=sys.stderr)\n"
        "atexit.register(peak)\n"
        "main()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    peaks = []
    for start_at, count in ((0, 2_000), (10**6, 20_000)):
        file = many(tmp_path / f"{count}.jsonl", count, start=start_at)
        done = subprocess.run(
            [sys.executable, "-P", "-c", measuring, "records", "import", file, "--collection", people],
            env=environment | here, capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        peaks.append(int(done.stderr.splitlines()[-1]))
    assert max(peaks) < 96 * 1024, peaks  # KiB
    assert peaks[1] - peaks[0] < 8 * 1024, peaks  # ten times as many records
