"""Whether the parts of a pipeline are SDXL's and made for each other, told by their configs before anything runs."""

from typing import Any

from grefine.errors import ConfigError

LATENTS = 4
"""Channels of SDXL's latents."""


def check_family(unet: Any, vae: Any, encoders: tuple[Any, Any], controlnet: Any) -> None:
    """Refuse parts of another family; a part that is None is not looked at."""
    if unet is None:
        return
    if _says(unet, "addition_embed_type") != "text_time":
        raise ConfigError(
            "This UNet lacks SDXL's size and pooled-text conditioning (it looks like Stable Diffusion 1 or 2): "
            "load an SDXL checkpoint, inpainting or ordinary."
        )
    if unet.config.in_channels not in (4, 9):
        raise ConfigError(
            f"This UNet has {unet.config.in_channels} input channels: SDXL checkpoints with 4 (ordinary) or 9 "
            "(inpainting) can be used."
        )
    latents = _says(vae, "latent_channels")
    if latents not in (None, LATENTS):
        raise ConfigError(
            f"This VAE has {latents} channels of latents where SDXL has {LATENTS}: it is another model's; load "
            "SDXL's, e.g. madebyollin/sdxl-vae-fp16-fix."
        )
    reads, widths = _says(unet, "cross_attention_dim"), [_says(encoder, "hidden_size") for encoder in encoders]
    if isinstance(reads, int) and None not in widths and sum(widths) != reads:
        raise ConfigError(
            f"The text encoders give {sum(widths)} values per word and this UNet reads {reads}: they are another "
            "model's; load text_encoder, text_encoder_2 and unet of one SDXL checkpoint."
        )
    pooled, times = _says(encoders[1], "projection_dim"), _says(unet, "addition_time_embed_dim")
    takes = _says(unet, "projection_class_embeddings_input_dim")
    if None not in (pooled, times, takes) and takes != 6 * times + pooled:
        raise ConfigError(
            f"text_encoder_2 gives {pooled} values for a whole prompt and this UNet reads {takes - 6 * times}: it is "
            "another model's, or the two encoders were exchanged; load both of one SDXL checkpoint."
        )
    for name in ("cross_attention_dim", "block_out_channels", "addition_embed_type"):
        theirs, ours = _says(controlnet, name), _says(unet, name)
        if controlnet is not None and _plain(theirs) != _plain(ours):
            raise ConfigError(
                f"This ControlNet is not made for this UNet ({name} is {_plain(theirs)} and not {_plain(ours)}): load "
                "an SDXL tile ControlNet, e.g. xinsir/controlnet-tile-sdxl-1.0, or leave controlnet out."
            )


def _says(part: Any, name: str) -> Any:
    """Return what a part's config says; None where there is no part, or it says nothing."""
    return getattr(getattr(part, "config", None), name, None)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
