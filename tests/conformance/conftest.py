"""The servers of these tests."""

from __future__ import annotations

from tests.servers.kms_on_moto import moto, moto_server
from tests.servers.openbao import openbao, transit

__all__ = ["moto", "moto_server", "openbao", "transit"]
