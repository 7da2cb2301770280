"""NLTK's tagger, and chunk and attachment rules for what it does not have: a dependency parser that works offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grefine.errors import ConfigError, WeightsMissing
from grefine.text.backend import Analysis
from grefine.text.chunks import ChunkTree

DATA = "averaged_perceptron_tagger_eng"


class NltkBackend:
    """Penn tags by NLTK's averaged perceptron, the tree by `chunks.ChunkTree`."""

    name = "nltk"

    def __init__(self, tagger: Any = None) -> None:
        """Load NLTK's tagger, or take another object whose `tag(words)` gives (word, Penn tag) pairs."""
        self._tagger = tagger if tagger is not None else _load()

    def analyse(self, words: Sequence[str]) -> Analysis:
        """Tag and parse `words`."""
        if not words:
            return Analysis([], [], [])
        return ChunkTree(words, self.penn_tags(words)).analyse()

    def penn_tags(self, words: Sequence[str]) -> list[str]:
        """Return NLTK's tags, which are Penn Treebank tags."""
        return [tag for _, tag in self._tagger.tag(list(words))]


def _load() -> Any:
    try:
        from nltk.tag.perceptron import PerceptronTagger
    except ImportError as error:
        raise ConfigError("The parser 'nltk' needs the package nltk: run `pip install nltk`.") from error
    try:
        return PerceptronTagger()
    except LookupError as error:
        raise WeightsMissing(
            f"The parser 'nltk' needs NLTK's data '{DATA}', which is not on this machine: run"
            f" `python -m nltk.downloader {DATA}`, or use the parser 'embedded'."
        ) from error
