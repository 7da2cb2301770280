"""Which words of a prompt weigh more, as character ranges, and what each region's prompt is."""

from collections.abc import Iterable, Sequence

from grefine.types import ParsedPrompt, Phrase, Region, RepairPlan

Weights = tuple[tuple[int, int, float], ...]
"""(start, end, weight) over the characters of a prompt; words that are not named weigh 1."""
JOIN = " , "


def token_weights(parsed: ParsedPrompt, defective: Iterable[Phrase], emphasis: float) -> Weights:
    """Weigh the words: what the prompt's own syntax says, plus `emphasis` for words of a defective phrase. (Eq. 7)"""
    lifted = [span for phrase in defective for span in phrase.spans]
    found = []
    for token in parsed.tokens:
        inside = any(start <= token.start and token.end <= end for start, end in lifted)
        weight = token.weight + (emphasis if inside else 0.0)
        if abs(weight - 1.0) > 1e-9:
            found.append((token.start, token.end, weight))
    return tuple(found)


def region_prompt(caption: str, phrases: Sequence[str], phrase_first: bool) -> str:
    """Say what to draw in a region: its phrases first, so that no long caption buries them, then the caption."""
    if not phrase_first or not phrases:
        return caption
    names = list(dict.fromkeys(phrases))
    return JOIN.join([*names, caption] if caption else names)


def region_weights(region: Region, plan: RepairPlan, emphasis: float) -> Weights:
    """Return the weights of a region's prompt: the caption's own, moved behind what stands before it."""
    offset = len(region.prompt) - len(plan.prompt)
    if offset < 0 or not region.prompt.endswith(plan.prompt):
        return ()
    moved = tuple((start + offset, end + offset, weight) for start, end, weight in plan.token_weights)
    if offset and region.phrases and emphasis:
        return ((0, offset, 1.0 + emphasis), *moved)
    return moved
