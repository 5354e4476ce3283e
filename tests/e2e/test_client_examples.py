"""The examples of docs/client.md, run as they stand there against a real server."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import strongroom
from strongroom import Client

if TYPE_CHECKING:
    from conftest import Server

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BEYOND_IMPORTS = 10

FLASK = """
from example import app

asks = app.test_client()
answers = [asks.post("/people", json={"email": EMAIL, "name": "Ada Example"}) for _ in range(2)]
print(json.dumps([[answer.status_code, answer.get_json()] for answer in answers]))
"""
DJANGO = """
import django
from django.conf import settings
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    STRONGROOM={
        "server": os.environ["VAULT"], "credential_file": os.environ["VAULT_CREDENTIAL"], "purpose": "profile"
    },
)
django.setup()
import example
from django.test import Client

urlpatterns = [path("people/<uuid:token>", example.profile)]
answers = [Client().get(f"/people/{token}") for token in (TOKEN, "00000000-0000-4000-8000-000000000000")]
print(json.dumps([answers[0].status_code, answers[0].json(), answers[1].status_code]))
"""
FASTAPI = """
import asyncio
import httpx
from example import app

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as asks:
        return await asks.get("/invoices/17/address", params={"customer": TOKEN})

answer = asyncio.run(ask())
print(json.dumps([answer.status_code, answer.json()]))
"""


def section(heading: str) -> str:
    return f"\n{PAGE.read_text()}".partition(f"\n{heading}\n")[2]


def example(heading: str) -> str:
    """The first example under a heading."""
    return re.search(r"```python\n(.*?)```", section(heading), re.DOTALL)[1]  # type: ignore[index]


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Callable[..., Any]:
    """Runs a program beside an example in a new process, and reads the JSON that it prints."""
    credential = tmp_path / "credential"
    credential.touch(mode=0o600)
    credential.write_text(server.credential)

    def run_example(source: str, program: str = "import example\nprint('null')", **names: str) -> Any:
        (tmp_path / "example.py").write_text(source)
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        (tmp_path / "program.py").write_text(f"import json, os\n{given}{program}")
        done = subprocess.run(
            [sys.executable, "-W", "error", "program.py"],
            cwd=tmp_path,
            env={"VAULT": server.url, "VAULT_CREDENTIAL": "credential", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout)

    return run_example


@pytest.fixture
def vault(server: Server) -> Any:
    with Client(server.url, credential=server.credential) as client:
        yield client


def last_purpose(vault: Client, token: str) -> str | None:
    return next(vault.audit(token=token)).purpose


@pytest.mark.parametrize("heading", ["### Flask", "### Django", "### FastAPI", "### A batch job"])
def test_an_example_has_ten_lines_beyond_its_imports(heading: str) -> None:
    lines = [line for line in example(heading).splitlines() if line.strip()]
    beyond = [line for line in lines if not line.startswith(("import ", "from "))]
    assert len(beyond) <= BEYOND_IMPORTS


def test_flask(run: Callable[..., Any], vault: Client, email: str) -> None:
    (status, body), refused = run(example("### Flask"), FLASK, EMAIL=email)
    assert (status, refused) == (201, [409, {"taken": ["email"]}])
    assert vault.get("users", body["token"], reveal="plain").data["email"] == email
    (created,) = vault.audit(token=body["token"], action="record.create", result="done")
    assert created.purpose == "sign-up"


def test_django(run: Callable[..., Any], vault: Client, email: str) -> None:
    token = vault.create("users", {"email": email, "name": "Ada Example", "phone": "+44 20 7946 0735"}).token
    found, document, missing = run(example("### Django"), DJANGO, TOKEN=str(token))
    assert (found, missing) == (200, 404)
    assert document.keys() == {"name", "email"}
    assert email not in document.values()
    assert last_purpose(vault, str(token)) == "profile"


def test_fastapi(run: Callable[..., Any], vault: Client, email: str) -> None:
    token = vault.create("users", {"email": email, "name": "Ada Example"}).token
    assert run(example("### FastAPI"), FASTAPI, TOKEN=str(token)) == [200, {"name": "Ada Example"}]
    assert last_purpose(vault, str(token)) == "invoice:17"


def test_a_batch_job(run: Callable[..., Any], vault: Client, tmp_path: Path, email: str) -> None:
    people = [{"id": str(n), "email": f"{n}.{email}", "name": f"Ada {n}"} for n in range(1200)]
    people[700]["email"] = f"5.{email}"
    people[800]["email"] = "no address"
    # As a spreadsheet writes it.
    with (tmp_path / "customers.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["id", "email", "name"])
        writer.writeheader()
        writer.writerows(people)
    # The shared server has one job of this name.
    job = example("### A batch job").replace("customers-1", email.replace("@", "-"))
    written = []
    for _ in range(2):
        run(job)
        written.append((tmp_path / "tokens.csv").read_text())
    outcome = dict(line.split(",") for line in written[0].splitlines())
    assert list(outcome) == [row["id"] for row in people]
    assert (outcome.pop("700"), outcome.pop("800")) == ("duplicate-value", "schema-violation")
    assert len(set(outcome.values())) == 1198
    assert written[0] == written[1]
    (found,) = vault.lookup("users", "email", f"1199.{email}", reveal="plain")
    assert (str(found.token), found.data["name"]) == (outcome["1199"], "Ada 1199")


def test_the_short_examples(server: Server, tmp_path: Path, email: str) -> None:
    """Those without a file of their own run where ``vault`` and what they speak of are there."""
    credential = tmp_path / "credential"
    credential.touch(mode=0o600)
    credential.write_text(server.credential)
    first = example("# The Python client").replace("https://vault.example.com", server.url)
    again = example("## When a request is sent again")
    many = example("## Many at once")
    made = []

    class Once(Client):
        """Does not hear the first answer."""

        def create(self, *arguments: Any, **options: Any) -> strongroom.RecordMetadata:
            created = super().create(*arguments, **options)
            made.append(created)
            if len(made) == 1:
                error = strongroom.ConnectionFailed("Lost.")
                error.outcome_unknown, error.idempotency_key = True, "given"
                raise error
            return created

    own = {"ada@example.com": f"ada.{email}", "grace@example.com": f"grace.{email}"}
    for written, replaced in [*own.items(), ("vault-credential", str(credential))]:
        first, again, many = (text.replace(written, replaced) for text in (first, again, many))
    many = many.replace("Grace@Example.com", f"GRACE.{email}")
    exec(first, {})  # noqa: S102 - our own page
    with Once(server.url, credential=server.credential) as vault:
        names: dict[str, Any] = {
            "vault": vault,
            "person": {"name": "Ada"},
            "StrongroomError": strongroom.StrongroomError,
        }
        exec(again, names)  # noqa: S102 - our own page
        assert names["token"] == made[1].token
        names |= {person: vault.create("users", {"name": person}).token for person in ("ada", "alan")}
        exec(many, names)  # noqa: S102 - our own page
        assert vault.get("users", names["ada"], reveal="plain").data == {"name": "Ada King"}
    assert names["read"].record.data == {"name": "alan"}
    assert [record.token for record in names["found"].found] == [names["created"].token]
