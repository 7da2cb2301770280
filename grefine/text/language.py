"""Tell a prompt that is not English: by its script, and by the small words that every sentence of a language has."""

import re
import unicodedata
from collections.abc import Mapping

_ADDRESS = re.compile(r"\S*(?:@|://|\w\.\w)\S*")
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_WORDS = (
    "an the of and you he she we they my your not be do have in on with at by for from to is are was it "
    "its his her their this that under over behind near next into through who which wearing holding "
    "standing sitting looking very no without red blue green white black light style dark young woman "
    "girl boy cat dog"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_SMALL: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "German": (
            "ein eine einer einem einen eines der das dem und mit auf unter im ist neben vor hinter über zwei "
            "vom zum zur am ins aus trägt steht sitzt ohne den des"
        ),
        "French": (
            "un une le la les des du et avec dans sur sous une est près devant derrière deux au aux qui de en "
            "sans son sa ses porte"
        ),
        "Spanish": (
            "un una el la los las del y con en sobre bajo junto de unos unas dos que frente detrás está lleva "
            "su al sin por"
        ),
        "Italian": (
            "un una il lo la gli le del della dello dei delle con su sul sulla nel nella sotto di che due "
            "accanto davanti dietro al alla senza in"
        ),
        "Portuguese": ("um uma os da dos das com em na nos nas sob sobre de que dois duas ao lado perto sem frente"),
        "Dutch": (
            "een het de van en met op onder naast voor achter twee een zijn haar draagt zit staat zonder bij "
            "aan die dat"
        ),
        "Polish": ("w z na pod nad obok przed ze przy dwa dwie jest która który się bez od oraz"),
        "Turkish": ("bir ve ile üzerinde altında yanında içinde önünde arkasında iki olan için bu olmayan gibi"),
    }.items()
}
"""Function words and the prepositions of places, without those that look like English ones ("do", "as", "i")."""
_MARKED = frozenset("äöüßàâçéèêëîïôùûœñáíóúãõìòąćęłńóśźżğışåøæ¿¡")
_SCRIPTS = (
    ("CJK", "Chinese or Japanese"),
    ("HIRAGANA", "Japanese"),
    ("KATAKANA", "Japanese"),
    ("HANGUL", "Korean"),
    ("CYRILLIC", "Russian or a neighbour"),
    ("ARABIC", "Arabic"),
    ("HEBREW", "Hebrew"),
    ("GREEK", "Greek"),
    ("DEVANAGARI", "Hindi"),
    ("THAI", "Thai"),
)
_SIGNS = 3
"""Latin letters that one Chinese sign stands for."""


def foreign_language(text: str) -> str:
    """Return in which language a prompt is written, as far as can be told; empty for English, and where in doubt."""
    if text.isascii():
        letters = text.lower()
    else:
        script = _script(text)
        if script:
            return script
        letters = unicodedata.normalize("NFC", text).lower()
    words = set(_WORD.findall(_ADDRESS.sub(" ", letters)))
    found = {language: sum(word in small for word in words) for language, small in _SMALL.items()}
    language = max(found, key=lambda name: found[name])
    english = sum(word in _ENGLISH for word in words)
    marked = sum(not _MARKED.isdisjoint(word) for word in words)
    weight = found[language] + 0.5 * marked
    enough = 2 if english else 1.5
    return language if weight >= enough and found[language] and weight > 1.5 * english else ""


def _script(text: str) -> str:
    """Return the language of a script other than Latin, unless it is only a word in a Latin text."""
    letters = [c for c in text if c.isalpha()]
    names = [unicodedata.name(c, "") for c in letters]
    counts = {language: 0 for _, language in _SCRIPTS}
    for name in names:
        language = next((language for script, language in _SCRIPTS if name.startswith(script)), "")
        if language:
            counts[language] += 1
    other = sum(counts.values())
    latin = sum(name.startswith("LATIN") for name in names)
    if other == 0 or other * (_SIGNS if counts["Chinese or Japanese"] else 1) < latin:
        return ""
    # Japanese mixes Chinese signs with its own.
    return "Japanese" if counts["Japanese"] else max(counts, key=lambda name: counts[name])
