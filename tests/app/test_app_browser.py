"""The window in a real browser: what a person does with a picture ends in the bytes that the command line gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from grefine.resources import bundled
from grefine.types import RepairPlan

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--enable-unsafe-swiftshader",
)  # fmt: skip
PATIENCE = 60
EXAMPLES = bundled("examples") / "images"


@pytest.fixture(scope="module", autouse=True)
def _needs_a_browser():
    missing = [name for name, found in (("chromium", BROWSER), ("chromedriver", DRIVER)) if not found]
    missing += [name for name in ("gradio", "selenium") if find_spec(name) is None]
    if missing:
        reason = f"the window was NOT tested in a browser: {', '.join(missing)} missing (grefine[app] brings gradio)"
        warnings.warn(reason, stacklevel=2)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A window over three of the example pictures, in this process, so that its sittings can be seen."""
    from grefine.app.desk import open_desk
    from grefine.app.serve import serve

    root = tmp_path_factory.mktemp("app")
    (root / "in").mkdir()
    for name in ("01_clean.png", "07_warp.png", "09_colour.png"):
        shutil.copy(EXAMPLES / name, root / "in")
    desk = open_desk(root / "in", "tiny", root / "out", root / "plans", prompts=EXAMPLES / "prompts.csv")
    window = serve(desk, port=0, wait=False)
    yield root, window
    window.close()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, "--window-size=1400,1500", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """What a person does."""

    def __init__(self, driver, window, name="01_clean.png"):
        self.driver, self.window = driver, window
        driver.get(window.local_url)
        self.until(lambda: "Prompt:" in self.text("note"), "the first picture is open")
        self.open(name)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def sittings(self):
        return list(self.window.sittings.open.values())

    def text(self, name):
        return self.driver.execute_script("return document.getElementById(arguments[0])?.textContent || ''", name)

    def until(self, true, what):
        end = time.monotonic() + PATIENCE
        while not (found := true()):
            assert time.monotonic() < end, f"waited in vain until {what}; it says '{self.text('told')}'"
            time.sleep(0.1)
        return found

    def open(self, name):
        self.driver.find_element("xpath", f"//*[@id='listed']//label[contains(., '{name}')]").click()
        self.until(lambda: any(one.reading and one.reading.item.name == name for one in self.sittings()), name)
        time.sleep(1)  # the editor draws its picture

    def paint(self, right, down, along):
        """Draw a stroke from a place of the editor's picture, given as shares of its canvas from the middle."""
        from selenium.webdriver.common.action_chains import ActionChains

        canvas = self.one("#editor canvas")
        x, y = round(right * canvas.size["width"]), round(down * canvas.size["height"])
        mouse = ActionChains(self.driver).move_to_element_with_offset(canvas, x, y).click_and_hold()
        for _ in range(4):
            mouse = mouse.move_by_offset(along // 4, 0)
        mouse.release().perform()
        time.sleep(2)  # the stroke is sent

    def press(self, name):
        button = self.one(f"#{name}")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def faults(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def hosts(self):
        told = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        sent = [event["params"]["request"]["url"] for event in told if event["method"] == "Network.requestWillBeSent"]
        return {url.split("/")[2] for url in sent if url.startswith(("http", "ws"))}


def test_strike_out_paint_run_slide_save_and_the_command_line_gives_the_same_bytes(opened, browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    root, window = opened
    page = Page(browser, window, "09_colour.png")
    page.one("#regions [data-testid='cell-0-1'] input").click()
    time.sleep(1)
    page.paint(-0.2, -0.15, 60)
    page.press("run")
    page.until(lambda: any(word in page.text("told") for word in ("Refined", "Original kept")), "the run is done")
    assert "moe_agiqa.quality" in page.text("numbers")

    handle = page.one("#slider .icon-wrap")
    before = handle.location["x"]
    ActionChains(browser).drag_and_drop_by_offset(handle, -80, 0).perform()
    assert handle.location["x"] < before - 40

    if folder := os.environ.get("APP_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / "app.png"))
    page.press("keep")
    page.until(lambda: "Saved" in page.text("saved"), "it is saved")
    assert "09_colour.png: saved" in page.text("listed")

    plan = RepairPlan.load(root / "plans" / "09_colour.png")
    assert [region.on for region in plan.regions] == [False]
    left, top, right, bottom = plan.regions[0].box
    painted = plan.mask.copy()
    painted[top:bottom, left:right] &= ~plan.regions[0].mask
    assert 10 < painted.sum() < 1000

    command = [sys.executable, "-m", "grefine", "refine", root / "in" / "09_colour.png", "-o", tmp_path / "cli"]
    command += ["--plans", root / "plans", "--pipeline", "tiny", "--prompts", EXAMPLES / "prompts.csv", "--no-report"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    ours, theirs = (root / "out" / "09_colour.png").read_bytes(), (tmp_path / "cli" / "09_colour.png").read_bytes()
    assert ours == theirs
    assert ours != (root / "in" / "09_colour.png").read_bytes()
    assert page.faults() == []
    assert page.hosts() == {window.local_url.split("/")[2]}


class Slow:
    """A pipeline that takes its time for every step."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def __call__(self, callback_on_step_end=None, **given):
        def step(*told):
            time.sleep(1.5)
            return callback_on_step_end(*told)

        return self.pipe(**given, callback_on_step_end=step if callback_on_step_end else None)


def test_stop_stops_and_a_closed_tab_stops_its_run(opened, browser, tmp_path):
    from grefine.app.desk import open_desk
    from grefine.app.serve import serve
    from grefine.refine.turns import turn_of

    pipe = opened[1].sittings.desk.pipe
    desk = open_desk(opened[0] / "in", Slow(pipe), tmp_path / "out", tmp_path / "plans")
    window = serve(desk, port=0, wait=False)
    try:
        page = Page(browser, window, "07_warp.png")
        (sitting,) = window.sittings.open.values()
        page.press("run")
        page.until(lambda: "steps" in page.text("slider"), "steps are counted")
        page.press("stop")
        page.until(lambda: "Stopped" in page.text("told"), "it has stopped")
        page.press("run")
        page.until(lambda: "steps" in page.text("slider"), "steps are counted again")
        browser.switch_to.new_window("tab")
        browser.switch_to.window(browser.window_handles[0])
        browser.close()
        browser.switch_to.window(browser.window_handles[0])
        end = time.monotonic() + PATIENCE
        while not sitting.stop.is_set():
            assert time.monotonic() < end, "nobody noticed that the tab is closed"
            time.sleep(0.1)
        assert turn_of(pipe).acquire(timeout=PATIENCE), "the run goes on"
        turn_of(pipe).release()
        assert sitting.outcome is None
        assert not window.sittings.open
    finally:
        window.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1400, "light"),
        (390, "dark"),
        pytest.param(1400, "dark", marks=pytest.mark.slow),
        pytest.param(390, "light", marks=pytest.mark.slow),
    ],
)
def test_desktop_and_phone_light_and_dark(opened, browser, width, scheme):
    """Nothing is wider than the screen, the colours follow the machine; APP_SCREENSHOTS=DIR keeps what is seen."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page = Page(browser, opened[1], "09_colour.png")
    page.press("run")
    page.until(lambda: any(word in page.text("told") for word in ("Refined", "Original kept")), "the run is done")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shade = browser.execute_script(
        "return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    )
    assert (max(shade[:3]) < 80) is (scheme == "dark")
    assert page.faults() == []
    if folder := os.environ.get("APP_SCREENSHOTS"):
        height = browser.execute_script("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen | {"height": height})
        time.sleep(2)
        browser.save_screenshot(str(Path(folder) / f"app-{width}-{scheme}.png"))


def test_by_keyboard(opened, browser):
    """From picture to picture, switch a region off, run and keep, without a mouse."""
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, opened[1], "01_clean.png")

    def press(*keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(browser).send_keys(*keys).perform()

    def focused():
        return browser.execute_script("return document.activeElement.closest('[id]')?.id || ''")

    def tab_to(name):
        for _ in range(60):
            if browser.execute_script(
                "return document.getElementById(arguments[0]).contains(document.activeElement)", name
            ):
                return
            press(Keys.TAB)
        raise AssertionError(f"'{name}' is not reached by Tab; the focus is at '{focused()}'")

    tab_to("listed")
    press(Keys.TAB, Keys.SPACE)
    page.until(lambda: any(one.reading and one.reading.item.name == "07_warp.png" for one in page.sittings()), "next")
    time.sleep(1)
    tab_to("regions")
    (sitting,) = page.sittings()
    press(Keys.ARROW_RIGHT, Keys.SPACE)
    page.until(lambda: not any(region.on for region in sitting.plan.regions), "the region is off")
    tab_to("run")
    press(Keys.ENTER)
    page.until(lambda: sitting.outcome is not None, "it has run")
    page.until(lambda: "Nothing changed" in page.text("told"), "it is told")
    tab_to("keep")
    press(Keys.ENTER)
    page.until(lambda: "Saved" in page.text("saved"), "it is saved")
