"""MoE-AGIQA against the published code's numbers, and its own promises."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from golden_weights import golden_files, load_golden, reference_image, reference_state, reference_tensor
from PIL import Image

from grefine.errors import WeightsCorrupt
from grefine.models.moe_agiqa import MoEAGIQA, pad_to, random_offsets, vit
from grefine.models.moe_agiqa_head import MoEHead
from grefine.models.reference import load_group, rename
from grefine.models.reward import POSITION_IDS, VISION_RENAMES, semantic_view, text_encoder, vision_encoder

FILES = golden_files("moe_agiqa_*.json")
TINY = {
    "crop_size": 32, "crop_patch": 8, "crop_width": 24, "crop_heads": 3, "taps": (0, 1), "image_size": 32,
    "patch_size": 8, "vision_width": 24, "vision_depth": 1, "vision_heads": 3, "text_width": 24, "text_depth": 1,
    "text_heads": 3, "text_hidden": 48, "vocabulary": 40, "positions": 16, "text_length": 12, "width": 24, "heads": 3,
    "prior_hidden": 8, "outputs": ("quality", "alignment"), "crops": 4,
}  # fmt: skip


def group_state(golden, group, shapes):
    state = reference_state(shapes, f"{golden['salt']}/{group}")
    for rule in golden["generator"]["transforms"]:
        if group in rule["groups"]:
            for key, value in state.items():
                if re.search(rule["key_regex"], key):
                    state[key] = (np.float32(rule["scale"]) * value + np.float32(rule["shift"])).astype(np.float32)
    return state


def near(ours, known, tolerance, what):
    ours, known = np.asarray(ours, dtype=np.float64), np.asarray(known, dtype=np.float64)
    worst = (np.abs(ours - known) / np.maximum(1, np.abs(known))).max()
    assert worst <= tolerance, f"{what}: off by {worst:.2e} of {tolerance:.0e}"


def near_moments(tensor, known, tolerance, what):
    near(tensor.mean(), known["mean"], tolerance, f"{what} mean")
    near(tensor.std(correction=0), known["std"], tolerance, f"{what} std")


def uniform_like(golden, name, shape):
    return torch.from_numpy(reference_tensor(name, (int(np.prod(shape)), 1), golden["salt"]).reshape(shape))


@pytest.fixture(params=FILES, ids=lambda p: p.stem)
def golden(request):
    return load_golden(request.param)


def small_head(golden):
    from grefine.models import moe_agiqa

    shapes = golden["shapes"]["regressor"]
    prior = 768 if golden["version"] == "v2" else None
    head = MoEHead(3072, 768, 768, 512, 8, 4, 3, 1, prior, 14, 128)
    load_group(head, rename(group_state(golden, "regressor", shapes), moe_agiqa._HEAD_RENAMES), "head")
    return head.eval()


def test_parity_small_head(golden):
    head, known = small_head(golden), golden["small"]["regressor"]
    batch = known["batch"]
    tokens = uniform_like(golden, "small/vit_tokens", (batch, 196, 3072))
    tokens = tokens + uniform_like(golden, "small/vit_tokens_offset", (batch, 1, 3072))
    text = uniform_like(golden, "small/text", (batch, 35, 768))
    text = text + uniform_like(golden, "small/text_offset", (batch, 1, 768))
    prior = uniform_like(golden, "small/prior", (batch, 768)) if golden["version"] == "v2" else None
    features = tokens.transpose(1, 2).reshape(batch, 3072, 14, 14)
    seen = {}
    head.conv.register_forward_hook(lambda _m, _i, out: seen.__setitem__("conv_relu", out.relu()))
    head.norm_image.register_forward_hook(lambda _m, _i, out: seen.__setitem__("norm1", out))
    head.attention.register_forward_hook(lambda _m, _i, out: seen.__setitem__("cross_attention", out))
    if head.prior is not None:
        head.prior.gate.register_forward_hook(lambda _m, _i, out: seen.__setitem__("prior_gate", out))
    with torch.no_grad():
        ratings = head(features[:, None], text, None if prior is None else prior[:, None])
    out = known["outputs"]
    near(ratings.scores[:, 0, 0], out["score"], 2e-5, "score")
    near(ratings.gating[:, 0], out["gating"], 1e-5, "gating")
    near(ratings.expert_scores[:, 0, :, 0], out["expert_scores"], 2e-5, "experts")
    assert ratings.chosen[:, 0].tolist() == out["topk_indices"]
    near(ratings.fused[:, 0, :8], out["fused"]["first8"], 1e-4, "fused")
    near_moments(ratings.fused, out["fused"], 1e-4, "fused")
    near(seen["conv_relu"][:, :8, 3, 5], out["conv_relu"]["first8_channels_at_row3_col5"], 1e-4, "conv")
    for name in ("norm1", "cross_attention"):
        near(seen[name][:, 0, :8], out[name]["first8_position0"], 1e-4, name)
        near_moments(seen[name], out[name], 1e-4, name)
    if head.prior is not None:
        near(seen["prior_gate"][:, :8], out["prior_gate"]["first8"], 1e-4, "prior gate")


def test_parity_small_vit(golden):
    known = golden["small"]["vit"]
    config, taps = known["config"], known["hooked_blocks"]
    state = group_state(golden, known["group"], known["shapes"])
    size = config["img_size"]
    image = torch.from_numpy(reference_image(golden["salt"] + "/small", size, size)).permute(2, 0, 1)[None] / 255
    geometry = {
        "crop_size": size,
        "crop_patch": config["patch_size"],
        "crop_width": config["embed_dim"],
        "crop_heads": config["num_heads"],
        "taps": tuple(taps),
        "prior_depth": config["depth"],
    }
    model = MoEAGIQA(**(TINY | geometry)).eval()
    full = rename(state, (), re.compile(r"^head\."))
    load_group(model.vit_prior, full, "prior")
    depth = max(taps) + 1
    load_group(model.vit, {k: v for k, v in full.items() if not re.match(rf"norm\.|blocks\.{depth}\.", k)}, "vit")
    with torch.no_grad():
        stacked = model.crop_features(image)
        prior = model.prior_features(image)
    hooked = known["outputs"]["hooked"]
    near(
        stacked[0, :, 0, 0].unflatten(0, (len(taps), -1))[:, :8],
        hooked["patch0_first8_of_each_block"],
        1e-4,
        "patch 0",
    )
    near_moments(stacked, hooked, 1e-4, "hooked")
    near(prior[0, :8], known["outputs"]["class_token_after_norm"]["first8"], 1e-4, "class token")
    near_moments(prior, known["outputs"]["class_token_after_norm"], 1e-4, "class token")


def test_parity_small_blip(golden):
    known = golden["small"]["blip"]
    v, t = known["visual_config"], known["text_config"]
    vision = vision_encoder(v["img_size"], v["patch_size"], v["embed_dim"], v["depth"], v["num_heads"]).eval()
    load_group(
        vision, rename(group_state(golden, known["visual_group"], known["visual_shapes"]), VISION_RENAMES), "vision"
    )
    text = text_encoder(
        t["hidden_size"], t["num_hidden_layers"], t["num_attention_heads"], t["intermediate_size"], t["vocab_size"],
        t["max_position_embeddings"], t["encoder_width"],
    ).eval()  # fmt: skip
    state = group_state(golden, known["text_group"], known["text_shapes"])
    load_group(text, rename(state, (), POSITION_IDS), "text")
    size = v["img_size"]
    image = Image.fromarray(reference_image(golden["salt"] + "/small", size, size))
    ids = torch.tensor([known["inputs"]["input_ids"]])
    mask = torch.tensor([known["inputs"]["attention_mask"]])
    model = MoEAGIQA(**TINY).eval()
    model.vision, model.text = vision, text
    seen = []
    vision.register_forward_hook(lambda _m, _i, out: seen.append(out.last_hidden_state))
    with torch.no_grad():
        features = model.encode_prompt(semantic_view(image, size), ids, mask)
    out = known["outputs"]
    last = len(known["inputs"]["input_ids"]) - 1
    tokens = {"image_embeds": seen[0], "text_features": features}
    for name, values in tokens.items():
        near_moments(values, out[name], 1e-4, name)
        for key, row in out[name].items():
            if match := re.match(r"first8_token(\d+)", key):
                near(values[0, int(match[1]), :8], row, 1e-4, f"{name} {key}")
    assert features.shape[1] == last + 1


def load_full(golden):
    groups = {name: group_state(golden, name, shapes) for name, shapes in golden["shapes"].items()}
    for group, extra in golden["generator"]["not_generated"].items():
        for key, item in extra.items():
            groups[group][key] = np.arange(item["shape"][-1]).reshape(item["shape"])
    return MoEAGIQA.from_reference(groups)


def crops_at(image, offsets, size):
    pixels = torch.from_numpy(np.asarray(pad_to(image, size)).copy()).permute(2, 0, 1).float() / 255
    return torch.stack([pixels[:, t : t + size, x : x + size] for t, x in offsets])


def watch(model):
    """Keep what the parts give, under the fixture's names; the call with all crops comes last and stays."""
    seen, head = {}, model.head
    parts = {"down_channel": head.down, "norm1": head.norm_image, "norm2_text": head.norm_text}
    parts["cross_attention"] = head.attention
    if head.prior is not None:
        parts |= {"prior_gate": head.prior.gate, "vit_prior": model.vit_prior.norm}
    for name, part in parts.items():
        part.register_forward_hook(lambda _m, _i, out, n=name: seen.__setitem__(n, out))
    head.conv.register_forward_hook(lambda _m, _i, out: seen.__setitem__("conv_relu", out.relu()))
    head.norm_image.register_forward_pre_hook(lambda _m, args: seen.__setitem__("norm1_input", args[0]))
    model.vision.register_forward_hook(lambda _m, _i, out: seen.__setitem__("image_embeds", out.last_hidden_state))
    return seen


