"""Take prompt syntax away and keep what it meant: the plain text, the emphasis by character range, and the words."""

import re
import unicodedata
from dataclasses import dataclass

LIGHTEST, HEAVIEST = 0.0, 10.0
LONGEST = 40_000
"""Characters that are looked at; far beyond what the word limit leaves."""

_OPEN = {"(": (")", 1.1), "[": ("]", 1 / 1.1), "{": ("}", 1.05)}
"""Closing brackets, and the factors of `(x)`, `[x]` and `{x}` as the common front ends define them."""
_WIDE = str.maketrans("，、；：（）［］｛｝｜！？。“”„", ',,;:()[]{}|!?."""', "\u200b\u200c\u2060\ufeff\ufe0e\ufe0f")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufff0-\uffff]")
_FLAGS = (
    "ar|aspect|v|version|s|stylize|q|quality|chaos|c|seed|sameseed|style|niji|iw|tile|test|testp|w|h|hd|weird|raw"
    "|sref|cref"
)

_PIECE = re.compile(
    rf"""
      (?P<escaped>\\[()\[\]{{}}\\])
    | (?P<network><[A-Za-z]\w*:[^<>]{{0,200}}>)
    | (?P<breaks>\b(?:BREAK|AND)\b)
    | (?P<exclude>(?<!\S)--no(?=\s))
    | (?P<flag>(?<!\S)--(?:{_FLAGS})\b(?:[ \t]+[\w.:]+)?)
    | (?P<part>::[ \t]*(?P<part_weight>-?\d{{0,4}}\.?\d{{1,4}})?)
    | (?P<weighted>:[ \t]*(?P<weight>[+-]?\d{{0,12}}(?:\.\d{{0,12}}|(?<=\d)))[ \t]*(?P<closer>[)\]}}]))
    | (?P<bare>(?<=[^\W\d_]):\d\.\d+(?=[\s,]|$))
    | (?P<open>[(\[{{])
    | (?P<close>[)\]}}])
    | (?P<either>[|])
    | (?P<switch>:(?=[^\s:\]\d][^\[\]]{{0,200}}:[ \t]*[\d.]+[ \t]*\]))
    | (?P<space>[\s_]+)
    | (?P<plain>[^\\<:()\[\]{{}}|\s_\-A-Z]+|.)
    """,
    re.VERBOSE,
)


_SYNTAX = re.compile(r"[()\[\]{}<>|_\\]|::|--|:\d\.\d|\b(?:BREAK|AND)\b")


@dataclass(frozen=True, slots=True)
class CleanPrompt:
    """A prompt without its syntax."""

    text: str
    emphasis: tuple[tuple[int, int, float], ...]
    """(start, end, factor) over `text`; factors of overlapping ranges multiply."""

    def weight(self, start: int, end: int) -> float:
        """Return the emphasis of the characters `start` to `end`, 1 without any."""
        value = 1.0
        for first, last, factor in self.emphasis:
            if first < end and start < last:
                value *= factor
        return min(max(value, LIGHTEST), HEAVIEST)


def clean(prompt: str) -> CleanPrompt:
    """Remove weights, brackets, networks and front-end switches; keep every word and what was emphasised.

    `(x:1.2)`, `((x))`, `[x]`, `{x}` and `x::2` leave their words and a factor; `[a|b]` and `[a:b:0.5]` leave "a or b";
    `<lora:...>` and `--ar 16:9` leave nothing, `--no x` leaves "no x", `BREAK` and `AND` leave a comma.
    Brackets without a partner are dropped and mean nothing.
    """
    text = prompt[:LONGEST]
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_WIDE)
    text = _CONTROL.sub(" ", text)
    if not _SYNTAX.search(text):
        return CleanPrompt(" ".join(text.split()), ())
    out: list[str] = []
    length = 0
    opened: list[tuple[str, int]] = []
    factors: dict[tuple[int, int], float] = {}
    part_start = 0

    def emit(piece: str) -> None:
        nonlocal length
        out.append(piece)
        length += len(piece)

    def emit_space() -> None:
        if out and not out[-1].endswith(" "):
            emit(" ")

    def close(bracket: str, factor: float | None) -> None:
        while opened:
            kind, start = opened.pop()
            closing, usual = _OPEN[kind]
            if closing == bracket:
                _multiply(factors, start, length, usual if factor is None else factor)
                return

    for match in _PIECE.finditer(text):
        kind, piece = match.lastgroup, match.group()
        if kind == "plain":
            emit(piece)
        elif kind == "space":
            emit_space()
        elif kind == "open":
            opened.append((piece, length))
        elif kind == "close":
            close(piece, None)
        elif kind == "weighted":
            # In square brackets the number is a step, not a weight.
            close(match["closer"], _number(match["weight"]) if match["closer"] != "]" else 1.0)
        elif kind == "either" or kind == "switch":
            emit_space()
            emit("or ") if opened else emit(", ")
        elif kind == "part":
            if match["part_weight"]:
                _multiply(factors, part_start, length, _number(match["part_weight"]))
            emit(", ")
            part_start = length
        elif kind == "breaks":
            emit(", ")
        elif kind == "exclude":
            emit(", no")
        elif kind == "escaped":
            emit(piece[1:])
    return CleanPrompt("".join(out).rstrip(), tuple((a, b, f) for (a, b), f in factors.items()))


def _multiply(factors: dict[tuple[int, int], float], start: int, end: int, factor: float) -> None:
    if end > start:
        factors[start, end] = min(factors.get((start, end), 1.0) * factor, HEAVIEST)


def _number(text: str) -> float:
    try:
        return min(max(float(text), LIGHTEST), HEAVIEST)
    except ValueError:
        return 1.0


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
