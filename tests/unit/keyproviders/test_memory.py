from __future__ import annotations

import logging
import os
import threading
import uuid
import warnings
from pathlib import Path

import pytest

from keyproviders.errors import KeyNotFoundError, ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings
from keyproviders.memory import InsecureProviderWarning, MemoryProviderType


@pytest.fixture
def settings(tmp_path: Path) -> ProviderSettings:
    return ProviderSettings(f"memory{uuid.uuid4().hex}", {}, tmp_path)


@pytest.mark.parametrize("door", ["open", "open_administration"])
def test_each_door_warns_twice_over(
    settings: ProviderSettings, door: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(InsecureProviderWarning, match="lost when the process ends") as caught:
        getattr(MemoryProviderType(), door)(settings)
    assert caught[0].filename == __file__
    (record,) = [each for each in caplog.records if each.name == "keyproviders.memory"]
    assert record.levelno == logging.WARNING
    assert settings.name in record.getMessage()


@pytest.mark.parametrize("door", ["open", "open_administration"])
def test_there_are_no_options(tmp_path: Path, door: str) -> None:
    settings = ProviderSettings("tmp", {"path": "keys.json"}, tmp_path)
    with pytest.raises(ProviderMisconfiguredError, match=r"\[providers.tmp\] has unknown options: path"):
        getattr(MemoryProviderType(), door)(settings)


@pytest.mark.filterwarnings("ignore::keyproviders.memory.InsecureProviderWarning")
def test_names_do_not_share_keys(settings: ProviderSettings, tmp_path: Path) -> None:
    MemoryProviderType().open_administration(settings).create("records")
    other = MemoryProviderType().open(ProviderSettings(f"{settings.name}x", {}, tmp_path))
    with pytest.raises(KeyNotFoundError):
        other.key_info("records")
    assert MemoryProviderType().open(settings).key_info("records").versions[0].version == 1


@pytest.mark.filterwarnings("ignore::keyproviders.memory.InsecureProviderWarning")
def test_a_fork_beside_a_busy_administrator_leaves_no_lock_behind(settings: ProviderSettings) -> None:
    administration = MemoryProviderType().open_administration(settings)
    administration.create("records")
    stop = threading.Event()

    def rotate() -> None:
        while not stop.is_set():
            administration.rotate("records")

    busy = threading.Thread(target=rotate)
    busy.start()
    try:
        for _ in range(20):
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # Python 3.12 warns of every fork beside threads
                child = os.fork()
            if not child:
                administration.rotate("records")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        busy.join()
