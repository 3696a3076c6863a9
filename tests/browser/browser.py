"""A real Chromium, driven over its debugging pipe with Python's standard library alone.

    with Browser() as browser:
        page = browser.page()
        page.go("http://127.0.0.1:8000/ui/")
        page.wait("document.querySelector('h1')")
        page.click("button", "Create")
"""

import base64
import collections
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def chromium():
    """The browser that $CHROMIUM names; None: there is none."""
    return shutil.which(os.environ.get("CHROMIUM") or "no browser")


# No window, no GPU, and nothing that asks anybody else for anything. As root its sandbox does not work.
OPTIONS = """--headless=new --disable-gpu --no-first-run --no-default-browser-check --disable-background-networking --disable-component-update
    --disable-sync --disable-extensions --disable-dev-shm-usage --disable-features=Translate,OptimizationHints,MediaRouter --mute-audio --hide-scrollbars
    --force-color-profile=srgb --lang=en-GB --remote-debugging-pipe""".split()


class Browser:
    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="onelip-browser-")
        theirs_in, self.out = os.pipe()
        self.input, theirs_out = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]
        for fd in (theirs_in, theirs_out):
            os.close(fd)

        def adopt():  # it reads 3 and writes 4
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.log = open(os.path.join(self.folder, "log"), "wb")
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen([chromium(), *OPTIONS, *root, f"--user-data-dir={self.folder}/profile", "about:blank"], close_fds=False,
                                        preexec_fn=adopt, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        for fd in high:
            os.close(fd)
        self.text, self.number, self.answers = b"", 0, {}
        self.pages = {}
        return self

    def __exit__(self, *exception):
        try:
            self.call("Browser.close")
        except (OSError, RuntimeError):
            pass
        os.close(self.out)
        os.close(self.input)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, seconds):
        """One message: an answer is kept, an event goes to its page. False: none came in time."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self.text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.input], [], [], left)[0]:
                return False
            piece = os.read(self.input, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended: " + open(self.log.name, errors="replace").read()[-2000:])
            self.text += piece
        message, self.text = self.text.split(b"\0", 1)
        message = json.loads(message)
        if "id" in message:
            self.answers[message["id"]] = message
        elif message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].event(message["method"], message["params"])
        return True

    def call(self, method, session=None, seconds=60, **params):
        self.number += 1
        number, deadline = self.number, time.monotonic() + seconds
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while number not in self.answers:
            if not self.read(deadline - time.monotonic()):
                raise RuntimeError(f"no answer to {method}")
        answer = self.answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        self.pages[page.session] = page
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=FINDER)
        page.size(1280, 900)
        return page


# In every page: the visible element of a selector whose name or text is, or begins with, the words.
FINDER = """
window.testFind = (selector, words) => {
    const said = e => (e.getAttribute("aria-label") ?? (e.labels?.length ? e.labels[0].textContent : e.textContent)).trim().replace(/\\s+/g, " ");
    const all = [...document.querySelectorAll(selector)].filter(e => e.checkVisibility());
    return words === null ? all[0] : all.find(e => said(e) === words) ?? all.find(e => said(e).startsWith(words));
};
window.testChoose = (selector, words, value) => {
    const e = testFind(selector, words);
    e.value = value;
    e.dispatchEvent(new Event('change', { bubbles: true }));
};
window.testPlace = async (selector, words) => {
    const e = testFind(selector, words), box = () => { const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2, b.width, b.height]; };
    if (!e || e.disabled)
        return null;
    e.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
    const before = box();
    await new Promise(done => setTimeout(done, 40));
    const now = box(), above = document.elementFromPoint(now[0], now[1]);
    return e.isConnected && above && (e.contains(above) || e.labels && [...e.labels].some(l => l.contains(above))) && before.every((v, i) => v === now[i]) ? now : null;
};
"""

KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), "ArrowRight": (39, ""), "ArrowLeft": (37, ""), "Home": (36, ""), "End": (35, ""), " ": (32, " ")}


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.faults = []    # what scripts threw, what the console and the browser complained of
        self.requests = []  # every address that was asked for
        self.streams = collections.Counter()

    def event(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.faults.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append((params["request"]["method"], params["request"]["url"]))

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def size(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def media(self, **features):
        self.call("Emulation.setEmulatedMedia", features=[{"name": name.replace("_", "-"), "value": value} for name, value in features.items()])

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def js(self, expression):
        """The value of an expression, of its promise if it is one."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    def wait(self, expression, seconds=60):
        """Until it is true; its value. None: it never was."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if value := self.js(expression):
                    return value
            except RuntimeError:
                pass  # between two documents
            self.browser.read(0.03)
        return None

    def place(self, selector, words=None, seconds=20):
        """The middle of an element, scrolled into view, once it stands still and nothing lies over it."""
        found = self.wait(f"testPlace({json.dumps(selector)}, {json.dumps(words)})", seconds)
        if not found:
            raise RuntimeError(f"there is no {selector} {words!r} to be seen in:\n{self.js('document.body.innerText')[:1500]}")
        return found

    def mouse(self, kind, x, y, buttons=0):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left" if buttons or kind == "mouseReleased" else "none", buttons=buttons, clickCount=1)

    def click(self, selector, words=None, seconds=20):
        x, y, *_ = self.place(selector, words, seconds)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, 1)
        self.mouse("mouseReleased", x, y)

    def drag(self, points):
        self.mouse("mouseMoved", *points[0])
        self.mouse("mousePressed", *points[0], 1)
        for point in points[1:]:
            self.mouse("mouseMoved", *point, 1)
        self.mouse("mouseReleased", *points[-1])

    def key(self, name):
        code, text = KEYS[name]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **({"text": text} if text and kind == "keyDown" else {}))

    def write(self, selector, words, text):
        """What a control holds, typed anew."""
        self.click(selector, words)
        self.js("document.activeElement.select?.()")
        self.call("Input.insertText", text=text)

    def choose(self, selector, words, value):
        self.place(selector, words)
        self.js(f"testChoose({json.dumps(selector)}, {json.dumps(words)}, {json.dumps(value)})")

    def files(self, selector, words, *paths):
        found = self.call("Runtime.evaluate", expression=f"testFind({json.dumps(selector)}, {json.dumps(words)})")["result"]
        self.call("DOM.setFileInputFiles", files=[str(p) for p in paths], objectId=found["objectId"])

    def drop(self, selector, words, *paths):
        """Files dragged onto an element from outside."""
        x, y, *_ = self.place(selector, words)
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data={"items": [], "files": [str(p) for p in paths], "dragOperationsMask": 1})

    def picture(self, path, whole=True):
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}, "captureBeyondViewport": True}
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png", **clip)["data"]))
