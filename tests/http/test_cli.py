"""The command line against a real daemon: what it prints, what it ends with, what it does with data files."""

import gzip
import http.server
import json
import os
import pathlib
import pty
import random
import struct
import subprocess
import threading

from daemon import Daemon, run, tensor

ONELIP = os.environ.get("ONELIP", "onelip")
IMAGES, SIDE = 50, 4

# Sums over samples: its mean over batches, weighted, is its mean over all.
CROSSENTROPY = {"optimizer": "adam", "loss": {"class_name": "TauCategoricalCrossentropy", "config": {"tau": 10.0}},
                "metrics": ["accuracy"]}
MODEL = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, SIDE, SIDE, 1], "name": "image"}},
    {"class_name": "Flatten", "config": {"name": "flat"}},
    {"class_name": "SpectralDense", "config": {"units": 8, "name": "hidden"}},
    {"class_name": "GroupSort2", "config": {"name": "sort"}},
    {"class_name": "FrobeniusDense", "config": {"units": 3, "name": "class"}}]}}


def onelip(*words, url=None, **environment):
    done = subprocess.run([ONELIP, *words], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **({"ONELIP_URL": url} if url else {}), **environment})
    return done.returncode, done.stdout, done.stderr


def idx(*shape, data):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(data)


def write_data(folder):
    """Three kinds of picture, each brighter in another corner, so that there is something to learn."""
    chance = random.Random(1)
    labels = [chance.randrange(3) for _ in range(IMAGES)]
    pixels = [min(255, chance.randrange(60) + 190 * (p // 5 == label)) for label in labels for p in range(SIDE * SIDE)]
    images = idx(IMAGES, SIDE, SIDE, data=pixels)
    files = {"images": images, "labels": idx(IMAGES, data=labels), "short": images[:-1], "long": images + b"\0",
             "float": images[:2] + b"\x0d" + images[3:], "headless": images[:9], "fewer": idx(IMAGES - 1, data=labels[1:]),
             "wide": idx(IMAGES, SIDE, SIDE + 1, data=pixels + [0] * IMAGES * SIDE), "empty": b"",
             "huge": struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)}
    for name, data in files.items():
        pathlib.Path(folder, name).write_bytes(data)
    pathlib.Path(folder, "images.gz").write_bytes(gzip.compress(images))
    pathlib.Path(folder, "labels.gz").write_bytes(gzip.compress(files["labels"]))
    return labels, pixels


def reading(check, d, url, m):
    code, out, err = onelip("health", url=url)
    check("health", code == 0 and json.loads(out)["ready"] is True and not err, (code, out, err))
    code, out, err = onelip("ls", "--url", url)
    check("ls prints names", (code, out, err) == (0, "demo\n", ""), (code, out, err))
    code, out, err = onelip("show", "demo", url=url)
    check("show prints the model document", code == 0 and json.loads(out) == d.get(m).json, (code, out, err))
    code, out, err = onelip("lipschitz", "demo", url=url)
    check("lipschitz prints the report", code == 0 and "upper" in json.loads(out)["network"], (code, out, err))
    code, out, err = onelip("--url", f"unix:{d.folder}/socket", "ls")
    check("over a unix socket", (code, out) == (0, "demo\n"), (code, out, err))


def training(check, d, url, labels, pixels):
    folder = pathlib.Path(d.folder)
    plain = ("--images", folder / "images", "--labels", folder / "labels", "--batch", "20")
    packed = ("--images", folder / "images.gz", "--labels", folder / "labels.gz", "--batch", "20")

    def weights(name):
        return d.get(f"/v2/models/{name}/weights").body

    for name in ("same", "other"):
        d.create(name, MODEL, CROSSENTROPY)
    code, out, err = onelip("train", "demo", *plain, "--steps", "250", "--seed", "5", url=url)
    lines = err.splitlines()
    check("train says how it goes, on stderr, every hundred steps", code == 0 and out == ""
          and [line.split("  ")[0] for line in lines] == [f"step {i} of 250" for i in (100, 200, 250)], (code, out, err))
    check("and the accuracy with it", all("accuracy 0." in line or "accuracy 1." in line for line in lines), err)
    check("each step was a train_step", d.get("/v2/models/demo/training").json["state"]["step"] == 250)
    code, out, err = onelip("train", "same", *packed, "--steps", "250", "--seed", "5", "--quiet", url=url)
    check("--quiet is quiet", (code, out, err) == (0, "", ""), (code, out, err))
    check("the same seed gives the same weights, from gzip too", weights("same") == weights("demo"))
    onelip("train", "other", *plain, "--steps", "250", "--seed", "6", "-q", url=url)
    check("another seed gives others", weights("other") != weights("demo"))

    code, out, err = onelip("evaluate", "demo", *plain, url=url)
    inputs = [tensor("image", [IMAGES, SIDE, SIDE, 1], [p / 255 for p in pixels]), tensor("y_true", [IMAGES], labels, "INT64")]
    whole = d.post("/v2/models/demo/evaluate", {"inputs": inputs}).json["metrics"]
    ours = json.loads(out) if code == 0 else {"metrics": {}}
    # float32 sums over 20, 20 and 10 samples against one over 50
    check("evaluate weighs its batches by their samples", code == 0 and ours["samples"] == IMAGES
          and all(abs(ours["metrics"].get(k, 9) - v) <= 1e-5 * max(1, abs(v)) for k, v in whole.items()), (out, err, whole))
    check("it has learnt", ours["metrics"].get("accuracy", 0) > 0.9, out)
    _, one, _ = onelip("evaluate", "demo", *plain[:4], "--batch", "500", url=url)
    check("a batch may be larger than the data", abs(json.loads(one)["metrics"]["loss"] - whole["loss"]) <= 1e-5, one)
    _, dark, _ = onelip("evaluate", "demo", *plain, "--scale", "0", url=url)
    check("--scale is what pixels are multiplied by", json.loads(dark)["metrics"]["accuracy"] < 0.7, dark)

    def on_terminal(**environment):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([ONELIP, "--url", url, "train", "other", *plain, "--steps", "3"], stderr=theirs,
                                   env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **environment})
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # how a terminal ends on Linux
            pass
        os.close(ours)
        return process.wait(60), said.replace(b"\r\n", b"\n")

    code, said = on_terminal()
    check("a bar on a terminal", code == 0 and said.count(b"\r[") == 3 and b"[" + b"#" * 30 + b"] step 3 of 3" in said, said)
    code, said = on_terminal(NO_COLOR="1")
    check("lines there with NO_COLOR", code == 0 and b"\r[" not in said and b"step 3 of 3" in said, said)


def bounds(check, d, url, labels, pixels):
    folder, m = pathlib.Path(d.folder), "/v2/models/demo"
    files = ("--images", folder / "images", "--labels", folder / "labels")
    x = [p / 255 for p in pixels]

    def ask(*words):
        code, out, err = onelip(*words, "--quiet", url=url)
        check(f"{words[0]} ends well and quietly", code == 0 and not err, (code, out, err))
        return json.loads(out) if code == 0 else {}

    report = ask("lipschitz", "demo", "--method", "product", "--max-seconds", "2.5", "--input-norm", "3", "--pairs")
    check("lipschitz with options", report["arithmetic"]["input_norm"] == 3 and len(report["pairs"]) == 3
          and report["network"]["methods"]["lipsdp"] is None and report["network"]["upper"] == report["network"]["methods"]["product"], report)
    spectrum = ask("singular-values", "demo", "hidden", "-k", "2", "--of", "kernel")
    check("singular-values", spectrum == d.get(m + "/layers/hidden/singular_values?k=2&of=kernel").json | {
        k: spectrum[k] for k in ("largest", "smallest", "enclosure")} and len(spectrum["largest"]) == 2, spectrum)

    inputs = [tensor("image", [IMAGES, SIDE, SIDE, 1], x), tensor("y_true", [IMAGES], labels, "INT64")]
    epsilons = [36 / 255, 0.5]
    whole = d.post(m + "/certify", {"inputs": inputs, "epsilons": epsilons, "parameters": {"attack": True}}).json
    whole["outputs"] = {o["name"]: o["data"] for o in whole["outputs"]}
    ours = ask("certify", "demo", *files, "--batch", "20", "--epsilons", "36/255,0.5", "--attack")
    same = all(abs(a - b) < 1e-8 for a, b in zip(ours["certificate"]["provable_accuracy"] + [ours["certificate"]["mean_radius"],
               ours["certificate"]["reference"]["mean_radius"]], whole["certificate"]["provable_accuracy"] + [whole["certificate"]["mean_radius"],
               whole["certificate"]["reference"]["mean_radius"]]))
    check("certify is the mean of its batches", ours["samples"] == IMAGES and same, (ours, whole["certificate"]))
    check("with the accuracy, and what no attack has moved", abs(ours["accuracy"] - sum(a == b for a, b in zip(labels, whole["outputs"]["label"])) / IMAGES) < 1e-9
          and all(abs(a - sum(r == "Infinity" or r > e for r in whole["outputs"]["attack_radius"]) / IMAGES) < 1e-8
                  and a >= p for a, e, p in zip(ours["attacked_accuracy"], epsilons, ours["certificate"]["provable_accuracy"])), ours)
    few = ask("certify", "demo", *files, "--samples", "7", "--no-local", "--norm", "linf", "--arithmetic", "float32")
    check("certify with options", few["samples"] == 7 and few["certificate"]["norm"] == "linf" and few["certificate"]["arithmetic"] == "float32"
          and len(few["certificate"]["epsilons"]) == 4 and "attacked_accuracy" not in few, few)
    d.put("/v2/datasets/pictures/image?scale=0.00392156862745098", (folder / "images").read_bytes(), Content_Type="application/x-idx")
    d.put("/v2/datasets/pictures/y_true", (folder / "labels").read_bytes(), Content_Type="application/x-idx")
    there = ask("certify", "demo", "--dataset", "pictures", "--epsilons", "36/255,0.5")
    check("of a dataset, as a job", there["samples"] == IMAGES and there["accuracy"] == ours["accuracy"]
          and there["certificate"]["provable_accuracy"] == ours["certificate"]["provable_accuracy"]
          and d.get("/v2/jobs?type=certify").json["data"][0]["status"] == "succeeded", there)
    judged = ask("evaluate", "demo", "--dataset", "pictures")
    check("evaluate, too", judged["samples"] == IMAGES and judged["metrics"]["accuracy"] == ours["accuracy"], judged)
    code, out, err = onelip("certify", "demo", "--dataset", "pictures", url=url)
    check("which says how far it is", code == 0 and "step " in err, (code, out, err))

    p, q = ([v for i, label in enumerate(labels) if label == c for v in x[16 * i:16 * i + 16]] for c in (0, 2))
    w = ask("wasserstein", "demo", *files, "--classes", "0,2", "--index", "0", "--max-seconds", "5")["wasserstein"]
    theirs = d.post(m + "/wasserstein", {"inputs": [tensor("p", [len(p) // 16, 4, 4, 1], p), tensor("q", [len(q) // 16, 4, 4, 1], q)],
                                         "parameters": {"index": 0}}).json["wasserstein"]
    check("wasserstein", all(abs(w[k] - theirs[k]) < 1e-6 for k in ("lower", "upper")) and (w["n"], w["m"]) == (labels.count(0), labels.count(2)), (w, theirs))
    few = ask("wasserstein", "demo", *files, "--classes", "0,2", "--index", "0", "--samples", "3")["wasserstein"]
    check("of some of each class", (few["n"], few["m"]) == (3, 3), few)
    tight = ask("tighten", "demo")
    check("tighten", [layer["name"] for layer in tight["layers"]] == ["hidden", "class"] and d.get(m).json["weights_revision"] == tight["weights_revision"], tight)


def failing(check, d, url):
    folder = pathlib.Path(d.folder)

    def ends(name, status, *words, word="", at=url, **environment):
        code, out, err = onelip(*words, url=at, **environment)
        check(name, code == status and out == "" and word in err and err.startswith("onelip: ") and len(err.splitlines()) <= 3,
              f"exit status {code}, wanted {status}\n{out}\n{err}")

    def data(images="images", labels="labels", model="demo"):
        return ("evaluate", model, "--images", folder / images, "--labels", folder / labels)

    check("--help is no failure", onelip("--help")[0] == 0 and "evaluate" in onelip("--help")[1])
    check("--version", onelip("--version")[1].startswith("onelip "))
    ends("no such command", 2, "dance", word="--help")
    code, _, err = onelip(url=url)
    check("no command at all", code == 2 and "a command is missing" in err, err)
    ends("too many words", 2, "ls", "demo")
    ends("train without files", 2, "train", "demo", word="--images")
    code, _, err = onelip("train", "demo", "--steps", "many", url=url)
    check("--steps must be a number", code == 2 and "many" in err, err)
    ends("a batch beyond the data", 2, "train", *data()[1:], "--batch", "51", word="50")
    ends("an address that is none", 2, "ls", at="ftp://127.0.0.1/")
    ends("epsilons that are none", 2, "certify", *data()[1:], "--epsilons", "0.1,,2", word="0.1,,2")
    ends("a norm that is none", 5, "certify", *data()[1:], "--norm", "l3", word="norm needs one of")
    ends("a dataset that is none", 3, "certify", "demo", "--dataset", "none", word="no dataset")
    ends("classes that are none", 2, "wasserstein", *data()[1:], "--classes", "0;2", word="--classes")
    ends("classes without images", 5, "wasserstein", *data()[1:], "--classes", "0,7", "--index", "0", word="at least one sample")
    ends("an output that is none", 5, "wasserstein", *data()[1:], "--classes", "0,1", word="index")
    ends("a layer that is none", 3, "singular-values", "demo", "nobody")
    code, _, err = onelip("lipschitz", "demo", "--max-seconds", "-1", url=url)
    check("--max-seconds must be above 0", code == 2 and "-1" in err, err)
    ends("an unknown model", 3, "show", "nobody", word="onelip ls")
    ends("a name that no model can have", 5, "show", "a/../b c?", word="400")
    ends("evaluate before there is a loss", 5, *data(model="untrained"), word="40")
    ends("nobody listens", 6, "ls", at="http://127.0.0.1:1")
    for images, word in (("short", "less or more"), ("long", "less or more"), ("float", "no IDX"), ("headless", "header"),
                         ("empty", "no IDX"), ("huge", "4 GiB"), ("wide", "takes 16"), ("missing", "opened")):
        ends(f"images: {images}", 7, *data(images), word=word)
    ends("fewer labels than images", 7, *data(labels="fewer"), word="49 labels")


class Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        refused = self.path.endswith("/closed")
        body = b'{"error":"not for you"}' if refused else b"<html>"
        self.send_response(403 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def strangers(check):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code, out, err = onelip("show", "closed", url=url)
        check("a refusal, in the server's words", (code, out) == (4, "") and "not for you" in err, (code, out, err))
        code, out, err = onelip("ls", url=url)
        check("an answer that is no JSON", (code, out) == (5, ""), (code, out, err))
        server.shutdown()


def plan(check):
    with Daemon() as d:
        d.kill()
        d.options = ("--listen", f"unix:{d.folder}/socket")
        d.start()
        url = f"http://{d.host}:{d.port}/"
        labels, pixels = write_data(d.folder)
        m = d.create("demo", MODEL, CROSSENTROPY)
        reading(check, d, url, m)
        d.create("untrained", MODEL)
        training(check, d, url, labels, pixels)
        bounds(check, d, url, labels, pixels)
        failing(check, d, url)
        check("the daemon lives", d.alive)
    strangers(check)


run(plan)
