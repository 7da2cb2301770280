"""LoRAs that prompts name are applied from a folder that the user gives, and only to the images that name them."""

from __future__ import annotations

import numpy as np
import pytest
from small_world import by_file, config, random_pipeline, scene

from grefine.errors import ConfigError
from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.io.images import read_image


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with one LoRA of the random pipeline's UNet."""
    peft = pytest.importorskip("peft")
    import torch

    folder = tmp_path_factory.mktemp("loras")
    pipe = random_pipeline()
    torch.manual_seed(0)
    pipe.unet.add_adapter(
        peft.LoraConfig(r=4, lora_alpha=64, target_modules=["to_q", "to_v"], init_lora_weights=False)
    )
    layers = peft.utils.get_peft_model_state_dict(pipe.unet)
    type(pipe).save_lora_weights(folder, unet_lora_layers=layers, weight_name="Toy.safetensors")
    return folder


def refine(source, out, lora_dir):
    return refine_folder(
        source,
        out,
        random_pipeline(),
        config=config(max_area=1.0),
        options=FolderOptions(batch_size=4, report=False, panels=False),
        lora_dir=lora_dir,
    )


def test_loras_change_only_the_images_that_name_them(shelf, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    prompts = {"a": "a red ball", "b": "a red ball <lora:toy:1>", "c": "a blue box", "d": "a box <lora:gone:0.5>"}
    for index, (name, prompt) in enumerate(prompts.items()):
        scene(index).save(source / f"{name}.png")
        (source / f"{name}.txt").write_text(prompt)
    assert refine(source, tmp_path / "plain", None).counts["refined"] == 4
    assert refine(source, tmp_path / "with", shelf).counts["refined"] == 4

    def apart(name):
        pair = [np.asarray(read_image(tmp_path / run / f"{name}.png").rgb).astype(int) for run in ("plain", "with")]
        return np.abs(pair[0] - pair[1]).max()

    assert apart("b") > 3
    assert max(apart("a"), apart("c"), apart("d")) <= 1
    assert any("'gone' is not in" in note for note in by_file(tmp_path / "with")["d.png"]["notes"])
    assert not any("gone" in note for note in by_file(tmp_path / "plain")["d.png"].get("notes", ()))


def test_a_missing_folder_is_told(tmp_path):
    scene(0).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="No folder of LoRAs"):
        refine(tmp_path / "a.png", tmp_path / "out", tmp_path / "missing")
