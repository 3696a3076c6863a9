"""What holds on every route: paths of the wire contract, HEAD, OPTIONS, tags, preconditions, content codings, failures, CORS."""

import gzip
import json
import pathlib
import re
import zlib

from daemon import SOURCE, Daemon, run
from schema import Schemas
from stage import description, requests, table

# method: paths; M is a model, † also below a version and a label. api.md calls them the Open Inference Protocol's, Triton's
# and the native ones.
PATHS = """
GET /v2/health/live  /v2/health/ready  /v2  M†  M/ready†  M/config†  M/stats†  /v2/models/stats  /v2/models  /v2/repository/index  /v2/logging
GET /v2/systemsharedmemory/status  /v2/systemsharedmemory/region/{}/status  /v2/cudasharedmemory/status  /v2/cudasharedmemory/region/{}/status
GET /v2/trace/setting  M/trace/setting  /v2/repository/{}/index
POST M/infer†  /v2/repository/index  /v2/repository/models/{}/load  /v2/repository/models/{}/unload  /v2/logging  /v2/trace/setting
POST M/trace/setting  M/generate†  M/generate_stream†  /v2/repository/{}/index  /v2/repository/{}/models/{}/load  /v2/repository/{}/models/{}/unload
POST /v2/systemsharedmemory/region/{}/register  /v2/systemsharedmemory/region/{}/unregister  /v2/systemsharedmemory/unregister
POST /v2/cudasharedmemory/region/{}/register  /v2/cudasharedmemory/region/{}/unregister  /v2/cudasharedmemory/unregister
GET /  /ui  /ui/{}  /openapi.json  /docs  /docs/{}  /v2/problems/{}  /health  /healthz  /livez  /readyz  /metrics  M/definition†  M/versions  M/labels  M/labels/{}
GET M/training  M/weights†  M/weights/{}/{}†  M/layers†  M/layers/{}†  M/layers/{}/singular_values†  M/lipschitz†  M/export†
GET M/checkpoints  M/checkpoints/{}  /v2/datasets  /v2/datasets/{}  /v2/datasets/{}/{}  /v2/jobs  /v2/jobs/{}  /v2/jobs/{}/events
GET /v2/jobs/{}/result  /v2/events  /v2/config
POST /v2/models  M/versions  M/train_step  M/evaluate†  M/gradients†  M/refresh  M/condense  M/tighten  M/certify†  M/wasserstein†
POST M/checkpoints  M/checkpoints/{}/restore  /v2/jobs  /v2/jobs/{}/cancel  /v2/jobs/{}/pause  /v2/jobs/{}/resume
PUT M  M/labels/{}  M/training  M/weights  M/weights/{}/{}  /v2/datasets/{}  /v2/datasets/{}/{}
PATCH M  M/config  M/training  M/layers/{}  /v2/config
DELETE M  M/versions/{}  M/labels/{}  M/checkpoints/{}  /v2/datasets/{}  /v2/jobs/{}
"""
PROBLEM = "application/problem+json"
STREAMS = {"jobEvents", "events"}  # have no length
ASYNC = {"evaluate", "tighten", "lipschitz", "certify", "wasserstein", "exportModel"}
EXPOSED = """Inference-Header-Content-Length ETag Location Retry-After Content-Disposition Repr-Digest Preference-Applied X-Request-Id
    Idempotency-Replayed Onelip-Weights-Revision Onelip-Transfer-Deviation Server-Timing""".split()


def paths(check):
    have, missing = table(), []
    for line in PATHS.strip().splitlines():
        method, *these = line.split()
        for path in these:
            below = ("/v2/models/{}", "/v2/models/{}/versions/{}", "/v2/models/{}/labels/{}") if path.endswith("†") else ("/v2/models/{}",)
            for m in below:
                full = re.sub("^M", m, path.rstrip("†"))
                if (method.lower(), full) not in have:
                    missing.append((method, full))
    check("every path of the wire contract is in the table", not missing, missing)


def reading(check, d, r):
    if r.name in STREAMS:
        return
    get, head = d.get(r.target), d.call("HEAD", r.target)
    names = ("Content-Type", "ETag") + (("Content-Length",) if r.target != "/metrics" and "stats" not in r.target else ())
    check(f"HEAD {r.target} is GET without the body", head.status == get.status and not head.body
          and [head.headers[n] for n in names] == [get.headers[n] for n in names], f"{get}\n{head}")
    tag = get.headers["ETag"]
    if tag:
        for wanted in (tag, f'"none", W/{tag}', "*"):
            same = d.get(r.target, If_None_Match=wanted)
            check(f"{r.target}: If-None-Match {wanted} is 304", same.status == 304 and not same.body and same.headers["ETag"] == tag, same)
        check(f"{r.target}: another tag is 200", d.get(r.target, If_None_Match='"none"').status == 200)


