"""Real servers for the tests in this folder."""

from tests.servers.openbao import openbao, own_openbao, transit
from tests.unit.keyproviders.conftest import exit_code_of_child

__all__ = ["exit_code_of_child", "openbao", "own_openbao", "transit"]