def check_inside(seen, first, known, what):
    """Compare the first crop's intermediates one by one."""
    for name in ("down_channel", "conv_relu"):
        near(seen[name][0, :8, 3, 5], first[name]["first8_channels_at_row3_col5"], 1e-4, f"{what} {name}")
        near_moments(seen[name][:1], first[name], 1e-4, f"{what} {name}")
    for name in ("norm1_input", "norm1"):
        near(seen[name][0, 0, :8], first[name]["first8_position0"], 1e-4, f"{what} {name}")
        near_moments(seen[name][:1], first[name], 1e-4, f"{what} {name}")
    attention = seen["cross_attention"][:, :196]  # positions of the first crop
    near(attention[0, 0, :8], first["cross_attention"]["first8_position0"], 1e-4, f"{what} attention")
    near_moments(attention, first["cross_attention"], 1e-4, f"{what} attention")
    near(seen["norm2_text"][0, 0, :8], first["norm2_text"]["first8_token0"], 1e-4, f"{what} norm2")
    if "prior_gate" in seen:
        near(seen["prior_gate"][0, :8], first["prior_gate"]["first8"], 1e-4, f"{what} prior gate")
        near(seen["vit_prior"][0, 0, :8], first["vit_prior"]["first8"], 1e-4, f"{what} prior")
    for token in (0, 100):
        row = known["image_embeds"][f"first8_token{token}"]
        near(seen["image_embeds"][0, token, :8], row, 1e-4, f"{what} image token {token}")


