"""server/openapi.json against the table of routes and against a real daemon: every route is described, nothing else is; every
operation is asked with its own examples and the answer fits its schema, with no member that is not described."""

import os
import pathlib
import re

from daemon import SOURCE, Daemon, run
from schema import Schemas
from stage import description, requests, table


def examples(check, d, api, built):
    schemas = Schemas(api)
    for r in requests(d, api, built, schemas, changes=lambda method: method != "get"):
        media = r.operation.get("requestBody", {}).get("content", {}).get(r.kind, {})
        if r.kind and r.body is None:
            check(f"{r.name} has an example", False)
            continue
        if "example" in media:
            faults = schemas.faults(r.body, media["schema"])
            check(f"{r.name}: its example fits its schema", not faults, faults)
        a = d.call(r.method, r.target, r.body, {"Content-Type": r.kind} if r.kind else {})
        response = r.operation["responses"].get(str(a.status))
        check(f"{r.name}: {r.method} {r.target} is answered as described", response and (a.status < 400 or a.code == "version_frozen"), a)
        if not response:
            continue
        content = schemas.resolve(response).get("content", {})
        got = (a.headers["Content-Type"] or "").split(";")[0]
        check(f"{r.name}: with a media type that is described", got in content or not content and not a.body, (got, list(content)))
        if got == "application/json" and "schema" in content.get(got, ()):
            faults = schemas.faults(a.json, content[got]["schema"])
            check(f"{r.name}: with what is described", not faults, f"{faults}\n{a}")
        missing = [h for h, about in schemas.resolve(response).get("headers", {}).items() if not a.headers[h]
                   and schemas.resolve(about).get("required", h != "Inference-Header-Content-Length")]
        check(f"{r.name}: with the headers that are described", not missing, (missing, a))


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
    api = description()
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
