"""The study page in a real browser: keyboard, zoom, two subjects at once, a server that is killed mid-session."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from study_fixtures import make_study

from grefine.ranking.study import export_votes, load_study, read_ballots
from grefine.ranking.votes import read_votes

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,760",
)
PATIENCE = 30


@pytest.fixture(scope="module", autouse=True)
def _needs_a_browser():
    missing = [name for name, found in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if not found]
    with contextlib.suppress(ImportError):
        import selenium  # noqa: F401

        if not missing:
            return
    reason = (
        f"the study page was NOT tested in a browser: {' and '.join(missing) or 'the package selenium'} is missing"
    )
    warnings.warn(reason, stacklevel=2)
    pytest.skip(reason)


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    opened = []

    def start(name):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={tmp_path / name}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        opened.append(driver)
        return Page(driver)

    yield start
    for driver in opened:
        driver.quit()


class Page:
    """What a subject does, by keyboard."""

    def __init__(self, driver):
        self.driver = driver

    def state(self):
        return self.driver.execute_script("return document.body.dataset.state")

    def wait(self, *states):
        end = time.monotonic() + PATIENCE
        while self.state() not in states:
            assert time.monotonic() < end, f"still {self.state()}, not {states}"
            time.sleep(0.02)
        return self.state()

    def press(self, key):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def begin(self, link, subject):
        self.driver.get(link)
        self.wait("welcome")
        self.press(subject + "\ue007")
        self.wait("shown")

    def text(self, selector):
        return self.driver.execute_script("return document.querySelector(arguments[0]).textContent", selector)

    def sources(self):
        return self.driver.execute_script("return [...document.querySelectorAll('#panes img')].map(i => i.src)")

    def transforms(self):
        return self.driver.execute_script(
            "return [...document.querySelectorAll('#panes img')].map(i => i.style.transform)"
        )

    def choose(self, side="left"):
        """Vote by an arrow key and wait until the next pair, or the end, is on the screen."""
        before = self.text("#count"), self.state()
        self.press({"left": "\ue012", "right": "\ue014"}[side])
        end = time.monotonic() + PATIENCE
        while self.state() not in ("shown", "finished") or (self.text("#count"), self.state()) == before:
            assert time.monotonic() < end
            time.sleep(0.02)
        return self.state()


class Served:
    """`grefine rank study` as a process that can be killed."""

    def __init__(self, folder, port):
        self.command = [sys.executable, "-m", "grefine", "rank", "study", str(folder), "--port", str(port)]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.link = self.process.stdout.readline().strip()
        assert self.link.startswith("http://127.0.0.1:"), self.link

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def served(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = make_study(tmp_path)
    server = Served(folder, port)
    yield folder, server
    if server.process.poll() is None:
        server.kill()


@pytest.mark.slow
def test_a_whole_session_by_keyboard(browser, served, tmp_path):
    folder, server = served
    page = browser("one")
    page.begin(server.link, "ann")
    assert "Exercise" in page.text("#question")
    assert page.text("#count") == "1 of 8"

    whole = page.transforms()
    page.press("++")
    assert page.driver.execute_script("return document.body.dataset.zoom") == "2.250"
    zoomed = page.transforms()
    assert zoomed[0] == zoomed[1] != whole[0], "both pictures are enlarged together"
    page.press("d")
    assert page.transforms()[0] == page.transforms()[1] != zoomed[0], "and moved together"
    page.press("0")
    assert page.transforms() == whole

    if "STUDY_SCREENSHOT" in os.environ:
        page.driver.save_screenshot(str(Path(os.environ["STUDY_SCREENSHOT"]) / "training.png"))
    page.choose("left")
    assert "damaged on purpose" in page.text("#note")
    if "STUDY_SCREENSHOT" in os.environ:
        page.press("++")
        page.driver.save_screenshot(str(Path(os.environ["STUDY_SCREENSHOT"]) / "trial.png"))
    count = 1
    while page.choose("right" if count % 2 else "left") != "finished":
        count += 1
    assert count + 1 == 8
    assert page.text("#total") == "8"

    sides = [b.side for b in read_ballots(folder, load_study(folder))]
    assert sides == ["left", *(["right", "left"] * 4)[:7]]
    export_votes(folder, tmp_path / "votes.csv")
    assert read_votes(tmp_path / "votes.csv").total == 6

    import json

    asked = [
        entry["params"]["request"]["url"]
        for entry in (json.loads(e["message"])["message"] for e in page.driver.get_log("performance"))
        if entry["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert all(
        url.startswith((f"http://127.0.0.1:{server.link.split(':')[2][:5]}", "data:", "chrome")) for url in asked
    )
    errors = [e for e in page.driver.get_log("browser") if e["level"] == "SEVERE" and "favicon" not in e["message"]]
    assert not errors


@pytest.mark.slow
def test_a_held_key_chooses_once(browser, served):
    folder, server = served
    page = browser("one")
    page.begin(server.link, "ann")
    page.driver.execute_script(
        "for (let i = 0; i < 20; i++) document.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowLeft', repeat: i > 0, bubbles: true}))"
    )
    page.wait("waiting", "shown")
    time.sleep(0.5)
    assert len(read_ballots(folder, load_study(folder))) == 1


@pytest.mark.slow
def test_two_subjects_and_a_server_that_is_killed(browser, served):
    folder, server = served
    ann, bob = browser("ann"), browser("bob")
    ann.begin(server.link, "ann")
    bob.begin(server.link, "bob")
    ann.choose("left")
    bob.choose("right")
    ann.choose("left")

    server.kill()
    waiting = ann.text("#count")
    ann.press("\ue012")
    ann.press("\ue012")
    ann.wait("waiting")
    deadline = time.monotonic() + PATIENCE
    while "Your choice is kept" not in ann.text("#trouble-text"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if "STUDY_SCREENSHOT" in os.environ:
        ann.driver.save_screenshot(str(Path(os.environ["STUDY_SCREENSHOT"]) / "offline.png"))
    link = server.link
    server.start()
    assert server.link == link

    ann.wait("shown")
    assert ann.text("#count") != waiting, "the kept choice was sent"
    bob.driver.get(link)
    bob.wait("shown")
    assert bob.text("#count") == "2 of 8", "the reloaded page goes on where its subject was"
    while ann.choose("left") != "finished":
        pass
    while bob.choose("left") != "finished":
        pass

    # The same name from another browser has nothing left to vote on.
    again = browser("again")
    again.driver.get(link)
    again.wait("welcome")
    again.press("ann\ue007")
    assert again.wait("finished") == "finished"

    ballots = read_ballots(folder, load_study(folder))
    assert len(ballots) == len({(b.subject, b.trial) for b in ballots}) == 16
    assert {b.side for b in ballots if b.subject == "ann"} == {"left"}
    assert [b.side for b in ballots if b.subject == "bob"].count("right") == 1
