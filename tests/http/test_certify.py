"""Certificates over the wire: exact radii of linear models, attacks on infer's answers from inside the balls, every option."""

import json
import math
import random
import struct

from daemon import MLP, TRAINING, Daemon, batch, floats, run, tensor

LINEAR = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 3], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 3, "name": "y"}}]}}
SCALAR = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "SpectralDense", "config": {"units": 8, "name": "d"}},
    {"class_name": "GroupSort2", "config": {"name": "s"}},
    {"class_name": "FrobeniusDense", "config": {"units": 1, "name": "y"}}]}}
UNBOUNDED = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 3, "name": "y"}},
    {"class_name": "Activation", "config": {"activation": "exponential", "name": "wild"}}]}}


def outputs(answer):
    return {o["name"]: o["data"] for o in answer.json["outputs"]}


def plan(check):
    noise = random.Random(5)

    # a linear classifier: the radius is the distance to the nearest boundary, in each norm
    with Daemon() as d:
        m = d.create("line", LINEAR)
        kernel = [[1.0, -0.5, 0.25], [0.0, 2.0, -1.0], [-0.75, 0.5, 3.0]]  # exact in float32
        bias = [0.5, -0.25, 0.0]
        for name, shape, data in (("kernel", [3, 3], sum(kernel, [])), ("bias", [3], bias)):
            d.put(f"{m}/weights/y/{name}", tensor("y/" + name, shape, data))
        x = [[round(noise.uniform(-4, 4) * 64) / 64 for _ in range(3)] for _ in range(50)]
        logits = [[sum(p[i] * kernel[i][j] for i in range(3)) + bias[j] for j in range(3)] for p in x]
        label = [max(range(3), key=lambda j: row[j]) for row in logits]
        dual = {"l2": lambda w: math.sqrt(sum(v * v for v in w)), "l1": lambda w: max(map(abs, w)),
                "linf": lambda w: sum(map(abs, w))}

        def certify(body={}, path=m, points=x, labels=None, **parameters):
            inputs = [tensor("x", [len(points), len(points[0])], sum(points, []))]
            if labels is not None:
                inputs.append(tensor("y_true", [len(labels)], labels, "INT64"))
            return d.post(path + "/certify", {"inputs": inputs, "parameters": parameters, **body})

        answer = certify(labels=label)
        got = outputs(answer)
        check("logits, labels, margins", answer.status == 200 and got["label"] == label and len(got["y"]) == 150
              and all(abs(a - b) < 1e-5 for a, b in zip(got["y"], sum(logits, []))), answer)
        check("its headers", answer.headers["Onelip-Weights-Revision"] == "3" and answer.headers["ETag"].endswith('-1-3"')
              and answer.json["parameters"]["weights_revision"] == 3, answer.headers)
        true = [min((row[c] - row[j]) / dual["l2"]([kernel[i][c] - kernel[i][j] for i in range(3)]) for j in range(3) if j != c)
                for row, c in zip(logits, label)]
        check("radii are the distances, rounded down",
              all(t * (1 - 1e-5) - 1e-6 <= r <= t for r, t in zip(got["radius"], true)), list(zip(got["radius"], true))[:5])
        for norm in ("l1", "linf"):
            radius = outputs(certify(norm=norm))["radius"]
            true_there = [min((row[c] - row[j]) / dual[norm]([kernel[i][c] - kernel[i][j] for i in range(3)]) for j in range(3) if j != c)
                          for row, c in zip(logits, label)]
            check(f"{norm}: likewise", all(t * (1 - 1e-5) - 1e-6 <= r <= t for r, t in zip(radius, true_there)),
                  list(zip(radius, true_there))[:5])
        attacked = certify(labels=label[:-1] + [(label[-1] + 1) % 3], attack=True, input_scale=0.5)
        both = outputs(attacked)
        found = floats(struct.pack("<150f", *both["attack"]))  # JSON has the shortest decimals of these
        moved = [found[3 * i:3 * i + 3] for i in range(50)]
        check("an attack gives the other end of the interval", all(r <= a < 1.05 * 2 * t + 1e-6 for r, a, t in
              list(zip(both["radius"], both["attack_radius"], true))[:-1]) and both["attack_radius"][-1] == 0 and moved[-1] == x[-1],
              list(zip(both["radius"], both["attack_radius"], true)))
        check("and a point that proves it", all(a != b for a, b in list(zip(outputs(certify(points=moved))["label"], label))[:-1])
              and all(math.dist(a, b) * 2 <= r * (1 + 1e-12) for a, b, r in zip(moved, x, both["attack_radius"])))
        # attack_radius may be "Infinity": a model that answers one thing only
        constant = d.create("constant", LINEAR)
        d.put(constant + "/weights/y/kernel", tensor("y/kernel", [3, 3], [0] * 9))
        d.put(constant + "/weights/y/bias", tensor("y/bias", [3], [0, 1, 0]))
        nowhere = certify(path=constant, points=x[:2], attack=True)
        check("none found is Infinity", outputs(nowhere)["attack_radius"] == ["Infinity"] * 2, nowhere)
        plain = outputs(certify())["radius"]
        scaled = outputs(certify(input_scale=0.25))["radius"]
        check("input_scale: radii in the caller's units", all(math.isclose(4 * a, b, rel_tol=1e-12) for a, b in zip(plain, scaled)))
        single = outputs(certify(arithmetic="float32"))["radius"]
        check("float32 loses a little more to rounding", all(s <= p and s > p - 1e-4 for s, p in zip(single, plain)))

        wrong = [(c + 1) % 3 if i % 2 else c for i, c in enumerate(label)]
        flat = outputs(certify(labels=wrong))
        check("wrong answers have radius 0 and a negative margin", all((r == 0) == (i % 2 == 1) for i, r in enumerate(flat["radius"]))
              and all((v < 0) == (i % 2 == 1) for i, v in enumerate(flat["margin"])))
        negative = certify(labels=wrong, negative_robustness=True)
        check("or a negative one, as deel-lip", all((r < 0) == (i % 2 == 1) for i, r in enumerate(outputs(negative)["radius"])))

        steps = [0, 0.1, 0.5, 2.0]
        curved = certify({"epsilons": steps}, labels=wrong, curve=True)
        c = curved.json["certificate"]
        radii = outputs(curved)["radius"]
        check("provable accuracy is the share of larger radii",
              c["epsilons"] == steps and c["provable_accuracy"] == [sum(r > e for r in radii) / 50 for e in steps]
              and math.isclose(c["mean_radius"], sum(radii) / 50, rel_tol=1e-12), c)
        check("the curve has every sample", c["curve"]["radius"] == sorted(radii) and c["curve"]["accuracy"][0] == 1
              and c["curve"]["accuracy"] == sorted(c["curve"]["accuracy"], reverse=True)
              and all(a == sum(r >= e for r in radii) / 50 for e, a in zip(c["curve"]["radius"], c["curve"]["accuracy"])), c["curve"])
        check("what claims nothing has no reference", c["reference"] is None and c["head"] == "joint" and c["norm"] == "l2"
              and c["arithmetic"] == "float64")
        none = d.post(m + "/certify", {"inputs": [tensor("x", [0, 3], [])], "epsilons": [1]}).json["certificate"]
        check("no samples, no shares", none["mean_radius"] == 0 and none["provable_accuracy"] == [0], none)

        # binary in and out, a choice of outputs
        raw = struct.pack("<150f", *sum(x, []))
        head = json.dumps({"inputs": [{"name": "x", "shape": [50, 3], "datatype": "FP32", "parameters": {"binary_data_size": 600}}],
                           "outputs": [{"name": "radius", "parameters": {"binary_data": True}}, {"name": "label"},
                                       {"name": "method", "parameters": {"binary_data": True}}]}).encode()
        answer = d.post(m + "/certify", head + raw, Inference_Header_Content_Length=str(len(head)))
        length = int(answer.headers["Inference-Header-Content-Length"])
        shown = {o["name"]: o for o in json.loads(answer.body[:length])["outputs"]}
        at = length + (shown["label"].get("parameters") or {}).get("binary_data_size", 0)
        first = list(shown)
        check("outputs in binary: FP64 and BYTES", first == ["label", "radius", "method"] and shown["label"]["data"] == label
              and shown["radius"]["parameters"]["binary_data_size"] == 400
              and list(struct.unpack("<50d", answer.body[at:at + 400])) == plain
              and answer.body[at + 400:] == 50 * (struct.pack("<I", 4) + b"pair"), answer)
        one = d.post(m + "/certify", raw[:12], Inference_Header_Content_Length="0")
        check("a raw request is one sample", one.headers["Inference-Header-Content-Length"]
              and struct.unpack("<d", one.body[-16:-8])[0] == plain[0], one)

        big = certify(points=[[3e38, 1e38, 0.0], x[0]])
        check("what could overflow has no radius, and that is said", outputs(big)["radius"][0] == 0 and outputs(big)["radius"][1] > 0
              and outputs(big)["method"][0] == "none" and any(w["code"] == "no_radius" and w["samples"] == 1 and "overflow" in w["text"]
                                                              for w in big.json["certificate"]["warnings"]), big)
        # errors, each with its place
        good = {"inputs": [tensor("x", [1, 3], [1, 2, 3])]}
        for body, status, code, pointer in (
                ({**good, "epsilons": 3}, 400, "bad_parameter", "/epsilons"),
                ({**good, "epsilons": [0.1, -1]}, 400, "bad_parameter", "/epsilons/1"),
                ({**good, "epsilon": [0.1]}, 400, "unknown_member", "/epsilon"),
                ({**good, "parameters": {"norm": "l3"}}, 400, "bad_parameter", "/parameters/norm"),
                ({**good, "parameters": {"arithmetic": "fp8"}}, 400, "bad_parameter", "/parameters/arithmetic"),
                ({**good, "parameters": {"curve": 1}}, 400, "bad_parameter", "/parameters/curve"),
                ({**good, "parameters": {"input_scale": 0}}, 400, "bad_parameter", "/parameters/input_scale"),
                ({**good, "parameters": {"radius": 1}}, 400, "unknown_member", "/parameters/radius"),
                ({**good, "parameters": {"timeout": -1}}, 400, "bad_parameter", "/parameters/timeout"),
                ({**good, "outputs": [{"name": "secret"}]}, 400, "unknown_output", "/outputs/0/name"),
                ({"inputs": good["inputs"] + [tensor("y_true", [2], [0, 1], "INT64")]}, 400, "shape_mismatch", "/inputs/1"),
                ({"inputs": good["inputs"] + [tensor("y_true", [1], [0.5])]}, 422, "bad_labels", "/inputs/1"),
                ({"inputs": good["inputs"] + [tensor("y_true", [1], [3], "INT64")]}, 422, "bad_labels", "/inputs"),
                ({"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]}, 400, "shape_mismatch", "/inputs/0/shape/1"),
                ({"inputs": []}, 400, "missing_input", "/inputs")):
            answer = d.post(m + "/certify", body)
            check(f"{code} at {pointer}", answer.status == status and answer.code == code
                  and answer.json["errors"][0]["pointer"] == pointer, answer)
        check("a deadline that has passed", d.post(m + "/certify", {**good, "parameters": {"timeout": 1}}).code == "deadline_exceeded")
        d.create("wild", UNBOUNDED)
        answer = d.post("/v2/models/wild/certify", {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]})
        check("no rule, no certificate, and the layer's name", answer.status == 422 and answer.code == "no_bound"
              and '"wild"' in answer.json["error"], answer)
        check("not_found stays so", d.post("/v2/models/none/certify", good).code == "unknown_model"
              and d.post(m + "/versions/9/certify", good).code == "unknown_version"
              and d.post(m + "/versions/1/certify", good).status == 200)

        # one output: the sign
        s = d.create("s", SCALAR)
        points = [[noise.uniform(-2, 2) for _ in range(4)] for _ in range(30)]
        got = certify(path=s, points=points, labels=[1] * 30).json
        by = {o["name"]: o["data"] for o in got["outputs"]}
        check("one output: sign, norm, deel-lip's |f|", by["label"] == [int(v > 0) for v in by["y"]]
              and all((r > 0) == (v > 1e-6) for r, v in zip(by["radius"], by["y"])) and set(by["method"]) <= {"norm", "local", "none"}
              and got["certificate"]["head"] == "scalar" and got["certificate"]["reference"]["factor"] == 1, got)

    # a trained model: attacks on infer's answers, one by one and in batches, with one thread and with two
    for threads in ("1", "2"):
        with Daemon("--threads", threads) as d:
            m = d.create(training=TRAINING)
            for _ in range(30):
                d.post(m + "/train_step", batch(12, learning_rate=0.02))
            points = [[noise.uniform(-1.5, 1.5) for _ in range(4)] for _ in range(24)]
            got = outputs(d.post(m + "/certify", {"inputs": [tensor("x", [24, 4], sum(points, []))],
                                                  "parameters": {"arithmetic": "float32"}}))

            def infer(rows):
                head = json.dumps({"inputs": [{"name": "x", "shape": [len(rows), 4], "datatype": "FP32",
                                               "parameters": {"binary_data_size": 16 * len(rows)}}],
                                   "parameters": {"binary_data_output": True}}).encode()
                answer = d.post(m + "/infer", head + struct.pack(f"<{4 * len(rows)}f", *sum(rows, [])),
                                Inference_Header_Content_Length=str(len(head)))
                y = floats(answer.body[int(answer.headers["Inference-Header-Content-Length"]):])
                return [y[3 * i:3 * i + 3] for i in range(len(rows))]

            def margin(row, c):
                return row[c] - max(row[j] for j in range(3) if j != c)

            def inside(x, direction, r):
                """A float32 point at most r away from the float32 point x."""
                x = floats(struct.pack("<4f", *x))
                size = math.sqrt(sum(v * v for v in direction)) or 1
                while True:
                    p = floats(struct.pack("<4f", *(a + r * v / size for a, v in zip(x, direction))))
                    if math.dist(p, x) <= got["radius"][i]:
                        return p
                    r *= 1 - 1e-7

            flips, worst, tried, broken = 0, math.inf, 0, 0
            for i, x in enumerate(points):
                c, r = got["label"][i], got["radius"][i]
                if r <= 0:
                    continue
                step, best, lowest = 1.0, None, math.inf
                for _ in range(12):  # the best direction so far, disturbed less and less
                    directions = [[(best[k] if best else 0) + step * noise.gauss(0, 1) for k in range(4)] for _ in range(128)]
                    rows = infer([inside(x, v, r) for v in directions])
                    values = [margin(row, c) for row in rows]
                    tried += len(values)
                    flips += sum(v <= 0 for v in values)
                    if min(values) < lowest:
                        lowest = min(values)
                        best = directions[values.index(lowest)]
                        size = math.sqrt(sum(v * v for v in best))
                        best = [v / size for v in best]
                    step *= 0.6
                alone = infer([inside(x, best, r)])[0]
                flips += margin(alone, c) <= 0
                worst = min(worst, lowest / max(got["margin"][i], 1e-9))
                broken += margin(infer([[a + 6 * r * v for a, v in zip(x, best)]])[0], c) <= 0
            check(f"--threads {threads}: no answer of infer flips inside a ball ({tried} attacks)", flips == 0 and tried > 20000, flips)
            check("the attacks come close, and some succeed six radii out", worst < 0.6 and broken > 3, (worst, broken))
            disjoint = json.loads(json.dumps(MLP))
            disjoint["config"]["layers"][3]["config"]["disjoint_neurons"] = True
            c = d.post(m + "/certify", {"inputs": [tensor("x", [24, 4], sum(points, []))], "epsilons": [0.1]}).json["certificate"]
            check("the reference is deel-lip's, and smaller", c["head"] == "disjoint" and c["reference"]["factor"] == 2
                  and c["reference"]["mean_radius"] < c["mean_radius"], c)


run(plan)
