"""Every published set is read from small files of the form in which it is distributed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from grefine.errors import ConfigError
from grefine.training.datasets.published import PUBLISHED, read_data
from grefine.training.datasets.table import read_records


def pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (9, 8), (3 * len(name), 0, 0)).save(folder / name)


def workbook(path, rows):
    """Write an .xlsx file."""
    from openpyxl import Workbook

    book = Workbook()
    for row in rows:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def hdf5(path, cells, arrays):
    """Write a MATLAB 7.3 file: cells are references to code units, every array with its axes reversed."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, texts in cells.items():
            references = []
            for number, text in enumerate(texts):
                codes = np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None]
                stored = file.create_dataset(f"#refs#/{name}{number}", data=codes)
                references.append(stored.ref)
            table = file.create_dataset(name, (len(texts), 1), dtype=h5py.ref_dtype)
            for number, reference in enumerate(references):
                table[number, 0] = reference
        for name, values in arrays.items():
            file.create_dataset(name, data=np.asarray(values, dtype=float).T)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


NAMES = ["deepai_9_6_0_1.jpg", "dreamStudio_6_2_0_1.jpg", "deepai_1_8_1_0.jpg"]


def test_agiqa_3k_csv(tmp_path):
    pictures(tmp_path / "images", "AttnGAN_normal_000.jpg", "xl2.2_normal_298.jpg")
    (tmp_path / "data.csv").write_text(
        "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\r\n"
        "AttnGAN_normal_000.jpg,statue of a man,,,,0.96,0.2,0.40,0.6\r\n"
        'xl2.2_normal_298.jpg,"photoreal portrait, soft light",soft,,x,3.9,0.6,3.7,0.6\r\n'
    )
    found = read_data(f"agiqa-3k:{tmp_path}")
    assert [row.prompt for row in found.rows] == ["statue of a man", "photoreal portrait, soft light"]
    assert found.columns == ("mos", "alignment")
    assert found.rows[1].scores == {"mos": 3.9, "alignment": 3.7}
    assert found.labels() == pytest.approx([0.96 / 3.9, 1.0])


def test_agiqa_3k_mat(tmp_path):
    pictures(tmp_path / "images", "a.jpg", "b.jpg")
    cells = {"im_names": ["a.jpg", "b.jpg"], "text_prompt": ["one", "zwei Äpfel"]}
    hdf5(tmp_path / "AGIQA-3K.mat", cells, {"subjective_scores_quality": [[1.0, 2.0]]})
    found = read_data(f"AGIQA-3K:{tmp_path}")
    assert [row.prompt for row in found.rows] == ["one", "zwei Äpfel"]
    assert [row.scores["mos"] for row in found.rows] == [1.0, 2.0]


def test_agiqa_1k_mat_keeps_rows_of_one_name_and_its_orders(tmp_path):
    names = [*NAMES, NAMES[2]]
    pictures(tmp_path / "file", *NAMES)
    cells = {"im_names": names, "text_prompt": ["an alien", "a man", "a cat", "a cat"]}
    orders = [[2, 4], [1, 3], [4, 2], [3, 1]]
    arrays = {"subjective_scores": [[1.0, 5.0, 0.4, 2.1]], "index": orders, "ref_ids": [[1, 2, 3, 4]]}
    (tmp_path / "data").mkdir()
    hdf5(tmp_path / "data" / "AGIQA-1K.mat", cells, arrays)
    with pytest.raises(ConfigError, match="missing"):
        read_data(f"agiqa-1k:{tmp_path}")
    (tmp_path / "file").rename(tmp_path / "data" / "file")
    found = read_data(f"agiqa-1k:{tmp_path}")
    assert len(found) == 4
    assert [row.path.name for row in found.rows] == names
    assert found.rows[0].prompt == "an alien"
    assert found.permutations == ((1, 0, 3, 2), (3, 2, 1, 0))
    assert "several rows with different scores" in found.notes[0]


