"""Numbers of several processes in one folder: sums, processes that are killed, and no room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from vault.api.app import create_app
from vault.api.measuring import METHODS, UNMATCHED
from vault.audit.events import Action, Result
from vault.telemetry.providers import OUTCOME_OF
from vault.telemetry.shared import FOLDER_VARIABLE
from vault.telemetry.values import RESERVED_BYTES

START = """
import json, os, resource, signal, sys
{before}
from vault.telemetry.metrics import Metrics
metrics = Metrics("1.2.3")

def value(name):
    return [line.split()[-1] for line in metrics.render().decode().splitlines() if line.startswith(name + " ")]

{work}
"""


def run(folder: Path, work: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a process of the server that measures something."""
    program = START.format(before=textwrap.dedent(before), work=textwrap.dedent(work))
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {FOLDER_VARIABLE: str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def said(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_any_process_shows_the_sum_over_all(tmp_path: Path) -> None:
    for _ in range(3):
        assert run(tmp_path, "metrics.audit_failed(); metrics.request_began()").returncode == 0
    shown = run(
        tmp_path, "metrics.audit_failed(); print(json.dumps(value('strongroom_audit_failures_total')))"
    )
    assert said(shown) == ["4.0"]


def test_what_a_killed_process_counted_stays_and_what_it_was_doing_does_not(tmp_path: Path) -> None:
    work = "metrics.audit_failed(); metrics.request_began(); os.kill(os.getpid(), signal.SIGKILL)"
    assert run(tmp_path, work).returncode == -9
    assert (len(list(tmp_path.glob("*.alive"))), len(list(tmp_path.glob("gauge_livesum_*.db")))) == (1, 1)
    work = """
        metrics.request_began()
        print(json.dumps(value("strongroom_requests_in_progress") + value("strongroom_audit_failures_total")))
    """
    assert said(run(tmp_path, work)) == ["1.0", "1.0"]
    # The dead are forgotten for good; the one that has just ended by itself is forgotten by the next.
    assert len(list(tmp_path.glob("*.alive"))) == 1


def test_a_process_that_lives_is_not_forgotten(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            START.format(before="", work="metrics.request_began(); print(1, flush=True); input()"),
        ],
        env=os.environ | {FOLDER_VARIABLE: str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        for _ in range(2):
            assert said(run(tmp_path, "print(json.dumps(value('strongroom_requests_in_progress')))")) == [
                "1.0"
            ]
        other.communicate(b"\n")
    assert said(run(tmp_path, "print(json.dumps(value('strongroom_requests_in_progress')))")) == ["0.0"]


def test_a_process_number_that_is_used_again_starts_with_nothing_in_progress(tmp_path: Path) -> None:
    work = "metrics.audit_failed(); metrics.request_began(); os.kill(os.getpid(), signal.SIGKILL)"
    assert run(tmp_path, work).returncode == -9
    # As if the killed process had had the number of the next one.
    before = f"""
        from pathlib import Path
        for file in Path({str(tmp_path)!r}).glob("*.db"):
            file.rename(file.with_name(f"{{file.stem.rpartition('_')[0]}}_{{os.getpid()}}.db"))
    """
    done = run(tmp_path, "print(json.dumps(value('strongroom_requests_in_progress')))", before)
    assert said(done) == ["0.0"]


def test_files_are_private(tmp_path: Path) -> None:
    assert run(tmp_path, "metrics.audit_failed()").returncode == 0
    files = list(tmp_path.iterdir())
    assert len(files) == len(RESERVED_BYTES) + 1
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.parametrize("limit", [0, 1_000, 100_000, 400_000])
def test_without_room_a_process_measures_nothing_and_lives(tmp_path: Path, limit: int) -> None:
    assert run(tmp_path, "metrics.audit_failed()").returncode == 0
    work = """
        metrics.audit_failed(); metrics.request_began(); metrics.request_ended("/x", "GET", 200, 0.1)
        assert not metrics.is_counted
        print(json.dumps(value("strongroom_audit_failures_total")))
    """
    before = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    assert said(run(tmp_path, work, before)) == ["1.0"]
    # What it could not reserve whole is gone: nobody writes into a file that may end the process.
    for file in tmp_path.glob("*.db"):
        kind = file.stem.rpartition("_")[0]
        assert file.stat().st_size == RESERVED_BYTES[kind], file.name


def closed_sets(tmp_path: Path) -> dict[str, Any]:
    """Everything that can stand in a label, and more statuses than there are."""
    from vault import bootstrap
    from vault.config import load_configuration

    configuration = load_configuration(None, tmp_path / "data")
    bootstrap.create_vault(configuration)
    vault = bootstrap.open_vault(configuration)
    rules = list(create_app(vault.services).url_map.iter_rules())
    vault.close()
    routes = [(rule.rule, method) for rule in rules for method in rule.methods or ()]
    return {
        "routes": routes + [(UNMATCHED, method) for method in (*METHODS, "other")],
        "statuses": [
            200,
            201,
            204,
            400,
            401,
            403,
            404,
            405,
            409,
            410,
            412,
            413,
            415,
            422,
            428,
            429,
            500,
            503,
        ],
        "outcomes": ["ok", *(word for _, word in OUTCOME_OF)],
        "actions": list(Action),
        "results": list(Result),
    }


EVERYTHING = """
sets = json.loads(sys.argv[1])
for route, method in sets["routes"]:
    for status in sets["statuses"]:
        metrics.request_ended(route, method, status, 0.1)
for provider in ("disk", "hsm_of_the_other_site"):
    for operation in ("generate", "wrap", "unwrap", "rewrap", "key_info", "health"):
        for outcome in sets["outcomes"]:
            metrics.provider_call(provider, operation, outcome, 0.1)
for action in sets["actions"]:
    for result in sets["results"]:
        metrics.database_wrote(0.1, 0.1, [(action, result)])
for job in range(20):
    metrics.job_batch(f"a-job-with-a-long-name-{job}", 1, 1, 0.1)
    metrics.job_succeeded(f"a-job-with-a-long-name-{job}", 1.0)
for reason in ("busy", "full", "io", "read-only", "cannot-open", "malformed", "constraint", "other", "no-turn"):
    metrics.database_failed(reason)
metrics.database_read(0.1)
metrics.cache_asked("collection_definitions", "hit")
metrics.cache_asked("collection_definitions", "miss")
metrics.audit_failed()
"""


def test_all_label_values_together_fit_into_the_reserved_room(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    program = START.format(before="", work=EVERYTHING)
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(closed_sets(tmp_path))],
        env=os.environ | {FOLDER_VARIABLE: str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for kind, size in RESERVED_BYTES.items():
        (file,) = folder.glob(f"{kind}_*.db")
        assert file.stat().st_size == size, kind
        used = int.from_bytes(file.read_bytes()[:4], sys.byteorder)
        assert 0 < used < size


def test_a_second_one_in_a_process_only_reads(tmp_path: Path) -> None:
    """Both would write over each other: a process has its files once."""
    work = """
        metrics.request_began()
        metrics.audit_failed()
        second = Metrics("1.2.3")
        second.audit_failed()
        metrics.audit_failed()
        assert (metrics.is_counted, second.is_counted) == (True, False)
        assert metrics.render() == second.render()
        print(json.dumps(value("strongroom_requests_in_progress") + value("strongroom_audit_failures_total")))
    """
    assert said(run(tmp_path, work)) == ["1.0", "2.0"]


def test_without_its_folder_a_process_shows_nothing_and_goes_on(tmp_path: Path) -> None:
    work = """
        import shutil
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        metrics.audit_failed(); metrics.request_began(); metrics.request_ended("/new", "GET", 200, 0.1)
        print(json.dumps(metrics.render().decode()))
    """
    folder = tmp_path / "metrics"
    folder.mkdir()
    assert said(run(folder, work)) == ""
