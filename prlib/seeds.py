"""Seeds made of seeds."""

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """An independent seed for each purpose of one experiment's seed."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
