"""Upgrades of vaults on a database server, as their users do them: several at once, killed in between, too late."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.forked_child import run_in_child
from tests.old_databases import UNDO_0002, UNDO_0003
from tests.servers.databases import SERVERS, server_of
from tests.servers.served_vaults import Run, ServedVault, make_vault, sentence_of
from vault import bootstrap
from vault.cli import main
from vault.config import load_configuration
from vault.storage import schema
from vault.storage.opening import open_engine
from vault.storage.server_pool import ServerPool
from vault.storage.tables import MODELS

if TYPE_CHECKING:
    from conftest import Server

pytestmark = [pytest.mark.own_home, pytest.mark.sqlite_only("has servers of its own, whatever is asked for")]

ALONE = {"STRONGROOM_WORKER__WITH_SERVER": "false", "STRONGROOM_SERVER__WORKERS": "1"}
APPLY = ("database", "upgrade", "--apply", "--config")
STEPS = ["0002_move_in", "0003_keys_at_work"]
CHANGES = ("CREATE", "ALTER", "INSERT")
_templates: dict[str, ServedVault] = {}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Any:
    return server_of(request, request.param)


@pytest.fixture
def template(server: Any, strongroom: Run, tmp_path_factory: pytest.TempPathFactory) -> ServedVault:
    """A new vault, only to be copied."""
    if server.scheme not in _templates:
        folder = tmp_path_factory.mktemp(server.scheme)
        _templates[server.scheme] = make_vault(strongroom, folder, server.new_database())
    return _templates[server.scheme]


@pytest.fixture
def vault(server: Any, template: ServedVault, tmp_path: Path) -> ServedVault:
    return template.elsewhere(tmp_path / "vault", server.copy_database(template.address))


def undo(server: Any, vault: ServedVault, *statements: str) -> None:
    """Take a database back to an earlier release."""
    for statement in statements:
        server.execute(statement, vault.address.database)


def test_two_servers_on_an_old_database(
    server: Any, vault: ServedVault, start_server: Callable[..., Server], strongroom: Run
) -> None:
    def start() -> Server:
        return start_server(
            data=vault.data, credential=vault.credential, config=vault.config, environment=ALONE
        )

    before = start()
    path = before.api.create({"email": "old@example.org"})
    assert before.stop() == 0
    undo(server, vault, *UNDO_0003)
    with ThreadPoolExecutor(2) as threads:
        refused = list(threads.map(lambda _: strongroom("serve", "--config", vault.config), range(2)))
        for each in refused:
            assert sentence_of(each) == (
                "Error: The database needs the upgrade 0003_keys_at_work; back it up, then: "
                f"strongroom database upgrade --apply --config {vault.config}"
            )
        applied = list(threads.map(lambda _: strongroom(*APPLY, vault.config), range(2)))
        assert [each.returncode for each in applied] == [0, 0]
        assert sorted(each.stdout for each in applied) == [
            "The database has this release's schema.\n", "applied: 0003_keys_at_work\n"
        ]  # fmt: skip
        first, second = threads.map(lambda _: start(), range(2))
    for each in (first, second):
        assert each.api.plain(path) == {"email": "old@example.org"}
    new = first.api.create({"email": "new@example.org"})
    assert second.api.plain(new) == {"email": "new@example.org"}
    assert (first.stop(), second.stop()) == (0, 0)
    assert strongroom("verify", "--config", vault.config).returncode == 0


def shape_of(vault: ServedVault) -> dict[str, Any]:
    """The columns and indexes of each table."""
    engine = open_engine(vault.address)
    try:
        with engine.read() as database:
            names = [model._meta.table_name for model in MODELS]
            return {
                name: (
                    sorted((each.name, each.data_type, each.null) for each in database.get_columns(name)),
                    sorted((each.name, each.columns, each.unique) for each in database.get_indexes(name)),
                )
                for name in names
            }
    finally:
        engine.close()


def upgrade_until_killed(config: Path, after: int) -> int:
    """Upgrade in a process of its own that is killed after so many changes; how it ended."""

    def upgrade() -> None:
        numbers = itertools.count(1)
        execute = ServerPool.execute_sql

        def count(self: ServerPool, sql: str, params: Any = None) -> Any:
            cursor = execute(self, sql, params)
            if sql.startswith(CHANGES) and next(numbers) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return cursor

        ServerPool.execute_sql = count  # type: ignore[method-assign]  # in the child alone
        bootstrap.upgrade_database(load_configuration(config, None), apply=True)

    return run_in_child(upgrade)


def test_an_upgrade_that_is_killed_after_any_change_is_finished_by_the_next(
    server: Any, template: ServedVault, tmp_path: Path
) -> None:
    whole = shape_of(template)
    # In one transaction the places are much alike.
    for after in itertools.count(1, 5 if server.scheme == "postgresql" else 1):
        vault = template.elsewhere(tmp_path / f"killed-{after}", server.copy_database(template.address))
        undo(server, vault, *UNDO_0003, *UNDO_0002[server.scheme])
        code = upgrade_until_killed(vault.config, after)
        configuration = load_configuration(vault.config, None)
        waiting = bootstrap.upgrade_database(configuration, apply=False)
        if code == 0:
            assert waiting == []
            break
        assert code == -signal.SIGKILL
        # One transaction, or what is done is done.
        assert waiting == STEPS if server.scheme == "postgresql" else waiting in (STEPS, STEPS[1:], [])
        done = CliRunner().invoke(main, [*APPLY, str(vault.config)], catch_exceptions=False)
        assert done.exit_code == 0
        assert done.output == ("".join(f"applied: {step}\n" for step in waiting) or
                               "The database has this release's schema.\n")  # fmt: skip
        assert shape_of(vault) == whole
        opened = bootstrap.open_vault(configuration)
        assert opened.verify(lambda: None).findings == []
        opened.close()
        server.execute(f"DROP DATABASE {vault.address.database}")
    assert after > 20


@pytest.mark.parametrize("command", [("serve",), ("database", "upgrade", "--apply")], ids=" ".join)
def test_a_newer_database_is_refused(
    server: Any, vault: ServedVault, strongroom: Run, command: tuple[str, ...]
) -> None:
    before = shape_of(vault)
    server.execute(
        "INSERT INTO schema_history (name, applied) VALUES ('0999_from_the_future', '2030-01-01 00:00:00')",
        vault.address.database,
    )
    sentence = sentence_of(strongroom(*command, "--config", vault.config))
    assert sentence == (
        f"Error: The database {vault.address.place} was upgraded by a newer release of strongroom (step "
        "0999_from_the_future). Install that release; this one does not touch the database."
    )
    assert shape_of(vault) == before
    engine = open_engine(vault.address)
    with engine.read():
        assert schema.steps_missing(engine) == []
    engine.close()
