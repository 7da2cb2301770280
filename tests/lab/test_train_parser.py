"""The parser's trainer on a handful of sentences: it learns, and the same seed gives the same file."""

import gzip

import numpy as np
import pytest

from grefine.errors import ConfigError
from grefine.text.embedded import EmbeddedBackend
from lab.parser.arc_hybrid import LEFT, RIGHT, SHIFT, States, tag_atoms
from lab.parser.prompt_grammar import PromptGrammar
from lab.parser.prompt_nouns import read_lexicon
from lab.parser.recipe import ParserRecipe, quantise, train_parser
from lab.parser.treebank import (
    Sentence,
    joined_hyphens,
    noun_phrases,
    phrase_lists,
    read_treebank,
    treebank_file,
    without_stop,
)

SMALL = ParserRecipe(
    prompts=80,
    phrase_lists=20,
    folds=2,
    jackknife_epochs=1,
    tagger_epochs=2,
    parser_epochs=2,
    parser_seeds=1,
    labeller_epochs=2,
    tagger_bits=13,
    parser_bits=15,
    labeller_bits=13,
    tagger_floor=0.1,
    parser_floor=0.1,
    labeller_floor=0.1,
)


def rows(*words):
    return "".join(f"{i}\t{w}\t_\t_\t{t}\t_\t{h}\t{label}\t_\t_\n" for i, (w, t, h, label) in enumerate(words, 1))


BANK = (
    "# sent_id = 1\n"
    + rows(("A", "DT", 2, "det"), ("dog", "NN", 3, "nsubj"), ("sees", "VBZ", 0, "root"), ("a", "DT", 5, "det"))[:-1]
    + "\n5\tcat\t_\t_\tNN\t_\t3\tobj\t_\tSpaceAfter=No\n6\t.\t_\t_\t.\t_\t3\tpunct\t_\t_\n\n"
    + "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n"
    + rows(("The", "DT", 3, "det"), ("old", "JJ", 3, "amod"), ("house", "NN", 0, "root"), ("of", "IN", 5, "case"))[:-1]
    + "\n5\tstone\t_\t_\tNN\t_\t3\tnmod\t_\t_\n\n"
)


@pytest.fixture
def bank(tmp_path):
    folder = tmp_path / "ud"
    folder.mkdir()
    with gzip.open(folder / "en_ewt-ud-train.conllu.gz", "wt") as out:
        out.write(BANK * 12)
    return folder


def test_reading(bank):
    sentences = read_treebank(treebank_file(bank, "ewt", "train"))
    assert len(sentences) == 24
    assert sentences[0].heads == [1, 2, -1, 4, 2, 2]
    assert sentences[0].glued[4]
    with pytest.raises(ConfigError, match="en_gum-ud-test"):
        treebank_file(bank, "gum", "test")
    broken = bank / "broken.conllu"
    broken.write_text("1\tx\n")
    with pytest.raises(ConfigError, match="CoNLL-U"):
        read_treebank(broken)


def test_same_seed_same_file(bank, tmp_path):
    files = [tmp_path / name for name in ("a.bin", "b.bin", "c.bin")]
    for path, seed in zip(files, (1, 1, 2), strict=True):
        train_parser(bank, path, seed, SMALL)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()
    found = EmbeddedBackend(files[0]).analyse(["a", "red", "dog", "on", "the", "house"])
    assert found.tags == ["DET", "ADJ", "NOUN", "ADP", "DET", "NOUN"]
    assert found.heads[:2] == [2, 2]


def test_following_the_oracle_gives_the_gold_tree():
    random = np.random.RandomState(4)
    grammar = PromptGrammar(random)
    sentences = [grammar.prompt() for _ in range(40)]
    sentences = [s for s in sentences if projective(s.heads)]
    states = States(
        [s.words for s in sentences],
        [np.zeros(len(s.words), dtype=np.uint32) for s in sentences],
        [tag_atoms(s.tags) for s in sentences],
        [s.heads for s in sentences],
    )
    while len(r := states.active()):
        costs = np.where(states.legal(r), states.costs(r), 99)
        assert (costs.min(axis=1) == 0).all()
        states.move(r, costs.argmin(axis=1))
    for k, s in enumerate(sentences):
        n = len(s.words)
        assert [-1 if h == n else h for h in states.heads[k, :n]] == s.heads


