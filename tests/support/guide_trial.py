"""The trial without GPUs that README and the guide lead through: the commands that a reader types, in order."""

import re

from install_manifests import ROOT

HEADING = "Try it without GPUs"


def commands(document: str) -> list[str]:
    """Without their comments. `document`: a path in the repository."""
    text = (ROOT / document).read_text()
    (section,) = re.findall(rf"^#+ {HEADING}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    block = re.findall(r"^```\n(.*?)^```", section, re.M | re.S)[0]
    return [line for each in block.splitlines() if (line := re.sub(r"\s+# .*", "", each).strip())]
