"""schemathesis, as it is on PyPI, with every check, against a real daemon and its own /openapi.json; and the description's lint.
SCHEMATHESIS and SPECTRAL are the programs."""

import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "http"))
from daemon import TRAINING, Daemon, batch, run

SECONDS = os.environ.get("SCHEMATHESIS_SECONDS", "120")


def unbuilt(d, api):
    """Operations of the wire contract that this build answers with 501 whatever is asked: a server error to schemathesis."""
    for path, item in api["paths"].items():
        for method, op in item.items():
            values = {"id": "job_01JA6ZQ7M2W4X6Y8Z0A1B2C3D4"}
            if d.call(method.upper(), re.sub(r"{(\w+)}", lambda m: values.get(m[1], "1"), path), "{}" if method != "get" else None).code == "unsupported":
                yield op["operationId"]


def plan(check):
    lint = subprocess.run([os.environ["SPECTRAL"], "lint", "--ruleset", HERE / "spectral.json", "--fail-severity", "warn",
                           HERE.parent.parent / "server" / "openapi.json"], capture_output=True, text=True)
    check("spectral finds nothing in openapi.json", lint.returncode == 0, lint.stdout + lint.stderr)
    with Daemon() as d:
        api = d.get("/openapi.json").json
        d.create("demo", api["paths"]["/v2/models"]["post"]["requestBody"]["content"]["application/json"]["example"]["definition"], TRAINING)
        d.post("/v2/models/demo/train_step", batch(6))
        d.post("/v2/models/demo/versions", {"labels": ["stable"]})
        d.put("/v2/datasets/toy?label=label", "a,b,c,d,label\n1,2,3,4,0\n4,3,2,1,1\n0,1,0,1,2\n", Content_Type="text/csv")
        later = list(unbuilt(d, api))
        print("# not built:", *later, flush=True)
        st = subprocess.run([os.environ["SCHEMATHESIS"], "--config-file", HERE / "schemathesis.toml", "run", f"http://{d.host}:{d.port}/openapi.json",
                             "--checks", "all", "--seed", "1", "--continue-on-failure", "--max-time", SECONDS, "--suppress-health-check", "all",
                             "--no-color", "--generation-deterministic",
                             *(word for name in later for word in ("--exclude-operation-id", name))], capture_output=True, text=True)
        check("schemathesis finds nothing", st.returncode == 0, st.stdout + st.stderr)
        check("the daemon is alive after all that", d.alive and d.get("/v2/health/ready").status == 200, d.said()[-2000:])


run(plan)
