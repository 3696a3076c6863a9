"""Triton's own tests of its front end, said again for this server: input validation, the http and binary framing, numbers that are
none, compression, parameters. What its repository tests say of loading is test_repository.py's.

Texts are Triton's, as clients match them; each is checked from its beginning.
"""

import gzip
import json
import math
import struct
import zlib

from daemon import Daemon, floats, run, tensor

# Two inputs; the first output is their sum, the second one the first input.
ADD = {"class_name": "Functional", "config": {"name": "add", "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "INPUT0"}, "name": "INPUT0", "inbound_nodes": []},
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "INPUT1"}, "name": "INPUT1", "inbound_nodes": []},
    {"class_name": "Add", "config": {"name": "OUTPUT0"}, "name": "OUTPUT0", "inbound_nodes": [[["INPUT0", 0, 0, {}], ["INPUT1", 0, 0, {}]]]},
    {"class_name": "Flatten", "config": {"name": "OUTPUT1"}, "name": "OUTPUT1", "inbound_nodes": [[["INPUT0", 0, 0, {}]]]}],
    "input_layers": [["INPUT0", 0, 0], ["INPUT1", 0, 0]], "output_layers": [["OUTPUT0", 0, 0], ["OUTPUT1", 0, 0]]}}
# The output is the input.
SAME = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Flatten", "config": {"name": "y"}}]}}
A, B = tensor("INPUT0", [1, 4], [1, 2, 3, 4]), tensor("INPUT1", [1, 4], [10, 20, 30, 40])


def framed(d, path, document, data=b"", length=None, **headers):
    text = json.dumps(document).encode()
    return d.post(path, text + data, Inference_Header_Content_Length=str(len(text) if length is None else length), **headers)


def binary(name, shape, size, datatype="FP32"):
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


