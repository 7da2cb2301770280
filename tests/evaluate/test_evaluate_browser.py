"""The report in a real browser: quiet console, no requests, keyboard, sorting, a thousand images."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from grefine.evaluate.analysis import analyse
from grefine.evaluate.compare import compare_refiners
from grefine.evaluate.report import write_report
from grefine.evaluate.tables import AFTER, BEFORE, NOISE, ScoreRow
from grefine.folder.views import RefineTally, write_refine_report
from grefine.report.entry import ReportImage, ReportText
from grefine.types import MetricSpec

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)",
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    pytest.importorskip("selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()


def make_report(folder, count, **options):
    rng = np.random.default_rng(0)
    rows, specs = [], {"edges": MetricSpec("edges"), "noise": MetricSpec("noise", "lower")}
    gains = rng.normal(0.2, 1.0, count)
    for metric, sign in (("edges", 1), ("noise", -1)):
        for i, base in enumerate(rng.normal(10, 1, count)):
            name = f"{i:04d}.png"
            rows += [ScoreRow(name, BEFORE, metric, base), ScoreRow(name, AFTER, metric, base + sign * gains[i])]
            rows.append(ScoreRow(name, NOISE + "moved", metric, base + 0.05))
    found = analyse(rows, specs, groups={f"{i:04d}.png": "AB"[i % 2] for i in range(count)})
    field = np.linspace(0, 1, 32 * 48, dtype=np.float32).reshape(32, 48)

    def images():
        for i in range(count):
            before = Image.new("RGB", (48, 32), (i % 256, i // 256, 90))
            yield ReportImage(
                f"{i:04d}.png" if i else EVIL, before, Image.new("RGB", (48, 32), (i % 256, 200, 90)),
                quality=field, mask=field > 0.7, prompt=EVIL, emphasis=((0, 4, 1.1),), reason=EVIL,
                kept="both" if i % 3 else "original", gains={"perceptual": float(gains[i])}, group="AB"[i % 2],
                scores={"edges": (10.0, 10.0 + gains[i]), "noise": (10.0, 10.0 - gains[i])},
            )  # fmt: skip

    return write_report(
        folder, images(), ReportText("Test", notes=(EVIL,)), analysis=found, specs=specs, **options
    ), gains


def make_joint(folder, judges, make_judge, make_picture):
    for index in range(8):
        (folder / "in").mkdir(parents=True, exist_ok=True)
        make_picture(index).save(folder / "in" / f"{index}.png")
    third = make_judge("contrast", lambda x: x.std())
    compare_refiners(
        [folder / "in"], out=folder / "out", refiners=("identity", "blur", "sharpen"), metrics=[*judges, third],
        noise_images=4,
    )  # fmt: skip
    return folder / "out" / "report.html"


def visit(browser, path):
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    wait(browser, "return document.querySelectorAll('.card').length > 0")


def wait(browser, condition, seconds=20):
    end = time.monotonic() + seconds
    while not browser.execute_script(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def quiet(browser, folder):
    """No console message, no request that leaves the report's folder, no injected script."""
    assert browser.get_log("browser") == []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url.startswith((folder.as_uri(), "data:")), url
    assert browser.title != "owned"


def names(browser):
    return browser.execute_script("return [...document.querySelectorAll('.card .name')].map(n => n.textContent)")


def choose(browser, box, value):
    browser.execute_script(
        f"const s = document.getElementById('{box}'); s.value = arguments[0]; s.dispatchEvent(new Event('input'));"
        "s.dispatchEvent(new Event('change'));",
        value,
    )
    time.sleep(0.2)


