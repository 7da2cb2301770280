"""Every kind of picture comes in upright and RGB, and goes out as it was."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from grefine.errors import ImageError
from grefine.io.atomic import write_atomic
from grefine.io.embedded import TextChunk, exif_orientation, user_comment
from grefine.io.images import CONTAINERS, decode_image, encode_image, pixel_digest, read_image
from grefine.io.picture import normalise, restore

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)


def png_bytes(image, **options):
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def picture(mode):
    if mode == "I;16":
        return Image.fromarray(np.linspace(0, 65535, 2400).astype(np.uint16).reshape(40, 60))
    image = PHOTO.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize(
    ("mode", "back"),
    [("RGB", "RGB"), ("RGBA", "RGBA"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("1", "L"), ("I;16", "L")],
)
def test_each_mode_goes_in_as_rgb_and_out_by_the_rule(mode, back):
    source = picture(mode)
    loaded = decode_image(png_bytes(source))
    assert loaded.rgb.mode == "RGB"
    assert loaded.size == source.size
    again = Image.open(io.BytesIO(encode_image(loaded.rgb, loaded)))
    assert again.mode == back
    if mode in ("RGB", "RGBA", "L", "LA"):
        assert again.tobytes() == source.tobytes()
    if mode in ("RGBA", "LA"):
        assert loaded.alpha.tobytes() == source.getchannel("A").tobytes()


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.asarray(decode_image(png_bytes(picture("I;16"))).rgb)[..., 0].ravel()
    assert values[0] == 0
    assert values[-1] == 255
    assert np.all(np.diff(values.astype(int)) >= 0)
    assert len(set(values.tolist())) == 256


def test_transparent_palette_keeps_its_alpha():
    source = PHOTO.convert("P")
    loaded = decode_image(png_bytes(source, transparency=int(np.asarray(source)[0, 0])))
    holes = np.asarray(source) == np.asarray(source)[0, 0]
    assert holes.any()
    assert np.array_equal(np.asarray(loaded.alpha) == 0, holes)


def test_colour_below_transparent_pixels_is_kept_in_webp_too():
    source = PHOTO.copy()
    source.putalpha(0)
    loaded = decode_image(png_bytes(source))
    assert np.array_equal(np.asarray(loaded.rgb), PIXELS)
    out = io.BytesIO()
    source.save(out, "WEBP", lossless=True, exact=True)
    webp = decode_image(out.getvalue())
    assert np.array_equal(np.asarray(decode_image(encode_image(webp.rgb, webp)).rgb), PIXELS)


def test_cmyk_becomes_rgb_without_the_ink_profile():
    out = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(out, "JPEG", icc_profile=b"not a profile")
    loaded = decode_image(out.getvalue())
    red, green, blue = np.asarray(loaded.rgb)[4, 4]
    assert red > 200
    assert green < 60
    assert blue < 60
    again = Image.open(io.BytesIO(encode_image(loaded.rgb, loaded)))
    assert again.mode == "RGB"
    assert "icc_profile" not in again.info
    assert loaded.notes


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_orientation_is_applied_once(orientation, form):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a description"
    out = io.BytesIO()
    picture("RGB").save(out, form, exif=exif.tobytes(), lossless=True)
    with Image.open(io.BytesIO(out.getvalue())) as plain:
        from PIL import ImageOps

        expected = ImageOps.exif_transpose(plain).convert("RGB").tobytes()
    loaded = decode_image(out.getvalue())
    assert loaded.rgb.tobytes() == expected
    assert exif_orientation(loaded.embedded.exif) == 1
    again = decode_image(encode_image(loaded.rgb, loaded))
    assert again.size == loaded.size
    assert Image.open(io.BytesIO(encode_image(loaded.rgb, loaded))).getexif()[0x010E] == "a description"


def carrying(form):
    """A picture with texts, EXIF, profile and XMP, as `form`."""
    exif = Image.Exif()
    exif[0x010E] = "a description"
    profile = bytes(range(256)) * 300
    out = io.BytesIO()
    options = {"exif": exif.tobytes(), "icc_profile": profile, "xmp": b"<x:xmpmeta/>"}
    if form == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", "a red ball\nSteps: 20")
        info.add_itxt("note", "grüße 球", "de", "Notiz")
        info.add_text("workflow", '{"nodes": []}' * 9000)
        info.add_text("packed", "z" * 1000, zip=True)
        info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
        options |= {"pnginfo": info}
        options.pop("xmp")
    if form == "JPEG":
        options |= {"comment": "a comment"}
    PHOTO.save(out, form, **options)
    return decode_image(out.getvalue()), exif, profile


@pytest.mark.parametrize("target", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
def test_everything_carried_survives_every_way(source, target):
    loaded, exif, profile = carrying(source)
    texts = (*loaded.embedded.texts, TextChunk("grefine", '{"a": "ü"}'))
    data = encode_image(loaded.rgb, replace(loaded, embedded=replace(loaded.embedded, texts=texts)), target)
    again = decode_image(data)
    assert again.embedded.icc == profile
    assert again.embedded.xmp == b"<x:xmpmeta/>"
    assert Image.open(io.BytesIO(data)).getexif()[0x010E] == "a description"
    expected = [(t.key, t.value) for t in texts]
    assert [(t.key, t.value) for t in again.embedded.texts] == expected
    # and back to where it came from, with nothing lost on the way
    home = decode_image(encode_image(again.rgb, again, source))
    assert [(t.key, t.value) for t in home.embedded.texts] == expected
    assert home.embedded.icc == profile


@pytest.mark.parametrize("target", ["JPEG", "WEBP"])
def test_parameters_go_where_other_programs_look(target):
    loaded, _, _ = carrying("PNG")
    data = encode_image(loaded.rgb, loaded, target)
    raw = Image.open(io.BytesIO(data)).getexif().get_ifd(0x8769)[0x9286]
    assert raw.startswith(b"UNICODE\x00")
    assert raw[8:].decode("utf-16-be") == "a red ball\nSteps: 20"
    assert user_comment(decode_image(data).embedded.exif) == "a red ball\nSteps: 20"


def test_exif_too_large_for_jpeg_is_carried():
    exif = Image.Exif()
    exif[0x010E] = "d" * 100_000
    loaded = decode_image(png_bytes(PHOTO, exif=exif.tobytes()))
    as_jpeg = decode_image(encode_image(loaded.rgb, loaded, "JPEG"))
    assert as_jpeg.embedded.exif == loaded.embedded.exif
    assert decode_image(encode_image(as_jpeg.rgb, as_jpeg, "PNG")).embedded.exif == loaded.embedded.exif


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_text_is_added_without_touching_the_picture(form):
    loaded, _, _ = carrying(form)
    data = encode_image(loaded.rgb, loaded)
    once = CONTAINERS[form].put_text(data, "grefine", "one")
    twice = CONTAINERS[form].put_text(once, "grefine", "two")
    found = decode_image(twice)
    assert [t.value for t in found.embedded.texts if t.key == "grefine"] == ["two"]
    assert len(found.embedded.texts) == len(loaded.embedded.texts) + 1
    assert found.rgb.tobytes() == decode_image(data).rgb.tobytes()
    assert pixel_digest(twice, form) == pixel_digest(data, form)
    Image.open(io.BytesIO(twice)).verify()


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_plain_webp_takes_a_text(mode, lossless):
    out = io.BytesIO()
    picture(mode).save(out, "WEBP", lossless=lossless)
    data = CONTAINERS["WEBP"].put_text(out.getvalue(), "grefine", "x")
    assert Image.open(io.BytesIO(data)).convert("RGBA").tobytes() == Image.open(out).convert("RGBA").tobytes()
    assert decode_image(data).embedded.text("grefine") == "x"


def test_jpeg_is_written_with_the_tables_it_came_with():
    out = io.BytesIO()
    PHOTO.save(out, "JPEG", quality=71, subsampling=2, progressive=True)
    loaded = decode_image(out.getvalue())
    again = Image.open(io.BytesIO(encode_image(loaded.rgb, loaded)))
    assert again.quantization == Image.open(out).quantization
    assert again.info["progressive"]


def test_alpha_does_not_fit_into_jpeg():
    loaded = normalise(picture("RGBA"))
    with pytest.raises(ImageError, match="alpha.*JPEG cannot hold"):
        encode_image(loaded.rgb, loaded, "JPEG")


def test_in_memory_images_come_back_in_their_mode():
    for mode in ("RGB", "RGBA", "L", "LA"):
        source = picture(mode)
        source.info["icc_profile"] = b"profile"
        loaded = normalise(source)
        back = restore(loaded.rgb, loaded)
        assert back.mode == mode
        assert back.tobytes() == source.tobytes()
        assert back.info["icc_profile"] == b"profile"


def test_restore_refuses_another_size():
    with pytest.raises(ImageError, match="60 x 40 but its refined picture is 30 x 20"):
        restore(PHOTO.resize((30, 20)), normalise(PHOTO))


def test_normalise_refuses_what_is_no_picture():
    with pytest.raises(ImageError, match="ndarray: give a PIL image"):
        normalise(PIXELS)
    with pytest.raises(ImageError, match="unsupported colour mode 'F'"):
        normalise(Image.new("F", (4, 4)))


def refused(path, match, **options):
    with pytest.raises(ImageError, match=match) as caught:
        read_image(path, **options)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_files_are_refused_by_name(tmp_path, monkeypatch):
    for form, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("BMP", "bmp"), ("GIF", "gif")):
        out = io.BytesIO()
        PHOTO.save(out, form)
        for share in (0.02, 0.5, 0.9):
            path = tmp_path / f"cut{share}.{suffix}"
            path.write_bytes(out.getvalue()[: int(len(out.getvalue()) * share)])
            refused(path, "damaged|not an image")
    # Other libraries switch this on for the whole process; a half grey picture would come out unnoticed.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for path in sorted(p for p in tmp_path.iterdir() if p.suffix in (".png", ".jpg", ".webp")):
        refused(path, "damaged|not an image")


def test_empty_wrong_and_missing_files(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "empty.png", "empty")
    refused(tmp_path / "text.png", "not an image")
    refused(tmp_path / "folder.png", "not a file|directory")
    refused(tmp_path / "loop.png", "symbolic links")
    refused(tmp_path / "pipe.png", "not a file")
    refused(tmp_path / "gone.png", "does not exist")


def test_content_decides_not_the_name(tmp_path):
    PHOTO.save(tmp_path / "really.png", "JPEG")
    assert read_image(tmp_path / "really.png").format == "JPEG"


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_bombs_are_refused_before_they_unpack(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    bomb = tmp_path / "pixels.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))
    refused(bomb, "too large")
    (tmp_path / "small.png").write_bytes(png_bytes(PHOTO))
    refused(tmp_path / "small.png", "60 x 40 pixels, and 2,000", max_pixels=2000)
    packed = zlib.compress(bytes(200 * 2**20))
    plain = png_bytes(PHOTO)
    for name, body in (("ztxt", b"zTXta\x00\x00" + packed), ("itxt", b"iTXta\x00\x01\x00\x00\x00" + packed)):
        path = tmp_path / f"{name}.png"
        path.write_bytes(plain[:33] + chunk(body[:4], body[4:]) + plain[33:])
        refused(path, "refused|damaged")


def test_animations_and_odd_modes_are_refused(tmp_path):
    frames = [Image.new("RGB", (8, 8), (i * 60, 0, 0)) for i in range(4)]
    for suffix in ("gif", "png", "webp"):
        frames[0].save(tmp_path / f"film.{suffix}", save_all=True, append_images=frames[1:])
        refused(tmp_path / f"film.{suffix}", "animation of 4 frames")
    Image.new("F", (8, 8)).save(tmp_path / "float.tif")
    refused(tmp_path / "float.tif", "unsupported colour mode 'F'")


def test_written_files_are_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_atomic(path, encode_image(PHOTO))
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, encode_image(PHOTO.rotate(180)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
