"""The option that all commands share which start pools or look for them."""

from pathlib import Path
from typing import Annotated

from typer import Option

RunFolder = Annotated[
    Path | None,
    Option(
        envvar="KVPOOL_RUN_FOLDER",
        help="Where `up` records running pools and their logs, and `status` and `bench` find them.",
        show_default="XDG_RUNTIME_DIR/kvpool, else /tmp/kvpool-UID",
    ),
]
