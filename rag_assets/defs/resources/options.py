"""The options of stores, which a resource holds as JSON."""

import json
from typing import Any


def options(text: str) -> dict[str, Any]:
    """Return options from their JSON; none from an empty text."""
    return dict(json.loads(text)) if text else {}
