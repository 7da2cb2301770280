"""The prompt of every family of generators, from files written the way each of them writes."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image, PngImagePlugin

from grefine.io.images import decode_image, encode_image
from grefine.io.prompts import find_prompt

INFOTEXT = (
    "a (red:1.2) ball on grass,\n<lora:toy:0.8> shiny\n"
    "Negative prompt: ugly, [blurry]\nworst\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b"
)
PROMPT = "a (red:1.2) ball on grass,\n<lora:toy:0.8> shiny"


def file_with(form="PNG", texts=None, exif=None, size=(32, 32), image=None, international=()):
    image = image or Image.new("RGB", size, (10, 200, 30))
    out = io.BytesIO()
    options = {}
    if texts:
        info = PngImagePlugin.PngInfo()
        for key, value in texts.items():
            info.add_itxt(key, value) if key in international else info.add_text(key, value)
        options["pnginfo"] = info
    if exif is not None:
        options["exif"] = exif.tobytes()
    image.save(out, form, **options)
    return decode_image(out.getvalue(), "pictures/ComfyUI_00001_.png")


def comment(text, mark=b"UNICODE\x00", encoding="utf-16-be"):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = mark + text.encode(encoding)
    return exif


# Automatic1111: modules/images.py save_image_with_geninfo, modules/processing.py create_infotext.
# Forge keeps both; SD.Next: modules/infotext.py, modules/image/metadata.py.
def test_infotext_in_png():
    found = find_prompt(file_with(texts={"parameters": INFOTEXT}))
    assert found.prompt == PROMPT
    assert found.origin == "A1111 infotext"


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_infotext_in_the_user_comment(form, encoding):
    assert find_prompt(file_with(form, exif=comment(INFOTEXT, encoding=encoding))).prompt == PROMPT


def test_infotext_of_sdnext_begins_its_settings_as_it_likes():
    text = "two cats\nNegative prompt: dogs\nSize: 1024x1024, Steps: 20, Seed: 1, Sampler: Default, App: SD.Next"
    assert find_prompt(file_with(texts={"parameters": text})).prompt == "two cats"


def test_infotext_with_lines_after_its_settings():
    text = INFOTEXT + '\nTemplate: a {red|blue} ball\nTiled Diffusion: {"a": 1}'
    assert find_prompt(file_with(texts={"parameters": text})).prompt == PROMPT


def test_infotext_without_settings_is_a_prompt_only_where_programs_write():
    assert find_prompt(file_with(texts={"parameters": "a red ball"})).prompt == "a red ball"
    assert find_prompt(file_with("JPEG", exif=comment("taken on holiday"))) is None


def test_infotext_in_other_alphabets():
    for key in ((), ("parameters",)):
        found = find_prompt(
            file_with(texts={"parameters": "ein grüner Ball, 球\nSteps: 1, A: 2, B: 3"}, international=key)
        )
        assert found.prompt == "ein grüner Ball, 球"


def test_utf8_in_a_latin_chunk_is_read_as_meant():
    found = find_prompt(file_with(texts={"parameters": "grüner Ball".encode().decode("latin-1")}))
    assert found.prompt == "grüner Ball"


# ComfyUI: nodes.py SaveImage.save_images (PNG), comfy_extras/nodes_images.py (WebP), nodes.py and
# comfy_extras/nodes_custom_sampler.py for the inputs of the nodes.
def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def basic_graph(text="a red ball", **more):
    graph = {
        "3": node("KSampler", model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0], seed=1),
        "4": node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=512),
        "6": node("CLIPTextEncode", text=text, clip=["4", 1]),
        "7": node("CLIPTextEncode", text="ugly", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    }
    return graph | more


def comfy(graph, **options):
    return find_prompt(file_with(texts={"prompt": json.dumps(graph)}, **options))


def test_comfyui_basic():
    found = comfy(basic_graph())
    assert (found.prompt, found.unsure) == ("a red ball", "")


def test_comfyui_in_webp():
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(basic_graph())
    exif[0x010F] = "workflow:" + json.dumps({"nodes": [], "links": []})
    assert find_prompt(file_with("WEBP", exif=exif)).prompt == "a red ball"


def test_comfyui_custom_sampler_through_its_guider():
    graph = basic_graph(
        **{
            "3": node("SamplerCustomAdvanced", guider=["20", 0], sampler=["21", 0], latent_image=["5", 0]),
            "20": node("BasicGuider", model=["4", 0], conditioning=["22", 0]),
            "21": node("KSamplerSelect", sampler_name="euler"),
            "22": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
        }
    )
    assert comfy(graph).prompt == "a red ball"


def test_comfyui_through_control_nets_and_combinations():
    graph = basic_graph(
        **{
            "3": node("KSampler", positive=["30", 0], negative=["30", 1], latent_image=["5", 0], model=["4", 0]),
            "30": node("ControlNetApplyAdvanced", positive=["31", 0], negative=["7", 0], image=["40", 0]),
            "31": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["32", 0]),
            "32": node("CLIPTextEncode", text="a house", clip=["4", 1]),
            "40": node("LoadImage", image="x.png"),
        }
    )
    found = comfy(graph)
    assert found.prompt == "a red ball, a house"


def test_comfyui_two_encoders_of_one_model():
    same = basic_graph(
        **{"6": node("CLIPTextEncodeSDXL", text_g="a ball", text_l="a ball", clip=["4", 1], width=1024)}
    )
    assert comfy(same).prompt == "a ball"
    flux = basic_graph(**{"6": node("CLIPTextEncodeFlux", clip_l="ball", t5xxl="a ball on grass", clip=["4", 1])})
    assert comfy(flux).prompt == "ball, a ball on grass"


def test_comfyui_words_from_string_nodes():
    graph = basic_graph(["50", 0])
    graph["50"] = node("StringConcatenate", string_a=["51", 0], string_b="on grass", delimiter=", ")
    graph["51"] = node("PrimitiveString", value="a red ball")
    assert comfy(graph).prompt == "a red ball, on grass"


def test_comfyui_two_passes_and_a_detailer():
    graph = basic_graph(
        **{
            "9": node("SaveImage", images=["62", 0], filename_prefix="ComfyUI"),
            "60": node("KSampler", positive=["6", 0], negative=["7", 0], latent_image=["61", 0], denoise=0.4),
            "61": node("LatentUpscale", samples=["3", 0]),
            "62": node("FaceDetailer", image=["63", 0], positive=["64", 0], negative=["7", 0], model=["4", 0]),
            "63": node("VAEDecode", samples=["60", 0], vae=["4", 2]),
            "64": node("CLIPTextEncode", text="detailed face", clip=["4", 1]),
        }
    )
    assert comfy(graph).prompt == "a red ball"


def test_comfyui_many_samplers_share_one_long_way_to_the_prompt():
    graph = basic_graph()
    graph["6"], graph["w0"] = node("CLIPTextEncode", text="", clip=["4", 1]), graph["6"]
    for i in range(1, 150):
        graph[f"w{i}"] = node("ConditioningSetArea", conditioning=[f"w{i - 1}", 0], **dict.fromkeys("abcdefgh", 1))
    for i in range(200):
        graph[f"k{i}"] = node("KSampler", positive=["w149", 0], latent_image=["5", 0])
    graph["9"] = node("SaveImage", **{f"images{i}": [f"k{i}", 0] for i in range(200)})
    assert comfy(graph).prompt == "a red ball"


def test_comfyui_loader_that_holds_both_prompts():
    graph = basic_graph(
        **{
            "3": node("KSampler (Efficient)", positive=["70", 1], negative=["70", 2], latent_image=["70", 3]),
            "70": node("Efficient Loader", positive="a red ball", negative="ugly", ckpt_name="x"),
        }
    )
    found = comfy(graph)
    assert found.prompt == "a red ball"


def test_comfyui_several_savers_are_told_apart_by_name():
    graph = basic_graph(
        **{
            "80": node("KSampler", positive=["81", 0], negative=["7", 0], latent_image=["5", 0], model=["4", 0]),
            "81": node("CLIPTextEncode", text="a blue cat", clip=["4", 1]),
            "82": node("VAEDecode", samples=["80", 0], vae=["4", 2]),
            "83": node("SaveImage", images=["82", 0], filename_prefix="cats/other"),
        }
    )
    assert comfy(graph).prompt == "a red ball"
    graph["83"]["inputs"]["filename_prefix"] = "ComfyUI"
    undecided = comfy(graph)
    assert undecided.prompt == ""
    assert "different prompts" in undecided.unsure


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"6": node("CLIPTextEncode", text=["90", 0], clip=["4", 1]), "90": node("OllamaGenerate", query="x")},
            "Ollama",
        ),
        ({"6": node("MyMagicConditioner", strength=1.0)}, "MyMagicConditioner"),
        ({"6": node("CLIPTextEncode", text=["99", 0], clip=["4", 1])}, "missing"),
        ({"6": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["6", 0])}, "circles|nested"),
        ({"9": node("SaveImage", images=["91", 0]), "91": node("LoadImage", image="a.png")}, "no sampler"),
        ({"6": node("CLIPTextEncode", text="", clip=["4", 1])}, "empty"),
        ({"3": node("SamplerCustomAdvanced", guider=["20", 0]), "20": node("X", guider=["20", 0])}, "circles"),
        ({str(i): node("SaveImage", images=["8", 0]) for i in (9, *range(100, 400))}, "301 of its nodes save"),
    ],
)
def test_comfyui_says_when_it_cannot_tell(change, why):
    import re

    found = comfy(basic_graph(**change))
    assert found.prompt == ""
    assert re.search(why, found.unsure)


def test_comfyui_drawn_graph_alone():
    drawn = {"nodes": [{"id": 1, "type": "CLIPTextEncode", "widgets_values": ["a red ball"]}], "links": []}
    assert "only as drawn" in find_prompt(file_with(texts={"workflow": json.dumps(drawn)})).unsure


# InvokeAI: app/services/image_files/image_files_disk.py (new), backend/image_util/pngwriter.py (old).
def test_invokeai_new():
    texts = {
        "invokeai_metadata": json.dumps({"positive_prompt": "a red ball++", "negative_prompt": "ugly", "seed": 1})
    }
    found = find_prompt(file_with(texts=texts))
    assert found.prompt == "a red ball++"


def test_invokeai_old():
    parts = [{"prompt": "a red ball [ugly] on grass", "weight": 1.0}]
    texts = {"sd-metadata": json.dumps({"model": "sd", "image": {"prompt": parts, "steps": 50}})}
    found = find_prompt(file_with(texts=texts))
    assert found.prompt == "a red ball on grass"
    dream = {"Dream": '"a red ball [ugly]" -s50 -W512 -H512 -C7.5 -Ak_lms'}
    assert find_prompt(file_with(texts=dream)).prompt == "a red ball"


# NovelAI publishes no writer; the form is the one its files have, as read by vladmandic/sdnext
# modules/image/metadata.py (Software, Comment, Description).
NOVELAI = {"prompt": "{{red}} ball, grass", "uc": "lowres", "steps": 28, "request_type": "PromptGenerateRequest"}


def test_novelai():
    texts = {"Software": "NovelAI", "Description": "red ball", "Comment": json.dumps(NOVELAI)}
    found = find_prompt(file_with(texts=texts))
    assert found.prompt == "{{red}} ball, grass"


def test_novelai_characters():
    caption = {"base_caption": "two people", "char_captions": [{"char_caption": "a girl"}, {"char_caption": "a boy"}]}
    comment_4 = NOVELAI | {"prompt": "two people", "v4_prompt": {"caption": caption, "use_coords": False}}
    texts = {"Software": "NovelAI", "Comment": json.dumps(comment_4)}
    assert find_prompt(file_with(texts=texts)).prompt == "two people, a girl, a boy"


# SwarmUI: src/Media/ImageFile.cs ConvertTo (PNG text `parameters`, EXIF UserComment otherwise), src/Text2Image.
SWARM = {
    "sui_image_params": {"prompt": "a red ball <segment:face> a nose", "negativeprompt": "ugly", "seed": 1},
    "sui_extra_data": {"date": "2025-01-25"},
}


def test_swarmui():
    found = find_prompt(file_with(texts={"parameters": json.dumps(SWARM)}))
    assert (found.prompt, found.origin) == ("a red ball", "SwarmUI parameters")
    jpeg = file_with("JPEG", exif=comment(json.dumps(SWARM), encoding="utf-16-le"))
    assert find_prompt(jpeg).prompt == "a red ball"


# Fooocus: modules/meta_parser.py FooocusMetadataParser, A1111MetadataParser, get_exif.
FOOOCUS = {"prompt": "a red ball", "negative_prompt": "", "full_prompt": ["cinematic a red ball"], "base_model": "x"}


def test_fooocus():
    texts = {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}
    assert find_prompt(file_with(texts=texts)).prompt == "a red ball"
    exif = Image.Exif()
    exif[0x9286], exif[0x0131], exif[0x927C] = json.dumps(FOOOCUS), "Fooocus v2.5.5", "fooocus"
    assert find_prompt(file_with("JPEG", exif=exif)).prompt == "a red ball"
    a1111 = 'cinematic a red ball\nSteps: 30, Seed: 1, Size: 8x8, Raw prompt: "a red ball\\nshiny", Version: Fooocus'
    found = find_prompt(file_with(texts={"parameters": a1111, "fooocus_scheme": "a1111"}))
    assert found.prompt == "a red ball\nshiny"


ALL = {
    "A1111": {"parameters": INFOTEXT},
    "ComfyUI": {"prompt": json.dumps(basic_graph()), "workflow": json.dumps({"nodes": [], "links": []})},
    "InvokeAI": {"invokeai_metadata": json.dumps({"positive_prompt": "a red ball"})},
    "InvokeAI old": {"sd-metadata": json.dumps({"image": {"prompt": "a red ball"}})},
    "NovelAI": {"Software": "NovelAI", "Comment": json.dumps(NOVELAI)},
    "SwarmUI": {"parameters": json.dumps(SWARM)},
    "Fooocus": {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
}


@pytest.mark.parametrize("target", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("name", ALL)
def test_every_form_survives_every_format(name, target):
    loaded = file_with(texts=ALL[name])
    before = find_prompt(loaded)
    assert before.prompt
    again = decode_image(encode_image(loaded.rgb, loaded, target))
    assert find_prompt(again) == before
    home = decode_image(encode_image(again.rgb, again, "PNG"))
    assert find_prompt(home) == before
    assert {t.key: t.value for t in home.embedded.texts} == ALL[name]


def test_silent_files_are_silent():
    assert find_prompt(file_with()) is None
    assert find_prompt(file_with(texts={"Software": "GIMP", "Comment": "Created with GIMP"})) is None


@pytest.mark.parametrize(
    "key", ["parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "Dream", "Comment"]
)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 100_000,
        "{" + '"1": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}' + "}",
        "null",
        '{"sui_image_params": []}',
        '{"image": {"prompt": [1, null, {"prompt": 3}]}}',
        '"' + "a" * 100 + '"',
        '{"nodes": [null, 1, {"id": {}}], "links": [[], 3]}',
        "\x00\x01",
    ],
)
def test_hostile_texts_end_in_an_answer_or_none(key, text):
    found = find_prompt(file_with(texts={key: text, "Software": "NovelAI"}))
    assert found is None or found.unsure or found.prompt


def test_megabyte_prompts_are_not_prompts():
    found = find_prompt(file_with(texts={"parameters": "word " * 400_000}))
    assert found.prompt == ""
    assert "2,000,000 characters" in found.unsure or "1,999,999 characters" in found.unsure
