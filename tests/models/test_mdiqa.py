"""MDIQA against the published code's numbers, and its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_mdiqa import geometry, reference_groups
from golden_weights import golden_files, load_golden, reference_image

from grefine.errors import ConfigError, ImageError, WeightsCorrupt
from grefine.models.mdiqa import AESTHETIC, DIMENSIONS, MDIQA, TECHNICAL, MDIQALoss


def picture(salt, item):
    image = reference_image(salt, item["height"], item["width"])
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def build(path):
    golden = load_golden(path)
    return MDIQA.from_reference(reference_groups(golden), **geometry(golden["config"])), golden


def close(ours, theirs, tolerance, what):
    assert abs(float(ours) - float(theirs)) <= tolerance, f"{what}: {float(ours)} against {theirs}"


def same_summary(tensor, known, tolerance, what):
    tensor = tensor.detach()
    assert list(tensor.shape) == known["shape"], what
    for ours, theirs in zip(tensor.flatten()[:8].tolist(), known["first8"], strict=True):
        close(ours, theirs, tolerance * max(1, abs(theirs)), f"{what} first8")
    close(tensor.mean(), known["mean"], tolerance, f"{what} mean")
    close(tensor.std(correction=0), known["std"], tolerance * max(1, known["std"]), f"{what} std")


def intermediates(model, image):
    """Collect what the published modules compute on the way, under the fixture's names."""
    from grefine.models.mdiqa_blocks import imagenet

    found, hooks = {}, []

    def keep(module, name):
        hooks.append(module.register_forward_hook(lambda _m, _i, out: found.__setitem__(name, out)))

    for label, net in (("technology", model.technology), ("aesthetic", model.aesthetic)):
        for i, (gate, reduce) in enumerate(zip(net.gates, net.reduce, strict=True)):
            keep(gate, f"{label}.gated{i}")
            keep(reduce, f"{label}.reduced{i}")
        head = net.heads[0]
        for i, block in enumerate(head.self_blocks):
            keep(block, f"{label}.head0.sa{i}")
        for i, block in enumerate(head.cross_blocks):
            keep(block, f"{label}.head0.ca{i}")
        keep(head.pool, f"{label}.head0.attn_pool")
    fusion = model.fusion
    for i, reduce in enumerate(fusion.weights.reduce):
        keep(reduce, f"weight.reduced{i}")
    keep(fusion.weights.score, "weight.score_map")
    for i in range(1, 5):
        keep(getattr(fusion.semantics.visual, f"layer{i}"), f"clip.layer{i}")
    keep(fusion.semantics, "clip.feature")
    for i, name in enumerate(DIMENSIONS):
        keep(fusion.local.mix[i], f"local.{name}.mlp")
        keep(fusion.local.pools[i], f"local.{name}.attn_pool")
        keep(fusion.local.scores[i], f"local.{name}.score")
    model(image)
    for hook in hooks:
        hook.remove()
    for label, part in (("technology", model.technology), ("aesthetic", model.aesthetic), ("weight", fusion.weights)):
        found |= {f"{label}.stage{i}": x for i, x in enumerate(part.trunk(imagenet(image)))}
    found["clip.input"] = fusion.semantics.prepare(image)
    found["clip.tokens"] = fusion.semantics.tokens(found["clip.layer4"])
    return found


def check_parity(path):
    model, golden = build(path)
    model.requires_grad_(False)
    allowed = golden["float_noise"]["suggested_absolute_tolerance"]
    for item in golden["inputs"]:
        known = golden["outputs"][item["name"]]
        image = picture(golden["salt"], item)
        with torch.no_grad():
            out = model(image)
            for name in DIMENSIONS:
                close(out.dimensions[name], known["dimension_scores"][name], allowed["dimension_scores"], name)
                same_summary(out.features[name], known["query_feature"][name], allowed["first8_mean_std"], name)
                same_summary(out.tokens[name], known["final_token"][name], allowed["first8_mean_std"], name)
            close(out.overall, known["overall"], allowed["overall"], "overall")
            for i, name in enumerate(DIMENSIONS):
                close(out.weights[0, i], known["weights"][name], 1e-5, f"weight {name}")
                close(out.local_scores[0, i], known["local_scores"][name], 2e-5, f"local {name}")
            for case in known["overall_by_weight_ratio"].values():
                got = model(image, case["ratio"]).overall
                close(got, case["overall"], allowed["overall_by_weight_ratio"], f"ratio {case['ratio']}")
            if "intermediate" in known:
                found = intermediates(model, image)
                for name, summary in known["intermediate"].items():
                    same_summary(found[name], summary, allowed["first8_mean_std"], name)
            if "clip_map_channel0" in known:
                side = len(known["clip_map_channel0"])
                grid = found["clip.tokens"][1:, 0, 0].reshape(side, side)
                np.testing.assert_allclose(grid, known["clip_map_channel0"], atol=1e-4)
            if "feature_distance" in known:
                check_distances(model, golden, item, image, known)
        for name, case in known.get("gradient", {}).items():
            check_gradient(model, golden, item, image, name, case, allowed["gradient_relative"])


def check_distances(model, golden, item, image, known):
    truth = picture(golden["salt"] + ":reference", item)
    theirs = model(truth)
    close(theirs.overall, known["reference_image_scores"]["overall"], 2e-6, "overall of the reference image")
    for name, case in known["feature_distance"].items():
        for distance in ("l1", "mse"):
            loss = MDIQALoss(model, {name: 1.0}, "reference", distance)(image, truth)
            close(loss, case[f"query_{distance}"], 1e-4, f"{name} {distance}")


