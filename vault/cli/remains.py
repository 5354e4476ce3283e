"""Looking for texts in the bytes of a folder: what would somebody find who stole the disk?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Remains:
    """What a search through a folder found.

    Attributes:
        files: how many files were read.
        size_bytes: how many bytes they hold.
        found: for each name that was looked for, how often one of its forms occurs.
    """

    files: int
    size_bytes: int
    found: Mapping[str, int]


def search(folder: Path, wanted: Mapping[str, Iterable[bytes]]) -> Remains:
    """Count, in every file below a folder, the occurrences of byte strings, ASCII letters of any case.

    Args:
        folder: read as a whole, databases' side files and logs included.
        wanted: name -> the forms that count as it, none of them empty.
    """
    forms = {name: [form.lower() for form in each] for name, each in wanted.items()}
    found = dict.fromkeys(forms, 0)
    files = size_bytes = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        files += 1
        size_bytes += _search_file(path, forms, found)
    return Remains(files, size_bytes, found)


def _search_file(path: Path, forms: Mapping[str, list[bytes]], found: dict[str, int]) -> int:
    # Each chunk starts with the end of the one before, so that nothing hides on the border; what lies wholly in
    # that overlap has been counted already.
    longest = max((len(form) for each in forms.values() for form in each), default=1)
    size_bytes = 0
    overlap = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                size_bytes += len(chunk)
                window = overlap + chunk.lower()
                for name, each in forms.items():
                    found[name] += sum(window.count(form) - overlap.count(form) for form in each)
                overlap = window[-(longest - 1) :] if longest > 1 else b""
    except FileNotFoundError:
        # A side file of the database, gone since the folder was listed.
        return size_bytes
    return size_bytes
