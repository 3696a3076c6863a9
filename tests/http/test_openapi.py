"""server/openapi.json against the table of routes and against a real daemon: every route is described, nothing else is; every
operation is asked with its own examples and the answer fits its schema, with no member that is not described."""

import json
import os
import pathlib
import re
import struct

from daemon import MLP, SOURCE, TRAINING, Daemon, batch, run
from schema import Schemas

HEAD, FROZEN = "/v2/models/{m}", "/v2/models/{m}/versions/{v}"
NESTED = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Sequential", "config": {"name": "net", "layers": [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "inner"}},
        {"class_name": "SpectralDense", "config": {"units": 2, "name": "d1"}}]}}]}}


def table():
    """(method, path): whether it is built, of routes.c."""
    text = pathlib.Path(SOURCE, "server/routes.c").read_text()
    macros = dict(re.findall(r'^#define (\w+) (.*"[^"]*")$', text, re.M))
    routes = {}

    def joined(expression):
        while (wider := re.sub(r'"[^"]*"|\b[A-Z]\w*\b', lambda m: macros.get(m[0], m[0]), expression)) != expression:
            expression = wider
        return "".join(re.findall(r'"([^"]*)"', expression))

    for opening, method, path in re.findall(r'^    ((?:AT_ANY_)?LATER\(|AT_ANY\(|AT_HEAD\(|\{)"([A-Z]+)", ([^,)]+)[,)]', text, re.M):
        for of in ("M ", "MV ", "ML ") if opening.startswith("AT_") else ("",):
            routes[method.lower(), re.sub(r"{\w+}", "{}", joined(of + path))] = "LATER" not in opening
    return routes


def npy(*values):
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % len(values)
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + struct.pack(f"<{len(values)}f", *values)


class Stage:
    """What the examples find: the README's model with everything that an operation may name."""

    def __init__(self, d, built):
        self.d, self.built = d, built

    def has(self, method, path):
        return self.built.get((method, path))

    def set(self):
        d, has = self.d, self.has
        d.delete("/v2/models/new")
        d.delete("/v2/models/demo?force=true" if has("post", "/v2/jobs") else "/v2/models/demo")
        d.create("demo", self.definition, TRAINING)
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


def examples(check, d, api, built):
    schemas, stage = Schemas(api), Stage(d, built)
    stage.definition = api["paths"]["/v2/models"]["post"]["requestBody"]["content"]["application/json"]["example"]["definition"]
    files = {"putWeights": lambda: (d.get("/v2/models/demo/weights").body, "application/x-safetensors"),
             "putDataset": lambda: (b"a,label\n1,0\n2,1\n", "text/csv"),
             "putDatasetTensor": lambda: (npy(1, 2, 3), "application/x-npy"),
             "putTensor": lambda: (d.get("/v2/models/demo/weights/d1/kernel").body, "application/json"),
             "putInnerTensor": lambda: (d.get("/v2/models/nested/weights/net/d1/kernel").body, "application/json")}
    queries = {"putDataset": "?label=label"}
    # /docs has files only where swagger-ui was built in; what a job leaves behind is asked for by other tests.
    elsewhere = {"docsFile", "jobResult", "pauseJob", "resumeJob"}
    for path, item in api["paths"].items():
        for method, op in item.items():
            name = op["operationId"]
            if not built.get((method, re.sub(r"{\w+}", "{}", path))) or name in elsewhere:
                continue
            stage.set()
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
                media = op["requestBody"]["content"][kind]
                body = media.get("example")
                if body is None:
                    check(f"{name} has an example", False)
                    continue
                faults = schemas.faults(body, media["schema"])
                check(f"{name}: its example fits its schema", not faults, faults)
            if "inner" in values and "{v}" in path or "inner" in values and "{label}" in path:
                stage.has("post", "/v2/models/{}/versions") and d.post("/v2/models/nested/versions", {"labels": ["stable"]})
            a = d.call(method.upper(), target, body, {"Content-Type": kind} if kind else {})
            response = op["responses"].get(str(a.status))
            check(f"{name}: {method.upper()} {target} is answered as described", response and (a.status < 400 or a.code == "version_frozen"), a)
            if not response:
                continue
            content = schemas.resolve(response).get("content", {})
            got = (a.headers["Content-Type"] or "").split(";")[0]
            check(f"{name}: with a media type that is described", got in content or not content and not a.body, (got, list(content)))
            if got == "application/json" and "schema" in content.get(got, ()):
                faults = schemas.faults(a.json, content[got]["schema"])
                check(f"{name}: with what is described", not faults, f"{faults}\n{a}")
            missing = [h for h, about in schemas.resolve(response).get("headers", {}).items() if not a.headers[h]
                       and schemas.resolve(about).get("required", h != "Inference-Header-Content-Length")]
            check(f"{name}: with the headers that are described", not missing, (missing, a))


