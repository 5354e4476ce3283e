"""Strongroom for users: ``from strongroom import Client``. Everything here is documented and kept stable."""

from vault.client import *  # noqa: F403 - the public face is exactly vault.client.__all__
from vault.client import __all__ as __all__  # noqa: PLC0414 - a re-export, said the way type checkers read it
