"""Exports for another arithmetic with what it loses, and exports that are read again before they are sent."""

import json
import math
import random
import struct

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

WILD = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 3, "name": "y"}},
    {"class_name": "Activation", "config": {"activation": "exponential", "name": "wild"}}]}}
IMAGES = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 8, 8, 1], "name": "x"}},
    {"class_name": "SpectralConv2D", "config": {"filters": 4, "kernel_size": 3, "name": "c"}},
    {"class_name": "GroupSort2", "config": {"name": "s"}},
    {"class_name": "ScaledL2NormPooling2D", "config": {"pool_size": [2, 2], "name": "p"}},
    {"class_name": "Flatten", "config": {"name": "f"}},
    {"class_name": "FrobeniusDense", "config": {"units": 3, "name": "y"}}]}}


def header(body):
    length = struct.unpack("<Q", body[:8])[0]
    return json.loads(body[8:8 + length])


def plan(check):
    noise = random.Random(6)
    with Daemon("--log-level", "error") as d:
        m = d.create("m", training=TRAINING)
        d.post(m + "/train_step", batch())
        images = d.create("images", IMAGES)
        wild = d.create("wild", WILD)

        def answers(path, x):
            return d.post(path + "/infer", {"inputs": [tensor("x", [len(x), *shape], sum(x, []))]}).json["outputs"][0]["data"]

        for path, shape in ((m, [4]), (images, [8, 8, 1])):
            name = path.rsplit("/", 1)[1]
            norm = math.sqrt(math.prod(shape))
            points = [[noise.random() for _ in range(math.prod(shape))] for _ in range(200)]
            served, told = answers(path, points), {}
            for arithmetic, dtype in (("fp32", "F32"), ("tf32", "F32"), ("bf16", "BF16"), ("fp16", "F16")):
                a = d.get(f"{path}/export?transfer={arithmetic}&verify=true")
                told[arithmetic] = float(a.headers["Onelip-Transfer-Deviation"])
                meta = json.loads(header(a.body)["__metadata__"]["transfer"])
                check(f"{name} for {arithmetic}: certified in header and file", a.status == 200 and told[arithmetic] > 0 and meta == {
                    **meta, "arithmetic": arithmetic, "deviation": told[arithmetic], "input_norm": norm, "norm": "l2",
                    "weights_rounded": dtype != "F32"}, (a.headers, meta))
                check(f"{name} for {arithmetic}: plain layers in {dtype}", {t["dtype"] for k, t in header(a.body).items() if k != "__metadata__"} == {dtype}
                      and '"Dense"' in header(a.body)["__metadata__"]["definition"], header(a.body))
                check(f"{name} for {arithmetic}: read again before it was sent",
                      0 <= float(a.headers["Onelip-Verify-Deviation"]) <= told[arithmetic] + told["fp32"], a.headers)
                # the file in a model of its own: its weights really are rounded, its answers within the certificate
                plain = d.create("plain", json.loads(header(a.body)["__metadata__"]["definition"]))
                put = d.put(plain + "/weights", a.body)
                got = answers(plain, points)
                far = max(math.dist(got[3 * i:3 * i + 3], served[3 * i:3 * i + 3]) for i in range(200))
                check(f"{name} for {arithmetic}: its answers are within the deviation", put.status == 200 and (far > 0) == (dtype != "F32")
                      and far <= told[arithmetic] + told["fp32"], (far, told, put))
            check(f"{name}: fewer bits, more deviation", told["fp32"] < told["tf32"] < told["fp16"] < told["bf16"], told)

        near, far = (d.get(f"{m}/export?transfer=bf16&input_norm={n}") for n in (0.5, 8))
        check("input_norm", float(near.headers["Onelip-Transfer-Deviation"]) < float(far.headers["Onelip-Transfer-Deviation"])
              and json.loads(header(far.body)["__metadata__"]["transfer"])["input_norm"] == 8 and near.headers["ETag"] != far.headers["ETag"])
        a = d.get(m + "/export?transfer=tf32&format=keras_json")
        check("a format without metadata has the header", a.json["class_name"] == "Sequential" and float(a.headers["Onelip-Transfer-Deviation"]) > 0, a)
        d.post(m + "/versions", {"labels": ["stable"]})
        d.post(m + "/train_step", batch())
        a = d.get(m + "/labels/stable/export?vanilla=true&verify=true&transfer=fp16")
        check("of a version", a.status == 200 and 'filename="m-1-' in a.headers["Content-Disposition"]
              and 'filename="m-2-' in d.get(m + "/export?vanilla=true").headers["Content-Disposition"], a)

        # verify alone
        d.put(m + "/training", {**TRAINING, "publish": "never"})
        d.post(m + "/train_step", batch())
        for path, query in ((m, ""), (m, "vanilla=true"), (m, "format=keras_json"), (m, "format=keras_json&dialect=legacy&vanilla=true"),
                            (images, ""), (images, "vanilla=true"), (wild, ""), (wild, "vanilla=true")):
            a, again = d.get(f"{path}/export?verify=true&{query}"), d.get(f"{path}/export?{query}")
            check(f"verify {path} {query}", a.status == 200 and float(a.headers["Onelip-Verify-Deviation"]) == 0 and a.body == again.body
                  and a.headers["ETag"] == again.headers["ETag"] and "Onelip-Verify-Deviation" not in again.headers, a)
        job = d.get(m + "/export?transfer=bf16&verify=true", Prefer="respond-async")
        d.wait(lambda: d.get(job.headers["Location"]).json["status"] == "succeeded", "the export")
        result, now = d.get(job.headers["Location"] + "/result"), d.get(m + "/export?transfer=bf16")
        check("later, as a job", result.body == now.body and result.headers["Onelip-Transfer-Deviation"] == now.headers["Onelip-Transfer-Deviation"], result)

        for path, query, status, code in ((m, "transfer=fp8", 400, "bad_parameter"), (m, "transfer=bf16&vanilla=false", 400, "bad_parameter"),
                                          (m, "input_norm=2", 400, "bad_parameter"), (m, "transfer=bf16&input_norm=0", 400, "bad_parameter"),
                                          (m, "verify=perhaps", 400, "bad_parameter"), (m, "transfer=fp16&input_norm=1e6", 422, "no_bound"),
                                          (wild, "transfer=fp32", 422, "no_bound")):
            a = d.get(f"{path}/export?{query}")
            check(f"{query}: {status} {code}", a.status == status and a.code == code and "Onelip-Transfer-Deviation" not in a.headers, a)


run(plan)