def described(check, d, r, schemas):
    """What holds of a route is in its description."""
    parameters = [schemas.resolve(p) for p in r.operation.get("parameters", ())]
    headers = {p["name"] for p in parameters if p["in"] == "header"}
    wanted, kind = set(), {"Content-Type": r.kind} if r.kind else {}
    if r.method == "POST":
        wanted.add("Idempotency-Key")
    elif r.method == "GET" and r.name not in STREAMS:
        a = d.get(r.target)
        if a.headers["ETag"] or a.status != 200 and "If-None-Match" in headers:  # there may be no files of pages here
            wanted.add("If-None-Match")
            check(f"GET {r.target}: 304 is described", "304" in r.operation["responses"])
    if r.method != "GET" and d.call(r.method, r.target, r.body, {**kind, "If-Match": '"00000000-1-1"'}).code in ("precondition_failed", "version_frozen"):
        wanted.add("If-Match")
    asked = d.call(r.method, r.target + ("&" if "?" in r.target else "?") + "no_such_thing=1", r.body, kind)
    known = re.search(r'unknown query parameter "no_such_thing"; known here: (.*)', asked.json["error"]) if asked.code == "bad_parameter" else None
    if known:
        names = set(known[1].split(", ")) - {"none"}
        check(f"{r.method} {r.path}: query parameters are described", names == {p["name"] for p in parameters if p["in"] == "query"}, names)
    check(f"{r.method} {r.path}: headers are described", headers & {"Idempotency-Key", "If-None-Match", "If-Match"} == wanted, (headers, wanted))


def later(check, d, r, schemas):
    """Prefer: respond-async: of the operations that the wire contract marks a job, of all others what they do anyway."""
    may = any(p["name"] == "Prefer" for p in map(schemas.resolve, r.operation.get("parameters", ())))
    check(f"{r.method} {r.path} {'may' if may else 'may not'} become a job", may == (re.sub("Of(Version|Label)$", "", r.name) in ASYNC), r.name)
    if not may:
        return
    a = d.call(r.method, r.target, r.body, {"Prefer": "respond-async", **({"Content-Type": r.kind} if r.kind else {})})
    if a.code == "version_frozen":
        return
    check(f"{r.method} {r.target} with Prefer: respond-async is a job", a.status == 202 and a.headers["Preference-Applied"] == "respond-async"
          and a.headers["Location"] == f"/v2/jobs/{a.json['id']}" and a.json["object"] == "job", a)
    d.wait(lambda: d.get(a.headers["Location"]).json["status"] in ("succeeded", "failed"), "its end")
    plain = d.call(r.method, r.target, r.body, {"Content-Type": r.kind} if r.kind else {})
    result = d.get(a.headers["Location"] + "/result")
    check("whose result is what the plain request gets", d.get(a.headers["Location"]).json["status"] == "succeeded" and result.status == plain.status == 200
          and result.headers["Content-Type"] == plain.headers["Content-Type"] and bool(result.body) == bool(plain.body), f"{result}\n{plain}")


def sending(check, d, r):
    """Codings first, which change nothing while the body makes no sense; the example itself, compressed, is the last."""
    junk = b'{"what no route knows": ['
    kind = {"Content-Type": r.kind} if r.kind else {}
    plain = d.call(r.method, r.target, junk, kind)
    for coding, packed in (("gzip", gzip.compress(junk)), ("deflate", zlib.compress(junk))):
        a = d.call(r.method, r.target, packed, {**kind, "Content-Encoding": coding})
        check(f"{r.method} {r.target}: {coding} is unpacked before anything is read", (a.status, a.code) == (plain.status, plain.code)
              and a.json["error"] == plain.json["error"], f"{plain}\n{a}")
    oip = r.target.endswith("/infer") or "/repository/" in r.target or r.target == "/v2/logging"
    a = d.call(r.method, r.target, junk, {**kind, "Content-Encoding": "br"})
    check(f"{r.method} {r.target}: another coding is {501 if oip else 415}", a.status == (501 if oip else 415)
          and a.code == "unsupported_encoding" and a.headers["Accept-Encoding"] == "gzip, deflate", a)


