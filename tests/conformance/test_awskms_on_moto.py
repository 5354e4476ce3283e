"""The AWS KMS provider over a real wire, against what answers badly in the place of AWS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from keyproviders.awskms import AwsKmsProvider, AwsKmsProviderType
from keyproviders.errors import (
    KeyProviderError,
    ProviderDeniedError,
    ProviderThrottledError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import HealthStatus, ProviderSettings, SecretBytes, UnwrapItem, WrapItem
from tests.servers.kms_on_moto import Moto

LIES = ("empty", "html", "list", "object", "short", "not-base64", "null")


@dataclass
class Doors:
    settings: ProviderSettings
    provider: AwsKmsProvider
    item: UnwrapItem


@pytest.fixture
def doors(moto: Moto) -> Iterator[Doors]:
    settings = moto.settings(read_timeout_seconds=30)
    administration = AwsKmsProviderType().open_administration(settings)
    assert (administration.create("records"), administration.rotate("records")) == (1, 2)
    administration.close()
    provider = AwsKmsProviderType().open(settings)
    (made,) = provider.generate("records", 1, [b"context"])
    assert not isinstance(made, KeyProviderError)
    yield Doors(settings, provider, UnwrapItem(made.wrapped, b"context"))
    provider.close()


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_is_believed(moto: Moto, doors: Doors, lie: str) -> None:
    moto.weather(lie)
    plaintext = WrapItem(SecretBytes(bytes(32)), b"context")
    for call in (
        lambda: doors.provider.generate("records", 1, [b"context"]),
        lambda: doors.provider.wrap("records", 1, [plaintext]),
        lambda: doors.provider.unwrap([doors.item]),
        lambda: doors.provider.rewrap([doors.item], 2),
    ):
        with pytest.raises(ProviderUnavailableError):
            call()
    assert doors.provider.health(doors.item).status is HealthStatus.DOWN
    moto.weather("fair")
    assert doors.provider.health(doors.item).status is HealthStatus.OK


@pytest.mark.parametrize(
    ("weather", "kind", "status"),
    [
        ("away", ProviderUnavailableError, HealthStatus.DOWN),
        ("throttled", ProviderThrottledError, HealthStatus.THROTTLED),
        ("denied", ProviderDeniedError, HealthStatus.DENIED),
    ],
)
def test_each_weather_has_its_name(
    moto: Moto, doors: Doors, weather: str, kind: type[KeyProviderError], status: HealthStatus
) -> None:
    moto.weather(weather)
    with pytest.raises(kind) as caught:
        doors.provider.generate("records", 1, [b"context"])
    assert type(caught.value) is kind
    assert doors.provider.health(doors.item).status is status
    with pytest.raises(kind):
        doors.provider.key_info("records")


def test_a_port_where_nobody_listens_is_a_reason_to_try_later(doors: Doors) -> None:
    nowhere = replace(doors.settings, options={**doors.settings.options, "endpoint": "http://127.0.0.1:1"})
    provider = AwsKmsProviderType().open(nowhere)
    with pytest.raises(ProviderUnavailableError, match="EndpointConnectionError"):
        provider.unwrap([doors.item])
    provider.close()


def test_another_prefix_sees_no_key(moto: Moto, doors: Doors) -> None:
    other = AwsKmsProviderType().open(moto.settings(read_timeout_seconds=30))
    assert other.health(doors.item).status is HealthStatus.KEY_MISSING
    other.close()


def test_a_blob_opens_under_its_own_version_only(moto: Moto, doors: Doors) -> None:
    moved = replace(doors.item, wrapped=replace(doors.item.wrapped, version=2))
    (opened,) = doors.provider.unwrap([moved])
    (again,) = doors.provider.rewrap([moved], 1)
    assert type(opened) is type(again) is WrappedKeyRejectedError
    assert moto.weather() == "fair"
