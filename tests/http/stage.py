"""Every operation of server/openapi.json as a request: a model, a dataset, a job that its examples name, and the table of routes.

    table()                     (method, path with {} for parameters): whether it is built, of server/routes.c
    requests(d, api, built, …)  of every built operation: Request(operation, name, method, target, body, kind)
"""

import collections
import json
import pathlib
import re
import struct

from daemon import SOURCE, TRAINING

HEAD, FROZEN = "/v2/models/{m}", "/v2/models/{m}/versions/{v}"
NESTED = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Sequential", "config": {"name": "net", "layers": [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "inner"}},
        {"class_name": "SpectralDense", "config": {"units": 2, "name": "d1"}}]}}]}}


def table():
    """(method, path): whether it is offered, of routes.c."""
    text = pathlib.Path(SOURCE, "server/routes.c").read_text()
    macros = dict(re.findall(r'^#define (\w+) (.*"[^"]*")$', text, re.M))
    routes = {}

    def joined(expression):
        while (wider := re.sub(r'"[^"]*"|\b[A-Z]\w*\b', lambda m: macros.get(m[0], m[0]), expression)) != expression:
            expression = wider
        return "".join(re.findall(r'"([^"]*)"', expression))

    for opening, method, path in re.findall(r'^    ((?:AT_ANY_)?REFUSED\(|AT_ANY\(|AT_HEAD\(|\{)"([A-Z]+)", ([^,)]+)[,)]', text, re.M):
        for of in ("M ", "MV ", "ML ") if opening.startswith("AT_") else ("",):
            routes[method.lower(), re.sub(r"{\w+}", "{}", joined(of + path))] = "REFUSED" not in opening
    return routes


def npy(*values):
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % len(values)
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + struct.pack(f"<{len(values)}f", *values)


class Stage:
    """What the examples find: the README's model with everything that an operation may name."""

    def __init__(self, d, built, definition):
        self.d, self.built, self.definition = d, built, definition

    def has(self, method, path):
        return self.built.get((method, path))

    def set(self):
        d, has = self.d, self.has
        d.delete("/v2/models/new")
        d.delete("/v2/models/demo?force=true" if has("post", "/v2/jobs") else "/v2/models/demo")
        d.create("demo", self.definition, TRAINING)
        d.delete("/v2/models/nested?force=true" if has("post", "/v2/jobs") else "/v2/models/nested")
        d.create("nested", NESTED)
        if has("post", "/v2/models/{}/versions"):
            d.post("/v2/models/demo/versions", {"labels": ["stable"]})
        if has("post", "/v2/models/{}/checkpoints"):
            d.post("/v2/models/demo/checkpoints", {"name": "before"})
        if has("put", "/v2/datasets/{}"):
            d.put("/v2/datasets/toy?label=label", "a,b,c,d,label\n1,2,3,4,0\n4,3,2,1,1\n0,1,0,1,2\n", Content_Type="text/csv")
        if has("post", "/v2/jobs"):
            self.job = d.post("/v2/jobs", {"type": "train", "model": "demo", "dataset": "toy", "epochs": 1, "batch_size": 3}).json["id"]
            d.wait(lambda: d.get(f"/v2/jobs/{self.job}").json["status"] in ("succeeded", "failed", "cancelled"), "a finished job")


Request = collections.namedtuple("Request", "operation name path method target body kind")
# /docs has files only where swagger-ui was built in; what a job leaves behind is asked for by other tests.
ELSEWHERE = {"docsFile", "jobResult", "pauseJob", "resumeJob"}


def description():
    return json.loads(pathlib.Path(SOURCE, "server/openapi.json").read_text())


def requests(d, api, built, schemas, changes=lambda method: True):
    """Body is None where an example is missing. The stage is set anew before each whose predecessor had a method that `changes`."""
    definition = api["paths"]["/v2/models"]["post"]["requestBody"]["content"]["application/json"]["example"]["definition"]
    stage = Stage(d, built, definition)
    files = {"putWeights": lambda: (d.get("/v2/models/demo/weights").body, "application/x-safetensors"),
             "putDataset": lambda: (b"a,label\n1,0\n2,1\n", "text/csv"),
             "putDatasetTensor": lambda: (npy(1, 2, 3), "application/x-npy"),
             "putTensor": lambda: (d.get("/v2/models/demo/weights/d1/kernel").body, "application/json"),
             "putInnerTensor": lambda: (d.get("/v2/models/nested/weights/net/d1/kernel").body, "application/json")}
    queries = {"putDataset": "?label=label"}
    stale = True
    for path, item in api["paths"].items():
        for method, op in item.items():
            name = op["operationId"]
            if not built.get((method, re.sub(r"{\w+}", "{}", path))) or name in ELSEWHERE:
                continue
            if stale:
                stage.set()
            stale = changes(method)
            parameters = [schemas.resolve(p) for p in op.get("parameters", ())]
            values = {p["name"]: p["example"] for p in parameters if p["in"] == "path"}
            if "inner" in values:
                values.update(m="nested", l="net", inner="d1")
            if "id" in values:
                values["id"] = stage.job
            target = path.format(**values) + queries.get(name, "")
            body = kind = None
            if name == "deleteVersion":
                d.delete("/v2/models/demo/labels/stable")
            plain = re.sub("Of(Version|Label)$", "", name)
            if plain in files:
                body, kind = files[plain]()
            elif "requestBody" in op:
                kind = next(iter(op["requestBody"]["content"]))
                body = op["requestBody"]["content"][kind].get("example")
            if "inner" in values and ("{v}" in path or "{label}" in path) and stage.has("post", "/v2/models/{}/versions"):
                d.post("/v2/models/nested/versions", {"labels": ["stable"]})
            yield Request(op, name, path, method.upper(), target, body, kind)
