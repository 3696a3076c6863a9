"""Inference: JSON and binary, datatypes, batches, revisions, statistics. Captured requests of clients: test_captured.py."""

import json
import struct

from daemon import Daemon, floats, run, tensor

# y = 2 x: a Dense layer of four units whose kernel is set below.
DOUBLE = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 4, "name": "y"}}]}}
NUMBERS = struct.pack("<8f", *range(8))
TWICE = [2.0 * i for i in range(8)]

# 0, 1, 2, 3 in the datatypes that cast_inputs lets in.
SMALL = {"UINT8": bytes(range(4)), "FP16": struct.pack("<4e", *range(4)), "FP64": struct.pack("<4d", *range(4)),
         "BF16": b"".join(struct.pack("<f", v)[2:] for v in range(4))}


def single(values):
    return [struct.unpack("<f", struct.pack("<f", v))[0] for v in values]


def datatypes(check, d, m):
    def ask(datatype, data, shape=(1, 4)):
        head = json.dumps({"inputs": [{"name": "x", "shape": shape, "datatype": datatype,
                                       "parameters": {"binary_data_size": len(data)}}]}).encode()
        return d.post(m + "/infer", head + data, Inference_Header_Content_Length=str(len(head)))

    for datatype, data in SMALL.items():
        answer = ask(datatype, data)
        check(f"{datatype} is refused", answer.status == 400 and answer.code == "datatype_mismatch" and answer.json["error"]
              == f"inference input 'x' data-type is '{datatype}', but model 'm' expects 'FP32'", answer)
    casts = d.call("PATCH", m + "/config", {"parameters": {"cast_inputs": {"string_value": "true"}}})
    for datatype, data in SMALL.items():
        answer = ask(datatype, data)
        check(f"{datatype} is cast", answer.status == casts.status == 200 and answer.json["outputs"][0]["data"] == TWICE[:4]
              and answer.json["outputs"][0]["datatype"] == "FP32", answer)
        odd = ask(datatype, data[:-1])
        check(f"{datatype}: a byte is missing", odd.status == 400 and odd.code == "size_mismatch", odd)
    extremes = ask("FP16", struct.pack("<4H", 0x0001, 0x8001, 0x7BFF, 0xFBFF)).json["outputs"][0]["data"]
    check("FP16: the smallest and the largest", single(extremes) == [2 ** -23, -2 ** -23, 131008, -131008], extremes)
    exact = ask("FP64", struct.pack("<4d", 1 / 3, 1 + 2 ** -24, 1 + 3 * 2 ** -24, -1e-300)).json["outputs"][0]["data"]
    check("FP64: the nearest, of two the even one", single(exact) == [2 * single([1 / 3])[0], 2, 2 + 2 ** -21, 0], exact)
    for datatype, data in (("FP16", struct.pack("<H", 0xFC00)), ("BF16", b"\x80\xff"), ("FP64", struct.pack("<d", float("-inf")))):
        answer = ask(datatype, data + bytes(3 * len(data)))  # beside it 0 times infinity
        check(f"{datatype}: an infinity stays one", answer.json["outputs"][0]["data"] == ["-Infinity", "NaN", "NaN", "NaN"], answer)
    beyond = ask("FP64", struct.pack("<4d", 0, 1e39, 0, 0))
    check("FP64: beyond FP32", beyond.status == 400 and beyond.code == "datatype_mismatch" and "beyond FP32" in beyond.json["error"], beyond)
    for datatype, data, code in (("UINT8", [0, 1, 2, 3], None), ("FP64", [0, 1.0, 2, 3], None), ("UINT8", [0, 1, 2, 256], "datatype_mismatch"),
                                 ("FP64", [0, 1e39, 0, 0], "datatype_mismatch"), ("FP16", [0, 1, 2, 3], "datatype_mismatch"),
                                 ("INT32", [0, 1, 2, 3], "datatype_mismatch"), ("BOOL", [True] * 4, "datatype_mismatch")):
        answer = d.post(m + "/infer", {"inputs": [tensor("x", [1, 4], data, datatype)]})
        check(f"{datatype} {data} in JSON", answer.code == code if code else answer.json["outputs"][0]["data"] == TWICE[:4], answer)
    d.call("PATCH", m + "/config", {"parameters": {"cast_inputs": None}})
    check("and refused again", ask("UINT8", SMALL["UINT8"]).code == "datatype_mismatch")


