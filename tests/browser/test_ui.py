"""The dashboard as people use it, in a real Chromium: every page, every action, the keyboard, the screen's sizes, keys, a connection
that breaks. Skipped unless $CHROMIUM names a Chromium; $AXE names axe-core's file, for its rules of accessibility, too."""

import hashlib
import json
import os
import pathlib
import socket
import struct
import sys
import threading
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "http"))
from browser import Browser, chromium
from daemon import MLP, SOURCE, TRAINING, Daemon, run, tensor

AXE = pathlib.Path(os.environ["AXE"]).read_text() if os.environ.get("AXE") else None
WEB = str(pathlib.Path(SOURCE, "server/web").resolve())
CNN = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 8, 8, 1], "name": "image"}},
    {"class_name": "SpectralConv2D", "config": {"filters": 4, "kernel_size": [3, 3], "name": "conv"}},
    {"class_name": "GroupSort2", "config": {"name": "sort"}},
    {"class_name": "Flatten", "config": {"name": "flat"}},
    {"class_name": "FrobeniusDense", "config": {"units": 3, "name": "class"}}]}}
PIXEL = 0.00392156862745098
SETTLED = "document.querySelector('main h1') && !document.querySelector('main').hasAttribute('aria-busy')"


def csv(n=90):
    return "a,b,c,d,label\n" + "".join(f"{(7 * i % 11 - 5) / 5},{(7 * i + 3) % 11 / 5 - 1},{(7 * i + 6) % 11 / 5 - 1},{(7 * i + 9) % 11 / 5 - 1},{i % 3}\n" for i in range(n))


def npy(kind, shape, data):
    head = repr({"descr": kind, "fortran_order": False, "shape": tuple(shape)}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def pictures(n=30):
    """A bright bar in the row that its class says, and a little of everything."""
    return bytes(min(255, 230 * (r // 3 == i % 3) + 5 * ((i + r * c) % 5)) for i in range(n) for r in range(8) for c in range(8)), bytes(i % 3 for i in range(n))


def png(width, height, color):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(color) * width for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def stage(d):
    d.create("mlp", MLP, TRAINING)
    d.create("cnn", CNN, TRAINING)
    d.put("/v2/datasets/toy?label=label", csv(), Content_Type="text/csv")
    x, y = pictures()
    d.put(f"/v2/datasets/bars/x?scale={PIXEL}", npy("|u1", (30, 8, 8), x))
    d.put("/v2/datasets/bars/y_true", npy("|u1", (30,), y))


class Cable:
    """A way to the daemon that can be cut."""

    def __init__(self, to):
        self.to, self.ends, self.heads, self.whole = to, set(), [], True

    def __enter__(self):
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.cut()
        self.door.close()

    def serve(self):
        while True:
            try:
                near, _ = self.door.accept()
            except OSError:
                return
            if not self.whole:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.to))
            self.ends |= {near, far}
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(a, b, a is near), daemon=True).start()

    def carry(self, a, b, asks):
        try:
            while data := a.recv(65536):
                if asks:
                    self.heads.append(data.lower())
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def asked(self, words):
        return any(words in head for head in self.heads)

    def cut(self):
        self.whole = False
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
        self.ends = set()

    def mend(self):
        self.whole = True


class Dashboard:
    def __init__(self, page, d, check):
        self.page, self.d, self.check, self.at = page, d, check, f"http://{d.host}:{d.port}{d.prefix}/ui/"

    def go(self, where):
        """To a page of the dashboard: by its address, else, from another page of it, as a link does."""
        here = self.page.js("location.href")
        if here.startswith(self.at) and here != self.at + where:
            self.page.js(f"new Promise(done => {{ addEventListener('hashchange', () => done(), {{ once: true }}); location.hash = {json.dumps(where)}; }})")
        else:
            self.page.go("about:blank")
            self.page.go(self.at + where)
        self.page.wait(SETTLED)

    def text(self, selector="main"):
        return self.page.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def sees(self, name, words, selector="main", seconds=30):
        words = [words] if isinstance(words, str) else words
        find = " && ".join(f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(w)})" for w in words)
        self.check(name, self.page.wait(find, seconds), f"wanted {words} in:\n{self.text(selector)[:3000]}")

    def quiet(self, name, allowed=(), at=None):
        """No script threw, the browser complained of nothing that was not meant to happen, nobody else was asked."""
        faults = [f for f in self.page.faults if not any(a in f for a in allowed)]
        others = [u for _, u in self.page.requests if not u.startswith((at or self.at[:-3], "blob:", "about:", "data:"))]
        self.check(f"{name}: no complaint", not faults, faults)
        self.check(f"{name}: nothing from elsewhere", not others, others)
        self.page.faults.clear()
        self.page.requests.clear()