@contextmanager
def screen(browser, width, height, scheme):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def test_sorting_filtering_and_text_that_stays_text(browser, tmp_path):
    path, gains = make_report(tmp_path, 40)
    visit(browser, path)
    label = [EVIL, *(f"{i:04d}.png" for i in range(1, 40))]
    assert names(browser) == [label[i] for i in np.argsort(-gains)[:24]]
    choose(browser, "sort", "loss")
    assert names(browser) == [label[i] for i in np.argsort(gains)[:24]]
    assert "40 images, showing 1 to 24" in browser.execute_script(
        "return document.getElementById('status').textContent"
    )
    choose(browser, "filter", "kept:original")
    assert set(names(browser)) == {label[i] for i in range(0, 40, 3)}
    choose(browser, "group", "A")
    choose(browser, "find", "00")
    assert set(names(browser)) == {"0006.png"} | {f"{i:04d}.png" for i in (12, 18, 24, 30, 36)}
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    quiet(browser, tmp_path)


def test_slider_viewer_and_keyboard(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    path, _ = make_report(tmp_path, 30)
    visit(browser, path)
    browser.execute_script("document.querySelector('.card .open').focus()")
    press(browser, Keys.ENTER)
    wait(browser, "return document.getElementById('viewer').open")
    first = browser.execute_script("return document.getElementById('viewer-name').textContent")
    assert EVIL in browser.execute_script("return document.getElementById('viewer-text').textContent")
    assert browser.execute_script("return document.querySelector('#viewer mark').textContent").startswith("<img")
    browser.execute_script("document.querySelector('#viewer .compare input').focus()")
    press(browser, *[Keys.ARROW_RIGHT] * 10)
    box = "const b = document.querySelector('#viewer .compare');"
    assert browser.execute_script(box + "return b.style.getPropertyValue('--x')") == "60%"
    clip = browser.execute_script(box + "return getComputedStyle(b.querySelector('.after')).clipPath")
    assert clip == "inset(0px 0px 0px 60%)"
    said = browser.execute_script(box + "return b.querySelector('input').getAttribute('aria-valuetext')")
    assert said == "60 % before, 40 % after"
    press(browser, Keys.PAGE_DOWN)
    wait(browser, f"return document.getElementById('viewer-name').textContent !== {json.dumps(first)}")
    shown = "return getComputedStyle(document.querySelector('#viewer .layer.quality')).display"
    assert browser.execute_script(shown) == "none"
    browser.execute_script("document.querySelector('#viewer-layers input').click()")
    assert browser.execute_script(shown) == "block"
    press(browser, Keys.ESCAPE)
    wait(browser, "return !document.getElementById('viewer').open")
    # The keyboard is where it was: on the card of the image that was looked at last.
    assert browser.execute_script("return document.activeElement.className") == "open"
    quiet(browser, tmp_path)


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 900, "light"), (390, 844, "dark")])
def test_no_sideways_scrolling_and_readable_contrast(browser, tmp_path, width, height, scheme):
    path, _ = make_report(tmp_path, 8)
    with screen(browser, width, height, scheme):
        visit(browser, path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script(_CONTRAST) == []
        quiet(browser, tmp_path)


def test_switching_methods(browser, judges, make_judge, make_picture, tmp_path):
    path = make_joint(tmp_path, judges, make_judge, make_picture)
    visit(browser, path)
    tags = "return [...document.querySelector('.card').querySelectorAll('.tag')].map(t => t.textContent).join()"
    assert browser.execute_script(tags) == "original,sharpen"
    shown = "return document.querySelector('.card img.after').src"
    sharpened = browser.execute_script(shown)
    choose(browser, "method", "2")
    wait(browser, tags.replace("return ", "return (") + ") === 'original,blur'")
    assert browser.execute_script(shown) != sharpened
    assert browser.execute_script("return document.querySelector('.card .badge').className") == "badge loss"
    choose(browser, "left", "3")
    wait(browser, tags.replace("return ", "return (") + ") === 'sharpen,blur'")
    choose(browser, "method", "3")  # a method against itself shows nothing: the left side becomes the input again
    wait(browser, tags.replace("return ", "return (") + ") === 'original,sharpen'")
    choose(browser, "sort", "name")
    browser.execute_script("document.querySelectorAll('.card .open')[2].click()")
    wait(browser, "return document.getElementById('viewer').open")
    buttons = "document.querySelectorAll('#viewer-methods button')"
    assert browser.execute_script(f"return [...{buttons}].map(b => b.textContent).join()") == "identity,blur,sharpen"
    browser.execute_script(f"{buttons}[1].click()")
    wait(browser, f"return {buttons}[1].getAttribute('aria-pressed') === 'true'")
    name = "return document.getElementById('viewer-name').textContent"
    assert browser.execute_script(name) == "2.png"
    heads = "return [...document.querySelectorAll('#viewer-text thead th')].map(t => t.textContent).join()"
    assert browser.execute_script(heads) == "metric,original,identity,blur,sharpen"
    assert browser.execute_script("return document.querySelectorAll('#viewer-text td.now.loss').length") >= 2
    browser.execute_script("document.getElementById('viewer-close').click()")
    wait(browser, tags.replace("return ", "return (") + ") === 'original,blur'")
    wait(browser, "return document.activeElement.closest('.card')?.querySelector('.name').textContent === '2.png'")
    quiet(browser, path.parent)


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 900, "dark"), (390, 844, "light")])
def test_the_joint_page_fits_and_is_readable(
    browser, judges, make_judge, make_picture, tmp_path, width, height, scheme
):
    path = make_joint(tmp_path, judges, make_judge, make_picture)
    with screen(browser, width, height, scheme):
        visit(browser, path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script(_CONTRAST) == []
        browser.execute_script("document.querySelector('.card .open').click()")
        wait(browser, "return document.getElementById('viewer').open")
        assert browser.execute_script(_CONTRAST) == []
        quiet(browser, path.parent)


# Text whose contrast with the nearest opaque background is under WCAG's 4.5 : 1.
_CONTRAST = """
const parse = (c) => {
  const m = c.match(/[\\d.]+/g).map(Number);
  return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3);
};
const linear = (v) => (v <= 10.02 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c.startsWith("rgb") && parse(c)) return parse(c);
  }
  return [255, 255, 255];
};
const bad = [];
const texts = "h1,h2,h3,p,li,th,td,b,small,label,span,button,summary,dt,dd,caption,figcaption";
for (const e of document.querySelectorAll(texts)) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.offsetParent || e.closest(".compare,:disabled")) continue;
  const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push(e.tagName + "." + e.className + " " + e.textContent.slice(0, 20) + " " + ratio.toFixed(2));
}
return bad;
"""


@pytest.mark.slow
def test_a_thousand_images_stay_responsive(browser, tmp_path):
    path, gains = make_report(tmp_path, 1000, inline_bytes=0)
    start = time.monotonic()
    visit(browser, path)
    assert time.monotonic() - start < 5
    timed = """
      const s = document.getElementById('sort'); const t = performance.now();
      s.value = arguments[0]; s.dispatchEvent(new Event('input')); return performance.now() - t;
    """
    assert max(browser.execute_script(timed, how) for how in ("loss", "name", "change", "gain")) < 200
    wait(browser, "return document.querySelectorAll('.card').length === 24")
    browser.execute_script("document.getElementById('next').click()")
    wait(browser, "return document.getElementById('page').textContent.startsWith('Page 2 of 42')")
    order = np.argsort(-gains)[24:48]
    wait(browser, f"return document.querySelector('.card .name').textContent === '{order[0]:04d}.png'")
    quiet(browser, tmp_path)


def test_data_beside_the_page_loads_from_disk(browser, tmp_path):
    path, _ = make_report(tmp_path, 230, inline_bytes=0)
    visit(browser, path)
    choose(browser, "sort", "order")
    for _ in range(9):
        browser.execute_script("document.getElementById('next').click()")
        time.sleep(0.05)
    wait(browser, "return [...document.querySelectorAll('.card .name')].some(n => n.textContent === '0229.png')")
    wait(browser, "return [...document.querySelectorAll('.card img.before')].some(i => i.naturalWidth === 48)")
    quiet(browser, tmp_path)


def test_a_refinement_run_in_units_of_noise(browser, tmp_path):
    """Sorted by the largest gain on any judge; nothing within the noise has a chip; an accepted loss is not red."""
    noise = {"p": 0.5, "judge.quality": 0.1, "judge.alignment": 0.05}

    def image(name, quality, alignment, kept="repainted"):
        scores = {"p": (0.2, 0.9), "judge.quality": (0.5, 0.5 + quality), "judge.alignment": (0.5, 0.5 + alignment)}
        picture = Image.new("RGB", (24, 24), (len(name) * 20 % 255, 90, 120))
        return ReportImage(name, picture, picture, kept=kept, reason="so", scores=scores, noise=noise)

    images = [
        image("small", 0.2, 0.0),
        image("words", -0.15, 0.4),
        image("good", 0.0, 0.0, "untouched"),
        image("large", 0.45, 0.01),
        image("hopeless", 0.0, 0.0, "beyond"),
    ]
    tally = RefineTally()
    tally.leave_out("failed", EVIL, f"is `odd` {EVIL}")
    page = write_refine_report(tmp_path, images, tally)
    browser.get(page.as_uri())
    cards = browser.find_elements("css selector", ".card")
    chips = {
        card.find_element("css selector", ".name").text: [
            (chip.text, chip.get_attribute("class").removeprefix("badge "))
            for chip in card.find_elements("css selector", ".badge")
        ]
        for card in cards
    }
    assert list(chips) == ["words", "large", "small", "good", "hopeless"]
    assert chips["words"] == [
        ("repainted", "gain"), ("judge.alignment +8.0 × noise", "gain"), ("judge.quality −1.5 × noise", "even")
    ]  # fmt: skip
    assert chips["large"] == [("repainted", "gain"), ("judge.quality +4.5 × noise", "gain")]
    assert chips["good"] == [("nothing to repair", "even")]
    assert chips["hopeless"] == [("beyond repair, needs a new generation", "loss")]
    assert browser.find_element("id", "verdict").text == (
        "6 images: 1 failed, 3 refined, 1 untouched, 1 beyond repair"
    )  # fmt: skip
    assert "`" not in browser.find_element("tag name", "main").text
    assert EVIL in browser.find_element("id", "missing").text
    assert browser.title.startswith("Refinement")
    browser.execute_script("document.querySelector('.open').click()")
    wait(browser, "return document.querySelector('#viewer-text table')")
    table = browser.find_element("css selector", "#viewer-text table").text
    assert "p, of the quality map" in table
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


@pytest.mark.slow
def test_the_page_of_a_large_run_opens_and_samples(browser, tmp_path):
    """Of 20,000 rows over 151 pictures the page shows every fourth, its counts are of all, the table has all."""
    from benchmarks.shards import merge_rows

    merge_rows(20_000, tmp_path, page=True)
    out = tmp_path / "out"
    assert (out / "results.csv").read_bytes().count(b"\n") == 20_001
    assert (out / "report.html").stat().st_size < 2 * 2**20
    visit(browser, out / "report.html")
    text = browser.find_element("tag name", "body").text
    assert "20,000 images: 10,000 refined, 5,000 untouched, 5,000 original kept" in text
    assert "The gallery shows one image of 4; results.csv beside this page lists all 20,000." in text
    assert "5000 images" in browser.find_element("id", "status").text
    assert (out / "report_files").is_dir()
    wait(browser, "return [...document.querySelectorAll('.card img.after')].some((one) => one.naturalWidth > 0)")
    choose(browser, "sort", "gain")
    assert len(names(browser)) == 24
    quiet(browser, out)
