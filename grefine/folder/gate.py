"""The cheap first judge of a run: which judge is meant, what it lets pass, and how that is told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from grefine.scorers.prefilter import GateVerdict, ScoreGate
from grefine.scorers.resolve import fingerprint_of

if TYPE_CHECKING:
    from grefine.folder.batch import Reading


def gate_key(gate: ScoreGate | None) -> str:
    """Return what tells one gate from another, for noticing that it changed; empty without a gate."""
    if gate is None:
        return ""
    state = fingerprint_of(gate.weights) if gate.weights is not None else ""
    return f"{gate.name} {gate.scorer.spec.version} {state}".strip()


def look_first(gate: ScoreGate, readings: "Sequence[Reading]") -> list[GateVerdict]:
    """Ask the gate about the readable images of a batch."""
    import torch

    with torch.no_grad():
        return gate.look(
            [reading.image.rgb for reading in readings if reading.image is not None],
            [reading.prompt.prompt for reading in readings],
        )


def passed_reason(verdict: GateVerdict) -> str:
    """Return the sentence of an image that the gate left alone."""
    score = f"{verdict.score:.4g}"
    return f"The gate {verdict.name} found it good enough ({score}), so it was left alone and no maps were drawn."


def gate_note(verdict: GateVerdict) -> str:
    """Return what is to be known of an image that the gate could not judge."""
    return f"The gate {verdict.name} could not judge it: {verdict.note}"
