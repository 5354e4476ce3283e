from __future__ import annotations

from typing import Any

import pytest

from vault.cli.moving import patience as module
from vault.cli.moving.patience import Patience, StoppedError, is_passing
from vault.cli.moving.progress import Count, Meter
from vault.client import (
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotAuthenticated,
    StrongroomError,
    Unavailable,
    UnexpectedAnswer,
)
from vault.core.stop_signal import StopSignal


class Said:
    """A display that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.counts: list[Count] = []

    def show(self, count: Count) -> None:
        self.counts.append(count)

    def say(self, event: str, sentence: str, **_members: Any) -> None:
        self.events.append((event, sentence))


class Stop(StopSignal):
    """Remembers the pauses instead of making them."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        return self.is_set()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def patient(said: Said, stop: Stop) -> Patience:
    return Patience(stop, Meter(said, done=0, refused=0, total=None))


def answers(*results: Any) -> Any:
    waiting = iter(results)

    def attempt() -> Any:
        result = next(waiting)
        if isinstance(result, Exception):
            raise result
        return result

    return attempt


AWAY = ConnectionFailed("No connection.", code="connection-refused")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (AWAY, True),
        (ConnectionFailed("x", code="timeout"), True),
        (ConnectionFailed("x", code="tls"), False),
        (ConnectionFailed("x", code="client-closed"), False),
        (Unavailable("x", status=503), True),
        (Unavailable("x", status=429), True),
        (Conflict("x", status=409, code="idempotency-in-flight"), True),
        (Conflict("x", status=409, code="conflict"), False),
        (UnexpectedAnswer("x", status=502), True),
        (UnexpectedAnswer("x", status=200), False),
        (NotAuthenticated("x", status=401), False),
        (InvalidRequest("x", status=422), False),
    ],
)
def test_what_passes(error: StrongroomError, passing: bool) -> None:  # noqa: FBT001
    assert is_passing(error) is passing


def test_pauses_grow_up_to_a_limit(patient: Patience, said: Said, stop: Stop) -> None:
    assert patient.insist(answers(*[AWAY] * 8, "there")) == "there"
    assert stop.pauses == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert said.events[0] == (
        "waiting", "No connection. Waiting; 0 s so far. Ctrl-C stops, and the same command goes on later.",
    )  # fmt: skip
    assert said.events[-1][0] == "resumed"


def test_the_server_s_advice_is_the_least(patient: Patience, stop: Stop) -> None:
    busy = Unavailable("Busy.", status=503)
    busy.retry_after_seconds = 3
    patient.insist(answers(busy, busy, busy, busy, "there"))
    assert stop.pauses == [3, 3, 3, 4]


def test_an_answer_for_good_is_raised(patient: Patience, said: Said) -> None:
    wrong = NotAuthenticated("No.", status=401)
    with pytest.raises(NotAuthenticated):
        patient.insist(answers(wrong))
    assert said.events == []
    assert not wrong.outcome_unknown


def test_a_lost_answer_stays_unknown(patient: Patience) -> None:
    lost = ConnectionFailed("Lost.", code="connection-lost")
    lost.outcome_unknown = True
    wrong = NotAuthenticated("No.", status=401)
    with pytest.raises(NotAuthenticated):
        patient.insist(answers(lost, wrong))
    assert wrong.outcome_unknown


def test_somebody_who_wants_to_stop_does_not_wait(patient: Patience, stop: Stop) -> None:
    stop.set()
    with pytest.raises(StoppedError):
        patient.insist(answers(AWAY))


def test_a_reason_not_to_try_again(patient: Patience) -> None:
    def too_late() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        patient.insist(answers(AWAY, "there"), before_retry=too_late)


def test_one_outage_is_told_once(patient: Patience, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    patient._tell(AWAY, 4)
    patient._tell(AWAY, 4)
    now += 4
    patient._tell(AWAY, 8)
    patient._tell(AWAY, 8)
    assert [event for event, _ in said.events] == ["waiting", "waiting"]
    assert "4 s so far" in said.events[1][1]
    patient._tell_return()
    patient._tell_return()
    assert [event for event, _ in said.events][2:] == ["resumed"]
