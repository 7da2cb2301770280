"""The rectifier: a small MLP on a frozen judge's features that corrects its score so that methods rank as people say.

"Learning from Model Rankings Improves Blind Super-Resolution Image Quality Assessment" (IEEE SMC 2025), Eq. 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from grefine.errors import ConfigError, WeightsCorrupt
from grefine.models.reference import load_reference


@dataclass(frozen=True, slots=True)
class RectifierOutput:
    """A corrected score and its parts, each `(B,)`."""

    alpha: Tensor
    beta: Tensor
    score: Tensor


class Rectifier(ModelMixin, ConfigMixin):
    """Predicts (alpha, beta) from features; the score becomes (|alpha| + 1) q + beta."""

    @register_to_config
    def __init__(
        self,
        width: int = 384,
        hidden: int | None = None,
        dropout: float = 0.1,
        use_alpha: bool = True,
        use_beta: bool = True,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        if not (use_alpha or use_beta):
            raise ConfigError("A rectifier without alpha and without beta changes nothing: switch one of them on.")
        if start <= 0:
            raise ConfigError(f"start must be positive, not {start}: |alpha| has no slope at 0 and would never learn.")
        hidden = hidden or width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 2))
        with torch.no_grad():
            for parameter in self.mlp[3].parameters():
                parameter.mul_(start)
        self.use_alpha, self.use_beta = use_alpha, use_beta

    def forward(self, features: Tensor, q: Tensor) -> RectifierOutput:
        """Correct the frozen judge's scores q `(B,)` by features `(B, tokens, width)` or `(B, width)`. (Eq. 3)"""
        width = self.config["width"]
        if features.ndim == 2:
            features = features[:, None]
        if features.ndim != 3 or features.shape[-1] != width or q.shape != features.shape[:1]:
            raise ConfigError(
                f"The rectifier takes (B, tokens, {width}) and (B,), not {tuple(features.shape)}, {tuple(q.shape)}."
            )
        found = self.mlp(features.float()).mean(1)
        alpha = found[:, 0] * float(self.use_alpha)
        beta = found[:, 1] * float(self.use_beta)
        # The residual keeps the scale at 1 or above: alpha alone never turns an order round.
        return RectifierOutput(alpha, beta, (alpha.abs() + 1) * q.float() + beta)

    @classmethod
    def from_reference(cls, groups: Mapping[str, Mapping[str, Any]], **options: Any) -> "Rectifier":
        """Build from the published state dict, groups {rectifier}; widths are read from the shapes."""
        states = {name: {k: torch.as_tensor(v) for k, v in state.items()} for name, state in groups.items()}
        first = states.get("rectifier", {}).get("mlp.0.weight")
        if first is None or first.ndim != 2:
            raise WeightsCorrupt("The group rectifier has no 'mlp.0.weight' of shape (hidden, width).")
        model = cls(**({"width": first.shape[1], "hidden": first.shape[0]} | options))
        load_reference({"rectifier": model}, states, "Rectifier")
        return model.eval()