def validation(check, d, m):
    """L0_input_validation."""
    ask, where = m + "/infer", "for model 'add'"
    cases = [
        ("one input of two", {"inputs": [A]}, "missing_input", f"expected 2 inputs but got 1 inputs {where}. Got input(s) ['INPUT0'], but missing required "
         "input(s) ['INPUT1']. Please provide all required input(s)."),
        ("none", {"inputs": []}, "missing_input", f"expected 2 inputs but got 0 inputs {where}."),
        ("an input nobody knows", {"inputs": [A, B, tensor("INPUT2", [1, 4], [0] * 4)]}, "unknown_input", f"unexpected inference input 'INPUT2' {where}"),
        ("batches that differ", {"inputs": [A, tensor("INPUT1", [2, 4], [0] * 8)]}, "shape_mismatch",
         "input 'INPUT1' batch size does not match other inputs for 'add'"),
        ("a wrong shape", {"inputs": [A, tensor("INPUT1", [1, 5], [0] * 5)]}, "shape_mismatch",
         f"unexpected shape for input 'INPUT1' {where}. Expected [-1,4], got [1,5]."),
        ("no batch dimension", {"inputs": [A, tensor("INPUT1", [4], [0] * 4)]}, "shape_mismatch",
         f"unexpected shape for input 'INPUT1' {where}. Expected [-1,4], got [4]."),
        ("a dimension too many", {"inputs": [A, tensor("INPUT1", [1, 4, 1], [0] * 4)]}, "shape_mismatch", f"unexpected shape for input 'INPUT1' {where}."),
        ("a negative extent", {"inputs": [A, tensor("INPUT1", [-1, 4], [0] * 4)]}, None, ""),
        ("an extent that is no integer", {"inputs": [A, tensor("INPUT1", [1.5, 4], [0] * 4)]}, None, ""),
        ("a shape whose product overflows", {"inputs": [A, tensor("INPUT1", [2 ** 62, 4], [0] * 4)]}, None, ""),
        ("another datatype", {"inputs": [A, tensor("INPUT1", [1, 4], [0] * 4, "INT32")]}, "datatype_mismatch",
         "inference input 'INPUT1' data-type is 'INT32', but model 'add' expects 'FP32'"),
        ("strings", {"inputs": [A, tensor("INPUT1", [1, 4], ["a", "b", "c", "d"], "BYTES")]}, "datatype_mismatch", "input 'INPUT1' is BYTES"),
        ("a datatype that there is not", {"inputs": [A, tensor("INPUT1", [1, 4], [0] * 4, "FP31")]}, "datatype_mismatch", ""),
        ("too few elements", {"inputs": [A, tensor("INPUT1", [1, 4], [0] * 3)]}, "size_mismatch",
         "Unable to parse 'data': Shape does not match true shape of 'data' field"),
        ("too many", {"inputs": [A, tensor("INPUT1", [1, 4], [0] * 5)]}, "size_mismatch",
         "Unable to parse 'data': Shape does not match true shape of 'data' field"),
        ("no data", {"inputs": [A, {k: v for k, v in B.items() if k != "data"}]}, None,
         "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'. But no field is set"),
        ("null, which is none", {"inputs": [A, {**B, "data": None}]}, None, "Input must set only one of the following fields:"),
        ("data twice", {"inputs": [A, {**B, "parameters": {"shared_memory_region": "r"}}]}, None, "Input must set only one of the following fields:"),
        ("a region", {"inputs": [A, {k: v for k, v in B.items() if k != "data"} | {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}]},
         None, "Unable to find shared memory region: 'r'"),
        ("an input twice", {"inputs": [A, A]}, None, ""),
        ("an output nobody knows", {"inputs": [A, B], "outputs": [{"name": "Z"}]}, "unknown_output", f"unexpected inference output 'Z' {where}"),
        ("an output twice", {"inputs": [A, B], "outputs": [{"name": "OUTPUT0"}, {"name": "OUTPUT0"}]}, None, "output 'OUTPUT0' already exists in request"),
        ("no inputs at all", {}, None, ""),
        ("inputs that are no list", {"inputs": {}}, None, ""),
        ("an input that is no object", {"inputs": [1]}, None, ""),
        ("no name", {"inputs": [{"shape": [1, 4], "datatype": "FP32", "data": [0] * 4}]}, None, ""),
        ("no shape", {"inputs": [A, {"name": "INPUT1", "datatype": "FP32", "data": [0] * 4}]}, None, ""),
        ("no datatype", {"inputs": [A, {"name": "INPUT1", "shape": [1, 4], "data": [0] * 4}]}, None, ""),
    ]
    for name, body, code, text in cases:
        a = d.post(ask, body)
        check(f"{name} is 400", a.status == 400 and a.code == (code or a.code) and a.code and a.json["error"].startswith(text), f"{text}\n{a}")
    d.call("PATCH", m + "/config", {"max_batch_size": 2})
    a = d.post(ask, {"inputs": [tensor(n, [3, 4], [0] * 12) for n in ("INPUT0", "INPUT1")]})
    check("a batch too large", a.status == 400 and a.code == "batch_too_large" and a.json["error"] == "inference request batch-size must be <= 2 for 'add'", a)
    gone = d.post("/v2/models/none/infer", {"inputs": []})
    check("a model that there is not", gone.status == 404 and gone.json["error"] == "Request for unknown model: 'none' is not found", gone)
    gone = d.post(m + "/versions/99/infer", {"inputs": []})
    check("a version that there is not", gone.status == 404 and gone.json["error"] == "Request for unknown model: 'add' version 99 is not found", gone)
    odd = d.post(m + "/versions/one/infer", {"inputs": []})
    check("a version that is none", odd.status == 400 and odd.json["error"].startswith("failed to get model version from specified version string 'one'"), odd)
    fine = d.post(ask, {"inputs": [A, B]})
    check("and then all is well", fine.status == 200 and [o["data"] for o in fine.json["outputs"]] == [[11, 22, 33, 44], [1, 2, 3, 4]], fine)