@pytest.mark.slow
def test_parity_full(golden):
    model, size = load_full(golden), 224
    seen = watch(model)
    for case in golden["inputs"]["cases"]:
        known, what = golden["outputs"][case["name"]], case["name"]
        source = case["image"]
        image = Image.fromarray(
            reference_image(golden["salt"] + source["salt_suffix"], source["height"], source["width"])
        )
        prompt = golden["inputs"]["prompts"][case["prompt"]]
        view = semantic_view(image, size)
        near_moments(view, known["prompt_image"], 1e-4, f"{what} view")
        near(view[0, 0, 0, :8], known["prompt_image"]["first8_row0_of_channel0"], 1e-4, f"{what} view row 0")
        near(view[0, 2, 111, :8], known["prompt_image"]["first8_row111_of_channel2"], 1e-4, f"{what} view row 111")
        crops = crops_at(image, case["crops_top_left"], size)[None]
        first = known["first_crop"]
        near_moments(crops[0, 0], first["crop"], 1e-4, f"{what} crop")
        with torch.no_grad():
            features = model.crop_features(crops[0, :1])
            blocks = features[0, :, 0, 0].unflatten(0, (4, -1))[:, :8]
            text = model.encode_prompt(
                view, torch.tensor([prompt["input_ids"]]), torch.tensor([prompt["attention_mask"]])
            )
            ratings = model(crops, view, torch.tensor([prompt["input_ids"]]), torch.tensor([prompt["attention_mask"]]))
        near(blocks, first["vit_features"]["patch0_first8_of_each_block"], 1e-4, f"{what} ViT")
        near(features[0, :8, 1, 3], first["vit_features"]["patch17_first8_of_first_block"], 1e-4, f"{what} ViT")
        check_inside(seen, first, known, what)
        near_moments(features, first["vit_features"], 1e-4, f"{what} ViT")
        near_moments(text, known["text_features"], 1e-4, f"{what} text")
        for token in (0, 1, 34):
            near(text[0, token, :8], known["text_features"][f"first8_token{token}"], 1e-4, f"{what} token {token}")
        near(ratings.scores[0, :, 0], known["crop_scores"], 1e-4, f"{what} crops")
        near(ratings.gating[0], known["crop_gating"], 1e-4, f"{what} gating")
        assert ratings.chosen[0].tolist() == known["crop_topk"], what
        near(ratings.fused[0, 0, :8], first["fused"]["first8"], 1e-4, f"{what} fused")
        near(ratings.expert_scores[0, 0, :, 0], first["expert_scores"], 1e-4, f"{what} experts")
        near(ratings.scores.mean(), known["score"], 1e-4, f"{what} score")


