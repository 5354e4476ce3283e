"""Numbers in reserved files: prometheus-client reads them, none is lost, and none grows a file."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from vault.telemetry.values import NumbersFile, value_class

SIZE = 4096


def read(path: Path) -> dict[str, float]:
    """As prometheus-client reads it."""
    return {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(path))}  # type: ignore[no-untyped-call]


def put(file: NumbersFile, key: str, number: float) -> None:
    place = file.place_of(key)
    assert place is not None
    file.numbers[place] = number


@given(st.dictionaries(st.text(max_size=40), st.floats(allow_nan=False), max_size=20))
def test_what_is_written_is_what_prometheus_client_reads(
    tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "counter_1.db"
    file = NumbersFile(path, SIZE)
    numbers = {key.encode("utf-8", "replace").decode(): number for key, number in numbers.items()}
    for key, number in numbers.items():
        put(file, key, number)
    assert read(path) == numbers
    assert path.stat().st_size == SIZE


@pytest.mark.parametrize("length", range(1, 20))
def test_keys_of_every_length_keep_numbers_apart(tmp_path: Path, length: int) -> None:
    path = tmp_path / "counter_1.db"
    file = NumbersFile(path, SIZE)
    for letter in "abc":
        put(file, letter * length, ord(letter))
    assert read(path) == {letter * length: ord(letter) for letter in "abc"}


def test_an_empty_file_has_no_numbers(tmp_path: Path) -> None:
    NumbersFile(tmp_path / "counter_1.db", SIZE)
    assert read(tmp_path / "counter_1.db") == {}


def test_a_file_that_is_there_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    put(NumbersFile(path, SIZE), "first", 5)
    again = NumbersFile(path, SIZE)
    place = again.place_of("first")
    assert place is not None
    again.numbers[place] += 1
    put(again, "second", 7)
    assert read(path) == {"first": 6, "second": 7}


def test_a_full_file_takes_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    file = NumbersFile(path, SIZE)
    keys = [f"{number:0100}" for number in range(100)]
    places = [file.place_of(key) for key in keys]
    kept = [key for key, place in zip(keys, places, strict=True) if place is not None]
    assert kept == keys[: len(kept)]
    assert 20 < len(kept) < 40
    for key in kept:
        put(file, key, 1)
    assert read(path) == dict.fromkeys(kept, 1)
    assert path.stat().st_size == SIZE


def test_a_number_without_room_counts_nowhere(tmp_path: Path) -> None:
    files = {"counter": NumbersFile(tmp_path / "counter_1.db", 16)}
    value: Any = value_class(files)("counter", "name", "name_total", [], [], "meaning")
    value.inc(1)
    value.set(5)
    assert read(tmp_path / "counter_1.db") == {}


class SlowNumbers(dict[int, float]):
    """Lets other threads in between reading a number and writing it."""

    def __getitem__(self, place: int) -> float:
        number = super().__getitem__(place)
        time.sleep(0)
        return number


class SlowFile:
    def __init__(self) -> None:
        self.numbers = SlowNumbers({0: 0.0})

    def place_of(self, _: str) -> int:
        return 0


def test_no_increment_of_any_thread_is_lost() -> None:
    files: Any = {"counter": SlowFile()}
    value: Any = value_class(files)("counter", "n", "n_total", [], [], "m")

    def count() -> None:
        for _ in range(2_000):
            value.inc(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value.get() == 8_000


def test_files_of_several_processes_are_summed(tmp_path: Path) -> None:
    for pid in (1, 2):
        files = {
            "counter": NumbersFile(tmp_path / f"counter_{pid}.db", SIZE),
            "gauge_livesum": NumbersFile(tmp_path / f"gauge_livesum_{pid}.db", SIZE),
            "gauge_max": NumbersFile(tmp_path / f"gauge_max_{pid}.db", SIZE),
        }
        made: Any = value_class(files)
        made("counter", "a", "a_total", ["x"], ["1"], "meaning").inc(pid)
        made("gauge", "b", "b", [], [], "meaning", multiprocess_mode="livesum").inc(pid)
        made("gauge", "c", "c", [], [], "meaning", multiprocess_mode="max").set(pid)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    sums = {
        (each.name, *each.labels.items()): each.value for one in registry.collect() for each in one.samples
    }
    assert sums == {("a_total", ("x", "1")): 3, ("b",): 3, ("c",): 2}


WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from vault.telemetry.values import NumbersFile

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    NumbersFile(Path(sys.argv[1]), 4096)
except OSError:
    print("refused")
"""


def test_without_room_nothing_is_left_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_ROOM, str(tmp_path / "counter_1.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "refused\n", done.stderr
    assert list(tmp_path.iterdir()) == []
