"""One text for equal data."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """JSON in which neither layout nor the order of keys counts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def short_hash(value: object) -> str:
    """16 hex digits that name plain data."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=8).hexdigest()