def test_costs_count_the_arcs_that_are_lost():
    """Every cost is what exhaustive search loses at best after that transition."""
    random = np.random.RandomState(0)
    for _ in range(10):
        n = 3
        gold = [int(h) for h in random.randint(-1, n, n)]
        gold = [-1 if h == i else h for i, h in enumerate(gold)]
        state = fresh(gold)
        before = best_reachable(state, gold)
        while len(r := state.active()):
            legal, costs = state.legal(r)[0], state.costs(r)[0]
            for action in (SHIFT, LEFT, RIGHT):
                if legal[action]:
                    after = copied(state)
                    after.move(np.array([0]), np.array([action]))
                    if is_tree(gold) and projective(gold):
                        assert before - best_reachable(after, gold) == costs[action]
            action = int(random.choice(np.flatnonzero(legal)))
            state.move(np.array([0]), np.array([action]))
            before = best_reachable(state, gold)


def fresh(gold):
    return States([["w"] * len(gold)], [np.zeros(len(gold), np.uint32)], [np.zeros(len(gold), np.uint32)], [gold])


def copied(state):
    import copy

    return copy.deepcopy(state)


def best_reachable(state, gold):
    r = state.active()
    n = len(gold)
    if not len(r):
        return sum((h if h >= 0 else n) == f for h, f in zip(gold, state.heads[0, :n], strict=True))
    found = 0
    for action in (SHIFT, LEFT, RIGHT):
        if state.legal(r)[0][action]:
            after = copied(state)
            after.move(np.array([0]), np.array([action]))
            found = max(found, best_reachable(after, gold))
    return found


def is_tree(heads):
    for i in range(len(heads)):
        at, steps = i, 0
        while at != -1:
            at, steps = heads[at], steps + 1
            if steps > len(heads):
                return False
    return True


def projective(heads):
    n = len(heads)
    arcs = [(min(i, h if h >= 0 else n), max(i, h if h >= 0 else n)) for i, h in enumerate(heads)]
    return not any(a < c < b < d for a, b in arcs for c, d in arcs)


def test_grammar_makes_whole_trees():
    grammar = PromptGrammar(np.random.RandomState(9), [("gizmo", "NN")])
    prompts = [grammar.prompt() for _ in range(300)]
    for s in prompts:
        assert is_tree(s.heads)
        assert s.heads.count(-1) == 1
        assert len(s.words) == len(s.tags) == len(s.heads) == len(s.labels)
        assert all(w and " " not in w for w in s.words)
    again = PromptGrammar(np.random.RandomState(9), [("gizmo", "NN")])
    assert [s.words for s in prompts[:20]] == [again.prompt().words for _ in range(20)]
    assert min(len(entries) for entries in read_lexicon().values()) >= 10


def test_prompts_of_the_measure_are_not_in_the_grammar():
    """The annotated prompts measure the parser, so no made-up prompt may be one of them."""
    import json
    from pathlib import Path

    path = Path(__file__).parent.parent / "golden" / "prompts_dev.jsonl"
    kept = {" ".join(json.loads(line)["prompt"].lower().replace(",", " ,").split()) for line in path.open()}
    grammar = PromptGrammar(np.random.RandomState(0))
    # One- and two-word prompts meet by chance.
    assert not {p for p in kept if p.count(" ") > 1} & {" ".join(grammar.prompt().words) for _ in range(600)}


def test_hyphens_join_and_stops_fall():
    s = Sentence(
        ["a", "well", "-", "known", "man", "."],
        ["DT", "RB", "HYPH", "VBN", "NN", "."],
        [4, 3, 3, 4, -1, 4],
        ["det", "advmod", "punct", "amod", "root", "punct"],
        [False, True, True, False, True, False],
    )
    joined = joined_hyphens(s)
    assert joined.words == ["a", "well-known", "man", "."]
    assert joined.heads == [2, 2, -1, 2]
    assert joined.tags[1] == "JJ"
    assert without_stop(joined).words == ["a", "well-known", "man"]


def test_phrase_lists_hang_on_the_first(bank):
    phrases = noun_phrases(read_treebank(treebank_file(bank, "ewt", "train")))
    assert ["a", "dog"] in [p.words for p in phrases]
    for s in phrase_lists(phrases, 50, np.random.RandomState(0)):
        assert is_tree(s.heads)
        assert s.heads.count(-1) == 1


def test_quantise():
    weights = np.array([[0.2, -3.0], [1.5, 400.0]])
    small = quantise(weights, 1.0, 127, np.int8)
    assert small[0, 0] == 0
    assert small[1, 1] == 127
    assert small[0, 1] < 0
    assert quantise(np.zeros((2, 2)), 1.0, 127, np.int8).sum() == 0
