"""The pipeline's own UNet as painter, with SDXL's words: weights by character range, long prompts in chunks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.utils import scale_lora_layers, unscale_lora_layers
from diffusers.utils.torch_utils import get_module_execution_device
from torch import Tensor

from grefine.errors import ConfigError, PromptError
from grefine.refine.composite import resize, resize_mask, to_pixels, to_tensor
from grefine.refine.denoise import CropBatch, Embeddings, decode, denoise, finished, snap_mask
from grefine.refine.guidance import Steering
from grefine.refine.inputs import read_prompts
from grefine.refine.painters.protocol import CropJob, Painted, Painter
from grefine.types import Weights

LATENTS = 4
"""Channels of SDXL's latents."""
MOST_CHUNKS = 4
"""Chunks of a prompt that are shown to the denoiser; each costs it one more text length of attention."""


@dataclass(frozen=True, kw_only=True)
class SDXLPainter(Painter):
    """The pipeline's own UNet, its words encoded by both text encoders."""

    name: str = "SDXL"
    pipe: Any
    guided: bool
    """Whether the negative half of the words is needed."""
    given: Mapping[str, Tensor | None]
    """A caller's own embeddings in place of prompts, by the names of `encode_prompt`."""
    lora_scale: float | None
    clip_skip: int | None
    control: bool = False
    steer: Callable[[Mapping[str, float], Sequence[str]], Steering]
    """Makes what steers a batch, given its plans' preferences and the whole prompt of each of its crops."""
    noise: Tensor | None
    unguided: float | None = 1.0
    known: dict[tuple[int, str, Weights], Embeddings] = field(default_factory=dict)
    """Equal words are encoded once in a call."""

    def told(self, crop: CropJob) -> Embeddings:
        """Return a crop's words as embeddings, with weights by character range."""
        row, key = crop.job.row, (crop.job.row, crop.prompt, crop.weights)
        if key not in self.known:
            own = {name: None if rows is None else rows[row : row + 1] for name, rows in self.given.items()}
            found = self.pipe.encode_prompt(
                crop.prompt if own["prompt_embeds"] is None else None,
                do_classifier_free_guidance=self.guided,
                negative_prompt=self.painting.negative_of(crop.job),
                lora_scale=self.lora_scale,
                clip_skip=self.clip_skip,
                weights=[crop.weights],
                **own,
            )
            self.known[key] = Embeddings(found[0], found[2], found[1], found[3])
        return self.known[key]

    def key(self, crop: CropJob) -> Any:
        """Crops of equal size, strength, text length and preferences are denoised together."""
        words = self.told(crop).prompt.shape[1:]
        likes = tuple(sorted(crop.job.plan.guidance.items()))
        return crop.size, crop.strength, words, crop.source_visible, crop.repair_in_place, likes

    def draw(self, crops: Sequence[CropJob]) -> list[Painted]:
        """Denoise crops and decode them."""
        height, width = crops[0].size
        images = torch.stack([to_tensor(resize(crop.pixels, height, width)) for crop in crops])
        masks = torch.stack([torch.from_numpy(resize_mask(crop.mask, height, width)).float()[None] for crop in crops])
        in_place, likes = crops[0].repair_in_place, crops[0].job.plan.guidance
        given = CropBatch(
            images=images * 2 - 1,
            masks=snap_mask(masks, self.pipe.vae_scale_factor),
            embeddings=Embeddings.stack([self.told(crop) for crop in crops]),
            strength=crops[0].strength,
            steps=self.traits.steps_for(self.painting.steps, in_place),
            seeds=[crop.seed for crop in crops],
            stage=self.painting.stage,
            source_visible=crops[0].source_visible,
            steps_mode=self.traits.steps_mode,
            guidance=1.0 if in_place else self.painting.guidance,
            control=self.control,
            steering=self.steer(likes, [crop.job.text for crop in crops]) if likes else None,
            noise=None if self.noise is None else torch.cat([self.noise[crop.job.row][None] for crop in crops]),
        )
        latents = denoise(self.pipe, given, self.painting.watch)
        pictures = decode(self.pipe, latents)
        if self.pipe.finisher is not None and crops[0].repair_in_place:
            pictures = finished(self.pipe.finisher, pictures, given)
        drawn = zip(crops, pictures, latents.split(1), strict=True)
        return [Painted(resize(to_pixels(picture), *crop.mask.shape), one) for crop, picture, one in drawn]


