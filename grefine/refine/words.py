"""What the denoiser is told about each crop: prompts or given embeddings, encoded once per call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from grefine.refine.emphasis import Weights
from grefine.refine.encode import Embeddings
from grefine.refine.job import Job

GivenEmbeddings = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Prompt, negative, pooled, negative pooled: what `encode_prompt` returns and takes."""


@dataclass
class Words:
    """Turns one crop's words into embeddings; equal words are encoded once."""

    encode_prompt: Callable[..., Any]
    guided: bool
    """Whether the negative half is needed."""
    negative: str | Sequence[str] | None = None
    given: GivenEmbeddings = (None, None, None, None)
    lora_scale: float | None = None
    clip_skip: int | None = None
    known: dict[tuple[int, str, Weights], Embeddings] = field(default_factory=dict)

    def __call__(self, job: Job, prompt: str, weights: Weights) -> Embeddings:
        """Return the embeddings of a prompt for a job's image, with weights by character range."""
        key = (job.row, prompt, weights)
        if key not in self.known:
            own = tuple(None if rows is None else rows[job.row : job.row + 1] for rows in self.given)
            negative = self.negative
            rows = self.encode_prompt(
                None if own[0] is not None else prompt,
                do_classifier_free_guidance=self.guided,
                negative_prompt=negative if negative is None or isinstance(negative, str) else negative[job.row],
                prompt_embeds=own[0],
                negative_prompt_embeds=own[1],
                pooled_prompt_embeds=own[2],
                negative_pooled_prompt_embeds=own[3],
                lora_scale=self.lora_scale,
                clip_skip=self.clip_skip,
                weights=[weights],
            )
            self.known[key] = Embeddings(rows[0], rows[2], rows[1], rows[3])
        return self.known[key]