def models(check, ui):
    page, d = ui.page, ui.d
    page.go(f"http://{d.host}:{d.port}/")
    page.wait(SETTLED)
    check("/ is the dashboard", page.js("location.pathname + document.title") == "/ui/Models · onelip", page.js("location.href + document.title"))
    upper = d.get("/v2/models/mlp/lipschitz?method=product").json["network"]["upper"]
    shown = page.wait("[...document.querySelectorAll('tbody tr')].find(r => r.cells[0].innerText === 'mlp')?.cells[8].innerText.replace('…', '')")
    check("a model's row has its proven constant, rounded up", shown and float(upper) <= float(shown) <= float(upper) * 1.00001, (shown, upper))
    ui.sees("and its state and revision", ["cnn", "ready", "n×8×8×1 → n×3", "holds"])
    page.click("summary", "New model")
    page.write("input", "Name", "fresh")
    page.click("button", "Create")
    page.wait("location.hash === '#/models/fresh'")
    ui.sees("a model is made from its definition, and looked at", ["fresh", "Lipschitz report", "Claimed"])
    check("it is there", d.get("/v2/models/fresh").status == 200)
    ui.go("#/models")
    page.click("summary", "New model")
    page.write("input", "Name", "mlp")
    page.click("button", "Create")
    ui.sees("one that is there is not replaced unasked", "Replace mlp?", "dialog")
    page.click("dialog button", "Cancel")
    check("nor when that was not meant", page.wait("!document.querySelector('dialog')") and d.get("/v2/models/mlp").json["state_revision"] == 2)
    page.write("input", "Name", "wrong")
    page.js("testFind('textarea', 'Definition').value = '{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"Nothing\"}]}}'")
    page.click("button", "Create")
    remedy = d.get("/v2/problems/unknown_layer_class").json["remedy"]
    ui.sees("a failure has title, detail, place and remedy",
            ["not known", "Nothing", "/config/layers/0", "422 unknown_layer_class", remedy[:40]], ".problem")
    ui.go("#/models/nobody")
    ui.sees("a model that is not there", "There is no such model", ".problem")
    ui.quiet("models", ["422", "404"])


def report(check, ui):
    page, d = ui.page, ui.d
    ui.go("#/models/cnn")
    truth = d.get("/v2/models/cnn/lipschitz?method=product").json
    ui.sees("the report says in words what is proven", "Its output moves at most")
    rows = page.js("[...document.querySelectorAll('table[class=dense] tbody tr')].map(r => [...r.cells].map(c => c.innerText))")
    check("a row for each layer", [r[0] for r in rows] == [l["name"] for l in truth["layers"]], rows)
    check("upper is rounded up, lower down", all(float(r[3]) <= l["lower"] <= l["upper"] <= float(r[4]) for r, l in zip(rows, truth["layers"])), rows)
    words = {True: "holds", False: "exceeded", None: "not"}
    check("what the claim is worth is a word", [r[6].split()[0] for r in rows] == [words[l["sound_claim"]] for l in truth["layers"]], rows)
    page.click("button", "All spectra")
    check("two spectra are drawn", page.wait("document.querySelectorAll('.chart .line path').length === 2"))
    spectrum = d.get("/v2/models/cnn/layers/conv/singular_values").json["largest"]
    page.click(".chart details summary")
    seen = page.wait("[...document.querySelectorAll('.chart .data tbody tr')].slice(0, 200).map(r => r.cells[1].innerText)")
    check("a drawing's numbers are a table, too", seen and abs(float(seen[0]) - spectrum[0]) < 1e-6 and len(seen) == len(spectrum), (seen, spectrum[:3]))
    page.js("document.querySelector('.chart svg').focus()")
    page.key("Home")
    page.key("ArrowRight")
    ui.sees("and are read with arrow keys", ["index 2:", "σ"], ".readout")
    page.click("summary", "How it is proven")
    page.click("input", "Bounds of each pair")
    page.click("button", "Prove")
    check("pairs of classes", page.wait("document.querySelectorAll('table.pairs tbody tr').length === 3"))
    ui.quiet("report")


