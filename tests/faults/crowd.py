"""Made-up people of twenty countries, always the same ones: each with an e-mail address and a telephone of its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import phonenumbers
from faker import Faker

from vault.core.normalise import NormaliseError, normaliser

LOCALES = (
    "cs_CZ", "da_DK", "de_DE", "el_GR", "en_GB", "en_US", "es_ES", "fi_FI", "fr_FR", "he_IL", "hi_IN", "it_IT", "ja_JP",
    "ko_KR", "nl_NL", "pl_PL", "pt_BR", "sv_SE", "uk_UA", "zh_CN",
)  # fmt: skip
COLUMNS = ("Customer No", "Full Name", "E-Mail", "Mobile", "Country", "Address", "Note")
MAPPING = (
    "--map", "E-Mail=email", "--map", "Mobile=phone", "--map", "Country=@region", "--map", "Full Name=name",
    "--map", "Address=address.lines", "--map", "Note=note", "--map", "Customer No=customer_no",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """What a row says, and how else its values can be written."""

    row: tuple[str, ...]
    email: str
    phone: str


def people(count: int) -> Iterator[Person]:
    fakers = []
    for number, locale in enumerate(LOCALES):
        faker = Faker(locale)
        faker.seed_instance(20_261_123 + number)
        fakers.append((faker, locale[-2:], _mobiles(locale[-2:])))
    for number in range(count):
        faker, region, mobiles = fakers[number % len(fakers)]
        phone = next(mobiles)
        styles = (phonenumbers.PhoneNumberFormat.NATIONAL, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
        email = _address(faker.first_name(), number)
        yield Person(
            (
                f"K-{number:07}",
                faker.name(),
                email,
                phonenumbers.format_number(phone, styles[number // len(fakers) % 2]),
                region,
                faker.address(),
                f'said "{faker.word()}", twice' if number % 3 == 0 else "",
            ),
            email.swapcase() if email.isascii() else email,
            phonenumbers.format_number(phone, phonenumbers.PhoneNumberFormat.E164),
        )


def write_table(path: Path, count: int, *, twins_after: int) -> tuple[list[Person], list[int]]:
    """Write them as CSV, a byte-order mark in front, as spreadsheets do; give them and the lines that must be refused.

    Every fiftieth row is followed by one with the address of somebody so many rows before, that must be unique.
    """
    crowd: list[Person] = []
    refused: list[int] = []
    line = 1
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        for row in _rows(crowd, count, twins_after):
            text = io.StringIO()
            csv.writer(text).writerow(row)
            if row[0] == "twin":
                refused.append(line)
            line += text.getvalue().count("\n")
            file.write(text.getvalue())
    return crowd, refused


def _rows(crowd: list[Person], count: int, twins_after: int) -> Iterator[tuple[str, ...]]:
    yield COLUMNS
    for person in people(count):
        crowd.append(person)
        yield person.row
        if len(crowd) % 50 == 0 and len(crowd) > twins_after:
            yield ("twin", "", crowd[-twins_after].row[2], "", "", "", "")


def _mobiles(region: str) -> Iterator[phonenumbers.PhoneNumber]:
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    assert example is not None
    number = example.national_number
    while True:
        candidate = phonenumbers.PhoneNumber(country_code=example.country_code, national_number=number)
        if phonenumbers.is_valid_number_for_region(candidate, region):
            yield candidate
        number += 1


def _address(first_name: str, number: int) -> str:
    # Local parts in the script of the country, where mail can have them.
    address = f"{''.join(first_name.split()).lower()}.{number}@example.com"
    try:
        normaliser("email").normalise(address, region=None)
    except NormaliseError:
        return f"person.{number}@example.com"
    return address