def preconditions(check, d, r):
    if "/models/" not in r.target and "/datasets/" not in r.target and r.target != "/v2/config":
        return
    a = d.call(r.method, r.target, r.body, {"If-Match": '"00000000-1-1"', **({"Content-Type": r.kind} if r.kind else {})})
    check(f"{r.method} {r.target}: another If-Match is 412", a.code in ("precondition_failed", "version_frozen"), a)
    if a.code == "precondition_failed" and a.headers["ETag"] and re.fullmatch(r'"[0-9a-f]{8}-\d+-\d+"', a.headers["ETag"]):
        check(f"{r.method} {r.target}: with the present tag and revision",
              a.json.get("current_revision") == int(a.headers["ETag"].strip('"').split("-")[2]), a)


def compressed(check, d, r):
    body = r.body if isinstance(r.body, bytes) else r.body.encode() if isinstance(r.body, str) else json.dumps(r.body).encode()
    a = d.call(r.method, r.target, gzip.compress(body), {"Content-Type": r.kind, "Content-Encoding": "gzip"})
    check(f"{r.method} {r.target}: the example, compressed", 200 <= a.status < 300 or a.code == "version_frozen", a)


def failing(check, d, r):
    wrong = re.sub(r"^/v2/(models|jobs|datasets|problems)/[^/?]+", r"/v2/\1/nobody", r.target)
    if wrong == r.target or wrong == "/v2/models/nobody" and r.method == "PUT" or "/datasets/" in wrong and r.method == "PUT":
        return
    kind = {"Content-Type": r.kind} if r.kind else {}
    plain = d.call(r.method, wrong, r.body, kind)
    asked = d.call(r.method, wrong, r.body, {**kind, "Accept": f"{PROBLEM};q=0.5, */*;q=0.1", "X-Request-Id": plain.headers["X-Request-Id"]})
    check(f"{r.method} {wrong}: a failure of both types", plain.status == asked.status == 404 and plain.body == asked.body
          and plain.headers["Content-Type"] == "application/json" and asked.headers["Content-Type"] == PROBLEM, f"{plain}\n{asked}")


def crossing(check, d, r):
    options = d.call("OPTIONS", r.target)
    allowed = (options.headers["Allow"] or "").split(", ")
    check(f"OPTIONS {r.target} names {r.method}", options.status == 204 and r.method in allowed and ("HEAD" in allowed) == ("GET" in allowed), options)
    origin = {"Origin": "https://lab.example"}
    a = d.call("OPTIONS", r.target, headers={**origin, "Access-Control-Request-Method": r.method,
                                             "Access-Control-Request-Headers": "content-type, if-match, inference-header-content-length"})
    granted = {h.strip().lower() for h in (a.headers["Access-Control-Allow-Headers"] or "").split(",")}
    check(f"a page may ask for {r.method} {r.target}", a.status == 204 and r.method in a.headers["Access-Control-Allow-Methods"]
          and a.headers["Access-Control-Allow-Origin"] == origin["Origin"] and a.headers["Access-Control-Max-Age"] == "600"
          and {"content-type", "if-match", "inference-header-content-length"} <= granted and "Origin" in a.headers["Vary"], a)
    if r.name in STREAMS or r.method != "GET":
        return
    a = d.get(r.target, **origin)
    told = {h.strip() for h in (a.headers["Access-Control-Expose-Headers"] or "").split(",")}
    check(f"and read the headers of {r.target}", set(EXPOSED) <= told and a.headers["Access-Control-Allow-Origin"] == origin["Origin"], a)


def plan(check):
    paths(check)
    api, built = description(), table()
    schemas = Schemas(api)
    codes = re.findall(r"^PROBLEM\((\w+),", pathlib.Path(SOURCE, "server/errors.def").read_text(), re.M)
    check("every code is described", api["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == codes)
    with Daemon("--cors-origins", "https://lab.example") as d:
        for r in requests(d, api, built, schemas, changes=lambda method: method != "get"):
            described(check, d, r, schemas)
            later(check, d, r, schemas)
            crossing(check, d, r)
            failing(check, d, r)
            if r.method == "GET":
                reading(check, d, r)
            if r.kind:
                sending(check, d, r)
            if r.method in ("PUT", "PATCH", "DELETE") or r.operation["responses"].get("412"):
                preconditions(check, d, r)
            if r.kind:
                compressed(check, d, r)


run(plan)
