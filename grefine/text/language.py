"""Tell a prompt that is not English: by its script, and by the small words that every sentence of a language has."""

import re
import unicodedata
from functools import cache
from pathlib import Path

from grefine.text.embedded import embedded

_ADDRESS = re.compile(r"\S*(?:@|://|\w\.\w)\S*")
_WORD = re.compile(r"[^\W\d_]+")
_LISTS = Path(__file__).parent / "words" / "languages.txt"
_LETTERS = {"German": "äß", "Portuguese": "ãõ", "Polish": "ąćęłńśźż", "Turkish": "ğış"}
"""Letters that none of the others writes; a word with one is a word of the language."""
_FEW = 3
_MET = 0.5
"""Share of words that the English parser has met: at least .64 in the English prompts of tests/golden."""
_MARKED = frozenset("äöüßàâçéèêëîïôùûœñáíóúãõìòąćęłńśźżğışåøæ¿¡")
_SCRIPTS = {
    "Chinese or Japanese": ("CJK",),
    "Japanese": ("HIRAGANA", "KATAKANA"),
    "Korean": ("HANGUL",),
    "Russian or a neighbour": ("CYRILLIC",),
    "Arabic": ("ARABIC",),
    "Hebrew": ("HEBREW",),
    "Greek": ("GREEK",),
    "Hindi": ("DEVANAGARI",),
    "Thai": ("THAI",),
}
_SIGNS = 3
"""Latin letters that one Chinese sign stands for."""


@cache
def _lists() -> tuple[dict[str, frozenset[str]], frozenset[str], frozenset[str]]:
    """Return the words of each other language, those of English, and those that names bring into English."""
    parts = (part.partition("]") for part in _LISTS.read_text(encoding="utf-8").split("[")[1:])
    lists = {name: frozenset(words.split()) for name, _, words in parts}
    return lists, lists.pop("English"), lists.pop("names in English")


def foreign_language(text: str) -> str:
    """Return in which language a prompt is written, as far as can be told; empty for English, and where in doubt."""
    script = "" if text.isascii() else _script(text)
    if script:
        return script
    found = set(_WORD.findall(_ADDRESS.sub(" ", unicodedata.normalize("NFC", text))))
    words = {word.lower() for word in found}
    # A name keeps its letters in English ("by Zdzisław Beksiński").
    marked = {word for word in found if not (word[0].isupper() or _MARKED.isdisjoint(word))}
    lists, common, in_names = _lists()
    by_language = {
        name: (words & listed - common) | {word for word in marked if set(word) & set(_LETTERS.get(name, ""))}
        for name, listed in lists.items()
    }
    language = max(by_language, key=lambda name: len(by_language[name]))
    known = by_language[language]
    english = len(words & common - lists[language])
    weight = len(known & lists[language]) + 0.5 * len(marked)
    if known and weight >= (2 if english else 1.5) and weight > 1.5 * english:
        return language
    # One word of the language is enough where the parser has not met most of the others.
    if not known - in_names or len(words) < _FEW:
        return ""
    english_share = sum(word in embedded().lexicon.classes for word in words) / len(words)
    return language if english_share <= _MET else ""


def _script(text: str) -> str:
    """Return the language of a script other than Latin, unless it is only a word in a Latin text."""
    names = [unicodedata.name(c, "") for c in text if c.isalpha()]
    counts = {language: sum(name.startswith(scripts) for name in names) for language, scripts in _SCRIPTS.items()}
    other = sum(counts.values())
    latin = sum(name.startswith("LATIN") for name in names)
    if other == 0 or other * (_SIGNS if counts["Chinese or Japanese"] else 1) < latin:
        return ""
    # Japanese mixes Chinese signs with its own.
    return "Japanese" if counts["Japanese"] else max(counts, key=lambda name: counts[name])