def framing(check, d, m):
    """L0_http and the binary tensor data extension."""
    ask, data = m + "/infer", struct.pack("<4f", 1, 2, 3, 4)
    both = {"inputs": [binary("INPUT0", [1, 4], 16), B]}
    a = framed(d, ask, both, data)
    check("binary and JSON inputs together", a.status == 200 and a.json["outputs"][0]["data"] == [11, 22, 33, 44], a)
    reverse = framed(d, ask, {"inputs": [binary("INPUT1", [1, 4], 16), binary("INPUT0", [1, 4], 16)]}, struct.pack("<8f", *[10] * 4, 1, 2, 3, 4))
    check("binary inputs in the order of the request", reverse.json["outputs"][1]["data"] == [1, 2, 3, 4], reverse)
    for name, document, rest, length, code, text in (
            ("bytes left over", both, data + b"1234", None, "size_mismatch", "unexpected additional input data for model 'add'"),
            ("bytes missing", both, data[:12], None, "size_mismatch", "unexpected size for input 'INPUT0', expecting "),
            ("a size that is not the shape's", {"inputs": [binary("INPUT0", [1, 4], 12), B]}, data[:12], None, "size_mismatch",
             "input byte size mismatch for input 'INPUT0' for model 'add'. Expected 16, got 12"),
            ("a header larger than the body", both, data, 100000, "bad_request", "inference header size should be in range (0, "),
            ("a header that is negative", both, data, -1, "bad_request", ""),
            ("a header that is no number", both, data, "abc", "bad_request", ""),
            ("a size that is negative", {"inputs": [binary("INPUT0", [1, 4], -16), B]}, data, None, None, ""),
            ("a size that is no number", {"inputs": [binary("INPUT0", [1, 4], "16"), B]}, data, None, None, ""),
            ("a size beyond all memory", {"inputs": [binary("INPUT0", [1, 4], 1 << 62), B]}, data, None, None, "")):
        a = framed(d, ask, document, rest, length)
        check(f"{name} is 400", a.status == 400 and a.code == (code or a.code) and a.json["error"].startswith(text), f"{text}\n{a}")
    a = d.post(ask, json.dumps(both).encode() + data)
    check("binary data without the header is 400", a.status == 400, a)
    a = d.post(ask, data, Inference_Header_Content_Length="0")
    check("a raw request needs a model of one input", a.status == 400, a)
    chosen = d.post(ask, {"inputs": [A, B], "parameters": {"binary_data_output": True},
                          "outputs": [{"name": "OUTPUT1"}, {"name": "OUTPUT0", "parameters": {"binary_data": False}}]})
    length = int(chosen.headers["Inference-Header-Content-Length"])
    outputs = json.loads(chosen.body[:length])["outputs"]
    outputs = {o["name"]: o for o in outputs}
    check("each output in its own form", len(outputs) == 2 and outputs["OUTPUT1"]["parameters"]["binary_data_size"] == 16
          and floats(chosen.body[length:]) == [1, 2, 3, 4] and outputs["OUTPUT0"]["data"] == [11, 22, 33, 44], chosen)
    large = d.post(ask, b'{"inputs":' + b" " * 200000 + b"[]}")
    check("a body over the limit is 413", large.status == 413 and large.code == "too_large", large)
    for path in ("/v2/models/add/nothing", "/v2/model/add", "/v3", "/v2/models/add/versions/1/nothing"):
        a = d.get(path)
        check(f"{path} is not found", a.status == 404 and a.json["error"] == "Not Found", a)
    a = d.call("DELETE", ask)
    check("a wrong method is 405", a.status == 405 and a.json["error"] == "Method Not Allowed" and "POST" in a.headers["Allow"], a)
    quoted = d.get("/v2/models/a%64d")
    check("names may be percent-encoded", quoted.status == 200 and quoted.json["name"] == "add", quoted)


