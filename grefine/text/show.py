"""A parsed prompt for reading: NLTK's tree as text, the phrases as a table."""

from io import StringIO
from typing import Any

from grefine.errors import ConfigError
from grefine.types import ParsedPrompt


def draw_tree(parsed: ParsedPrompt, width: int = 100) -> str:
    """Return the tree as NLTK draws it while it fits into `width`, as nested lines beyond."""
    if not parsed.tokens:
        return "(no words)"
    try:
        from nltk import Tree
    except ImportError as error:
        raise ConfigError("Drawing the tree needs `pip install nltk`; --json does not.") from error
    children: dict[int, list[int]] = {}
    for i, token in enumerate(parsed.tokens):
        children.setdefault(token.head, []).append(i)

    def grown(i: int) -> Any:
        name = f"{parsed.tokens[i].text}/{parsed.tokens[i].tag}"
        return Tree(name, [grown(c) for c in children[i]]) if i in children else name

    roots = [grown(i) for i in children.get(-1, ())]
    tree = roots[0] if len(roots) == 1 and isinstance(roots[0], Tree) else Tree("ROOT", roots)
    drawing = StringIO()
    if len(parsed.tokens) <= 30 and tree.height() <= 12:  # drawing takes ever longer
        tree.pretty_print(stream=drawing)
    lines = drawing.getvalue().rstrip().splitlines()
    return "\n".join(lines) if lines and max(map(len, lines)) <= width else tree.pformat(margin=width)


def phrase_table(parsed: ParsedPrompt) -> str:
    """Return one line per phrase: noun, words, the phrase it hangs on, weight, marks."""
    head = ("", "noun", "phrase", "hangs on", "weight", "marks")
    rows = [head]
    for j, phrase in enumerate(parsed.phrases):
        above = parsed.phrases[phrase.ancestor].noun if phrase.ancestor != j else "-"
        marks = [name for name, on in (("negated", phrase.negated), ("not drawable", not phrase.drawable)) if on]
        rows.append((str(j), phrase.noun, phrase.text, above, f"{phrase.weight:g}", ", ".join(marks)))
    if len(rows) == 1:
        return "No nouns, so no phrases."
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    return "\n".join("  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)).rstrip() for row in rows)
