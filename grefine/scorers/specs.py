"""What every known metric is: direction, range, needs, terms. Data only, so that listing them loads no network."""

from __future__ import annotations

from math import inf

from grefine.types import MetricSpec

_NC = "PolyForm-Noncommercial-1.0.0 and S-Lab-1.0 (pyiqa), weights under their authors' terms"
_PYIQA = "`pip install grefine[iqa]`; pyiqa downloads the weights at first use (--allow-noncommercial)"


def _folder(name: str) -> str:
    return f"a folder of weights: --weights {name}=DIR, made by `grefine convert {name.replace('_', '-')}`"


_OURS = (
    MetricSpec(
        name="moe_agiqa",
        range=(-inf, inf),
        needs_prompt=True,
        axis="both",
        licence="code Apache-2.0; terms of the published weights unknown, none are linked by their authors",
        weights=_folder("moe_agiqa"),
        description="MoE-AGIQA (after 37s/MoE-AGIQA at 0d9feb6): mean of 15 seeded crops, trained towards 0..1",
    ),
    MetricSpec(
        name="mdiqa",
        range=(-inf, inf),
        licence="code Apache-2.0; published weights CC-BY-NC-SA-4.0 and S-Lab-1.0 (non-commercial)",
        weights=_folder("mdiqa"),
        description="MDIQA (published code YaoShunyu19/MDIQA at 8b2f775): overall and nine dimensions, about 0..1",
    ),
    MetricSpec(
        name="lar_iqa",
        range=(-inf, inf),
        licence="code Apache-2.0; published weights MIT according to their readme",
        weights=_folder("lar_iqa"),
        description="LAR-IQA (published code nasimjamshidi/LAR-IQA at 792f2f1), trained on photographs, about 0..1",
    ),
)
_TEXT = (
    MetricSpec(
        name="clipscore",
        range=(0.0, 2.5),
        needs_prompt=True,
        axis="alignment",
        licence="code Apache-2.0; OpenAI CLIP weights MIT",
        weights="a transformers CLIP folder: --weights clipscore=DIR (openai/clip-vit-base-patch32)",
        description="2.5 max(cos, 0) of image and 'A photo depicts ' + prompt; not comparable with the paper's CLIPS",
    ),
    MetricSpec(
        name="pickscore",
        range=(-100.0, 100.0),
        needs_prompt=True,
        axis="alignment",
        licence="code Apache-2.0; terms of the PickScore weights: see their model card (yuvalkirstain/PickScore_v1)",
        weights="a transformers CLIP folder: --weights pickscore=DIR (yuvalkirstain/PickScore_v1)",
        description="logit scale times cos, about 20 for PickScore_v1; not comparable with the paper's PicS",
    ),
    MetricSpec(
        name="imagereward",
        range=(-inf, inf),
        needs_prompt=True,
        axis="alignment",
        licence="Apache-2.0",
        weights="`grefine fetch imagereward`, or a folder made by `grefine convert reward ImageReward.pt -o DIR`: "
        "--weights imagereward=DIR",
        description="ImageReward-v1.0, standardised so that 0 is average",
    ),
    MetricSpec(
        name="hpsv2",
        range=(-1.0, 1.0),
        needs_prompt=True,
        axis="alignment",
        licence="Apache-2.0",
        weights="the HPSv2 checkpoint of open_clip's ViT-H-14: --weights hpsv2=FILE (xswu/HPSv2)",
        description="cosine of image and prompt under the preference-tuned CLIP-H",
    ),
    MetricSpec(
        name="clipiqa",
        range=(0.0, 1.0),
        licence="code Apache-2.0; CLIP weights MIT (LAION's or OpenAI's)",
        weights="`grefine fetch clip-b32`, or a transformers CLIP folder: --weights clipiqa=DIR",
        description="probability of 'Good photo.' against 'Bad photo.'; one prompt pair, so other values than pyiqa's",
    ),
)
_STATISTICS = (
    MetricSpec(
        name="brisque",
        direction="lower",
        range=(-inf, inf),
        licence="code Apache-2.0; the model file's own terms",
        weights="a BRISQUE model in libsvm's text format with its range file: --weights brisque=DIR",
        description="support-vector regression on 36 scene statistics (Mittal et al. 2012); about 0..100",
    ),
    MetricSpec(
        name="piqe",
        direction="lower",
        range=(0.0, 100.0),
        licence="Apache-2.0",
        description="block-wise distortion without any training (Venkatanath et al. 2015); needs no weights",
    ),
)
_RANGES: dict[str, tuple[float, float, str]] = {
    "unique": (-3.0, 3.0, "UNIQUE, mixed databases"),
    "liqe": (1.0, 5.0, "LIQE, KonIQ"),
    "dbcnn": (0.0, 1.0, "DBCNN, KonIQ"),
    "topiq": (0.0, 1.0, "TOPIQ without reference, KonIQ (pyiqa: topiq_nr)"),
    "cnniqa": (0.0, 1.0, "CNNIQA, KonIQ"),
    "musiq": (0.0, 100.0, "MUSIQ, KonIQ"),
    "qalign": (1.0, 5.0, "Q-Align, a 7 B language model; wants a GPU"),
    "hyperiqa": (0.0, 1.0, "HyperIQA, mean of random crops"),
    "nima": (0.0, 10.0, "NIMA, aesthetics on AVA"),
    "paq2piq": (0.0, 100.0, "PaQ-2-PiQ"),
}
_PYIQA_METRICS = tuple(
    MetricSpec(
        name=name, range=(low, high), licence=_NC, weights=_PYIQA, description=f"{about}; range as pyiqa states"
    )
    for name, (low, high, about) in _RANGES.items()
)

SPECS: dict[str, MetricSpec] = {spec.name: spec for spec in (*_OURS, *_TEXT, *_STATISTICS, *_PYIQA_METRICS)}
"""Every metric by its name, in the order in which they are listed."""

PAPER = (
    "clipiqa", "unique", "liqe", "dbcnn", "topiq", "cnniqa", "musiq", "brisque", "qalign",
    "clipscore", "imagereward", "pickscore", "hpsv2",
)  # fmt: skip
"""The thirteen metrics of the paper's tables: nine perceptual, four of alignment."""
