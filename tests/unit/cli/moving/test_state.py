from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from vault.cli.failure import Failure
from vault.cli.moving.state import Leg, Plan, Progress, State, forgetful_state
from vault.cli.moving.state_file import is_begun, open_state

PLAN = Plan("https://vault.example", "users", {"batch": 500, "map": {"E-Mail": "email"}})
LEG = Leg(1000, "ab" * 32, 1200)
FIRST = Progress(
    batch=1,
    records=500,
    last_line=501,
    imported=498,
    refused=2,
    tokens=99,
    report=44,
    at=30.0,
    is_settled=False,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def begin(path: Path) -> State:
    state = open_state(path, PLAN, at=10.0)
    state.begin_leg(LEG, at=20.0)
    return state


def reopened(path: Path) -> State:
    with open_state(path, PLAN, at=99.0) as state:
        return state


def test_what_is_written_down_is_found_again(path: Path) -> None:
    assert not is_begun(path)
    with begin(path) as state:
        assert is_begun(path)
        import_id = state.id
        state.finish_batch(FIRST)
        second = replace(FIRST, batch=2, records=1000, last_line=1003, imported=998, at=40.0, digest="d2")
        state.finish_batch(second)
        assert state.path == path
    found = reopened(path)
    assert (found.id, found.leg, found.progress) == (import_id, LEG, second)
    assert len(import_id) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_whether_anything_is_on_its_way(path: Path) -> None:
    with begin(path) as state:
        assert state.progress.is_settled
    assert not reopened(path).progress.is_settled
    with open_state(path, PLAN, at=0.0) as state:
        state.finish_batch(FIRST)
        state.pause(at=50.0)
    assert reopened(path).progress == replace(FIRST, at=50.0, is_settled=True)
    with open_state(path, PLAN, at=0.0) as state:
        state.finish(at=60.0)
    assert reopened(path).progress == replace(FIRST, at=60.0, is_settled=True, is_finished=True)
    with open_state(path, PLAN, at=0.0) as state:
        state.begin_leg(Leg(2000, "cd" * 32, 1300), at=70.0)
    found = reopened(path)
    assert found.leg == Leg(2000, "cd" * 32, 1300)
    assert found.progress == replace(FIRST, at=70.0, is_settled=False)


def test_a_line_without_its_end_does_not_count(path: Path) -> None:
    with begin(path) as state:
        state.finish_batch(FIRST)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last) + 1):
        path.write_bytes(whole[: len(whole) - cut])
        with open_state(path, PLAN, at=0.0) as found:
            assert found.progress == Progress(at=20.0, is_settled=False)
            found.finish_batch(FIRST)
        assert path.read_bytes() == whole


def test_an_import_that_has_settled_nothing_is_begun_anew_with_any_options(path: Path) -> None:
    with begin(path) as state:
        old = state.id
    content = path.read_bytes()
    end_of_header = content.index(b"\n") + 1
    other = Plan("https://other.example", "users", {})
    for kept in (0, 1, 10, end_of_header - 1, end_of_header, len(content) - 1):
        path.write_bytes(content[:kept])
        assert not is_begun(path)
        with open_state(path, other, at=0.0) as found:
            assert (found.leg, found.progress) == (None, Progress(at=0.0))
            assert found.id != old


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        (replace(PLAN, server="https://other.example"), "--server"),
        (replace(PLAN, collection="people"), "--collection"),
        (replace(PLAN, options={"batch": 100, "map": {"E-Mail": "email"}}), "--batch"),
        (replace(PLAN, options={"batch": 500, "map": {}}), "--map"),
        (replace(PLAN, options={"batch": 500}), "--map"),
        (replace(PLAN, options=dict(PLAN.options) | {"new_one": 1}), "--new-one"),
    ],
)
def test_other_options_are_refused_by_name(path: Path, plan: Plan, named: str) -> None:
    begin(path).__exit__(None, None, None)
    before = path.read_bytes()
    with pytest.raises(Failure, match=f"another {named}") as caught:
        open_state(path, plan, at=0.0)
    assert "--state OTHER" in caught.value.next_step
    assert path.read_bytes() == before
    reopened(path)  # the lock is free again


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary\n",
        b"a,b\n1,2\n",
        b'{"strongroom_import":1}\n{"source":1}\n',
        b"[]\n[]\n",
        b'{"other":1}',
        b"\xff\xfe\n\n",
    ],
)
def test_another_file_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Failure, match="not the state of an import"):
        open_state(path, PLAN, at=0.0)
    assert path.read_bytes() == content


def test_a_damaged_line_is_not_skipped(path: Path) -> None:
    with begin(path) as state:
        state.finish_batch(FIRST)
    for damaged in (b'{"unknown":1,"at":1}\n', b"{}\n", b"half\n"):
        path.write_bytes(path.read_bytes() + damaged)
        with pytest.raises(Failure, match="damaged"):
            open_state(path, PLAN, at=0.0)


def test_another_release_s_state_is_not_read(path: Path) -> None:
    begin(path).__exit__(None, None, None)
    path.write_text(path.read_text().replace('"strongroom_import":1', '"strongroom_import":2'))
    with pytest.raises(Failure, match="another release"):
        open_state(path, PLAN, at=0.0)


def test_two_imports_cannot_share_a_state(path: Path) -> None:
    with begin(path), pytest.raises(Failure, match="Another import is at work"):
        open_state(path, PLAN, at=0.0)
    reopened(path)


def test_a_folder_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read"):
        is_begun(tmp_path)
    with pytest.raises(Failure, match="cannot be written"):
        open_state(tmp_path, PLAN, at=0.0)


def test_nothing_is_kept_of_a_stream() -> None:
    with forgetful_state() as state:
        state.begin_leg(LEG, at=1.0)
        state.finish_batch(FIRST)
        state.finish(at=2.0)
        assert state.path is None
        assert state.progress.is_finished
        assert forgetful_state().id != state.id


def test_lines_hold_no_more_than_they_say(path: Path) -> None:
    with begin(path) as state:
        state.finish_batch(FIRST)
    _, source, batch = [json.loads(line) for line in path.read_text().splitlines()]
    assert source.keys() == {"source", "at"}
    assert batch == {
        "batch": 1, "records": 500, "last_line": 501, "imported": 498, "refused": 2, "tokens": 99, "report": 44, "at": 30.0,
    }  # fmt: skip
