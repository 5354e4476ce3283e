"""Moving out: masked by default, plain for a reason, every record audited, and what goes out can come in again."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

Run = Callable[..., subprocess.CompletedProcess[str]]
FIELDS: dict[str, Any] = {
    "email": {"type": "string", "x-index": "unique", "x-normalize": "email", "x-mask": "email"},
    "age": {"type": ["integer", "null"]},
    "price": {"type": "number"},
    "vip": {"type": "boolean"},
    "address": {"type": "object", "properties": {"street": {"type": "string"}, "no": {"type": "integer"}}},
    "tags": {"type": "array"},
}
DOCUMENTS = (
    '{"email":"Ada@Example.com","age":36,"price":1.10,"vip":true,"address":{"street":"Main, 1","no":7,"floor":null}}',
    '{"email":"bob@example.com","age":null,"price":5,"tags":["a",{"b":1.0}],"free":"text","note":"two\\nlines\\r\\n"}',
    '{"email":"cyd@example.com","big":1180591620717411303424,"empty":"","address":{},"tags":[],"note":"=1+1"}',
    '{"email":"änne@example.com","vip":false,"a.b":{"c":"d"},"nothing":null}',
)


@pytest.fixture
def run(strongroom: Run, server: Server, tmp_path: Path) -> Callable[..., str]:
    file = tmp_path / "credential"
    file.write_text(server.credential + "\n")
    file.chmod(0o600)
    environment = {"STRONGROOM_SERVER": server.url, "STRONGROOM_CREDENTIAL_FILE": str(file)}

    def call(*arguments: str | Path, exits: int = 0, **options: Any) -> str:
        result = strongroom("records", *arguments, environment=environment, **options)
        assert result.returncode == exits, (arguments, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr
        return result.stdout + result.stderr

    return call


@pytest.fixture
def people(define: Callable[..., str], run: Callable[..., str], tmp_path: Path) -> str:
    """A collection with four records, one of which expires one day."""
    name = define(FIELDS)
    envelopes = [f'{{"data":{document},"expires_at":null}}' for document in DOCUMENTS]
    envelopes[1] = envelopes[1].replace("null}", '"2090-01-01T00:00:00Z"}')
    source = tmp_path / "source.jsonl"
    source.write_text("\n".join(envelopes), encoding="utf-8")
    run("import", source, "--envelope", "--collection", name)
    return name


def test_masked_unless_said_otherwise_and_audited(
    run: Callable[..., str], people: str, api: Api, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    assert "4 records exported masked" in run("export", "--collection", people, "--output", output)
    assert output.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert list(lines[0]) == [
        "token",
        "generation",
        "created_at",
        "updated_at",
        "expires_at",
        "data",
        "masked",
    ]
    assert lines[0]["data"]["email"] == "A***@E***.com"
    assert "Ada@" not in output.read_text()
    for line in lines:
        (entry, _) = api.audit(token=line["token"])
        assert (entry["action"], entry["reveal"], entry["purpose"]) == ("record.read", "masked", None)
    # What is masked does not come back in.
    run("import", output, "--envelope", "--collection", people, exits=3)
    rules = [
        json.loads(line)["rule"] for line in (tmp_path / "out.jsonl.refused.jsonl").read_text().splitlines()
    ]
    assert rules == ["masked-value"] * 4


def test_plain_needs_a_purpose_and_says_it(
    run: Callable[..., str], people: str, api: Api, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    options = ("export", "--collection", people, "--output", output, "--reveal", "plain")
    assert "--purpose" in run(*options, exits=2)
    assert api.audit(collection=people, action="record.read") == []
    run(*options, "--purpose", "move-out")
    entries = api.audit(collection=people, action="record.read")
    assert [(each["reveal"], each["purpose"]) for each in entries] == [("plain", "move-out")] * 4
    assert "Ada@Example.com" in output.read_text()
    assert "has not made it" in run(*options, "--purpose", "move-out", exits=1)


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.csv", "out.csv.gz"])
def test_what_goes_out_can_come_in_again(
    run: Callable[..., str], define: Callable[..., str], people: str, tmp_path: Path, name: str
) -> None:
    output = tmp_path / name
    run("export", "--collection", people, "--output", output, "--reveal", "plain", "--purpose", "move")
    if name.endswith(".gz"):
        assert output.read_bytes()[:2] == b"\x1f\x8b"
    other = define(FIELDS)
    run("import", output, "--envelope", "--collection", other, "--tokens", tmp_path / "t", "--key", "token")
    again = run(
        "export",
        "--collection",
        other,
        "--output",
        "-",
        "--reveal",
        "plain",
        "--purpose",
        "move",
        "--format",
        "jsonl",
    )
    found = [json.loads(line, parse_float=str) for line in again.splitlines() if line.startswith("{")]
    assert [line["data"] for line in found] == [
        json.loads(document, parse_float=str) for document in DOCUMENTS
    ]
    assert [line["expires_at"] for line in found].count(None) == 3
    with (tmp_path / "t").open() as file:
        (_, *rows) = csv.reader(file)
    assert [new for _, _, new in rows] == [line["token"] for line in found]
    assert {old for _, old, _ in rows}.isdisjoint(new for _, _, new in rows)


def test_some_fields_as_a_table_for_people(run: Callable[..., str], people: str, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    options = (
        "--collection",
        people,
        "--fields",
        "email, note, address",
        "--reveal",
        "plain",
        "--purpose",
        "list",
    )
    assert "1 cells begin as a formula does" in run("export", "--output", output, *options)
    run("export", "--output", tmp_path / "safe.csv", "--spreadsheet", *options)
    for path, note in ((output, "=1+1"), (tmp_path / "safe.csv", "'=1+1")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        assert list(rows[0])[5:] == [
            "data.email",
            "data.address.street",
            "data.address.no",
            "data.note",
            "data",
        ]
        assert [row["data.note"] for row in rows] == ["", "two\nlines\r\n", note, ""]
        assert (rows[0]["data.address.street"], rows[0]["data"]) == ("Main, 1", '{"address":{"floor":null}}')


def test_erased_records_stay_out(run: Callable[..., str], people: str, api: Api) -> None:
    lines = run("export", "--collection", people, "--output", "-").splitlines()
    tokens = [json.loads(line)["token"] for line in lines if line.startswith("{")]
    api.delete(f"/v1/collections/{people}/records/{tokens[2]}").gives(204)
    lines = run("export", "--collection", people, "--output", "-").splitlines()
    assert [json.loads(line)["token"] for line in lines if line.startswith("{")] == [*tokens[:2], tokens[3]]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--output", "-", "--json"], 2, "--output FILE"),
        (["--output", "x.jsonl", "--spreadsheet"], 2, "about CSV"),
        (["--output", "/nowhere/at/all/x.jsonl"], 1, "No such file"),
        (["--output", "x.jsonl", "--collection", "nowhere"], 1, "collections list"),
        ([], 2, "--output"),
    ],
)
def test_wrong_options(
    run: Callable[..., str], tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    assert said in run("export", *arguments, exits=code, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["credential"]


def test_json_for_programs(run: Callable[..., str], people: str, tmp_path: Path) -> None:
    said = run("export", "--collection", people, "--output", tmp_path / "x.csv.gz", "--json")
    events = [json.loads(line) for line in said.splitlines()]
    assert (events[-1]["event"], events[-1]["records"], events[-1]["gone"]) == ("finished", 4, 0)
    assert gzip.decompress((tmp_path / "x.csv.gz").read_bytes()).count(b"\n") == 5