def check_family(unet: Any, vae: Any, encoders: tuple[Any, Any], controlnet: Any) -> None:
    """Refuse parts that are not SDXL's or do not fit together; what a part does not say is not looked at."""
    if unet is None:
        return
    widths, reads = [_says(encoder, "hidden_size") for encoder in encoders], _says(unet, "cross_attention_dim")
    times, takes = _says(unet, "addition_time_embed_dim"), _says(unet, "projection_class_embeddings_input_dim")
    pooled = None if None in (times, takes) else takes - 6 * times
    facts = [
        ("The UNet's addition_embed_type", str(_says(unet, "addition_embed_type")), ["text_time"]),
        ("The UNet's input channels", unet.config.in_channels, [4, 9]),
        ("The VAE's channels of latents", _says(vae, "latent_channels"), [LATENTS]),
        ("The text encoders' values per word", None if None in widths else sum(widths), [reads]),
        ("text_encoder_2's values for a whole prompt", _says(encoders[1], "projection_dim"), [pooled]),
        *(
            (f"The ControlNet's {name}", _says(controlnet, name), [_says(unet, name)])
            for name in ("cross_attention_dim", "block_out_channels", "addition_embed_type")
        ),
    ]
    for what, found, wanted in facts:
        if None not in (found, *wanted) and type(found) is type(wanted[0]) and found not in wanted:
            raise ConfigError(
                f"{what}: {found} where {' or '.join(map(str, wanted))} is needed, so it is another model's (Stable "
                "Diffusion 1 or 2?): load an SDXL checkpoint, all parts of one."
            )


def _says(part: Any, name: str) -> Any:
    """Return what a part's config says; None where there is no part, or it says nothing."""
    value = getattr(getattr(part, "config", None), name, None)
    return list(value) if isinstance(value, tuple) else value


