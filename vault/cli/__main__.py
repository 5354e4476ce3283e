"""``python -m vault.cli`` is ``strongroom``, also where no script directory is on the path."""

from vault.cli import main

main(prog_name="strongroom")
