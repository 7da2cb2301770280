"""VQAScore: how sure a model that reads pictures is that the picture shows its prompt (Lin et al. 2024)."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from grefine.errors import WeightsCorrupt, in_words
from grefine.scorers.protocol import Images, Prompts, check_images, check_prompts, in_groups
from grefine.text.parse import parse
from grefine.types import MetricSpec, Scores

SPEC = MetricSpec(
    name="vqascore",
    needs_prompt=True,
    axis="alignment",
    licence="code Apache-2.0; the model's own terms",
    weights="`grefine fetch vqascore`, or any image-text-to-text model of transformers: --weights vqascore=DIR",
    fetch="vqascore",
    description="P('Yes') to 'Does this figure show ...?': of the prompt, the mean of its phrases, the worst of them",
    values={"vqascore.prompt": "alignment", "vqascore.phrases": "alignment", "vqascore.weakest": "alignment"},
    aliases=("vqa_score",),
)
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
ANSWER = "Yes"
TOGETHER = 8
"""Questions that go through the model at once."""


class VQAScore:
    """P("Yes") of a question about the picture: the probability of that word as the first of the answer."""

    spec = SPEC
    values = tuple(SPEC.values)

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor
        self.yes, self.no = (_first_token(processor.tokenizer, word) for word in (ANSWER, "No"))

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, "VQAScore")
        texts = check_prompts(prompts, len(pictures), "VQAScore", required=True)
        asked = [[text, *phrases_of(text)] for text in texts]
        pairs = [(picture, text) for picture, own in zip(pictures, asked, strict=True) for text in own]
        answers = iter(self.ask([picture for picture, _ in pairs], [text for _, text in pairs]))
        found = []
        for own in asked:
            whole, *parts = (next(answers) for _ in own)
            parts = parts or [whole]
            found.append(Scores(dict(zip(self.values, (whole, sum(parts) / len(parts), min(parts)), strict=True))))
        return found

    def ask(self, images: Sequence[Image.Image], texts: Sequence[str], against: bool = False) -> list[float]:
        """Return P("Yes") of every picture for its text, among all words or (`against`) beside "No" alone."""
        import torch

        inputs = [self._inputs(image, text) for image, text in zip(images, texts, strict=True)]
        shapes = [tuple((name, tuple(value.shape)) for name, value in one.items()) for one in inputs]

        def rate(rows: list[int]) -> list[Scores]:
            batch = {name: torch.cat([inputs[row][name] for row in rows]) for name in inputs[rows[0]]}
            answer = self.model.generate(
                **{name: self._placed(value) for name, value in batch.items()},
                max_new_tokens=1,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            logits = answer.logits[0].float()
            chances = logits[:, [self.yes, self.no]].softmax(-1)[:, 0] if against else logits.softmax(-1)[:, self.yes]
            return [Scores({ANSWER: one}) for one in chances.tolist()]

        # Only inputs of one shape go together: nothing is padded, and no value depends on its neighbours.
        return [one[ANSWER] for one in in_groups(shapes, TOGETHER, rate)]

    def _inputs(self, image: Image.Image, text: str) -> dict[str, Any]:
        content = [{"type": "image", "image": image}, {"type": "text", "text": QUESTION.format(text)}]
        try:
            return dict(
                self.processor.apply_chat_template(
                    [{"role": "user", "content": content}],
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                    add_generation_prompt=True,
                )
            )
        except ValueError as error:  # what transformers raises without a template
            raise WeightsCorrupt(f"The processor of this model cannot put the question: {in_words(error)}") from error

    def _placed(self, value: Any) -> Any:
        value = value.to(self.model.device)
        return value.to(self.model.dtype) if value.is_floating_point() else value


def _first_token(tokenizer: Any, word: str) -> int:
    ids = tokenizer.encode(word, add_special_tokens=False)
    if not ids or ids[0] == tokenizer.unk_token_id:
        raise WeightsCorrupt(f"The tokenizer of this model does not know the word '{word}': take another model.")
    return ids[0]


@lru_cache(maxsize=1024)
def phrases_of(text: str) -> tuple[str, ...]:
    """Return the phrases of a prompt that a picture can show; none where it is one phrase itself or names nothing."""
    found = [phrase.text for phrase in parse(text).phrases if phrase.drawable and not phrase.negated]
    return () if found == [text] else tuple(dict.fromkeys(found))


def load(path: Path, device: str) -> VQAScore:
    """Load it from a transformers folder."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        model = AutoModelForImageTextToText.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, dtype="auto"
        )
        processor = AutoProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        said = in_words(error)
        raise WeightsCorrupt(f"'{path}' is no complete folder of an image-text-to-text model: {said}") from error
    return VQAScore(model.to(device), processor)