def count_chunks(text: str, tokenizers: Sequence[Any]) -> int:
    """Return in how many chunks a prompt is shown, at most `MOST_CHUNKS`."""
    counts = [-(-len(_split(text, t)[0]) // (t.model_max_length - 2)) for t in tokenizers]
    return min(max([1, *counts]), MOST_CHUNKS)


def encode_text(
    text: str,
    weights: Weights,
    chunks: int,
    tokenizers: Sequence[Any],
    encoders: Sequence[Any],
    clip_skip: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Encode one prompt as `(1, chunks * L, D)` and pooled `(1, D2)`.

    A weighted token moves away from, or towards, what the empty prompt says at its place:
    h_t <- h_t("") + w_t (h_t - h_t("")). The pooled embedding is the first chunk's, unweighted. (Eq. 7)
    """
    hidden, pooled = [], None
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        ids, spans = _split(text, tokenizer)
        # Each token has the weight of the range that holds its first character.
        hits = [[w for left, right, w in weights if left <= start < right and end > start] for start, end in spans]
        rows, scale = _chunk_rows(ids, [hit[0] if hit else 1.0 for hit in hits], chunks, tokenizer)
        states, projected = _run(encoder, rows, clip_skip)
        if any(weight != 1.0 for row in scale for weight in row):
            blank, _ = _chunk_rows([], [], 1, tokenizer)
            empty, _ = _run(encoder, blank, clip_skip)
            factor = torch.tensor(scale, device=states.device, dtype=states.dtype)[..., None]
            states = torch.where(factor == 1.0, states, empty + factor * (states - empty))
        hidden.append(states.reshape(1, -1, states.shape[-1]))
        pooled = projected[:1] if projected is not None else pooled
    if pooled is None:
        raise ConfigError("No text encoder gives a pooled embedding: text_encoder_2 must be one with projection.")
    return torch.cat(hidden, dim=-1), pooled


def _split(text: str, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(found["input_ids"]), [tuple(span) for span in found["offset_mapping"]]


def _chunk_rows(
    ids: list[int], weights: list[float], chunks: int, tokenizer: Any
) -> tuple[list[list[int]], list[list[float]]]:
    room = tokenizer.model_max_length - 2
    rows, scales = [], []
    for index in range(chunks):
        part = ids[index * room : (index + 1) * room]
        scale = weights[index * room : (index + 1) * room]
        padding = room - len(part)
        rows.append([tokenizer.bos_token_id, *part, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding])
        scales.append([1.0, *scale, 1.0, *[1.0] * padding])
    return rows, scales


def _run(encoder: Any, rows: list[list[int]], clip_skip: int | None) -> tuple[Tensor, Tensor | None]:
    output = encoder(torch.tensor(rows, device=get_module_execution_device(encoder)), output_hidden_states=True)
    return output.hidden_states[-2 - (clip_skip or 0)], output[0] if output[0].ndim == 2 else None


class PromptEncoding:
    """What a pipeline with SDXL's two text encoders needs to turn prompts into embeddings."""

    tokenizer: Any
    tokenizer_2: Any
    text_encoder: Any
    text_encoder_2: Any
    config: Any
    _execution_device: torch.device

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        device: torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
        weights: Sequence[Weights] | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Encode prompts with both text encoders."""
        device = device or self._execution_device
        if prompt_embeds is None:
            texts = [prompt] if isinstance(prompt, str) else list(prompt or ())
            if not texts:
                raise PromptError("Give `prompt`, or `prompt_embeds` with `pooled_prompt_embeds`.")
            given = weights or [()] * len(texts)
            chunks = max(count_chunks(text, self._tokenizers()) for text in texts)
            prompt_embeds, pooled_prompt_embeds = self._encode(texts, given, chunks, lora_scale, clip_skip)
        if pooled_prompt_embeds is None:
            raise PromptError("`prompt_embeds` needs `pooled_prompt_embeds` beside it (encode_prompt returns both).")
        if not do_classifier_free_guidance:
            negative_prompt_embeds = negative_pooled_prompt_embeds = None
        elif negative_prompt_embeds is None and negative_prompt is None and self.config.force_zeros_for_empty_prompt:
            negative_prompt_embeds = torch.zeros_like(prompt_embeds)
            negative_pooled_prompt_embeds = torch.zeros_like(pooled_prompt_embeds)
        elif negative_prompt_embeds is None:
            rows, length = prompt_embeds.shape[:2]
            negatives = read_prompts(negative_prompt, rows, "negative prompts")
            chunks = length // self._tokenizers()[0].model_max_length
            found = self._encode(negatives, [()] * rows, chunks, lora_scale, None)
            negative_prompt_embeds, negative_pooled_prompt_embeds = found
        elif negative_pooled_prompt_embeds is None:
            raise PromptError("`negative_prompt_embeds` needs `negative_pooled_prompt_embeds` beside it.")

        dtype = self.text_encoder_2.dtype if self.text_encoder_2 is not None else prompt_embeds.dtype

        where = device, dtype, num_images_per_prompt
        prompt_embeds, pooled_prompt_embeds = _placed(prompt_embeds, *where), _placed(pooled_prompt_embeds, *where)
        if negative_prompt_embeds is not None and negative_pooled_prompt_embeds is not None:
            negative_prompt_embeds = _placed(negative_prompt_embeds, *where)
            negative_pooled_prompt_embeds = _placed(negative_pooled_prompt_embeds, *where)
        # Names and nothing else: diffusers' testers read from them which argument of a call each value is.
        return prompt_embeds, negative_prompt_embeds, pooled_prompt_embeds, negative_pooled_prompt_embeds

    def _tokenizers(self) -> list[Any]:
        found = [t for t in (self.tokenizer, self.tokenizer_2) if t is not None]
        if not found:
            raise ConfigError("This pipeline has no tokenizer: pass `prompt_embeds` instead of `prompt`.")
        return found

    def _encode(
        self,
        texts: Sequence[str],
        weights: Sequence[Weights],
        chunks: int,
        lora_scale: float | None,
        clip_skip: int | None,
    ) -> tuple[Tensor, Tensor]:
        encoders = [encoder for encoder in (self.text_encoder, self.text_encoder_2) if encoder is not None]
        for encoder in encoders if lora_scale is not None else ():
            scale_lora_layers(encoder, lora_scale)
        try:
            rows = [
                encode_text(text, own, chunks, self._tokenizers(), encoders, clip_skip)
                for text, own in zip(texts, weights, strict=True)
            ]
        finally:
            for encoder in encoders if lora_scale is not None else ():
                unscale_lora_layers(encoder, lora_scale)
        return torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])


def _placed(values: Tensor, device: torch.device, dtype: torch.dtype, times: int) -> Tensor:
    return values.to(device, dtype).repeat_interleave(times, dim=0)