def test_agiqa_1k_classic_mat(tmp_path):
    from scipy.io import savemat

    pictures(tmp_path / "images", *NAMES)
    cells = np.empty((1, 3), dtype=object)
    cells[0] = NAMES
    path = tmp_path / "AGIQA-1K.mat"
    savemat(path, {"im_names": cells, "text_prompt": cells, "subjective_scores": np.array([[1.0, 2.0, 3.0]])})
    assert [row.path.name for row in read_data(f"agiqa-1k:{path}").rows] == NAMES


def test_agiqa_1k_workbook_and_csv(tmp_path):
    pictures(tmp_path / "file", *NAMES)
    workbook(
        tmp_path / "AIGC_MOS_Zscore.xlsx",
        [["Image", "Prompt", "MOS"], [NAMES[0], "alien & co", 2.5], [], [NAMES[1], "man", 4]],
    )
    found = read_data(f"agiqa-1k:{tmp_path}")
    assert [(row.prompt, row.scores["mos"]) for row in found.rows] == [("alien & co", 2.5), ("man", 4.0)]
    (tmp_path / "AIGC_all.csv").write_text(f"Image,Score\n{NAMES[1]},1.8\n{NAMES[2]},2.8\n")
    found = read_data(f"agiqa-1k:{tmp_path / 'AIGC_all.csv'}")
    assert [(row.prompt, row.scores["mos"]) for row in found.rows] == [("", 1.8), ("", 2.8)]


@pytest.mark.parametrize("folder", ["512x384", "1024x768"])
def test_koniq_with_and_without_its_split(tmp_path, folder):
    pictures(tmp_path / folder, "1.jpg", "2.jpg", "3.jpg")
    plain = tmp_path / "koniq10k_scores_and_distributions.csv"
    plain.write_text(
        '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
        "1.jpg,0,0,25,73,7,105,3.83,0.53,68.4\n2.jpg,0,0,1,2,3,6,2.1,0.5,20.5\n3.jpg,0,0,1,2,3,6,2.2,0.5,30\n"
    )
    found = read_data(f"koniq-10k:{tmp_path}")
    assert found.labels() == pytest.approx([0.684, 0.205, 0.3])
    (tmp_path / "koniq10k_distributions_sets.csv").write_text(
        "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
        "1.jpg,0,0,25,73,7,105,68.4,9,training\n2.jpg,0,0,1,2,3,6,20.5,5,test\n3.jpg,0,0,1,2,3,6,30,5,validation\n"
    )
    found = read_data(f"koniq-10k:{tmp_path}")
    assert found.labels() == pytest.approx([0.684, 0.205, 0.3])
    assert [row.part for row in found.rows] == ["train", "test", "validation"]
    assert {row.path.parent.name for row in found.rows} == {folder}


def test_aigiqa_20k_takes_the_opinions_of_its_test_part_from_the_whole_table(tmp_path):
    for part, name in (
        ("train", "DALLE2_0000.png"),
        ("train", "SDXL_0001.png"),
        ("val", "LCM_2.png"),
        ("test", "PG_3.png"),
    ):
        pictures(tmp_path / part, name)
    workbook(
        tmp_path / "info_train.xlsx",
        [["name", "prompt", "mos"], ["DALLE2_0000.png", "a corgi, asleep", 3.8], ["SDXL_0001.png", "a fox", 1.25]],
    )
    workbook(tmp_path / "info_val.xlsx", [["name", "prompt"], ["LCM_2.png", "a kite"]])
    workbook(tmp_path / "info_test.xlsx", [["name", "prompt"], ["PG_3.png", "two pears"]])
    found = read_data(f"aigiqa-20k:{tmp_path}")
    assert [row.path.name for row in found.rows] == ["DALLE2_0000.png", "SDXL_0001.png"]
    assert "2 pictures have no opinion" in found.notes[0]
    (tmp_path / "info_merge.csv").write_text("name,mos\nLCM_2.png,2\nPG_3.png,4.5\nSDXL_0001.png,5\n")
    found = read_data(f"AIGIQA-20K:{tmp_path}")
    assert [row.part for row in found.rows] == ["train", "train", "validation", "test"]
    assert [row.prompt for row in found.rows] == ["a corgi, asleep", "a fox", "a kite", "two pears"]
    assert found.labels() == pytest.approx([0.76, 0.25, 0.4, 0.9])
    assert not found.notes