def certify(check, ui):
    page, d = ui.page, ui.d
    ui.go("#/models/cnn/certify")
    page.write("input", "Rows", "12")
    page.click("input", "Attack")
    page.click("button", "Certify these rows")
    page.wait("document.querySelectorAll('.tall tbody tr').length === 12")
    x, y = pictures()
    body = {"inputs": [tensor("image", [12, 8, 8, 1], [v * PIXEL for v in x[:12 * 64]]), tensor("y_true", [12], list(y[:12]), "INT64")],
            "epsilons": [0.1, 0.25, 0.5, 1]}
    truth = d.post("/v2/models/cnn/certify", body).json
    radii = {o["name"]: o["data"] for o in truth["outputs"]}["radius"]
    shown = page.js("[...document.querySelectorAll('.tall tbody tr')].map(r => Number(r.cells[5].innerText))")
    check("each radius is the server's, rounded down", all(s <= r and r - s <= 2e-4 * r + 1e-9 for s, r in zip(shown, radii)), (shown, radii))
    table = page.js("[...document.querySelectorAll('.charts tbody tr')].map(r => r.cells[1].innerText)")
    check("provable accuracy at each ε", table == [f"{100 * a:.2f} %" for a in truth["certificate"]["provable_accuracy"]], (table, truth["certificate"]))
    check("its curve is drawn, beside deel-lip's points", page.wait("document.querySelector('.line.s0 path') && document.querySelectorAll('.line.s1 circle').length === 4"))
    page.click("button", "The whole dataset")
    ui.sees("the whole dataset as a job", ["Certify cnn", "succeeded", "Mean radius", "Download the result"])
    ui.quiet("certify")


def infer(check, ui, folder):
    page, d = ui.page, ui.d
    ui.go("#/models/cnn/infer")
    x, y, width, height = page.place("canvas")
    page.drag([(x - width / 3, y - height / 3), (x, y - height / 3), (x + width / 3, y - height / 3)])
    check("what is drawn is answered", page.wait("document.querySelectorAll('.bars svg').length === 3"))
    ui.sees("and how far the answer provably stays", "Provably stays within")
    page.choose("select", "Dataset", "bars")
    page.click("button", "Take it")
    ui.sees("a row has its truth beside the answer", "true: 0")
    x, _ = pictures()
    bars = "[...document.querySelectorAll('.bars .n')].map(e => Number(e.innerText.replace('−', '-')))"

    def answer(pixels):
        """What the server says of it, and whether the bars come to show that, to the four digits or more that they show."""
        body = {"inputs": [tensor("image", [1, 8, 8, 1], pixels)]}
        truth = d.post("/v2/models/cnn/infer", body).json["outputs"][0]["data"]
        return page.wait(f"(v => v.length === 3 && {json.dumps(truth)}.every((t, i) => Math.abs(t - v[i]) < 1e-3))({bars})"), (page.js(bars), truth)

    check("the outputs are the server's", *answer([v * PIXEL for v in x[:64]]))
    picture = pathlib.Path(folder, "white.png")
    picture.write_bytes(png(20, 20, (255, 255, 255)))
    page.files("input", "Picture", picture)
    check("a picture of a file is scaled to the model's", *answer([1] * 64))
    page.click("button", "Clear")
    page.wait(f"({bars})[0] !== undefined")
    black = answer([0] * 64)
    page.drop("canvas", None, picture)
    check("and so is one that is dropped", black[0] and answer([1] * 64)[0], black)
    picture = pathlib.Path(folder, "none.png")
    picture.write_bytes(b"no picture")
    page.files("input", "Picture", picture)
    ui.sees("what is no picture is told", "No picture", ".problem")
    ui.go("#/models/mlp/infer")
    page.js("testFind('textarea', 'x: 4').value = '1, 2 3;4'")
    page.click("button", "Infer")
    ui.sees("numbers are answered", "Class ")
    page.js("testFind('textarea', 'x: 4').value = '1 2 3'")
    page.click("button", "Infer")
    ui.sees("too few are told", "x takes 4 numbers; here are 3", ".problem")
    ui.quiet("infer")


