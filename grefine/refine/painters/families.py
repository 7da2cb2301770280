"""The table of families of diffusers' pipelines, one record each; docs/painters.md says whence its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from grefine.refine.painters.phrasing import Style
from grefine.refine.settings import Strengths

FLOW = Strengths(noun=1.0, attribute=0.85, least=0.5, most=1.0)
"""For flow models, whose pictures move late in the schedule; grefine's own choice, not measured on real weights."""


@dataclass(frozen=True)
class Family:
    """What is known of one family's pipelines."""

    name: str
    classes: tuple[str, ...]
    """Its pipelines in diffusers, the one that inpaints first; the others are brought to it, their parts shared."""
    since: str
    """The first release of diffusers that has it."""
    licence: str
    """Of the published weights."""
    side: int = 1024
    """Where the pipeline does not say what size it was trained at."""
    rule: Literal["floor", "rest"] = "rest"
    """How steps and strength make executed steps: int(n·s), or n − int(n − n·s)."""
    cell: int = 2
    """Sides are multiples of so many cells of the VAE."""
    guided_by: str = "guidance_scale"
    """The argument of classifier-free, or embedded, guidance."""
    guidance: float | None = None
    """Its default; None: the argument is not passed."""
    negative: str | None = None
    """Negative prompt where the caller gives none and guidance needs one."""
    negated_by: str = "guidance_scale"
    """The argument that makes use of a negative prompt when it is above 1; empty: none does."""
    strengths: Strengths = FLOW
    steps: tuple[int, int] = (28, 8)
    """Executed steps of stage 1 and of stage 2."""
    distilled: tuple[int, int] | None = None
    """Those of a checkpoint that says `is_distilled`, which needs no guidance either."""
    restorer: str = "inpaint"
    """Stage 2 where nobody chose one."""
    words: Style = "phrase first"
    sees_source: bool = False
    """It is shown what lies under the mask as a reference."""
    fp16: bool = True
    """False where half precision breaks it."""
    resizes: bool = False
    """It works at a size of its own choice; its crops are brought back to theirs."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Passed with every call."""


_UNET: dict[str, Any] = {"rule": "floor", "cell": 1, "guidance": 7.5, "strengths": Strengths(), "steps": (10, 10)}
_QWEN: dict[str, Any] = {"negated_by": "true_cfg_scale", "guided_by": "true_cfg_scale", "guidance": 4.0}
_QWEN |= {"licence": "Apache-2.0", "negative": " ", "steps": (50, 8)}

FAMILIES = (
    Family(
        "sd15",
        ("StableDiffusionInpaintPipeline", "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"),
        since="0.28 or earlier",
        licence="CreativeML Open RAIL-M (SD2: Open RAIL++-M)",
        side=512,
        **_UNET,
    ),
    Family(
        "sdxl",
        ("StableDiffusionXLInpaintPipeline", "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
        since="0.28 or earlier",
        licence="Open RAIL++-M",
        **_UNET,
    ),
    Family(
        "sd3",
        ("StableDiffusion3InpaintPipeline", "StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline"),
        since="0.30",
        licence="Stability AI Community License",
        guidance=7.0,
    ),
    Family(
        "flux",
        ("FluxInpaintPipeline", "FluxPipeline", "FluxImg2ImgPipeline"),
        since="0.31",
        licence="dev: FLUX.1 [dev] Non-Commercial; schnell: Apache-2.0",
        negated_by="true_cfg_scale",
        guidance=7.0,
    ),
    Family(
        "flux-fill",
        ("FluxFillPipeline",),
        since="0.32",
        licence="FLUX.1 [dev] Non-Commercial",
        guidance=30.0,
        negated_by="",
        steps=(50, 8),
    ),
    Family(
        "flux-kontext",
        ("FluxKontextInpaintPipeline", "FluxKontextPipeline"),
        since="0.35",
        licence="FLUX.1 [dev] Non-Commercial",
        negated_by="true_cfg_scale",
        guidance=3.5,
        words="instruction",
        sees_source=True,
        arguments={"_auto_resize": False},
    ),
    Family(
        "flux2-klein",
        ("Flux2KleinInpaintPipeline", "Flux2KleinPipeline"),
        since="0.38",
        licence="4B: Apache-2.0; 9B: FLUX Non-Commercial",
        guidance=8.0,
        negated_by="",
        steps=(50, 8),
        distilled=(4, 4),
        words="instruction",
        sees_source=True,
    ),
    Family(
        "qwen-image",
        ("QwenImageInpaintPipeline", "QwenImagePipeline", "QwenImageImg2ImgPipeline"),
        since="0.35",
        **_QWEN,
    ),
    Family(
        "qwen-image-edit",
        ("QwenImageEditInpaintPipeline", "QwenImageEditPipeline"),
        since="0.36",
        **_QWEN,
        words="instruction",
        sees_source=True,
        resizes=True,
    ),
    Family(
        "z-image",
        ("ZImageInpaintPipeline", "ZImagePipeline", "ZImageImg2ImgPipeline"),
        since="0.37",
        licence="Apache-2.0",
        guidance=0.0,
        steps=(8, 4),
        restorer="none",
        fp16=False,
    ),
    Family(
        "chroma",
        ("ChromaInpaintPipeline", "ChromaPipeline", "ChromaImg2ImgPipeline"),
        since="0.37",
        licence="Apache-2.0",
        guidance=7.0,
    ),
)


def family_named(class_name: str) -> Family | None:
    """Return the family that a class of pipelines belongs to."""
    return next((family for family in FAMILIES if class_name in family.classes), None)
