"""The Wasserstein distance between the model's bound and a plan's cost: known distances, sizes that differ, time, bad samples."""

import json
import math
import random
import struct

from daemon import TRAINING, Daemon, run, tensor

CIRCLES = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 2], "name": "x"}},
    {"class_name": "SpectralDense", "config": {"units": 64, "name": "d1"}},
    {"class_name": "GroupSort2", "config": {"name": "s1"}},
    {"class_name": "SpectralDense", "config": {"units": 64, "name": "d2"}},
    {"class_name": "GroupSort2", "config": {"name": "s2"}},
    {"class_name": "FrobeniusDense", "config": {"units": 1, "name": "y"}}]}}
KR = {"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.01}}, "loss": "KR"}


def plan(check):
    noise = random.Random(3)
    with Daemon() as d:
        m = d.create("circles", CIRCLES, KR)
        other = d.create("other")  # three outputs, four inputs

        def circle(n, r):
            return [[r * math.cos(a), r * math.sin(a)] for a in (2 * math.pi * noise.random() for _ in range(n))]

        def ask(p, q, path=m, **parameters):
            return d.post(path + "/wasserstein", {"inputs": [tensor("p", [len(p), len(p[0])], sum(p, [])),
                                                             tensor("q", [len(q), len(q[0])], sum(q, []))], "parameters": parameters})

        def train(steps):
            for _ in range(steps):
                x = circle(64, 1) + circle(64, 2)
                d.post(m + "/train_step", {"inputs": [tensor("x", [128, 2], sum(x, [])),
                                                      tensor("y_true", [128], [1] * 64 + [0] * 64, "INT64")]})

        answer = ask([[0, 0]], [[3, 4]])
        w = answer.json["wasserstein"]
        check("two points", answer.status == 200 and abs(w["upper"] - 5) < 1e-12 and 0 <= w["lower"] <= w["upper"] and w["optimal"] is True
              and w["gap"] == w["upper"] - w["lower"] and (w["n"], w["m"]) == (1, 1) and answer.json["outputs"] == [], answer)
        check("its revision", answer.headers["Onelip-Weights-Revision"] == str(answer.json["parameters"]["weights_revision"])
              and answer.headers["ETag"].startswith(f'"{d.get(m).json["epoch"]}-1-'), answer.headers)
        p, q = circle(200, 1), circle(200, 2)
        before = ask(p, q).json["wasserstein"]
        train(150)
        after = ask(p, q).json["wasserstein"]
        # Circles of radius 1 and 2 are 1 apart; 200 random points on each a little more.
        check("the plan does not depend on the model", before["upper"] == after["upper"] and 1 <= after["upper"] < 1.2
              and after["primal"] == "assignment" and after["optimal"] is True, after)
        check("training to separate them raises the lower bound", before["lower"] < after["lower"] <= after["upper"]
              and after["lower"] > 0.7 and after["network_upper"] < 1.00001, (before, after))
        shifted = [[a + 0.75, b - 1] for a, b in p]
        check("a cloud that was shifted", abs(ask(p, shifted).json["wasserstein"]["upper"] - 1.25) < 1e-6)
        check("both ways round", all(abs(ask(q, p).json["wasserstein"][k] - after[k]) < 1e-9 for k in ("lower", "upper")))
        uneven = ask(p[:60], q[:90]).json["wasserstein"]
        check("samples of different sizes", uneven["primal"] == "transport" and uneven["optimal"] is True and (uneven["n"], uneven["m"]) == (60, 90)
              and uneven["lower"] <= uneven["upper"], uneven)
        hurried = ask(circle(500, 1), circle(500, 2), max_seconds=1e-6).json["wasserstein"]
        check("out of time: a plan that may be dearer", hurried["optimal"] is False and hurried["upper"] > 0.99 and hurried["lower"] <= hurried["upper"], hurried)
        check("of several outputs, the one that is asked for", ask([[0] * 4, [1] * 4], [[3] * 4, [4] * 4], other, index=2).status == 200)
        head = json.dumps({"inputs": [{"name": n, "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}} for n in "pq"]})
        binary = d.post(m + "/wasserstein", head.encode() + struct.pack("<4f", 0, 0, 3, 4), Inference_Header_Content_Length=str(len(head)))
        check("samples in binary", binary.json["wasserstein"]["upper"] == w["upper"], binary)
        check("of a version", d.post(m + "/versions", {}).status == 201
              and ask(p, q, m + "/versions/1").json["wasserstein"] == after and ask(p, q, m + "/versions/1").json["model_version"] == "1")
        job = d.post(m + "/wasserstein", {"inputs": [tensor("p", [1, 2], [0, 0]), tensor("q", [1, 2], [3, 4])]}, Prefer="respond-async")
        if job.status == 202:
            d.wait(lambda: d.get(job.headers["Location"]).json["status"] == "succeeded", "the job")
            result = d.get(job.headers["Location"] + "/result").json
            check("later, as a job", result["wasserstein"]["upper"] == w["upper"], result)

        p1, q1 = tensor("p", [1, 2], [0, 0]), tensor("q", [1, 2], [1, 1])
        for body, status, code, pointer in (
                ({"inputs": [p1]}, 400, "missing_input", "/inputs"),
                ({"inputs": [p1, q1, tensor("r", [1], [0])]}, 400, "unknown_input", "/inputs/2/name"),
                ({"inputs": [p1, tensor("q", [1, 3], [0, 0, 0])]}, 400, "shape_mismatch", "/inputs/1/shape/1"),
                ({"inputs": [p1, tensor("q", [0, 2], [])]}, 400, "shape_mismatch", "/inputs/1/shape/0"),
                ({"inputs": [p1, tensor("q", [1, 2], [0, "NaN"])]}, 422, "nonfinite", "/inputs/1"),
                ({"inputs": [p1, q1], "parameters": {"index": 1}}, 400, "bad_parameter", "/parameters/index"),
                ({"inputs": [p1, q1], "parameters": {"max_seconds": 0}}, 400, "bad_parameter", "/parameters/max_seconds"),
                ({"inputs": [p1, q1], "parameters": {"steps": 3}}, 400, "unknown_member", "/parameters/steps"),
                ({"inputs": [p1, q1], "outputs": [{"name": "y"}]}, 400, "unknown_output", "/outputs/0/name"),
                ({"inputs": [p1, q1], "epsilons": []}, 400, "unknown_member", "/epsilons")):
            got = d.post(m + "/wasserstein", body)
            check(f"{code} at {pointer}", got.status == status and got.code == code and got.json["errors"][0]["pointer"] == pointer, got)
        check("several outputs and no index", ask([[0] * 4], [[1] * 4], other).code == "bad_parameter")
        check("a raw body is one sample, not two", d.post(m + "/wasserstein", b"\0" * 8, Inference_Header_Content_Length="0").code == "bad_request")
        check("an unknown model", ask([[0, 0]], [[1, 1]], "/v2/models/none").code == "unknown_model")


run(plan)