def datasets(check, ui, folder):
    page, d = ui.page, ui.d
    ui.go("#/datasets")
    ui.sees("datasets are listed", ["bars", "toy", "x 8×8 uint8"])
    file = pathlib.Path(folder, "more.csv")
    file.write_text(csv(40))
    page.click("summary", "Add data")
    page.files("input", "File", file)
    page.write("input", "Column of the label", "label")
    page.click("button", "Upload")
    ui.sees("a file is uploaded", ["more", "40"])
    check("and is there", d.get("/v2/datasets/more").json["samples"] == 40)
    page.click("summary", "Add data")
    file = pathlib.Path(folder, "broken.csv")
    file.write_text("a,b\n1\n")
    page.files("input", "File", file)
    page.click("button", "Upload")
    ui.sees("a broken one is told", "422 bad_file", ".problem")
    file = pathlib.Path(folder, "more.npy")
    file.write_bytes(npy("<f4", (40, 2), struct.pack("<80f", *range(80))))
    page.files("input", "File", file)
    page.write("input", "Name", "more")
    page.write("input", "Tensor", "side")
    page.write("input", "Scale", "0.5")
    page.click("button", "Upload")
    ui.sees("one tensor is added to a set", "side 2 fp32")
    check("with its scale", [t.get("scale") for t in d.get("/v2/datasets/more").json["tensors"] if t["name"] == "side"] == [0.5], d.get("/v2/datasets/more").json)
    ui.go("#/datasets/bars")
    ui.sees("its tensors are described", ["UINT8", "30×8×8", "Rows 0 to 29"])
    check("its pictures are shown", page.wait("document.querySelectorAll('.pictures canvas').length === 30"))
    lit = page.js("(c => { const p = c.getContext('2d').getImageData(0, 0, 8, 8).data; return [p[0], p[4 * 8 * 6]]; })(document.querySelector('.pictures canvas'))")
    check("from black to white", lit[0] > 220 and lit[1] < 40, lit)
    ui.go("#/datasets/more")
    page.click("button", "Delete the dataset")
    page.click("dialog button", "Delete")
    page.wait("location.hash === '#/datasets'")
    check("and deleted when that is meant", page.wait("true") and d.get("/v2/datasets/more").status == 404)
    ui.quiet("datasets", ["422"])


