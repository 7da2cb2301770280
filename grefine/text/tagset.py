"""From Penn Treebank tags, which taggers know, to universal parts of speech, which the tree carries."""

from __future__ import annotations

_UNIVERSAL = {
    "ADJ": "JJ JJR JJS AFX",
    "ADP": "IN RP",
    "ADV": "RB RBR RBS WRB",
    "AUX": "MD",
    "CCONJ": "CC",
    "DET": "DT PDT WDT",
    "INTJ": "UH",
    "NOUN": "NN NNS",
    "NUM": "CD",
    "PART": "POS TO",
    "PRON": "PRP PRP$ WP WP$ EX",
    "PROPN": "NNP NNPS",
    "PUNCT": ". , : `` '' -LRB- -RRB- HYPH NFP ( )",
    "SYM": "SYM $ #",
    "VERB": "VB VBD VBG VBN VBP VBZ",
    "X": "FW LS GW ADD",
}
UNIVERSAL = {penn: tag for tag, names in _UNIVERSAL.items() for penn in names.split()}

_BE = frozenset(["be", "is", "are", "was", "were", "been", "being", "am", "'s", "'re", "'m"])


def universal(penn: str, word: str, label: str = "") -> str:
    """Return the universal part of speech of a Penn tag on `word` (lower case); the relation tells auxiliaries."""
    if penn == "VB" or penn[:2] == "VB":
        if label.startswith(("aux", "cop")) or (not label and word in _BE):
            return "AUX"
        return "VERB"
    if penn == "IN" and label == "mark":
        return "SCONJ"
    return UNIVERSAL.get(penn, "X")
