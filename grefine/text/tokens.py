"""Cut a cleaned prompt into words and punctuation, each with its place."""

from __future__ import annotations

import re

MOST_TOKENS = 400
"""Words of a prompt that are parsed; text encoders stop far earlier."""

_TOKEN = re.compile(
    r"(?<!\S)['\u2019](?:s|re|ve|ll|m|d)(?!\w)"
    r"|[^\W_](?:[^\W_]|[-\u2010\u2011'\u2019&](?=[^\W_])|(?<=\d)[.:/,](?=\d))*"
    r"|\.{2,}|[^\w\s]|_"
)
_CLITIC = re.compile(r"(?<=[^\W\d_])(?:n['\u2019]t|['\u2019](?:s|re|ve|ll|m|d))$", re.IGNORECASE)


def tokenise(text: str) -> list[tuple[str, int, int]]:
    """Return (word, start, end) in order; hyphenated words stay whole, possessive and other clitics are split off."""
    found: list[tuple[str, int, int]] = []
    for match in _TOKEN.finditer(text):
        word, start, end = match.group(), match.start(), match.end()
        clitic = _CLITIC.search(word) if "'" in word or "\u2019" in word else None
        if clitic and clitic.start():
            cut = clitic.start()
            found.append((word[:cut], start, start + cut))
            found.append((word[cut:], start + cut, end))
        else:
            found.append((word, start, end))
    return found
