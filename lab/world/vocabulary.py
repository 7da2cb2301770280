"""The words of the toy world and what they look like. Every index in a scene points into these tuples."""

NOUNS = ("ball", "box", "cone", "star", "heart", "tree", "house", "cat")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
TEXTURES = ("plain", "striped", "checkered", "dotted")
GROUNDS = ("grass", "sand", "snow", "water", "road")
SKIES = ("day", "sunset", "night")
RELATIONS = ("left", "right", "above", "below")

COLOUR_RGB = (
    (0.86, 0.11, 0.13), (0.96, 0.52, 0.07), (0.97, 0.87, 0.13), (0.13, 0.60, 0.20),
    (0.12, 0.31, 0.84), (0.52, 0.14, 0.68), (0.97, 0.55, 0.74), (0.95, 0.95, 0.96),
)  # fmt: skip


def _words(text: str) -> tuple[tuple[str, ...], ...]:
    """Read "a/b, c": what each thing in a row may be called."""
    return tuple(tuple(names.split("/")) for names in text.split(", "))


NOUN_WORDS = _words("ball/sphere, box/cube, cone, star, heart, tree/fir, house/cottage, cat/kitten")
COLOUR_WORDS = _words("red, orange, yellow, green, blue, purple/violet, pink, white")
TEXTURE_ADJECTIVES = _words("plain, striped, checkered, dotted/spotted")
TEXTURE_NOUNS = (None, "stripes", "checks", "dots")
GROUND_PHRASES = _words(
    "on green grass/on the grass/on a meadow, on sand/on the beach/on yellow sand, on snow/in the snow/on white snow, "
    "on the water/over the sea/on blue water, on a road/on the road/on a grey road"
)
SKY_PHRASES = _words(
    "under a blue sky/on a sunny day/under a clear sky, at sunset/under an orange sky/in the evening, "
    "at night/under a starry sky/under a dark sky"
)
RELATION_PHRASES = _words("to the left of/left of, to the right of/right of, above/over, below/under")
COUNT_WORDS = ("no", "one", "two", "three")
OPENINGS = ("", "", "", "a picture of ", "an image of ", "a painting of ", "a scene with ")
VERBS = ("standing", "sitting", "resting", "placed")

HELD_OUT_PAIRS = frozenset({(0, 5), (1, 2), (2, 6), (3, 0), (4, 4), (5, 7), (6, 3), (7, 1)})
"""(noun, colour) pairs that no training scene shows: purple ball, yellow box, pink cone, red star, ..."""

DEFECT_KINDS = ("blur", "noise", "jpeg", "warp", "cast", "banding", "smear")
HELD_OUT_DEFECT = "smear"
"""The perceptual defect that nothing in a pipeline is trained on."""
TRAINING_DEFECTS = tuple(kind for kind in DEFECT_KINDS if kind != HELD_OUT_DEFECT)

EXTRA_WORDS = (
    "a", "an", "the", "of", "and", "with", "on", "in", "at", "by", "is", "there", "are", "next", "to", "beside",
    "small", "big", "little", "large", "one", "two", "three", "no", "without", "good", "bad", "photo", "picture",
    "image", "painting", "scene", "sky", "day", "night", "evening", "sunset", ",", ".",
)  # fmt: skip


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("x") else "s")


def words() -> list[str]:
    """Return every word that a caption can hold, sorted: what the tokenizer gets a token for."""
    found = set(EXTRA_WORDS) | set(VERBS) | {w for w in TEXTURE_NOUNS if w}
    for group in NOUN_WORDS:
        found |= set(group) | {plural(noun) for noun in group}
    for group in (*COLOUR_WORDS, *TEXTURE_ADJECTIVES):
        found |= set(group)
    for group in (*GROUND_PHRASES, *SKY_PHRASES, *RELATION_PHRASES):
        for phrase in group:
            found |= set(phrase.split())
    for opening in OPENINGS:
        found |= set(opening.split())
    return sorted(found)