def test_aigiqa_20k_as_it_is_mirrored(tmp_path):
    pictures(tmp_path / "images", "DALLE2_0000.png", "PG_3.png")
    (tmp_path / "info_train.csv").write_text('name,prompt,mos\nDALLE2_0000.png,"a corgi, asleep",3.8\n')
    (tmp_path / "info_test.csv").write_text("name,prompt\nPG_3.png,two pears\n")
    (tmp_path / "data.csv").write_text("name,prompt,mos\nDALLE2_0000.png,x,3.8\nPG_3.png,x,4.5\n")
    assert [(row.part, row.scores["mos"]) for row in read_data(f"aigiqa-20k:{tmp_path}").rows] == [
        ("train", 3.8),
        ("test", 4.5),
    ]
    (tmp_path / "info_test.csv").write_text("name,prompt,mos\nPG_3.png,two pears,much\n")
    with pytest.raises(ConfigError, match=r"info_test.csv' line 2: the score 'much'"):
        read_data(f"aigiqa-20k:{tmp_path}")


def test_spaq(tmp_path):
    pictures(tmp_path / "TestImage", "00001.jpg", "00002.jpg")
    heading = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    rows = [["00001.jpg", 40, 50, 51.5, 52, 53, 54], ["00002.jpg", 100, 1, 2, 3, 4, 5]]
    workbook(tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx", [heading, *rows])
    found = read_data(f"spaq:{tmp_path}")
    assert found.columns == ("mos", "brightness", "colorfulness", "contrast", "noisiness", "sharpness")
    assert found.labels() == [0.4, 1.0]
    assert found.labels("colorfulness") == pytest.approx([0.515, 0.02])


def test_para(tmp_path):
    names = ["quality", "aesthetic", "color", "composition", "content", "light"]
    heading = ["imageName", "sessionId", "semantic", "aestheticScore_1.0", *(f"{name}Score_mean" for name in names)]
    (tmp_path / "annotation").mkdir()
    for part, session, picture in (("Train", "session1", "iaa_pub1_.jpg"), ("Test", "session2", "iaa_pub71_.jpg")):
        pictures(tmp_path / "imgs" / session, picture)
        values = [picture, session, "night", "0", *(str(1 + n / 2) for n in range(6))]
        (tmp_path / "annotation" / f"PARA-Giaa{part}.csv").write_text(",".join(heading) + "\n" + ",".join(values))
    found = read_data(f"para:{tmp_path}")
    assert [row.part for row in found.rows] == ["train", "test"]
    assert found.rows[0].scores == {
        "mos": 1.0, "aesthetic": 1.5, "color": 2.0, "composition": 2.5, "content": 3.0, "light": 3.5
    }  # fmt: skip
    assert found.labels("light") == [0.7, 0.7]


def test_kadid_scores_rise_with_quality(tmp_path):
    pictures(tmp_path / "images", "I01_01_01.png", "I01_01_05.png", "I02_01_01.png")
    (tmp_path / "dmos.csv").write_text(
        "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.496\nI01_01_05.png,I01.png,1.2,0.8\n"
        "I02_01_01.png,I02.png,5,0.1\n"
    )
    found = read_data(f"kadid-10k:{tmp_path}")
    assert [row.content for row in found.rows] == ["I01.png", "I01.png", "I02.png"]
    assert found.labels() == pytest.approx([0.914, 0.24, 1.0])


LAYOUTS = {
    "uhd-iqa": (
        {"uhd-iqa-metadata.csv": "image_name,quality_mos,set,subset\n1.jpg,0.7,training,x\n2.jpg,0.5,test,x\n"},
        ("training/1.jpg", "test/2.jpg"), [0.7, 0.5], ["", ""], ["train", "test"],
    ),
    "tid2013": (
        {"mos_with_names.txt": "5.4 I01_01_1.bmp\n9 i02_01_1.bmp\n"},
        ("distorted_images/I01_01_1.bmp", "distorted_images/I02_01_1.bmp"), [0.6, 1.0], ["I01", "i02"], ["", ""],
    ),
    "pipal": (
        {"Train_Label/A0001.txt": "A0001_00_00.bmp,1600\n", "Train_Label/A0002.txt": "A0002_00_00.bmp,800\n"},
        ("Distortion_1/A0001_00_00.bmp", "Distortion_4/A0002_00_00.bmp"), [1.0, 0.5], ["A0001", "A0002"], ["", ""],
    ),
    "flive": (
        {"labels_image.csv": "name,mos,height\nblur/a.jpg,60,9\nava/b.jpg,75,9\n"},
        ("database/blur/a.jpg", "database/ava/b.jpg"), [0.6, 0.75], ["", ""], ["", ""],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_sets_of_one_table(tmp_path, name):
    tables, places, labels, contents, parts = LAYOUTS[name]
    for place in places:
        pictures((tmp_path / place).parent, (tmp_path / place).name)
    for file, text in tables.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    found = read_data(f"{name}:{tmp_path}")
    assert [row.path.relative_to(tmp_path).as_posix().replace("Train_Label/../", "") for row in found.rows] == [
        *places
    ]
    assert found.labels() == pytest.approx(labels)
    assert [row.content for row in found.rows] == contents
    assert [row.part for row in found.rows] == parts


def test_bid(tmp_path):
    pictures(tmp_path / "ImageDatabase", "DatabaseImage0001.JPG", "DatabaseImage0586.JPG")
    workbook(tmp_path / "DatabaseGrades.xlsx", [["Image", "Average", "Other"], [1, 2.5, 7], [586, 5, 7]])
    assert read_data(f"bid:{tmp_path}").labels() == [0.5, 1.0]


def test_live_c_leaves_out_the_pictures_that_trained_its_subjects(tmp_path):
    from scipy.io import savemat

    names = [f"t{n}.bmp" for n in range(1, 8)] + ["3.bmp", "4.bmp"]
    pictures(tmp_path / "Images", "3.bmp", "4.bmp")
    (tmp_path / "Data").mkdir()
    cells = np.array([[name] for name in names], dtype=object)
    savemat(tmp_path / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    savemat(tmp_path / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.array([[0] * 7 + [63.9, 35]], float)})
    found = read_data(f"live-c:{tmp_path}")
    assert [row.path.name for row in found.rows] == ["3.bmp", "4.bmp"]
    assert found.labels() == pytest.approx([0.639, 0.35])


def test_aigciqa2023_has_four_pictures_of_each_prompt_from_each_model(tmp_path):
    from scipy.io import savemat

    pictures(tmp_path / "Image" / "allimg", *(f"{n}.png" for n in range(16)))
    (tmp_path / "DATA" / "MOS").mkdir(parents=True)
    for number in (1, 2, 3):
        values = np.arange(16.0)[:, None] + 10 * number
        savemat(tmp_path / "DATA" / "MOS" / f"mosz{number}.mat", {"MOSz": values})
    workbook(tmp_path / "AIGCIQA2023_Prompts.xlsx", [["style", "Prompt"], ["x", "a cat"], ["x", "a dog, asleep"]])
    found = read_data(f"aigciqa2023:{tmp_path}")
    assert [row.prompt for row in found.rows] == (["a cat"] * 4 + ["a dog, asleep"] * 4) * 2
    assert [row.path.stem for row in found.rows] == [str(n) for n in range(16)]
    assert found.columns == ("mos", "authenticity", "alignment")
    assert found.labels("alignment")[:2] == pytest.approx([0.3, 0.31])


def test_agiqa_3k_takes_its_orders_from_the_mat_and_alignment_from_the_table(tmp_path):
    pictures(tmp_path / "images", "a.jpg", "b.jpg")
    cells = {"im_names": ["a.jpg", "b.jpg"], "text_prompt": ["one", "two"]}
    hdf5(tmp_path / "AGIQA-3K.mat", cells, {"subjective_scores_quality": [[1.5], [3.0]], "index": [[2], [1]]})
    (tmp_path / "data.csv").write_text("name,prompt,mos_quality,mos_align\nb.jpg,two,3.1,4\na.jpg,one,1.6,2\n")
    found = read_data(f"agiqa-3k:{tmp_path}")
    assert found.permutations == ((1, 0),)
    assert found.labels() == [0.5, 1.0]
    assert found.labels("alignment") == [0.5, 1.0]


def test_outputs_of_ranked_methods(tmp_path):
    for method in ("SeeSR", "RGT"):
        pictures(tmp_path / method, "1.png", "2.png")
    (tmp_path / "ranking.json").write_text('{"scores": {"SeeSR": 0.74, "RGT": -0.9}}')
    found = read_data(f"ranked:{tmp_path}")
    assert [(row.path.parent.name, row.scores["mos"], row.content) for row in found.rows] == [
        ("SeeSR", 0.74, "1"), ("SeeSR", 0.74, "2"), ("RGT", -0.9, "1"), ("RGT", -0.9, "2")
    ]  # fmt: skip


def test_what_is_not_there_is_said_in_one_sentence(tmp_path):
    for name in PUBLISHED:
        with pytest.raises(ConfigError, match="it lacks") as error:
            read_data(f"{name}:{tmp_path}")
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="does not exist: give the folder of koniq-10k"):
        read_data("koniq-10k:nowhere")
    with pytest.raises(ConfigError, match="did you mean 'koniq-10k'"):
        read_data(f"koniq10k:{tmp_path}")
    pictures(tmp_path / "images", "a.png")
    (tmp_path / "dmos.csv").write_text("dist_img,ref_img,dmos,var\na.png,r.png,4,1\na.png,r.png,3,1\n")
    with pytest.raises(ConfigError, match="names 'a.png' twice with different scores"):
        read_data(f"kadid-10k:{tmp_path}")


def test_workbooks_that_are_none(tmp_path):
    (tmp_path / "x.xlsx").write_text("no zip")
    with pytest.raises(ConfigError, match="as an .xlsx workbook"):
        list(read_records(tmp_path / "x.xlsx", ()))
    workbook(tmp_path / "y.xlsx", [["Image", "Score"], ["a", 1]])
    with pytest.raises(ConfigError, match="no column 'MOS'; its heading says Image, Score"):
        list(read_records(tmp_path / "y.xlsx", ("MOS",)))
    (tmp_path / "x.mat").write_text("MATLAB 5.0")
    with pytest.raises(ConfigError, match="no MATLAB file"):
        read_data(f"agiqa-1k:{tmp_path / 'x.mat'}")


@pytest.mark.parametrize("package", ["h5py", "openpyxl"])
def test_a_package_that_a_set_needs_is_named_with_what_brings_it(package, monkeypatch, tmp_path):
    import sys

    from grefine.errors import PackageMissing

    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / {"h5py": "AGIQA-1K.mat", "openpyxl": "AIGC_MOS_Zscore.xlsx"}[package]
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ModuleNotFoundError) as missing:
        read_data(f"agiqa-1k:{path}")
    assert f"'{package}'" in str(PackageMissing.of(missing.value))
    assert "grefine[train]" in str(PackageMissing.of(missing.value))