def check_gradient(model, golden, item, image, name, case, relative):
    image = image.clone().requires_grad_(True)
    kind = name.split(".")[0]
    if kind == "overall":
        detach = name.endswith("detached_weights")
        value = model(image, case["ratio"], detach_weights=detach).overall.sum()
    elif kind == "dimension_sum":
        found = model.score(image).dimensions
        value = sum(w * found[d][0] for w, d in zip(case["weights"], DIMENSIONS, strict=True))
    else:
        truth = picture(golden["salt"] + ":reference", item)
        weights = dict(zip(DIMENSIONS, case["weights"], strict=True))
        value = MDIQALoss(model, weights, "reference")(image, truth) * sum(case["weights"])
    close(value, case["value"], 2e-5 * max(1, abs(case["value"])), name)
    (gradient,) = torch.autograd.grad(value, image)
    close(gradient.norm() / case["norm"], 1.0, relative, f"{name} norm")
    largest = gradient.abs().max().item()
    np.testing.assert_allclose(gradient.flatten()[:8], case["first8"], atol=relative * largest, err_msg=name)
    np.testing.assert_allclose(
        gradient.abs().mean(dim=(0, 2, 3)), case["channel_abs_mean"], rtol=relative, err_msg=name
    )


@pytest.mark.parametrize("path", golden_files("mdiqa_reduced*.json"), ids=lambda p: p.stem)
def test_parity_reduced(path):
    check_parity(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", golden_files("mdiqa.json"), ids=lambda p: p.stem)
def test_parity_full(path):
    check_parity(path)


@pytest.fixture(scope="module")
def small():
    return build(golden_files("mdiqa_reduced*.json")[0])[0]


@pytest.fixture
def image():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_only_the_asked_dimensions_run(small, image):
    ran = []
    hooks = [
        net.register_forward_hook(lambda _m, _i, _o, n=name: ran.append(n))
        for name, net in (("technology", small.technology.trunk), ("aesthetic", small.aesthetic.trunk))
    ]
    heads = [head.register_forward_hook(lambda _m, _i, _o: ran.append("head")) for head in small.technology.heads]
    with torch.no_grad():
        out = small.score(image, ["sharpness"])
        everything = small.score(image)
    for hook in hooks + heads:
        hook.remove()
    assert ran[:2] == ["technology", "head"]
    assert ran[2] == "technology", "the aesthetic net must not run for a technical dimension"
    assert list(out.dimensions) == ["sharpness"]
    torch.testing.assert_close(out.dimensions["sharpness"], everything.dimensions["sharpness"])
    assert tuple(everything.dimensions) == TECHNICAL + AESTHETIC


def test_batch_equals_singles(small, image):
    with torch.no_grad():
        both = small(image)
        for row in range(2):
            alone = small(image[row : row + 1])
            close(both.overall[row], alone.overall, 1e-5, "overall")
            for name in DIMENSIONS:
                close(both.dimensions[name][row], alone.dimensions[name], 1e-5, name)


def test_saves_and_loads(small, image, tmp_path):
    small.save_pretrained(tmp_path)
    again = MDIQA.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(image).overall, small(image).overall)


def test_loss_follows_its_weights_and_is_differentiable(small, image):
    """The gradient of every form agrees with finite differences along a random direction, in float64."""
    model = MDIQA.from_config(small.config)
    model.load_state_dict(small.state_dict())
    model = model.double()
    image = image.double()
    truth = torch.rand(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    forms = {
        "dimensions": (MDIQALoss(model, {"sharpness": 1.0, "noisiness": 0.5}), None),
        "overall": (MDIQALoss(model, {"sharpness": 3.0}, "overall", attach_weights=True), None),
        "reference": (MDIQALoss(model, {"sharpness": 1.0}, "reference", "mse"), truth),
    }
    # CLIP passes no gradient by design, so it has to stand still for the comparison.
    semantics = model.fusion.semantics(image)
    model.fusion.semantics.forward = lambda _image: semantics
    step = 1e-7
    for name, (loss, target) in forms.items():
        leaf = image.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(leaf, target), leaf)
        with torch.no_grad():
            numeric = (loss(image + step * direction, target) - loss(image - step * direction, target)) / (2 * step)
        analytic = (gradient * direction).sum()
        assert abs(float(numeric - analytic)) <= 1e-3 * max(abs(float(analytic)), 1e-4), name


def test_loss_by_hand(small, image):
    with torch.no_grad():
        found = small.score(image).dimensions
        wanted = (2 * (1 - found["color"]).mean() + 1 * (1 - found["light"]).mean()) / 3
        assert MDIQALoss(small, {"color": 2.0, "light": 1.0})(image) == pytest.approx(wanted.item(), abs=1e-6)


def test_bad_use_is_one_sentence(small, image):
    with pytest.raises(ConfigError, match="did you mean 'sharpness'"):
        MDIQALoss(small, {"sharpnes": 1.0})
    with pytest.raises(ConfigError, match="zero"):
        MDIQALoss(small, {"sharpness": 0.0})
    with pytest.raises(ImageError, match="needs the true image"):
        MDIQALoss(small, mode="reference")(image)
    with pytest.raises(ImageError, match="differ in size"):
        MDIQALoss(small, mode="reference")(image, image[..., :64])
    with pytest.raises(ImageError, match="at least 32"):
        small.score(image[..., :16])


def test_other_geometry_is_refused():
    golden = load_golden(golden_files("mdiqa_reduced*.json")[0])
    groups = reference_groups(golden)
    with pytest.raises(WeightsCorrupt, match="geometry"):
        MDIQA.from_reference(groups, **(geometry(golden["config"]) | {"local_hidden": 64}))
    with pytest.raises(WeightsCorrupt, match="technology"):
        MDIQA.from_reference({"fusion": groups["fusion"]}, **geometry(golden["config"]))
