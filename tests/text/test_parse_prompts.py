"""The worked examples, what goes wrong in prompts, and the annotated prompts."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.parser_scores import prompt_scores, read_prompts
from grefine.errors import ConfigError, PromptError
from grefine.text.backend import Analysis, register_backend
from grefine.text.clean import MOST_TOKENS
from grefine.text.marks import WordList
from grefine.text.parse import parse, parse_prompt

PROMPTS = Path(__file__).parent.parent / "golden" / "prompts_dev.jsonl"


def seen(prompt, **options):
    phrases = parse_prompt(prompt, **options)
    return [(p.text, phrases[p.ancestor].noun if p.ancestor != j else None) for j, p in enumerate(phrases)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "a girl with long hair blowing in the wind",
            [("a girl", None), ("with long hair", "girl"), ("blowing in the wind", "hair")],
        ),
        ("a woman wearing a red dress", [("a woman", None), ("wearing a red dress", "woman")]),
        ("a red ball on green grass", [("a red ball", None), ("on green grass", "ball")]),
        (
            "a striped ball to the left of a blue box under a night sky",
            [("a striped ball", None), ("to the left of a blue box", "ball"), ("under a night sky", "ball")],
        ),
        ("a dotted cone next to a small tree", [("a dotted cone", None), ("next to a small tree", "cone")]),
        (
            "a checkered heart above a plain yellow star",
            [("a checkered heart", None), ("above a plain yellow star", "heart")],
        ),
        ("a house by the sea", [("a house", None), ("by the sea", "house")]),
        ("a red ball and a blue box on sand", [("a red ball", None), ("a blue box", "ball"), ("on sand", "box")]),
        ("the ball is on the grass", [("The ball".lower(), None), ("is on the grass", "ball")]),
        ("a coffee mug", [("a coffee mug", None)]),
        ("no people, a house by the sea", [("no people", "house"), ("a house", None), ("by the sea", "house")]),
        ("1girl, long hair, blue eyes", [("1girl", None), ("long hair", "1girl"), ("blue eyes", "1girl")]),
        ("a bird in a nest made of twigs", [("a bird", None), ("in a nest", "bird"), ("made of twigs", "nest")]),
        ("painting of a cat", [("painting", None), ("of a cat", "painting")]),
        ("a knight fights a dragon", [("a knight fights", None), ("a dragon", "knight")]),
        ("4k, highly detailed", []),
    ],
)
def test_phrases(prompt, expected):
    found = seen(prompt)
    if prompt == "4k, highly detailed":
        assert [p for p in parse_prompt(prompt) if p.drawable] == []
    elif prompt == "a knight fights a dragon":
        # The verb ties between both nouns; what matters is what hangs on what.
        assert [a for _, a in found] == [None, "knight"]
    elif prompt == "a red ball and a blue box on sand":
        assert [t for t, _ in found] == [t for t, _ in expected]
        assert found[2][1] in ("ball", "box")
    else:
        assert found == expected


def test_compounds_stay_apart_on_request():
    assert [p.noun for p in parse_prompt("a coffee mug")] == ["coffee mug"]
    assert [p.noun for p in parse_prompt("a coffee mug", merge_compounds=False)] == ["coffee", "mug"]


def test_weights_and_spans():
    parsed = parse("(masterpiece:1.2), a young knight in (shining armor:1.4)")
    weights = {p.noun: p.weight for p in parsed.phrases}
    assert weights["knight"] == 1.0
    assert weights["armor"] == 1.4
    for phrase in parsed.phrases:
        assert tuple(parsed.text[a:b] for a, b in phrase.spans) == phrase.words
        assert len(phrase.spans) == len(phrase.words)


@pytest.mark.parametrize(
    ("prompt", "negated"),
    [
        ("a beach, no people", {"people"}),
        ("a cat without a hat", {"hat"}),
        ("a man not wearing a hat", {"hat"}),
        ("a street without cars or bicycles", {"cars", "bicycles"}),
        ("a beach --no people", {"people"}),
        ("a cat with a hat", set()),
    ],
)
def test_negated(prompt, negated):
    assert {p.noun for p in parse_prompt(prompt) if p.negated} == negated


@pytest.mark.parametrize(
    "thing", ["oil painting", "8k", "film grain", "by Greg Rutkowski", "depth of field", "octane render"]
)
def test_not_drawable(thing):
    phrases = parse_prompt(f"a red ball on grass, {thing}")
    assert [p.noun for p in phrases if p.drawable] == ["ball", "grass"]


def test_a_painting_on_the_wall_is_a_thing():
    marks = {p.noun: p.drawable for p in parse_prompt("a room with a painting on the wall")}
    assert marks["painting"]
    assert not parse_prompt("a painting of a room")[0].drawable


def test_word_list_extends(tmp_path):
    prompt = "a red ball, glimmerwave"
    assert [p.drawable for p in parse_prompt(prompt)] == [True, True]
    own = tmp_path / "marks.txt"
    own.write_text("# mine\n[style]\nglimmerwave\n")
    for more in (own, WordList.read(own)):
        assert [p.drawable for p in parse_prompt(prompt, marks=more)] == [True, False]
    own.write_text("[stile]\nx\n")
    with pytest.raises(ConfigError, match=r"line 1.*stile.*did you mean 'style'"):
        parse(prompt, marks=own)


ODD = [
    "",
    " ",
    "((((",
    "]]]]",
    "()[]{}",
    "(:1.2)",
    "🐱",
    "a 🐱 on 🟩, 🔥🔥🔥",
    "一只红色的球在绿色的草地上",
    "красный шар на траве",
    "एक लाल गेंद",
    "كرة حمراء",
    "x" * 6000,
    "a" + "-b" * 3000,
    ", ".join(["tag"] * 300),
    "word " * 5000,
    "(a:1.2 ((b [c|d {e",
    "a\x00b\x1b[31mc\u202ed",
    "\ud83d",
    "a:1.5), :2) (::",
    "'s 's's n't",
    "--no --ar --",
    "<lora:>",
    "\\(\\",
    "....,,,,;;;;",
    "in front of",
    "to the left of to the right of",
    "of of of of",
    "no no without not",
    "12 34 56",
    "\u0300\u0301 \u200d",
]


def whole(parsed):
    """Hold a parse to what its types promise."""
    count = len(parsed.phrases)
    for j, phrase in enumerate(parsed.phrases):
        assert 0 <= phrase.ancestor < count
        assert phrase.words
        assert tuple(parsed.text[a:b] for a, b in phrase.spans) == phrase.words
        seen_, at = set(), j
        while parsed.phrases[at].ancestor != at:
            assert at not in seen_, "ancestors run in a circle"
            seen_.add(at)
            at = parsed.phrases[at].ancestor
    for k in range(len(parsed.tokens)):
        steps, at = 0, k
        while at != -1:
            at, steps = parsed.tokens[at].head, steps + 1
            assert steps <= len(parsed.tokens), "heads run in a circle"
    spans = [s for p in parsed.phrases for s in p.spans]
    assert len(spans) == len(set(spans)), "a word lies in two phrases"
    assert parsed.text.encode("utf-8") is not None


class Scrambled:
    """A parser that answers at random: what stands above it must hold for any tree."""

    name = "scrambled"

    def __init__(self, seed):
        self.random = random.Random(seed)

    def analyse(self, words):
        n, r = len(words), self.random
        order = list(range(n))
        r.shuffle(order)
        heads = [-1] * n
        for k, i in enumerate(order):
            heads[i] = -1 if k == 0 or r.random() < 0.1 else order[r.randrange(k)]
        tags = [r.choice(["NOUN", "PROPN", "VERB", "ADP", "ADJ", "PUNCT", "DET", "CCONJ"]) for _ in words]
        relations = ["case", "compound", "flat", "nsubj", "obj", "conj", "amod", "list", "acl", "det"]
        labels = [r.choice(relations) for _ in words]
        return Analysis(tags, heads, labels)


@pytest.mark.parametrize("prompt", ODD, ids=range(len(ODD)))
def test_any_string_parses(prompt):
    whole(parse(prompt))
    whole(parse(prompt, Scrambled(1)))


def test_random_strings_parse():
    r = random.Random(7)
    alphabet = "ab cat,.:()[]{}|<>_-'\\\n\t0123.5éß猫🐱\u0301\ud800\x00  in of the --no ::BREAK"
    for k in range(400):
        prompt = "".join(r.choice(alphabet) for _ in range(r.randrange(120)))
        whole(parse(prompt))
        whole(parse(prompt, Scrambled(k)))


def test_any_tree_survives_repair():
    prompt = "a photo of a cat in front of a house, no people next to a tree, on top of it, red sky"
    for k in range(300):
        whole(parse(prompt, Scrambled(k)))


def test_long_prompts_are_cut_with_a_record():
    parsed = parse("red ball, " * 300)
    assert len(parsed.tokens) == MOST_TOKENS
    assert parsed.truncated == 900 - MOST_TOKENS
    assert parse("a red ball").truncated == 0


@pytest.mark.parametrize("prompt", [None, 3, b"a cat", ["a cat"]])
def test_no_text_is_an_error(prompt):
    with pytest.raises(PromptError, match="must be a text"):
        parse(prompt)


def test_backends_by_name_and_by_object():
    with pytest.raises(ConfigError, match="embeded.*did you mean 'embedded'"):
        parse("a cat", "embeded")
    with pytest.raises(ConfigError, match="`name` and `analyse`"):
        parse("a cat", 3)
    register_backend("scrambled", lambda: Scrambled(3))
    assert parse("a cat", "scrambled").backend == "scrambled"


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (Analysis(["NOUN"], [-1], ["root"]), "one for each"),
        (Analysis(["DET", "NOUN"], [1, 5], ["det", "root"]), "head 5"),
        (Analysis(["DET", "NOUN"], [1, 0], ["det", "root"]), "cycle"),
    ],
)
def test_foreign_backends_are_held_to_their_promise(answer, match):
    class Foreign:
        name = "foreign"

        def analyse(self, words):
            return answer

    with pytest.raises(ConfigError, match=match):
        parse("a cat", Foreign())


def test_same_prompt_same_result():
    prompt = "oil painting of a fox under an oak tree, autumn leaves, soft light"
    assert parse(prompt) == parse(prompt)


def test_tree_is_nltks():
    graph = parse("a woman wearing a red dress").tree
    assert graph.root["word"] == "woman"
    assert graph.contains_cycle() is False


def test_annotated_prompts():
    scores = prompt_scores(read_prompts(PROMPTS), parse)
    assert scores["noun_f1"] >= 0.97, scores
    assert scores["words"] >= 0.96, scores
    assert scores["ancestors"] >= 0.91, scores


def test_scores_notice_faults():
    records = read_prompts(PROMPTS)[:10]

    def nothing(prompt):
        return parse("")

    def wrong(prompt):
        return parse(prompt, Scrambled(5))

    assert prompt_scores(records, nothing)["noun_f1"] == 0
    assert prompt_scores(records, wrong)["noun_f1"] < 0.6
    assert prompt_scores(records, wrong)["ancestors"] < 0.6


def test_no_torch():
    code = (
        "import sys, grefine.text.parse as p\n"
        "p.parse('a red ball on green grass')\n"
        "assert not {'torch', 'nltk', 'transformers', 'scipy'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_text_room_never_names_torch():
    room = Path(__file__).parents[2] / "grefine" / "text"
    for path in room.rglob("*.py"):
        assert "import torch" not in path.read_text(), path


def test_command(capsys):
    from typer.testing import CliRunner

    from grefine.cli.main import app

    done = CliRunner().invoke(app, ["parse", "a woman wearing a (red:1.3) dress", "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert [p["noun"] for p in data["phrases"]] == ["woman", "dress"]
    assert data["phrases"][1]["weight"] == 1.3
    done = CliRunner().invoke(app, ["parse", "a woman wearing a red dress"])
    assert "woman/NOUN" in done.stdout
    assert "wearing a red dress" in done.stdout
    for odd in ("", "🐱", "tag, " * 300):
        assert CliRunner().invoke(app, ["parse", odd]).exit_code == 0


def test_what_is_joined_to_a_pattern_stands_beside_the_thing():
    ball, _, house = parse("a red ball with stripes and a pink house").phrases
    assert (house.ancestor, house.beside) == (0, True), ball.text
    assert parse("a cup with stripes and dots").phrases[2].ancestor == 1


def test_a_phrase_knows_how_its_noun_looks():
    house, dots = parse_prompt("a big red house with dots")
    assert house.attributes == ("big", "red")
    assert dots.attributes == ()


@pytest.mark.parametrize(
    ("prompt", "apart"),
    [
        ("a red ball, a blue cone and a tree", ["cone", "tree"]),
        ("a ball beside a cone", ["cone"]),
        ("a ball to the left of a tree", ["tree"]),
        ("a woman wearing a red dress and a hat", ["hat"]),
        ("a girl with long hair blowing in the wind", []),
        ("1girl, long hair, blue eyes", []),
        ("a red ball on the grass. there is a blue cone", ["cone"]),
    ],
)
def test_listed_and_placed_things_stand_apart(prompt, apart):
    assert [p.noun for p in parse_prompt(prompt) if p.beside] == apart


CHAINS = [
    ("a vase with swirls in front of a lamp with letters left of a bowl", {"swirls": "vase", "letters": "lamp"}),
    ("a poster showing a car with chevrons above a bench", {"chevrons": "car"}),
    ("a tall dog next to a chair, a bowl with golden stars", {"stars": "bowl"}),
    ("a woman in a red dress with long hair", {"hair": "woman"}),
]


@pytest.mark.parametrize(("prompt", "worn"), CHAINS)
def test_in_a_chain_of_places_each_thing_keeps_what_it_is_told_with(prompt, worn):
    phrases = parse_prompt(prompt)
    hosts = {p.noun.split()[-1]: phrases[p.ancestor].noun.split()[-1] for p in phrases}
    assert {noun: hosts[noun] for noun in worn} == worn


def test_what_something_stands_in_front_of_is_apart_from_it():
    assert parse_prompt("a lamp in front of a vase")[1].beside
