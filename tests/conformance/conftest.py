"""The servers of these tests."""

from __future__ import annotations

from tests.servers.kms_on_moto import moto, moto_server

__all__ = ["moto", "moto_server"]