def numbers(check, d, s):
    """L0_nan_inf: bits through the binary form, strings through JSON."""
    odd = struct.pack("<4f", math.nan, math.inf, -math.inf, -0.0)
    a = framed(d, s + "/infer", {"inputs": [binary("x", [1, 4], 16)], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}, odd)
    check("bits come back as they went", a.body[-16:] == odd, a)
    told = framed(d, s + "/infer", {"inputs": [binary("x", [1, 4], 16)]}, odd)
    check("JSON has strings that every reader takes", told.json["outputs"][0]["data"][:3] == ["NaN", "Infinity", "-Infinity"]
          and b"-0" in told.body, told)
    for text in ('["NaN","Infinity","-Infinity",-0.0]', "[NaN,Infinity,-Infinity,-0]", '[["NaN",Infinity,"-Infinity",-0e5]]'):
        a = d.post(s + "/infer", '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + text + "}]}")
        check(f"{text} is read", a.json.get("outputs", [{}])[0].get("data") == told.json["outputs"][0]["data"], a)
    for text in ('["nan",1,1,1]', '["1",1,1,1]', "[null,1,1,1]", "[true,1,1,1]", "[1e39,1,1,1]", "[-1e999,1,1,1]", "[+1,1,1,1]", "[.5,1,1,1]",
                 "[1.,1,1,1]", "[01,1,1,1]", "[0x1,1,1,1]", "[inf,1,1,1]", "[1,1,1,1", "[1,,1,1]", "[1,1,1,1,]", "{}", '"NaN"', "[[1,1],[1,1]]]"):
        a = d.post(s + "/infer", '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + text + "}]}")
        check(f"{text} is 400", a.status == 400 and a.code, a)


def compression(check, d, s):
    """L0_data_compression: of requests and of answers, JSON and binary."""
    n = 3000
    values = [i % 7 / 8 for i in range(4 * n)]
    body = json.dumps({"inputs": [tensor("x", [n, 4], values)]}).encode()
    raw = json.dumps({"inputs": [binary("x", [n, 4], 16 * n)]}).encode()
    for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        a = d.post(s + "/infer", pack(body), Content_Encoding=coding)
        check(f"{coding} of JSON", a.status == 200 and a.json["outputs"][0]["data"] == values, a.status)
        a = d.post(s + "/infer", pack(raw + struct.pack(f"<{4 * n}f", *values)), Content_Encoding=coding, Inference_Header_Content_Length=str(len(raw)))
        check(f"{coding} of JSON and bytes; the header counts what it unpacks to", a.status == 200 and a.json["outputs"][0]["data"] == values, a.status)
    for accept, coding, unpack in (("gzip", "gzip", gzip.decompress), ("deflate", "deflate", zlib.decompress), ("deflate, gzip", None, None),
                                   ("gzip;q=0, deflate;q=0.5", "deflate", zlib.decompress), ("br, identity", "", None), ("*;q=0", "", None)):
        a = d.post(s + "/infer", body, Accept_Encoding=accept)
        got = a.headers["Content-Encoding"] or ""
        unpack = unpack or {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(got, bytes)
        check(f"who accepts {accept} gets {got or 'it plain'}", (coding is None and got or got == coding)
              and json.loads(unpack(a.body))["outputs"][0]["data"] == values and (not got or len(a.body) < len(body) / 3), a.headers)
        check("and is told that it depends on that, with a tag of its own", "Accept-Encoding" in a.headers["Vary"]
              and a.headers["ETag"].startswith('"') and a.headers["ETag"].endswith(f'-{got}"' if got else '-1"'), a.headers)
    small = d.post(s + "/infer", {"inputs": [tensor("x", [1, 4], [1] * 4)]}, Accept_Encoding="gzip, deflate")
    check("a small answer is not packed", "Content-Encoding" not in small.headers and small.status == 200, small)
    a = d.post(s + "/infer", body.replace(b'{"inputs"', b'{"parameters":{"binary_data_output":true},"inputs"'), Accept_Encoding="gzip")
    check("nor are bytes", "Content-Encoding" not in a.headers and floats(a.body[-16 * n:]) == values, a.headers)
    for name, coding, data in (("gzip that is none", "gzip", body), ("half of it", "gzip", gzip.compress(body)[:-20]), ("zlib as gzip", "gzip", zlib.compress(body))):
        a = d.post(s + "/infer", data, Content_Encoding=coding)
        check(f"{name} is 400", a.status == 400 and a.code == "bad_request", a)
    a = d.post(s + "/infer", gzip.compress(b" " * (1 << 24)), Content_Encoding="gzip")
    check("what unpacks to too much is 413", a.status == 413 and a.code == "too_large", a)


def parameters(check, d, s):
    """L0_parameters: what the server knows, what it passes on, what is reserved."""
    def ask(**given):
        return d.post(s + "/infer", {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])], "parameters": given})

    for given in ({"mine": "text"}, {"mine": 1}, {"mine": 1.5}, {"mine": True}, {"priority": 1, "timeout": 5000000}, {"headers": True}, {}):
        a = ask(**given)
        check(f"{given} is taken", a.status == 200 and a.json["outputs"][0]["data"] == [1, 2, 3, 4], a)
    for given, pointer in (({"triton_enable_empty_final_response": True}, "/parameters/triton_enable_empty_final_response"), ({"priority": "high"}, "/parameters/priority"),
                           ({"timeout": -1}, "/parameters/timeout"), ({"priority": 1.5}, "/parameters/priority"), ({"min_revision": "x"}, "/parameters/min_revision")):
        a = ask(**given)
        check(f"{given} is 400 and says where", a.status == 400 and a.code == "bad_parameter" and a.json["errors"][0]["pointer"] == pointer, a)
    for given in ({"mine": []}, {"mine": {}}, {"mine": None}):
        check(f"{given} is no scalar", ask(**given).status == 400, ask(**given))
    a = d.post(s + "/infer", {"inputs": [tensor("x", [1, 4], [1] * 4)], "parameters": 3})
    check("parameters are an object", a.status == 400, a)
    a = d.post(s + "/infer", {"inputs": [tensor("x", [1, 4], [1] * 4)], "outputs": [{"name": "y", "parameters": {"classification": 3}}]})
    check("classes are not offered", a.status == 501 and a.json["error"].startswith("the classification extension is not supported"), a)
    a = d.post(s + "/infer", {"id": "é1", "inputs": [tensor("x", [1, 4], [1] * 4)], "nobody": {"knows": ["this"]}})
    check("unknown members are ignored, an id comes back", a.status == 200 and a.json["id"] == "é1", a)
    a = d.get(s + "?whatever=1&b")
    check("so are unknown query parameters", a.status == 200, a)
    a = d.post(s + "/infer", {"inputs": [tensor("x", [0, 4], [])], "parameters": {"binary_data_output": True}})
    check("an empty output has no bytes", a.status == 200 and "Inference-Header-Content-Length" not in a.headers, a)
    d.call("PATCH", s + "/config", {"parameters": {"cast_inputs": {"string_value": "true"}}})
    a = d.post(s + "/infer", {"inputs": [tensor("x", [1, 4], [1] * 4, "FP16")]})
    check("FP16 comes as bytes", a.status == 400 and a.json["error"] ==
          "receiving FP16 data via JSON is not supported. Please use the binary data format for input x", a)


def plan(check):
    with Daemon("--max-body-bytes", "150000") as d:
        m, s = d.create("add", ADD), d.create("same", SAME)
        validation(check, d, m)
        framing(check, d, m)
        numbers(check, d, s)
        compression(check, d, s)
        parameters(check, d, s)


run(plan)