def failures(check, d, api):
    schemas = Schemas(api)
    problem = {"$ref": "#/components/schemas/Problem"}
    for method, path, body in (("GET", "/nothing", None), ("GET", "/v2/models/none", None), ("POST", "/v2/models", b"{"),
                               ("POST", "/v2/models", b'{"name":1}'), ("PUT", "/v2/models/a", {"class_name": "Sequential", "config": {"layers": 1}}),
                               ("TRACE", "/v2", None), ("GET", "/v2/problems/none", None)):
        a = d.call(method, path, body)
        faults = schemas.faults(a.json, problem) if a.status >= 400 else ["no failure"]
        check(f"{method} {path}: a failure is a Problem", not faults, f"{faults}\n{a}")


def pages(check, d, api):
    a = d.get("/openapi.json")
    check("openapi.json is served as it is", a.json == api and a.headers["Content-Type"] == "application/json", a)
    check("and has a tag", d.get("/openapi.json", If_None_Match=a.headers["ETag"]).status == 304)
    codes = re.findall(r'^PROBLEM\((\w+), "([0-9 ]+)"', pathlib.Path(SOURCE, "server/errors.def").read_text(), re.M)
    good = [d.get(f"/v2/problems/{code}").json["statuses"] == [int(s) for s in statuses.split()] for code, statuses in codes]
    check("every code has a page", len(codes) > 50 and all(good), good)
    a = d.get("/v2/problems/bad_json", Accept="text/html,*/*;q=0.8")
    check("a browser gets one to read", a.headers["Content-Type"] == "text/html; charset=utf-8" and b"<h1>" in a.body
          and "default-src 'none'" in a.headers["Content-Security-Policy"], a)
    a = d.get("/docs")
    check("/docs leads to its first page", a.status == 307 and a.headers["Location"] == "/docs/index.html", a)
    built = os.environ.get("WITH_SWAGGER_UI") == "1"
    for name, kind in (("index.html", "text/html"), ("docs.js", "text/javascript"), ("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")):
        a = d.get(f"/docs/{name}")
        check(f"/docs/{name} is {'there' if built else 'not built in, and that is said'}",
              a.status == 200 and a.headers["Content-Type"].startswith(kind) and "default-src 'none'" in a.headers["Content-Security-Policy"]
              and a.headers["X-Content-Type-Options"] == "nosniff" if built else a.code == "not_found", a)
    for name in ("LICENSE", "none.html", "..%2fdocs%2findex.html", "%2e%2e"):
        check(f"/docs/{name} is nothing", d.get(f"/docs/{name}").status in (400, 404), name)


def plan(check):
    api = json.loads(pathlib.Path(SOURCE, "server/openapi.json").read_text())
    routes = table()
    described = {(method, re.sub(r"{\w+}", "{}", path)) for path, item in api["paths"].items() for method in item}
    check("the table of routes was read", len(routes) > 100, len(routes))
    check("every route that is built is described", not {r for r in routes if routes[r]} - described, sorted({r for r in routes if routes[r]} - described))
    further = {r for r in described - set(routes) if routes["get", "/v2/models/{}/labels"] or "/labels/{}/" not in r[1]}
    check("nothing else is", not further, sorted(further))
    names = [op["operationId"] for item in api["paths"].values() for op in item.values()]
    check("every operation has a name of its own", len(names) == len(set(names)))
    with Daemon("--web-root", os.path.join(os.environ.get("top_builddir", "."), "web")) as d:
        pages(check, d, api)
        failures(check, d, api)
        examples(check, d, api, routes)


run(plan)
