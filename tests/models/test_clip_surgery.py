"""The walk through open_clip's towers: shapes, equality with the ordinary walk, sizes, gradients, saving, refusals."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from grefine.errors import ConfigError, ImageError, WeightsCorrupt
from grefine.models.clip_surgery import ClipSurgery, geometry
from grefine.models.pq_prompts import PQPrompts

GEOMETRY = {
    "embed_dim": 32,
    "image_size": 64,
    "patch_size": 8,
    "vision_width": 48,
    "vision_layers": 3,
    "vision_heads": 3,
    "text_width": 32,
    "text_layers": 2,
    "text_heads": 2,
    "context_length": 20,
    "vocab_size": 50,
    "surgery_layers": 2,
    "eos_token_id": 49,
}


def build(**changes) -> ClipSurgery:
    torch.manual_seed(0)
    return ClipSurgery(**(GEOMETRY | changes)).eval()


@pytest.fixture(scope="module")
def clip():
    return build()


@pytest.fixture(scope="module")
def pixels(clip):
    return clip.preprocess(torch.rand(3, 3, 50, 70, generator=torch.Generator().manual_seed(1)))


def test_shapes(clip, pixels):
    assert clip.grid == (8, 8)
    assert pixels.shape == (3, 3, 64, 64)
    assert clip.encode_image(pixels).shape == (3, 65, 32)
    assert clip.encode_text(torch.tensor([[48, 3, 49], [48, 49, 49]])).shape == (2, 32)


@pytest.fixture(scope="module", params=[True, False], ids=["quick_gelu", "gelu"])
def pair(request):
    """Ours and open_clip's CLIP of the same sizes, both fresh from the same seed."""
    vision = {"image_size": 64, "patch_size": 8, "width": 48, "layers": 3, "head_width": 16}
    text = {"context_length": 20, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2}
    ours = build(quick_gelu=request.param)
    torch.manual_seed(0)
    return ours, open_clip.CLIP(32, vision, text, quick_gelu=request.param).eval()


def test_towers_start_with_the_names_and_values_of_open_clip(pair):
    clip, theirs = pair
    ours, state = clip.clip.state_dict(), theirs.state_dict()
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name], state[name]) for name in ours)