def jobs(check, ui):
    page, d = ui.page, ui.d
    ui.go("#/models/fresh/training")
    ui.sees("a model without training says so", "Nobody has said yet")
    page.click("button", "Save")
    ui.sees("it is configured from the form", ["Step", "Train it in a job"])
    check("as the form said", d.get("/v2/models/fresh/training").json["loss"]["config"]["alpha"] == 10)
    page.click("main a", "Train it in a job")
    page.choose("select", "Dataset", "toy")
    page.write("input", "Epochs", "100000")
    page.write("input", "Batch", "30")
    page.write("input", "Learning rate", "0.003")
    page.click("button", "Start")
    page.wait("location.hash.startsWith('#/jobs/')")
    job = page.js("location.hash.slice(7)")
    ui.sees("a job is made and seen", ["Train fresh", "running"])
    check("with its learning rate and telemetry", page.wait("document.querySelectorAll('.charts .chart').length >= 5"), ui.text())
    title = "[...document.querySelectorAll('.chart')].map(c => [c.querySelector('figcaption').firstChild.data, c.querySelectorAll('.line path').length])"
    drawn = page.wait(f"(c => c['σ of each layer, proven at most'] === 2 && c['network constant'] === 2 && c.loss && c.accuracy && c)(Object.fromEntries({title}))")
    check("loss, metric, σ of each layer and the network's constant are drawn", drawn, page.js(title))
    points = "testFind('.chart', null) && [...document.querySelectorAll('.chart .line path')].map(p => p.getAttribute('d').length).reduce((a, b) => a + b)"
    before = page.js(points)
    check("the curves grow", page.wait(f"{points} > {before}"))
    page.click("button", "Pause")
    ui.sees("it is paused", "paused", ".headline")
    page.click("button", "Resume")
    ui.sees("and resumed", "running", ".headline")
    ui.quiet("jobs", ["404"])
    with Cable(d.port) as cable:
        page.go("about:blank")
        page.go(f"http://127.0.0.1:{cable.port}/ui/#/jobs/{job}")
        ui.sees("through a cable", "live", ".buttons .meta")
        check("it is seen, too", page.wait(f"{points} > 0"))
        cable.cut()
        ui.sees("a lost connection is told", "the connection is lost")
        page.wait(f"(window.before ??= {points}) && false", 0.5)
        cable.mend()
        ui.sees("and taken up again", "live", ".buttons .meta")
        check("behind the last event", page.wait(f"{points} > window.before") and cable.asked(b"last-event-id: "), cable.heads[-3:])
        ui.quiet("cable", ["ERR_CONNECTION", "ERR_SOCKET", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING"], at=f"http://127.0.0.1:{cable.port}/")
        ui.go(f"#/jobs/{job}")
    page.click("button", "Cancel")
    page.click("dialog button", "Cancel the job")
    ui.sees("it is cancelled", "cancelled", ".headline")
    check("on the server, too", d.get(f"/v2/jobs/{job}").json["status"] == "cancelled")
    ui.go("#/jobs")
    ui.sees("jobs are listed", ["train", "certify", "cancelled", "succeeded"])
    page.click("summary", "New job")
    page.choose("select", "What", "evaluate")
    page.choose("select", "Model", "mlp")
    page.choose("select", "Dataset", "toy")
    page.click("button", "Start")
    ui.sees("an evaluation", ["Evaluate mlp", "succeeded", "accuracy", "Download the result"])
    page.click("button", "Forget it")
    page.wait("location.hash === '#/jobs'")
    ui.quiet("jobs, their end")


# What would be written to a file is kept in the page.
SAVING = """(() => {
    const make = URL.createObjectURL;
    URL.createObjectURL = blob => { window.saved = blob; return make(blob); };
    addEventListener('click', e => { if (e.target.download) { window.savedAs = e.target.download; e.preventDefault(); } }, true);
})()"""


def changes(check, ui):
    page, d = ui.page, ui.d
    ui.go("#/models/cnn/versions")
    page.write("input", "Description", "as it was")
    page.js("document.querySelectorAll('section.panel')[0].querySelectorAll('input')[1].value = 'stable'")
    page.click("button", "Freeze")
    ui.sees("the head is frozen, with a label", ["frozen", "stable", "as it was"])
    check("on the server, too", d.get("/v2/models/cnn").json["labels"] == {"stable": "1"} and d.get("/v2/models/cnn").json["head"] == "2")
    page.click("button", "Keep the head's state")
    ui.sees("a checkpoint is kept", "Restore")
    page.click("button", "Remove the label stable")
    check("a label is removed", page.wait("!document.querySelector('main table').innerText.includes('stable')") and d.get("/v2/models/cnn").json["labels"] == {})
    ui.go("#/models/cnn/report?version=1")
    ui.sees("a frozen version has its report", ["version 1, frozen", "Its output moves at most"])
    ui.go("#/models/cnn/manage")
    before = d.get("/v2/models/cnn").json["state_revision"]
    for action, words in (("Condense", "probes moved by"), ("Tighten", "Proven before")):
        page.click("main button", action)
        page.click("dialog button", action)
        ui.sees(f"{action} is done and told", words)
    check("as two changes", d.get("/v2/models/cnn").json["state_revision"] == before + 2)
    d.post("/v2/models/cnn/refresh")
    page.click("main button", "Condense")
    page.click("dialog button", "Condense")
    ui.sees("a model that somebody else has changed is not changed unseen", "412 precondition_failed", ".problem")
    page.js(SAVING)
    page.click("button", "Download")
    name = page.wait("window.savedAs && window.saved && window.savedAs")
    saved = bytes(page.js("window.saved.arrayBuffer().then(b => [...new Uint8Array(b)])"))
    theirs = d.get("/v2/models/cnn/export?format=safetensors&vanilla=true")
    check("an export is the server's bytes", saved == theirs.body and name in theirs.headers["Content-Disposition"], (len(saved), name))
    ui.go("#/models/fresh/manage")
    page.write("input", "Description", "for a while")
    page.click("button", "Save")
    ui.sees("a description", "for a while")
    page.click("button", "Unload")
    ui.sees("it is unloaded, and that is said", ["unavailable", "It cannot be asked anything now: unloaded."])
    page.click("button", "Load")
    ui.sees("and loaded again", ["Lipschitz report", "for a while"])
    page.click("button", "Delete the model")
    page.key("Escape")
    check("Escape is no", page.wait("!document.querySelector('dialog')") and d.get("/v2/models/fresh").status == 200)
    page.click("button", "Delete the model")
    page.click("dialog button", "Delete")
    page.wait("location.hash === '#/models'")
    check("a model is deleted when that is meant", d.get("/v2/models/fresh").status == 404)
    ui.quiet("changes", ["412", "406"])


def server(check, ui):
    page, d = ui.page, ui.d
    ui.go("#/server")
    for _ in range(20):
        d.post("/v2/models/mlp/infer", {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
    ui.sees("version, settings, statistics", [d.get("/v2").json["version"], "max_body_bytes", "mlp v1", "Memory"])
    check("rates are drawn", page.wait("document.querySelector('.chart .line.s0 path')?.getAttribute('d').length > 30"))
    ui.sees("the server is well", "ready", "#health")
    ui.quiet("server")


CONTRAST = """(() => {
    const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
    const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
    const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3]));
    const ground = e => e ? over(parse(getComputedStyle(e).backgroundColor), ground(e.parentElement)) : [255, 255, 255];
    const poor = [];
    for (const e of document.querySelectorAll('body *')) {
        if (!e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('.visually-hidden, :disabled, option, .skip, svg, script'))
            continue;
        const b = ground(e), f = over(parse(getComputedStyle(e).color), b), [x, y] = [light(f), light(b)], ratio = (Math.max(x, y) + .05) / (Math.min(x, y) + .05);
        if (ratio < 4.5)
            poor.push(`${e.tagName}.${e.className} "${e.textContent.trim().slice(0, 30)}" ${ratio.toFixed(2)}`);
    }
    return poor;
})()"""
UNNAMED = """[...document.querySelectorAll('button, a, input, select, textarea, summary, [role=img], [role=region], canvas, progress')].filter(e => e.checkVisibility())
    .filter(e => !((e.labels?.length ? e.labels[0].textContent : '') + (e.getAttribute('aria-label') ?? '') + e.textContent).trim()).map(e => e.outerHTML.slice(0, 120))"""
PAGES = ("#/models", "#/models/cnn", "#/models/cnn/certify", "#/models/cnn/infer", "#/models/cnn/training", "#/models/cnn/versions", "#/models/cnn/manage", "#/datasets", "#/datasets/bars", "#/jobs", "#/server")


def access(check, ui):
    page = ui.page
    for scheme in ("light", "dark"):
        page.media(prefers_color_scheme=scheme)
        poor, unnamed, heads, against = {}, {}, {}, {}
        for where in PAGES:
            ui.go(where)
            page.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            page.wait("!document.querySelector('[aria-busy]')", 10)
            poor[where], unnamed[where] = page.js(CONTRAST), page.js(UNNAMED)
            if AXE:
                page.call("Runtime.evaluate", expression=AXE)
                against[where] = page.js("axe.run().then(r => r.violations.map(v => [v.id, v.help, v.nodes[0].html.slice(0, 200)]))")
            heads[where] = page.js("[document.querySelectorAll('h1').length, document.querySelectorAll('[id]').length - new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size]")
        check(f"{scheme}: every text has a contrast of 4.5", not any(poor.values()), poor)
        if AXE:
            check(f"{scheme}: axe finds nothing against any page", len(against) == len(PAGES) and not any(against.values()), against)
        check(f"{scheme}: every control and picture has a name", not any(unnamed.values()), unnamed)
        check(f"{scheme}: one first heading on each page, no id twice", all(h == [1, 0] for h in heads.values()), heads)
    page.media(prefers_color_scheme="light", prefers_reduced_motion="reduce")
    ui.go("#/models")
    check("nothing moves for those who want that", page.js("[...document.querySelectorAll('*')].every(e => getComputedStyle(e).transitionDuration.split(', ').every(t => parseFloat(t) === 0) && getComputedStyle(e).animationName === 'none')"))
    page.media()
    page.size(390, 844, mobile=True)
    wide = {}
    for where in PAGES:
        ui.go(where)
        page.wait("!document.querySelector('[aria-busy]')", 10)
        wide[where] = page.js("document.documentElement.scrollWidth")
    check("on a telephone nothing is wider than the screen", all(w <= 390 for w in wide.values()), wide)
    page.size(1280, 900)

    page.go("about:blank")
    ui.go("#/models")
    page.key("Tab")
    check("the first Tab is the way past the menu", page.js("document.activeElement.textContent") == "Skip to the content", page.js("document.activeElement.outerHTML"))
    page.key("Enter")
    check("which leads to the content", page.js("document.activeElement.id") == "main" and page.js("location.hash") == "#/models")
    for _ in range(6):
        page.key("Tab")
        if page.js("document.activeElement.textContent === 'cnn'"):
            break
    check("and shows where one is", page.js("(e => e.matches(':focus-visible') && getComputedStyle(e).outlineStyle !== 'none')(document.activeElement)"),
          page.js("document.activeElement.outerHTML"))
    page.key("Enter")
    page.wait("location.hash === '#/models/cnn'")
    ui.sees("a page is opened by keys", "Lipschitz report")
    check("it says which, and has the focus", page.wait("document.getElementById('live').textContent === 'cnn' && document.activeElement.id === 'main'"),
          page.js("document.getElementById('live').textContent + document.activeElement.outerHTML.slice(0, 100)"))
    ui.quiet("access", ["406"])


def policy(check, ui):
    page = ui.page
    ui.go("#/models")
    page.js("window.violations = []; document.addEventListener('securitypolicyviolation', e => violations.push(e.effectiveDirective))")
    page.js("(() => { try { const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s); } catch {} })()")
    page.js("(() => { const s = document.createElement('script'); s.append('window.ran = true'); document.body.append(s); })()")
    page.js("(() => { const b = document.createElement('p'); b.setAttribute('style', 'color: red'); document.body.append(b); })()")
    page.js("fetch('http://127.0.0.2:9/').catch(() => {})")
    page.js("(() => { try { document.body.insertAdjacentHTML('beforeend', '<img src=x>'); window.parsed = true; } catch {} })()")
    kept = page.wait("['connect-src', 'style-src-attr'].every(v => violations.includes(v))")
    check("the browser keeps scripts in the page, text as HTML and other hosts out", kept and not page.js("window.ran || window.parsed"), page.js("violations"))
    page.faults.clear()
    page.requests.clear()


def units(check, ui):
    """What the modules compute, asked of themselves."""
    page = ui.page
    page.js("Promise.all(['dom', 'chart', 'server', 'api'].map(m => import(`./${m}.js`))).then(all => { window.M = Object.assign({}, ...all); })")
    cases = {"M.up(1.2304126261)": "1.23042", "M.down(1.2304126261)": "1.23041", "M.up(1)": "1", "M.down(0.999999999)": "0.999999",
             "M.up(0.9999999)": "1", "M.up(0)": "0", "M.down(-1.00000001)": "−1.00001", "M.up('Infinity')": "∞", "M.down(null)": "–", "M.up(1.23456789e-7)": "1.23457e−7", "M.bytes(1500)": "1.5 kB"}
    wrong = {e: page.js(e) for e, v in cases.items() if page.js(e) != v}
    check("a bound stays a bound when it is shown", not wrong, wrong)
    sound = page.js("""(() => {
        const bad = [], read = s => Number(s.replaceAll('−', '-'));
        for (let i = 0, x = 7; i < 20000; i++) {
            x = x * 16807 % 2147483647;
            const v = (x / 1e9 - 1) * 10 ** (x % 13 - 6), low = read(M.down(v)), high = read(M.up(v));
            if (!(low <= v && v <= high && high - low <= Math.abs(v) * 2e-5)) /* six digits */
                bad.push(v);
        }
        return bad;
    })()""")
    check("whatever the number", sound == [], sound)
    ticks = page.js("[M.ticks(0, 1, 5), M.ticks(-0.3, 0.31, 4), M.ticks(1000, 4000, 3)]")
    check("ticks are round numbers inside", ticks == [[0, 0.2, 0.4, 0.6, 0.8, 1], [-0.2, 0, 0.2], [1000, 2000, 3000, 4000]], ticks)
    events = page.js("""(async () => { const parts = ['id: 1\\nevent: a\\nda', 'ta: {"x":1}\\n', '\\n: ping\\n\\nretry: 5\\n\\nid: 2\\ndata: one\\ndata: two\\n\\nid: 3'], all = [];
        const body = new ReadableStream({ pull(c) { parts.length ? c.enqueue(new TextEncoder().encode(parts.shift())) : c.close(); } });
        for await (const block of M.blocks(body)) all.push(block); return all; })()""")
    check("events are read however they are cut", events == [{"id": "1", "event": "a", "data": '{"x":1}'}, {}, {"retry": "5"}, {"id": "2", "data": "one\ntwo"}], events)


def keys(check, browser, folder):
    text = {"infer": "only to look", "admin": "whatever it is"}
    file = pathlib.Path(folder, "keys")
    file.write_text(json.dumps({"keys": [{"name": n, "sha256": hashlib.sha256(k.encode()).hexdigest(), "scopes": [n]} for n, k in text.items()]}))
    file.chmod(0o600)
    with Daemon("--web-root", WEB, "--api-key-file", str(file), prefix="/base") as d:
        admin = {"Authorization": "Bearer " + text["admin"]}
        d.call("PUT", "/v2/models/mlp", {"definition": MLP}, admin)
        page = browser.page()
        ui = Dashboard(page, d, check)
        page.go(ui.at)
        ui.sees("a server with keys asks for one", "wants an API key", "dialog")
        page.write("input", "API key", "no such key")
        page.click("dialog button", "Sign in")
        ui.sees("a wrong one is told, and asked for again", ["401 unauthorized", "Send a key of the daemon's key file"], "dialog .problem")
        page.write("input", "API key", text["infer"])
        page.click("dialog button", "Sign in")
        ui.sees("a right one opens the page", "mlp")
        check("it is kept for this tab only", page.js("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""])
        check("and in no address", not any(text["infer"][:4] in u for _, u in page.requests))
        ui.go("#/jobs")
        ui.sees("what it does not allow is told", "403 forbidden", ".problem")
        page.click("button", "Sign out")
        ui.sees("after signing out it is asked for again", "wants an API key", "dialog")
        page.write("input", "API key", text["admin"])
        page.key("Enter")
        ui.sees("another key", "A job needs a model and a dataset")
        check("the stream of events has it", any("/v2/events" in u for _, u in page.requests) and not any("/v2/events" in f for f in page.faults), page.faults)
        ui.quiet("keys", ["401", "403"])


def plan(check):
    with Daemon("--web-root", WEB) as d, Browser() as browser:
        stage(d)
        page = browser.page()
        ui = Dashboard(page, d, check)
        models(check, ui)
        report(check, ui)
        certify(check, ui)
        infer(check, ui, d.folder)
        datasets(check, ui, d.folder)
        jobs(check, ui)
        server(check, ui)
        access(check, ui)
        policy(check, ui)
        units(check, ui)
        changes(check, ui)
        keys(check, browser, d.folder)


if chromium() is None:
    print("1..0 # SKIP no $CHROMIUM names a browser; with Debian's chromium: CHROMIUM=chromium")
else:
    run(plan)