def plan(check):
    with Daemon() as d:
        m = d.create("m", DOUBLE)
        kernel = struct.pack("<16f", *[2.0 if i % 5 == 0 else 0.0 for i in range(16)])
        head = json.dumps({"y/kernel": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
                           "y/bias": {"dtype": "F32", "shape": [4], "data_offsets": [64, 80]}}).encode()
        answer = d.put(m + "/weights", struct.pack("<Q", len(head)) + head + kernel + bytes(16))
        check("the kernel is twice the identity", answer.status == 200, answer)

        def json_answer(name, answer):
            good = answer.status == 200 and "Inference-Header-Content-Length" not in answer.headers
            body = answer.json if good else {}
            good = good and answer.headers["Content-Type"] == "application/json" and body["model_name"] == "m"
            good = good and body["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 4], "data": TWICE}]
            check(name, good and body["parameters"]["weights_revision"] == 2, answer)
            return body

        raw = d.post(m + "/infer", NUMBERS[:16], Inference_Header_Content_Length="0")
        length = int(raw.headers.get("Inference-Header-Content-Length", 0))
        check("a raw binary request is a batch of one", raw.status == 200 and floats(raw.body[length:]) == TWICE[:4], raw)
        nested = d.post(m + "/infer", {"inputs": [tensor("x", [2, 4], [[0, 1, 2, 3], [4, 5, 6, 7]])]})
        check("nested data", nested.status == 200 and nested.json["outputs"][0]["data"] == TWICE, nested)
        empty = d.post(m + "/infer", {"inputs": [tensor("x", [0, 4], [])]})
        check("an empty batch has an empty answer", empty.status == 200 and empty.json["outputs"][0]["shape"] == [0, 4]
              and empty.json["outputs"][0]["data"] == [], empty)
        odd = d.post(m + "/infer", {"inputs": [tensor("x", [1, 4], ["NaN", "Infinity", "-Infinity", -0.0])]})
        check("numbers that are none travel as strings", odd.status == 200 and odd.json["outputs"][0]["data"][0] == "NaN", odd)
        bare = d.post(m + "/infer", '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[NaN,1,1,1]}]}')
        check("bare NaN is read too", bare.status == 200, bare)
        third = 1 / 3
        close = d.post(m + "/infer", {"inputs": [tensor("x", [1, 4], [third, 1e-45, 16777217, 0.1])]})
        want = [struct.unpack("<f", struct.pack("<f", v))[0] for v in (third, 1e-45, 16777216, 0.1)]
        got = [struct.unpack("<f", struct.pack("<f", v / 2))[0] for v in close.json["outputs"][0]["data"]]
        check("JSON numbers are rounded to float32 once", got == want, f"{got} {want}")
        versioned = d.post(m + "/versions/1/infer", {"inputs": [tensor("x", [2, 4], list(range(8)))]})
        json_answer("version 1 is the head", versioned)
        chosen = d.post(m + "/infer", {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])], "outputs": [{"name": "z"}]})
        check("an unknown output", chosen.status == 400 and chosen.code == "unknown_output", chosen)
        big = d.post(m + "/infer", {"inputs": [tensor("x", [3000, 4], [i % 7 for i in range(12000)])]})
        check("a batch of 3000", big.status == 200 and big.json["outputs"][0]["data"][11999] == 2.0 * (11999 % 7), big.status)

        meta = d.get(m).json
        check("metadata", meta["name"] == "m" and meta["versions"] == ["1"]
              and meta["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
              and meta["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}], meta)
        check("server metadata", d.get("/v2").json["name"] == "onelipd" and "binary_tensor_data" in d.get("/v2/").json["extensions"])
        check("model ready", d.get(m + "/ready").json == {"name": "m", "ready": True})
        check("live", d.get("/v2/health/live").json == {"live": True, "ready": True})
        head = d.call("HEAD", m)
        check("HEAD has the headers and no body", head.status == 200 and head.body == b"" and head.headers["ETag"], head)
        same = d.get(m, If_None_Match=head.headers["ETag"])
        check("If-None-Match is 304", same.status == 304 and same.body == b"", same)
        stats = d.get("/v2/models/m/stats").json["model_stats"]
        one = stats[0]
        batches = {b["batch_size"]: b["compute_infer"]["count"] for b in one["batch_stats"]}
        check("statistics count requests, samples and batches", len(stats) == 1 and one["version"] == "1"
              and one["inference_stats"]["success"]["count"] == one["execution_count"] == sum(batches.values())
              and one["inference_count"] == sum(n * c for n, c in batches.items()) and batches[3000] == 1
              and one["inference_stats"]["fail"]["count"] == 1 and one["last_inference"] > 1700000000000
              and one["memory_usage"][0]["byte_size"] == 3 * 80, one)
        d.post(m + "/infer", {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]})
        more = d.get("/v2/models/m/versions/1/stats").json["model_stats"][0]["inference_stats"]
        check("and only grow", more["success"]["count"] == one["inference_stats"]["success"]["count"] + 1
              and all(more[k]["ns"] >= one["inference_stats"][k]["ns"] for k in more), more)
        check("of all models", [x["name"] for x in d.get("/v2/models/stats").json["model_stats"]] == ["m"])
        metrics = d.get("/metrics").body.decode()
        check("metrics count it", 'nv_inference_count{model="m",version="1"}' in metrics, metrics[:2000])
        datatypes(check, d, m)


run(plan)
