"""The site of the documentation, as a browser shows it. `make docs-look` brings what it needs.

LOCKFILE_SCREENSHOTS names a directory for a picture of every page, wide and narrow, light and dark.
"""

import base64
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

MISSING = "not here: `make docs-look` brings it"
for program in ("dot", "chromium", "chromedriver"):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is {MISSING}", allow_module_level=True)
for module in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(module, reason=f"{module} is {MISSING}")
webdriver = pytest.importorskip("selenium.webdriver", reason=f"selenium is {MISSING}")
waiting = pytest.importorskip("selenium.webdriver.support.ui", reason=f"selenium is {MISSING}")

DOCS = Path(__file__).resolve().parents[2] / "docs"
WINDOWS = {"wide": (1400, 1000), "narrow": (400, 800)}
SCREENSHOTS = os.environ.get("LOCKFILE_SCREENSHOTS")


@pytest.fixture(autouse=True)
def nothing_is_left():
    """The browser's driver and the server keep connections, which are open from test to test."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `make docs` makes, in a directory of its own."""
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "-b", "html", DOCS, directory]
    subprocess.run(command, check=True)
    return directory


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def pages(site):
    found = sorted(str(page.relative_to(site)) for page in site.rglob("*.html"))
    return [page for page in found if not page.startswith("_")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{option}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as driver:
        yield driver


def show(browser, window, scheme):
    """As on a screen of that size, whose owner wants light or dark pages."""
    width, height = WINDOWS[window]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def complaints(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def keep_screenshots(browser, page):
    for scheme in ("light", "dark"):
        for window in WINDOWS:
            show(browser, window, scheme)
            height = browser.execute_script("return document.documentElement.scrollHeight")
            width = WINDOWS[window][0]
            clip = {"x": 0, "y": 0, "width": width, "height": min(height, 6000), "scale": 1}
            name = page.replace("/", "-").replace(".html", f"-{window}-{scheme}.png")
            told = {"clip": clip, "captureBeyondViewport": True}
            save(browser.execute_cdp_cmd("Page.captureScreenshot", told)["data"], name)


def save(data, name):
    directory = Path(SCREENSHOTS)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(base64.b64decode(data))


# What sticks out of the window, and is not in a box of its own that can be moved.
CUT_OFF = """
const inside = document.documentElement.clientWidth + 1;
const isBox = one => getComputedStyle(one).overflowX === "auto";
const moves = one => one.tagName !== "ARTICLE" && (isBox(one) || moves(one.parentElement));
return [...document.querySelectorAll("article, article *")]
    .filter(one => one.getBoundingClientRect().right > inside && !moves(one))
    .map(one => one.outerHTML.slice(0, 60))
"""
# Drawings are objects; a picture that is not there has no size.
PICTURES = "article img, article object"
UNSEEN = """
return [...document.querySelectorAll(arguments[0])]
    .filter(one => one.getBoundingClientRect().height < 20
        || (one.tagName === "IMG" ? one.naturalWidth === 0 : one.contentDocument === null))
    .map(one => one.src || one.data)
"""


def test_every_page_is_shown_whole_and_without_an_error(browser, address, pages):
    show(browser, "narrow", "light")
    wrong = []
    for page in pages:
        browser.get(f"{address}/{page}")
        wrong += [f"{page}: {message}" for message in complaints(browser)]
        wrong += [f"{page}: {picture}" for picture in browser.execute_script(UNSEEN, PICTURES)]
        wrong += [f"{page}: {cut} is cut off" for cut in browser.execute_script(CUT_OFF)[:3]]
        if SCREENSHOTS:
            keep_screenshots(browser, page)
            show(browser, "narrow", "light")
    assert len(pages) > 30
    assert not wrong


@pytest.mark.parametrize(
    ("words", "page"),
    [("SQLiteFileLock", "reference"), ("cron", "howto/cron"), ("break_lock", "reference")],
)
def test_search_finds(browser, address, words, page):
    show(browser, "wide", "light")
    browser.get(f"{address}/search.html?q={words}")
    wanted = f"{address}/{page}.html"
    waiting.WebDriverWait(browser, 60).until(
        lambda browser: any(link.startswith(wanted) for link in links(browser))
    )
    assert not complaints(browser)


def links(browser):
    """By one question to the browser: what it shows may be replaced meanwhile."""
    script = "return [...document.querySelectorAll('ul.search li a')].map(link => link.href)"
    return browser.execute_script(script)
