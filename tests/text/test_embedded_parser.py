"""The shipped weights: whole, small, quick to load, and the same machine as in training."""

import time

import numpy as np
import pytest

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.text.embedded import SHIPPED, EmbeddedBackend, read_weights
from grefine.text.features import Lexicon, atom
from lab.parser.recipe import write_weights

SENTENCES = [
    "a red ball on green grass",
    "oil painting of an old man with a beard , soft light , by Vincent van Gogh",
    "The knight who fights the dragon rides a white horse .",
    "cat",
    ", , ,",
    "RAW photo , (((",
]


def test_shipped_file_is_small_and_says_where_it_is_from():
    assert SHIPPED.stat().st_size <= 2_000_000
    about = read_weights(SHIPPED).about
    assert about["licence"] == "CC BY-SA 4.0"
    assert "English Web Treebank" in about["source"]
    assert (SHIPPED.parent / "README.md").is_file()


def test_loading_is_quick():
    EmbeddedBackend()
    started = time.process_time()
    EmbeddedBackend()
    # The measured value is in docs/text.md; a busy machine may take a few times as long.
    assert time.process_time() - started < 1.0


def test_file_survives_a_round_trip(tmp_path):
    weights = read_weights(SHIPPED)
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    write_weights(first, weights)
    write_weights(second, read_weights(first))
    assert first.read_bytes() == second.read_bytes()
    again = read_weights(first)
    assert again.tags == weights.tags
    assert again.classes == weights.classes
    for name, table in weights.tables.items():
        assert np.array_equal(again.tables[name], table)
        assert table.dtype in (np.int8, np.int16)


def test_bad_files_are_told_apart(tmp_path):
    with pytest.raises(WeightsMissing, match="lab train parser"):
        EmbeddedBackend(tmp_path / "none.npz")
    other = tmp_path / "other.npz"
    other.write_bytes(b"something else")
    with pytest.raises(WeightsCorrupt, match="no parser file"):
        EmbeddedBackend(other)
    data = bytearray(SHIPPED.read_bytes())
    data[-100] ^= 255
    other.write_bytes(data)
    with pytest.raises(WeightsCorrupt, match="no parser file"):
        EmbeddedBackend(other)
    other.write_bytes(SHIPPED.read_bytes()[:50])
    with pytest.raises(WeightsCorrupt):
        EmbeddedBackend(other)


def test_one_prompt_is_parsed_as_in_training():
    """The quick inference and the trainer's lockstep one are two programs of one machine."""
    from lab.parser.trainers import LabellerTrainer, ParserTrainer, TaggerTrainer
    from lab.parser.treebank import Sentence

    weights = read_weights(SHIPPED)
    backend = EmbeddedBackend(weights)
    tagger = TaggerTrainer(weights.tags, backend.lexicon, 4)
    parser = ParserTrainer(backend.lexicon, 4)
    labeller = LabellerTrainer(weights.labels, backend.lexicon, 4)
    table = weights.tables["parser"].astype(np.float32)
    for trainer, values in (
        (tagger, weights.tables["tagger"].astype(np.float32)),
        (parser, np.concatenate([np.zeros((len(table), 1), dtype=np.float32), table], axis=1)),
        (labeller, weights.tables["labeller"].astype(np.float32)),
    ):
        trainer.table.weights = values
        trainer.table.bits = len(values).bit_length() - 1
        trainer.table.shift = np.uint32(32 - trainer.table.bits)
    for text in SENTENCES:
        words = text.split()
        sentence = Sentence(words, ["NN"] * len(words), [-1] * len(words), ["root"] * len(words), [False] * len(words))
        tags = tagger.tag([sentence])
        assert backend.tagger.tag(words) == tags[0]
        heads = parser.parse([sentence], tags)
        found = backend.analyse(words)
        assert found.heads == heads[0]
        assert found.labels == labeller.label([sentence], tags, heads)[0]


def test_lexicon_knows_forms():
    lexicon = Lexicon({"cat": "NN", "the": "DT!"}, {"ing": "VBG"})
    assert lexicon.certain == {"the": "DT"}
    assert lexicon.atoms("Cat")[0] == lexicon.atoms("cat")[0] == atom("cat")
    assert lexicon.atoms("unseen")[0] == atom("_een")
    assert lexicon.atoms("12")[1] == lexicon.atoms("34")[1]
    assert lexicon.atoms("x" * 9000)
