"""The learned prompts of PQ-Map: four quality factors, each a good and a bad text without words of its own.

Every text reads `start, contexts, "Good photo..", contexts, end` (or "Bad photo.."): the contexts are learned vectors,
the rest are a CLIP's token embeddings. Row 0 of each pair is good, row 1 is bad.

G-Refine (arXiv:2404.18343), Eq. 2; prompt learning as in CLIP-IQA+ (arXiv:2207.12396).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from grefine.errors import ConfigError, WeightsCorrupt
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.component import ConfigMixin, ModelMixin, register_to_config
from grefine.types import FeatureNorm

FACTORS = ("overall", "technical", "rational", "natural")
NAMES = ("Good photo..", "Bad photo..")


class PQPrompts(ModelMixin, ConfigMixin):
    """Learned contexts for overall, technical, rational and natural quality.

    `feature_norm` is how image features are normalised before they meet these prompts, and so belongs to them:
    "token" (each channel over all tokens, as released) or "channel" (each token over its channels).
    """

    @register_to_config
    def __init__(
        self,
        n_ctx: int = 16,
        width: int = 512,
        suffix_length: int = 60,
        name_lengths: Sequence[int] = (3, 3),
        feature_norm: FeatureNorm = "token",
    ) -> None:
        super().__init__()
        if len(name_lengths) != 2 or max(name_lengths) >= suffix_length:
            raise ConfigError(f"name_lengths must be two counts below {suffix_length}, not {tuple(name_lengths)}.")
        if feature_norm not in ("token", "channel"):
            raise ConfigError(f"feature_norm must be 'token' or 'channel', not {feature_norm!r}.")
        self.ctx = nn.Parameter(0.02 * torch.randn(len(FACTORS), 2, n_ctx, width))
        self.register_buffer("token_prefix", torch.zeros(2, 1, width))
        self.register_buffer("token_suffix", torch.zeros(2, suffix_length, width))
        self.name_lengths = tuple(int(n) for n in name_lengths)

    def embeddings(self) -> Tensor:
        """Assemble the token embeddings, `(8, L, W)`: factors in order, good before bad."""
        half = self.ctx.shape[2] // 2
        rows = []
        for context in self.ctx:
            for side, name in enumerate(self.name_lengths):
                start, suffix = self.token_prefix[side], self.token_suffix[side]
                rows.append(
                    torch.cat([start, context[side, :half], suffix[:name], context[side, half:], suffix[name:]])
                )
        return torch.stack(rows)

    def forward(self, clip: ClipSurgery) -> Tensor:
        """Encode the prompts with `clip` as `(4, 2, D)`, not normalised. (Eq. 2)"""
        if self.ctx.shape[-1] != clip.clip.token_embedding.embedding_dim:
            raise ConfigError(f"Prompts {self.ctx.shape[-1]} wide and a CLIP of another width do not belong together.")
        n_ctx = self.ctx.shape[2]
        ends = torch.tensor([1 + n_ctx + name for name in self.name_lengths] * len(FACTORS), device=self.ctx.device)
        features = clip(embeddings=self.embeddings(), eot=ends)
        return features.view(len(FACTORS), 2, -1)

    @classmethod
    def from_clip(
        cls,
        clip: ClipSurgery,
        tokenizer: Any,
        n_ctx: int = 16,
        names: Sequence[str] = NAMES,
        feature_norm: FeatureNorm = "channel",
    ) -> "PQPrompts":
        """Start untrained prompts for `clip`, whose words `tokenizer` (transformers') splits."""
        room = clip.context_length - 2 - n_ctx
        texts = [tokenizer(name)["input_ids"] for name in names]
        names_ids = [ids[1 : ids.index(clip.eos_token_id)] for ids in texts]
        lengths = [len(ids) for ids in names_ids]
        if max(lengths) > room:
            raise ConfigError(f"Use at most {room + n_ctx - max(lengths)} contexts with these names, not {n_ctx}.")
        embedding = clip.clip.token_embedding
        prompts = cls(n_ctx, embedding.embedding_dim, room + 1, lengths, feature_norm)
        with torch.no_grad():
            for side, ids in enumerate(names_ids):
                tail = [*ids, *[clip.eos_token_id] * (room + 1 - len(ids))]
                prompts.token_prefix[side] = embedding.weight[texts[side][0]]
                prompts.token_suffix[side] = embedding.weight[torch.tensor(tail)]
        return prompts.to(embedding.weight.device)

    @classmethod
    def from_reference(cls, state: Mapping[str, Any]) -> "PQPrompts":
        """Build from the published embeddings, flat or the content of one published file per factor."""
        flat: dict[str, Any] = {}
        for key, value in state.items():
            if isinstance(value, Mapping):  # whatever stands around the names in one published file
                inside = value.get("params", value).items()
                flat |= {f"{key}.{name.split('.')[-1]}": tensor for name, tensor in inside}
            else:
                flat[key] = value
        shared = {name: flat.get(name, flat.get(f"{FACTORS[0]}.{name}")) for name in ("token_prefix", "token_suffix")}
        lacking = [n for n, v in shared.items() if v is None] + [f for f in FACTORS if f"{f}.ctx" not in flat]
        if lacking:
            raise WeightsCorrupt(f"The prompt embeddings lack {', '.join(lacking)}: run `grefine fetch pq-prompts`.")
        ctx = torch.stack([torch.as_tensor(flat[f"{factor}.ctx"]).float() for factor in FACTORS])
        suffix = torch.as_tensor(shared["token_suffix"]).float()
        prompts = cls(ctx.shape[2], ctx.shape[3], suffix.shape[1])
        prompts.load_state_dict(
            {"ctx": ctx, "token_prefix": torch.as_tensor(shared["token_prefix"]).float(), "token_suffix": suffix}
        )
        return prompts.eval()
