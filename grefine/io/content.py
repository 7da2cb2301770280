"""What tells one content from another."""

import hashlib
from pathlib import Path


def content_hash(content: bytes | str | Path) -> str:
    """Return the SHA-256 of bytes, of a text, or of the bytes of a file, in hexadecimal digits."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
