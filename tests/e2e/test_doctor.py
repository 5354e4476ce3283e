"""What ``strongroom doctor`` finds: every word provoked for real, and mended by the very command that it names."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import vault
from tests.faults.away_provider import AwayProvider
from tests.faults.expired_records import store_expired
from tests.faults.small_vault import SmallVault, make_empty_vault
from tests.old_databases import UNDO_0003
from vault import bootstrap
from vault.cli.doctor import command, database, surroundings, work
from vault.cli.doctor.findings import LEVELS, Code, Level
from vault.config import load_configuration
from vault.core import job_ports
from vault.core.clock import system_clock
from vault.storage import diagnosis

if TYPE_CHECKING:
    from conftest import Server

pytestmark = [
    pytest.mark.own_home,
    pytest.mark.sqlite_only("looks at the database's file and its neighbours, and damages them"),
]

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
OF_THE_MACHINE = {"clock-not-synchronised", "disk-low"}
"""What depends on where the tests run."""
UNTOUCHED = {"fine", "log-unanchored"}
CHECKS = {
    "configuration", "files", "clock", "disk", "database", "schema", "keys", "access log", "processes", "jobs",
    "leftovers",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("STRONGROOM_")]:
        monkeypatch.delenv(name)


class Report:
    """What doctor said.

    Attributes:
        findings: as JSON has them.
        codes: their words, but for those of the machine.
    """

    def __init__(self, text: str, exit_code: int) -> None:
        document = json.loads(text)
        assert document.keys() == {"ok", "release", "findings"}
        self.findings: list[dict[str, Any]] = document["findings"]
        for each in self.findings:
            assert each.keys() == {"check", "level", "code", "sentence", "mend"}
            assert each["level"] == LEVELS[Code(each["code"])]
            assert each["sentence"]
        levels = {each["level"] for each in self.findings}
        assert document["ok"] is not bool(levels & {"warning", "error"})
        assert exit_code == (0 if document["ok"] else 3)
        assert {each["check"] for each in self.findings} >= CHECKS - {"keys"}
        self.codes = {each["code"] for each in self.findings} - OF_THE_MACHINE

    def of(self, code: str) -> dict[str, Any]:
        """The only finding with this code."""
        (found,) = [each for each in self.findings if each["code"] == code]
        return found

    @property
    def problems(self) -> set[str]:
        return {
            each["code"] for each in self.findings if each["level"] in {"warning", "error"}
        } - OF_THE_MACHINE


def doctor(home: Path) -> Report:
    """Examine a configuration file or a data folder."""
    option = "--config" if home.suffix == ".toml" else "--data"
    result = CliRunner().invoke(command, [option, str(home), "--json"], catch_exceptions=False)
    assert len(result.output.splitlines()) == 1
    return Report(result.output, result.exit_code)


def run_mend(mend: str, **options: Any) -> None:
    """Type the command that a finding names."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    done = subprocess.run(
        ["bash", "-c", mend], env=kept, capture_output=True, text=True, check=False, timeout=60, **options
    )
    assert done.returncode == 0, (mend, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def parted_template(strongroom: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault whose key lies apart from its data: nothing to mend."""
    folder = tmp_path_factory.mktemp("parted")
    config = folder / "strongroom.toml"
    config.write_text(
        '[database]\nurl = "sqlite:data/strongroom.db"\n[providers.disk]\ntype = "file"\npath = "keys/keys.json"\n'
        '[keyrings.default]\nprovider = "disk"\nkey = "records"\n'
    )
    config.chmod(0o600)
    made = strongroom("init", "--config", config, "--credential-file", folder / "admin-credential")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def config(parted_template: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    shutil.copytree(parted_template, folder)
    return folder / "strongroom.toml"


@pytest.fixture
def path(config: Path) -> Path:
    """The database."""
    return config.parent / "data" / "strongroom.db"


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_a_vault_in_order(config: Path) -> None:
    report = doctor(config)

    assert report.codes == UNTOUCHED
    assert {each["check"] for each in report.findings} == CHECKS
    assert "3 entries, none of them covered by a checkpoint" in report.of("log-unanchored")["sentence"]
    assert "unwraps what this vault needs" in str(report.findings)


class TestConfiguration:
    """The file, and how the server is reached."""

    def test_invalid(self, config: Path) -> None:
        with config.open("a") as file:
            file.write("[server]\nlistne = 'hildegard'\n")

        report = doctor(config)

        assert report.codes == {"configuration-invalid", "not-checked"}
        assert "server.listne" in report.of("configuration-invalid")["sentence"]
        assert "hildegard" not in str(report.findings)
        assert str(config) in report.of("configuration-invalid")["mend"]

    def test_an_invalid_variable(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRONGROOM_SEVER__LISTEN", "hildegard")

        report = doctor(config)

        assert "STRONGROOM_SEVER__LISTEN" in report.of("configuration-invalid")["sentence"]
        assert "hildegard" not in str(report.findings)

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert doctor(tmp_path / "nothing.toml").problems == {"configuration-invalid"}

    def test_writable_by_others(self, config: Path) -> None:
        config.chmod(0o664)

        report = doctor(config)

        assert report.problems == {"configuration-writable"}
        run_mend(report.of("configuration-writable")["mend"])
        assert doctor(config).codes == UNTOUCHED

    def test_plain_http_to_others(self, config: Path) -> None:
        with config.open("a") as file:
            file.write('[server]\nlisten = "0.0.0.0:8420"\ninsecure_http = true\n')

        report = doctor(config)

        assert report.codes == UNTOUCHED | {"insecure-http"}
        assert report.problems == set()

    def test_tls_that_cannot_be_had(self, config: Path) -> None:
        (config.parent / "server.pem").write_text("no certificate")
        with config.open("a") as file:
            file.write('[server.tls]\ncertificate = "server.pem"\nkey = "server.key"\n')
        assert doctor(config).problems == {"tls-unusable"}

        (config.parent / "server.key").write_text("no key")
        (config.parent / "server.key").chmod(0o640)
        assert doctor(config).problems == {"tls-unusable"}

    def test_no_vault(self, config: Path, path: Path) -> None:
        for each in path.parent.iterdir():
            each.unlink()
        shutil.rmtree(config.parent / "keys")

        report = doctor(config)

        assert report.problems == {"vault-missing"}
        assert "not-checked" in report.codes
        assert not path.exists()
        run_mend(report.of("vault-missing")["mend"])
        assert doctor(config).codes == UNTOUCHED

    def test_no_folder_at_all(self, tmp_path: Path) -> None:
        assert doctor(tmp_path / "nothing").problems == {"vault-missing"}
        assert not (tmp_path / "nothing").exists()

    def test_a_path_that_is_none(self, config: Path) -> None:
        config.write_text(config.read_text().replace("strongroom.db", "x" * 300))

        report = doctor(config)

        assert report.problems == {"file-unreachable"}
        assert "too long" in report.of("file-unreachable")["sentence"]


class TestFiles:
    """Modes, owners, and what lies beside what."""

    @pytest.mark.parametrize(
        ("name", "mode", "code"),
        [
            ("data", 0o755, "folder-mode"),
            ("keys", 0o711, "folder-mode"),
            ("data/strongroom.db", 0o640, "file-mode"),
            ("data/strongroom.db.server", 0o604, "file-mode"),
            ("keys/keys.json", 0o640, "key-file-mode"),
            ("admin-credential", 0o644, "secret-file-mode"),
        ],
    )
    def test_a_mode(self, config: Path, name: str, mode: int, code: str) -> None:
        (config.parent / "data" / "strongroom.db.server").touch(mode=0o600)
        (config.parent / name).chmod(mode)

        report = doctor(config)

        assert report.problems - {"provider-misconfigured"} == {code}
        assert f"{mode:04o}" in report.of(code)["sentence"]
        run_mend(report.of(code)["mend"])
        assert doctor(config).codes == UNTOUCHED

    def test_the_credential_that_the_environment_names(
        self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credential = tmp_path / "my credential"
        credential.write_text("strongroom_hildegard")
        credential.chmod(0o644)
        monkeypatch.setenv("STRONGROOM_CREDENTIAL_FILE", str(credential))

        report = doctor(config)

        assert report.problems == {"secret-file-mode"}
        assert "hildegard" not in str(report.findings)
        run_mend(report.of("secret-file-mode")["mend"])
        assert doctor(config).codes == UNTOUCHED

    def test_a_tls_key_that_others_read(self, config: Path, path: Path) -> None:
        key = config.parent / "server.key"
        key.write_text("no key")
        key.chmod(0o644)
        (config.parent / "server.pem").write_text("no certificate")
        with config.open("a") as file:
            file.write('[server.tls]\ncertificate = "server.pem"\nkey = "server.key"\n')

        report = doctor(config)

        assert "TLS key" in report.of("secret-file-mode")["sentence"]
        run_mend(report.of("secret-file-mode")["mend"])
        assert "secret-file-mode" not in doctor(config).codes
        assert path.exists()

    def test_another_owner(self, config: Path, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 54_321, -1)
        else:
            config.write_text(config.read_text().replace("sqlite:data/strongroom.db", "sqlite:/etc/passwd"))

        report = doctor(config)

        findings = [each for each in report.findings if each["code"] == "file-owner"]
        assert "this command runs as another user" in findings[0]["sentence"]
        assert findings[0]["mend"].startswith("sudo -u ")
        assert "belongs to another user" in str(
            [each for each in report.findings if each["code"] == "not-checked"]
        )
        if os.geteuid() == 0:
            # Everything beside it belongs to somebody else than the database, too.
            for each in findings[1:]:
                run_mend(each["mend"])
            assert len([each for each in doctor(config).findings if each["code"] == "file-owner"]) == 1

    def test_key_and_data_in_one_folder(self, strongroom: Run, tmp_path: Path) -> None:
        data = tmp_path / "data"
        assert strongroom("init", "--data", data).returncode == 0

        report = doctor(data)

        assert report.problems == {"key-beside-data"}
        assert str(data / "keys.json") in report.of("key-beside-data")["sentence"]
        page, anchor = re.findall(r"(docs/\S+)#([\w-]+)", report.of("key-beside-data")["sentence"])[0]
        assert f"## {anchor.replace('-', ' ')}" in (ROOT / page).read_text().lower()

    @pytest.mark.parametrize("where", ["data/keys/keys.json", "keys.json"])
    def test_key_below_or_above_the_data(self, config: Path, where: str) -> None:
        target = config.parent / where
        target.parent.mkdir(mode=0o700, exist_ok=True)
        (config.parent / "keys" / "keys.json").rename(target)
        config.parent.chmod(0o700)
        config.write_text(config.read_text().replace("keys/keys.json", where))

        assert doctor(config).problems == {"key-beside-data"}


class TestSurroundings:
    """Clock and disk."""

    def test_a_clock_that_was_set_back(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("vault.bootstrap.opening.system_clock", lambda: system_clock() + 3600 * 10**6)
            opened = bootstrap.open_vault(load_configuration(config, None))
            opened.administrators.replace()
            opened.close()

        report = doctor(config)

        assert report.problems == {"clock-behind-log"}

    def test_a_clock_that_nobody_keeps_right(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = {}
        for answer in (False, True, None):
            monkeypatch.setattr(surroundings, "is_synchronised", lambda answer=answer: answer)
            codes = {each["code"] for each in doctor(config).findings}
            found[answer] = "clock-not-synchronised" in codes

        assert found == {False: True, True: False, None: False}

    def test_the_kernel_is_asked_and_its_clock_left_alone(self) -> None:
        before = time.time()
        assert surroundings.is_synchronised() in {True, False, None}
        assert -1 < time.time() - before < 60

    def test_little_room(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(surroundings, "LEAST_FREE_BYTES", 1 << 60)

        report = doctor(config)

        (found,) = [each for each in report.findings if each["code"] == "disk-low"]
        free = shutil.disk_usage(config.parent).free / (1 << 30)
        (number,) = re.findall(r"Only ([\d,.]+) of", found["sentence"])
        assert float(number.replace(",", "")) == pytest.approx(free, rel=0.2, abs=1)
        run_mend(found["mend"])


class TestDatabase:
    """The file and its schema."""

    def test_something_else_in_its_place(self, config: Path, path: Path) -> None:
        path.unlink()
        path.mkdir(mode=0o700)

        report = doctor(config)

        assert "database-unreadable" in report.problems
        assert "not-checked" in report.codes

    def test_no_database(self, config: Path, path: Path) -> None:
        path.write_bytes(b"no database " * 1_000)

        report = doctor(config)

        assert report.problems == {"database-damaged"}
        assert "install -m 600 BACKUP" in report.of("database-damaged")["mend"]

    def test_a_damaged_page(self, config: Path, path: Path) -> None:
        content = bytearray(path.read_bytes())
        pages = len(content) // 4096
        for page in range(2, pages):
            content[page * 4096 : page * 4096 + 200] = b"\xaa" * 200
        path.write_bytes(content)

        report = doctor(config)

        assert report.problems == {"database-damaged"}
        assert "not-checked" in report.codes

    def test_an_empty_file(self, config: Path, path: Path) -> None:
        path.write_bytes(b"")

        report = doctor(config)

        assert report.problems <= {"schema-behind", "database-journal"}
        assert "schema-behind" in report.problems

    def test_a_check_that_takes_too_long(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(diagnosis, "QUICK_CHECK_SECONDS", -1.0)
        monkeypatch.setattr(diagnosis, "_STEPS_BETWEEN_LOOKS", 1)

        report = doctor(config)

        assert report.codes == UNTOUCHED | {"database-check-cut"}
        run_mend(report.of("database-check-cut")["mend"])

    def test_another_journal_mode(self, config: Path, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode = delete").fetchone() == ("delete",)

        report = doctor(config)

        assert report.problems == {"database-journal"}
        run_mend(report.of("database-journal")["mend"])
        assert doctor(config).codes == UNTOUCHED

    def test_a_write_ahead_log_that_grows(
        self, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "LARGE_LOG_BYTES", 100_000)
        with closing(sqlite3.connect(path)) as reader, closing(sqlite3.connect(path)) as writer:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM record").fetchone()
            for n in range(100):
                with writer:
                    writer.execute("UPDATE record SET id = id")
                    writer.execute(
                        "CREATE TABLE filler (x)" if n == 0 else "INSERT INTO filler VALUES (zeroblob(9000))"
                    )
            report = doctor(config)
            assert report.problems == {"write-ahead-log-large"}
            reader.rollback()
            run_mend(report.of("write-ahead-log-large")["mend"])

            assert doctor(config).problems == set()

    def test_an_upgrade_that_waits(self, config: Path, path: Path) -> None:
        execute(path, *UNDO_0003)

        report = doctor(config)

        assert report.problems == {"schema-behind"}
        assert "not-checked" in report.codes
        run_mend(report.of("schema-behind")["mend"])
        assert doctor(config).codes == UNTOUCHED

    def test_an_upgrade_by_a_newer_release(self, config: Path, path: Path) -> None:
        execute(path, "INSERT INTO schema_history VALUES (99, '0099_from_the_future', '2030-01-01')")

        report = doctor(config)

        assert report.problems == {"schema-newer"}
        assert "0099_from_the_future" in report.of("schema-newer")["sentence"]

    def test_a_transfer_that_has_not_ended(self, config: Path, path: Path) -> None:
        execute(path, "INSERT INTO schema_history VALUES (99, 'unfinished_transfer_3', '2030-01-01')")

        report = doctor(config)

        assert report.problems == {"transfer-unfinished"}

    def test_an_index_that_is_gone(self, config: Path, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('index_entry', 'record') "
                "AND sql IS NOT NULL"
            ).fetchall()
            for (name,) in names:
                connection.execute(f'DROP INDEX "{name}"')

        report = doctor(config)

        assert report.problems == {"index-missing"}
        assert len(names) == len([each for each in report.findings if each["code"] == "index-missing"]) == 5
        for each in report.findings:
            if each["code"] == "index-missing":
                program, file, statement = shlex.split(each["mend"])
                assert (program, file) == ("sqlite3", str(path))
                execute(path, statement)
        assert doctor(config).codes == UNTOUCHED


class TestKeys:
    """Providers and what they open."""

    def test_a_key_file_that_is_gone(self, config: Path) -> None:
        (config.parent / "keys" / "keys.json").unlink()

        report = doctor(config)

        assert report.problems == {"provider-misconfigured"}
        assert "disk" in report.of("provider-misconfigured")["sentence"]
        assert not (config.parent / "keys" / "keys.json").exists()

    def test_a_type_that_nobody_offers(self, config: Path) -> None:
        with config.open("a") as file:
            file.write('[providers.other]\ntype = "nonsense"\n')
        assert "other" in doctor(config).of("provider-misconfigured")["sentence"]

    @pytest.mark.filterwarnings("ignore::keyproviders.memory.InsecureProviderWarning")
    def test_one_that_is_not_in_use(self, config: Path) -> None:
        with config.open("a") as file:
            file.write('[providers.spare]\ntype = "memory"\n')

        report = doctor(config)

        assert report.codes == UNTOUCHED
        assert "provider spare can be opened and is not in use" in str(report.findings)

    @pytest.mark.parametrize("what", ["everything", "canary"])
    def test_a_provider_that_is_away(
        self, strongroom: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        far = AwayProvider(tmp_path)
        monkeypatch.syspath_prepend(far.package)
        assert strongroom("init", "--config", far.config, environment=far.environment).returncode == 0
        assert doctor(far.config).codes == UNTOUCHED
        far.go_away(what)

        report = doctor(far.config)

        assert report.problems == {"provider-not-ready"}
        assert "far" in report.of("provider-not-ready")["sentence"]
        far.come_back()
        assert doctor(far.config).codes == UNTOUCHED

    def test_the_keys_of_another_vault(
        self, config: Path, parted_template: Path, strongroom: Run, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        assert strongroom("init", "--data", other).returncode == 0
        shutil.copy2(other / "keys.json", config.parent / "keys" / "keys.json")

        assert doctor(config).problems == {"keys-refused"}

        shutil.copy2(parted_template / "keys" / "keys.json", config.parent / "keys" / "keys.json")
        assert doctor(config).codes == UNTOUCHED

    def test_key_rows_that_were_changed(self, config: Path, path: Path) -> None:
        execute(path, "UPDATE key_version SET created_at = created_at + 1")

        report = doctor(config)

        assert report.problems == {"keys-damaged"}
        assert "row-mac" in report.of("keys-damaged")["sentence"]


class TestProcesses:
    """Who is at work, and who only seems to be."""

    def test_a_server_at_work(self, start_server: Callable[..., Server]) -> None:
        server = start_server()
        at_work(server, {"server": 2, "worker": 1})

        report = doctor(server.data)

        assert report.problems == {"key-beside-data"}
        assert "2 of a server and 1 background" in str(report.findings)

    def test_one_that_was_killed(
        self, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = start_server()
        at_work(server, {"server": 2, "worker": 1})
        server.kill()
        monkeypatch.setattr(job_ports, "ALIVE_MICROSECONDS", 0)

        report = doctor(server.data)

        assert report.problems == {"key-beside-data"}
        dead = [each["sentence"] for each in report.findings if each["code"] == "process-dead"]
        assert len(dead) == 3
        assert all("ended without taking leave" in sentence for sentence in dead)

    def test_one_that_is_stopped(
        self, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = start_server(environment={"STRONGROOM_WORKER__INTERVAL_SECONDS": "1"})
        at_work(server, {"server": 2, "worker": 1})
        ((pid, heartbeat_at),) = server.rows("SELECT pid, heartbeat_at FROM process WHERE role = 'worker'")
        os.kill(pid, signal.SIGSTOP)
        try:
            others = "SELECT count(*) FROM process WHERE heartbeat_at > ?"
            wait_until(
                lambda: server.rows(others, (heartbeat_at + 5_000_000,)) == [(2,)],
                "the others' next heartbeats",
            )
            ((oldest,),) = server.rows("SELECT min(heartbeat_at) FROM process WHERE role = 'server'")
            now = system_clock()
            monkeypatch.setattr(job_ports, "ALIVE_MICROSECONDS", (2 * now - heartbeat_at - oldest) // 2)

            report = doctor(server.data)

            assert report.problems == {"key-beside-data", "process-stuck"}
            assert f"The worker process {pid} " in report.of("process-stuck")["sentence"]
            run_mend(report.of("process-stuck")["mend"])
            wait_until(
                lambda: pid not in [row[0] for row in server.rows("SELECT pid FROM process")], "it ends"
            )
        finally:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGCONT)

    def test_one_of_another_release(
        self, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = start_server()
        at_work(server, {"server": 2, "worker": 1})
        monkeypatch.setattr(vault, "__version__", "9.9.9")

        report = doctor(server.data)

        assert report.problems == {"key-beside-data", "process-other-release"}
        found = [each for each in report.findings if each["code"] == "process-other-release"]
        assert {each["check"] for each in found} == {"processes"}
        assert len(found) == 3
        assert f"kill {server.pid}" in {each["mend"] for each in found}
        server.api.close()
        run_mend(f"kill {server.pid}")
        assert server.process.wait(20) == 0
        assert "process-other-release" not in doctor(server.data).codes

    def test_two_servers_on_one_database(self, start_server: Callable[..., Server]) -> None:
        first = start_server()
        (first.data / "strongroom.db.server").unlink()
        second = start_server(data=first.data, credential=first.credential)
        at_work(second, {"server": 4, "worker": 2})

        report = doctor(first.data)

        assert report.problems == {"key-beside-data", "two-servers"}
        pids = sorted([str(first.pid), str(second.pid)])
        assert report.of("two-servers")["mend"] == f"kill {pids[0]} or {pids[1]}"
        assert second.stop() == 0
        assert doctor(first.data).problems == {"key-beside-data"}
        assert first.stop() == 0

    def test_a_server_on_another_machine(self, config: Path, path: Path) -> None:
        now = system_clock()
        columns = "(boot_id, host, pid, role, release, started_at, heartbeat_at)"
        execute(
            path,
            *(
                f"INSERT INTO process {columns} VALUES (x'0{n}', 'machine{n}', 1, 'server', "  # noqa: S608  # ours
                f"'{vault.__version__}', {now}, {now})"
                for n in range(2)
            ),
        )

        report = doctor(config)

        assert report.problems == {"two-servers"}
        assert "machine0, machine1" in report.of("two-servers")["sentence"]

    def test_no_background_worker(
        self, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = start_server(environment={"STRONGROOM_WORKER__WITH_SERVER": "false"})
        at_work(server, {"server": 2})
        assert doctor(server.data).problems == {"key-beside-data"}, "it may be about to start"
        monkeypatch.setattr(work, "STARTING_SECONDS", 0)

        report = doctor(server.data)

        assert report.problems == {"key-beside-data", "worker-missing"}
        mend = report.of("worker-missing")["mend"]
        assert mend == f"strongroom worker --data {server.data}"


def at_work(server: Server, roles: dict[str, int]) -> None:
    query = "SELECT role, count(*) FROM process GROUP BY role"
    wait_until(lambda: dict(server.rows(query)) == roles, f"heartbeats of {roles}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, f"not within 40 s: {what}"
        time.sleep(0.05)


class TestJobs:
    """Whether the work gets done."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> SmallVault:
        # As the command sets it, so that the database is closed to others.
        before = os.umask(0o077)
        try:
            made = make_empty_vault(tmp_path / "data")
            store_expired(made, range(3))
        finally:
            os.umask(before)
        return made

    def test_expired_records_that_nobody_erases(self, made: SmallVault) -> None:
        report = doctor(made.folder)

        assert report.problems == {"key-beside-data", "records-overdue"}
        assert report.of("records-overdue")["sentence"].startswith("3 expired records wait")
        assert "@example.org" not in str(report.findings)
        run_mend(report.of("records-overdue")["mend"])
        assert doctor(made.folder).problems == {"key-beside-data"}
        assert "expire 3" in str(doctor(made.folder).findings)

    def test_very_many(self, made: SmallVault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(work, "_MOST_COUNTED", 2)

        assert doctor(made.folder).of("records-overdue")["sentence"].startswith("Very many")

    def test_they_are_given_time(self, made: SmallVault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(work, "LATE_SECONDS", 3600)

        assert doctor(made.folder).problems == {"key-beside-data"}

    def test_rows_that_the_vault_did_not_write(self, made: SmallVault, strongroom: Run) -> None:
        execute(made.database, "UPDATE record SET generation = 9 WHERE id = 1")
        assert strongroom("worker", "--once", "--data", made.folder).returncode == 3

        report = doctor(made.folder)

        assert report.problems == {"key-beside-data", "rows-unsound", "records-overdue"}
        sentence = report.of("rows-unsound")["sentence"]
        assert "The job expire leaves 1 rows" in sentence
        assert "row-mac: record " in sentence
        verify = strongroom(*report.of("rows-unsound")["mend"].split()[1:])
        assert verify.returncode == 3
        assert "FOUND row-mac" in verify.stdout

    def test_what_somebody_wrote_into_a_job_reaches_no_terminal(
        self, config: Path, path: Path, strongroom: Run
    ) -> None:
        assert strongroom("worker", "--once", "--config", config).returncode == 0
        execute(
            path,
            "INSERT INTO job (name, tenant, operation, state, position, done, failed, error, created_at, updated_at, "
            "revision) VALUES ('x', '*', 'x', 'x', 0, 0, 1, char(27) || '[31m', 0, 0, 1)",
        )

        assert "rows-unsound" in doctor(config).problems
        text = CliRunner().invoke(command, ["--config", str(config)], color=True)
        assert "\\u001b[31m" in text.output


class TestLeftovers:
    """What was left half done."""

    @pytest.mark.parametrize(
        "name",
        ["data/strongroom.db.new", "data/report.part", "keys/.keys.json.0a1b.tmp", "export.jsonl.part"],
    )
    def test_a_file(self, config: Path, name: str) -> None:
        file = config.parent / name
        file.write_text("half")
        file.chmod(0o600)

        report = doctor(config)

        assert report.problems == {"leftover-file"}
        assert str(file) in report.of("leftover-file")["sentence"]
        run_mend(report.of("leftover-file")["mend"])
        assert doctor(config).codes == UNTOUCHED

    def test_an_empty_lock_file_is_none(self, config: Path, path: Path) -> None:
        path.with_name("strongroom.db.new.lock").touch()

        assert doctor(config).codes == UNTOUCHED


class TestOutput:
    """What people and programs read."""

    def test_the_real_command(self, strongroom: Run, config: Path) -> None:
        done = strongroom("doctor", "--config", config)
        as_json = strongroom("doctor", "--config", config, "--json")
        report = Report(as_json.stdout, as_json.returncode)
        assert done.returncode == as_json.returncode
        assert done.stderr == as_json.stderr == ""
        if not {each["code"] for each in report.findings} & {"disk-low"}:
            assert done.returncode == 0
            assert done.stdout.splitlines()[-1] == "Nothing needs mending."

    def test_text_is_aligned_and_commands_are_whole(self, config: Path, path: Path) -> None:
        path.chmod(0o644)
        config.chmod(0o666)

        result = CliRunner().invoke(command, ["--config", str(config)])

        assert result.exit_code == 3
        lines = result.output.splitlines()
        assert all(line == line.rstrip() for line in lines)
        levels = [line[15:24] for line in lines[:-1] if not line.startswith(" " * 24)]
        assert {level.rstrip() for level in levels} <= {each.value for each in Level}
        assert f"{' ' * 24}mend: chmod 600 {path}*" in lines
        assert f"{' ' * 24}mend: chmod go-w {config}" in lines
        assert "2 warnings" in lines[-1]
        assert "docs/operations/doctor.md" in lines[-1]
        assert not re.search(r"\x1b", result.output)

    def test_no_credential_and_no_key_is_shown(self, config: Path) -> None:
        secrets = [
            (config.parent / "admin-credential").read_text().strip(),
            *re.findall(r'"material": ?"([^"]+)"', (config.parent / "keys" / "keys.json").read_text()),
        ]
        assert len(secrets) > 1
        for name in ("data", "keys", "admin-credential", "keys/keys.json"):
            (config.parent / name).chmod(0o777 if "." not in name else 0o666)

        for option in ([], ["--json"]):
            output = CliRunner().invoke(command, ["--config", str(config), *option]).output
            assert not any(secret in output for secret in secrets)

    def test_it_changes_nothing(self, config: Path) -> None:
        def content() -> dict[str, tuple[int, bytes]]:
            return {
                str(each.relative_to(config.parent)): (each.stat().st_mode, each.read_bytes())
                for each in config.parent.rglob("*")
                if each.is_file() and not each.name.endswith(("-wal", "-shm"))
            }

        doctor(config)
        before = content()
        doctor(config)
        assert content() == before


def test_the_page_explains_every_word() -> None:
    page = (ROOT / "docs" / "operations" / "doctor.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (ok|note|warning|error) \|", page, re.MULTILINE)
    assert {Code(code): Level(level) for code, level in rows} == LEVELS
    assert len(rows) == len(LEVELS) == len(Code)


def test_every_word_is_provoked_here() -> None:
    source = Path(__file__).read_text()
    assert [code for code in Code if f'"{code}"' not in source] == []