def test_parity_of_padding_and_offsets(golden):
    for case in golden["inputs"]["cases"]:
        size = case["image"]["height"], case["image"]["width"]
        padded = pad_to(Image.new("RGB", size[::-1], "white"), 224)
        left, top, right, bottom = case["padding_left_top_right_bottom"]
        assert padded.size == (size[1] + left + right, size[0] + top + bottom)
        white = np.asarray(padded)[..., 0] > 0
        assert (int(white.any(1).argmax()), int(white.any(0).argmax())) == (top, left)
        assert (white.any(1).sum(), white.any(0).sum()) == size
    seed = re.search(r"manual_seed\((\d+)\)", golden["inputs"]["crops_note"])
    assert seed, "the fixture says how its last case drew its crops"
    drawn = golden["inputs"]["cases"][-1]
    size = tuple(max(224, drawn["image"][side]) for side in ("height", "width"))
    offsets = random_offsets(*size, 224, len(drawn["crops_top_left"]), int(seed[1]))
    assert offsets == [tuple(o) for o in drawn["crops_top_left"]]


@pytest.fixture(scope="module", params=[None, 3], ids=["v1", "v2"])
def tiny(request):
    torch.manual_seed(0)
    model = MoEAGIQA(**TINY, prior_depth=request.param).eval()
    if request.param:
        torch.nn.init.normal_(model.head.prior.plain)
        torch.nn.init.normal_(model.head.prior.gated)
    return model


def inputs(count):
    g = torch.Generator().manual_seed(1)
    crops, view = torch.rand(count, 3, 3, 32, 32, generator=g), torch.randn(count, 3, 32, 32, generator=g)
    ids = torch.randint(1, 40, (count, 12), generator=g)
    return crops, view, ids, torch.ones_like(ids)


def test_batch_equals_singles_and_crops_are_independent(tiny):
    crops, view, ids, mask = inputs(2)
    with torch.no_grad():
        both = tiny(crops, view, ids, mask).scores
        for row in range(2):
            for crop in range(3):
                alone = tiny(crops[row : row + 1, crop : crop + 1], view[row : row + 1], ids[row : row + 1], mask[:1])
                torch.testing.assert_close(alone.scores[0, 0], both[row, crop])
    assert both.shape == (2, 3, 2)


def test_only_the_largest_gates_count(tiny):
    crops, view, ids, mask = inputs(1)
    with torch.no_grad():
        out = tiny(crops, view, ids, mask)
    for crop in range(3):
        chosen = out.chosen[0, crop]
        assert len(set(chosen.tolist())) == 3
        by_hand = sum(out.gating[0, crop, e] * out.expert_scores[0, crop, e] for e in chosen)
        torch.testing.assert_close(out.scores[0, crop], by_hand)


def test_saves_and_loads(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    again = MoEAGIQA.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs(1)).scores, tiny(*inputs(1)).scores)


def test_unused_blocks_are_not_built(tiny):
    assert len(tiny.vit.blocks) == max(TINY["taps"]) + 1


def test_distinct_crops_are_counted_once(tiny):
    image = Image.fromarray(reference_image("moe", 33, 33))
    crops, counts = tiny.cut_crops(image)
    assert counts.sum() == 4
    assert len(crops) == len(set(random_offsets(33, 33, 32, 4, 20)))
    assert tiny.cut_crops(Image.new("RGB", (32, 20)))[0].shape == (1, 3, 32, 32)


def test_other_geometry_is_refused():
    with pytest.raises(WeightsCorrupt, match="regressor, reward, vit; given: regressor"):
        MoEAGIQA.from_reference({"regressor": {}}, **TINY)
    with pytest.raises(WeightsCorrupt, match="lack"):
        MoEAGIQA.from_reference({"regressor": {}, "reward": {}, "vit": {}}, **TINY)


def test_vit_without_final_norm_has_no_idle_parameters():
    assert not [k for k in vit(32, 8, 24, 2, 3, final_norm=False).state_dict() if k.startswith(("norm.", "head."))]
