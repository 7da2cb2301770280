"""MDIQA's parity fixtures as arguments: the geometry they state, and the weights they describe."""

from __future__ import annotations

import numpy as np
from golden_weights import reference_state

CLIP = {"RN50": {"layers": [3, 4, 6, 3], "width": 64, "head_width": 64, "embed_dim": 1024}}


def geometry(config):
    clip = CLIP[config["clip"]] if isinstance(config["clip"], str) else config["clip"]
    return {
        "backbone": config["backbone"].split(".")[0],
        "width": config["inter_dim"],
        "heads": config["num_heads"],
        "weight_backbone": config["weight_backbone"].split(".")[0],
        "weight_width": config["weight_inter_dim"],
        "local_heads": config["local_num_heads"],
        "local_hidden": config["local_ffn_dim"],
        "clip_layers": tuple(clip["layers"]),
        "clip_width": clip["width"],
        "clip_head_width": clip["head_width"],
        "clip_tokens": clip["embed_dim"],
        "clip_size": config["clip_size"],
    }


def reference_groups(golden):
    unused = tuple(golden["unused_prefixes"])
    shapes = {k: v for k, v in golden["shapes"].items() if not k.startswith(unused)}
    state = reference_state(shapes, golden["salt"])
    for key, factor in golden["weight_scale"].items():
        state[key] = (state[key] * np.float32(factor)).astype(np.float32)
    groups = {}
    for key, value in state.items():
        group, name = key.split(".", 1)
        groups.setdefault(group, {})[name] = value
    return groups