@torch.no_grad()
def test_class_token_is_clips_own_image_embedding(pair, pixels):
    clip, theirs = pair
    torch.testing.assert_close(clip.encode_image(pixels)[:, 0], theirs.encode_image(pixels), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_text_is_clips_own_text_embedding(pair):
    clip, theirs = pair
    ids = torch.tensor([[48, 3, 4, 49] + [0] * 16, [48, 49] + [0] * 18])
    torch.testing.assert_close(clip.encode_text(ids), theirs.encode_text(ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_patches_are_not_the_ordinary_ones(clip, pixels):
    """Value-value attention without feed-forward layers is the point: a patch differs, the class token does not."""
    ordinary = build(surgery_layers=1)
    ordinary.load_state_dict(clip.state_dict())
    assert (clip.encode_image(pixels)[:, 1:] - ordinary.encode_image(pixels)[:, 1:]).abs().max() > 0.1


@torch.no_grad()
def test_a_patch_attends_to_patches_with_like_values():
    """With one surgical block and an identity output, n - o_in is softmax(v v^T / sqrt(d)) v, written out."""
    clip = build(vision_layers=1, surgery_layers=1)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    block, visual = clip.clip.visual.transformer.resblocks[0], clip.clip.visual
    x = clip._embed_patches(pixels)
    value = torch.nn.functional.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)[..., 96:]
    heads = value.view(1, 65, 3, 16).transpose(1, 2)
    attended = (heads @ heads.transpose(-1, -2) / 16**0.5).softmax(-1) @ heads
    new = x + block.attn.out_proj(attended.transpose(1, 2).reshape(1, 65, 48))
    expected = visual.ln_post(new) @ visual.proj
    torch.testing.assert_close(clip.encode_image(pixels)[:, 1:], expected[:, 1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_batch_equals_singles(clip, pixels):
    joint = clip.encode_image(pixels)
    alone = torch.cat([clip.encode_image(row[None]) for row in pixels])
    torch.testing.assert_close(joint, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cpu_is_reproducible_and_nothing_is_mutated(clip, pixels):
    before = {key: value.clone() for key, value in clip.state_dict().items()}
    first = clip.encode_image(pixels)
    clip.encode_image(clip.preprocess(torch.rand(1, 3, 30, 30), 96))
    assert torch.equal(first, clip.encode_image(pixels))
    assert all(torch.equal(before[key], value) for key, value in clip.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize(("side", "tokens"), [(64, 64), (96, 144), (32, 16)])
def test_any_side(clip, side, tokens):
    pixels = clip.preprocess(torch.rand(1, 3, 40, 40), side)
    assert clip.encode_image(pixels).shape == (1, 1 + tokens, 32)


@torch.no_grad()
def test_a_flat_image_sees_the_same_at_any_side(clip):
    """Interpolated positions keep their meaning: the class token barely moves when a flat image is larger."""
    flat = torch.full((1, 3, 64, 64), 0.4)
    small, large = (clip.encode_image(clip.preprocess(flat, side))[0, 0] for side in (64, 128))
    other = clip.encode_image(clip.preprocess(torch.rand(1, 3, 64, 64)))[0, 0]
    assert (small - large).norm() < 0.5 * (small - other).norm()


def test_conv_stem_keeps_the_grid():
    clip = build(stem="conv")
    out = clip.encode_image(torch.rand(2, 3, 64, 96))
    assert out.shape == (2, 1 + 8 * 12, 32)
    assert (
        sum(p.numel() for p in build(stem="conv", vision_width=128, vision_heads=4).clip.visual.conv1.parameters())
        < 2e5
    )


def test_everything_is_trainable():
    clip = build(stem="conv")
    prompts = PQPrompts(4, 32, 15, (3, 3))
    features = clip.encode_image(clip.preprocess(torch.rand(2, 3, 64, 64)))
    text = clip.encode_text(torch.tensor([[48, 3, 49]]))
    loss = (features @ text.T).square().mean() + (features @ prompts(clip).flatten(0, 1).T).square().mean()
    loss.backward()
    without = [name for name, p in clip.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Only embeddings of words that were not said, of positions that were not reached, and the unused scale stay still.
    assert set(without) <= {"clip.logit_scale"}
    assert prompts.ctx.grad.abs().sum() > 0


@torch.no_grad()
def test_save_and_load(tmp_path, pixels):
    clip = build(stem="conv")
    clip.save_pretrained(tmp_path)
    again = ClipSurgery.from_pretrained(tmp_path)
    assert torch.equal(clip.encode_image(pixels), again.encode_image(pixels))
    assert (again.grid, again.config["stem"], again.eos_token_id) == ((8, 8), "conv", 49)


@torch.no_grad()
def test_bfloat16_stays_close(clip, pixels):
    coarse = build().to(torch.bfloat16)
    difference = coarse.encode_image(pixels.bfloat16()).float() - clip.encode_image(pixels)
    assert difference.abs().max() < 0.15 * clip.encode_image(pixels).abs().max()


def test_pil_is_squashed_whatever_its_mode(clip):
    grey = Image.fromarray(np.full((10, 20), 128, np.uint8))
    palette = grey.convert("RGB").quantize(4)
    rows = clip.preprocess_pil([grey, grey.convert("RGB"), palette.convert("RGB")])
    assert rows.shape == (3, 3, 64, 64)
    assert torch.equal(rows[0], rows[1])


def test_geometry_is_read_off_the_shapes():
    clip = build(vision_width=64, vision_heads=1, text_width=64, text_heads=1)
    again = ClipSurgery.from_reference(clip.clip.state_dict(), surgery_layers=2)
    pixels = torch.rand(1, 3, 64, 64)
    assert geometry(clip.clip.state_dict())["image_size"] == 64
    assert torch.equal(clip.encode_image(pixels), again.encode_image(pixels))
    with pytest.raises(WeightsCorrupt, match=r"visual\.conv1\.weight"):
        ClipSurgery.from_reference({"ln_final.weight": np.ones(8, np.float32)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_heads": 5}, "multiple of vision_heads"),
        ({"stem": "pool"}, "'patch' or 'conv'"),
    ],
)
def test_impossible_geometry(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)


def test_wrong_input(clip):
    with pytest.raises(ConfigError, match="from 1 to the blocks"):
        build(surgery_layers=4).encode_image(torch.rand(1, 3, 64, 64))
    with pytest.raises(ImageError, match="multiples"):
        clip.encode_image(torch.rand(1, 3, 65, 64))
    with pytest.raises(ConfigError, match="end-of-text id 49"):
        clip.encode_text(torch.tensor([[48, 3, 4]]))
    with pytest.raises(ConfigError, match="21 tokens"):
        clip.encode_text(torch.full((1, 21), 49))
    with pytest.raises(ConfigError, match="Give pixels, ids, or embeddings"):
        clip()


def test_prompts_of_another_width_are_refused(clip):
    with pytest.raises(ConfigError, match="belong together"):
        PQPrompts(4, 16, 15)(clip)
    with pytest.raises(WeightsCorrupt, match=r"natural.*fetch pq-prompts"):
        PQPrompts.from_reference({"overall.ctx": np.zeros((2, 4, 8), np.float32)})


def test_prompts_save_and_load(tmp_path, clip):
    torch.manual_seed(3)
    prompts = PQPrompts(4, 32, 15, (3, 5), "channel")
    prompts.token_suffix.normal_()
    prompts.save_pretrained(tmp_path)
    again = PQPrompts.from_pretrained(tmp_path)
    assert torch.equal(prompts(clip), again(clip))
    assert again.config["feature_norm"] == "channel"


@torch.no_grad()
def test_names_stand_between_the_contexts(clip):
    """start, half the contexts, the name, the other half, end; names of different lengths end at different places."""
    prompts = PQPrompts(4, 32, 15, (3, 5))
    prompts.token_prefix.fill_(100.0)
    prompts.token_suffix.copy_(torch.arange(15.0)[None, :, None].expand(2, 15, 32))
    prompts.ctx.fill_(-1.0)
    good, bad = prompts.embeddings()[:2, :, 0].tolist()
    assert good[:9] == [100, -1, -1, 0, 1, 2, -1, -1, 3]
    assert bad[:11] == [100, -1, -1, 0, 1, 2, 3, 4, -1, -1, 5]
    assert len(good) == 20
