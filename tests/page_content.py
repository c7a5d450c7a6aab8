"""What a page holds, read back from its file."""

import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np

from processor.page import NOT_THERE


def content_of(path: Path) -> dict[str, Any]:
    """What a page's script reads."""
    (found,) = re.findall(
        r'<script type="application/json" id="content">(.*?)</script>', path.read_text("utf-8"), re.S
    )
    return json.loads(found)


def decode(coded: dict[str, Any]) -> np.ndarray:
    """The numbers as the page's script decodes them; NaN where nothing is."""
    whole = np.frombuffer(b64decode(coded["data"]), "<i2").reshape(coded["shape"])
    return np.where(whole == NOT_THERE, np.nan, np.array(coded["origin"]) + coded["step"] * whole)
