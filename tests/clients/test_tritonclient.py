"""NVIDIA's tritonclient[http], as it is on PyPI, against a real daemon: every call of its that onelipd's extensions cover."""

import asyncio
import json
import pathlib
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "http"))
from daemon import TRAINING, Daemon, batch, run

IDENTITY = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 4, "use_bias": False, "name": "y"}}]}}
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def source(name):
    return {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 16], "name": name}, "name": name, "inbound_nodes": []}


def merged(kind, name):
    return {"class_name": kind, "config": {"name": name}, "name": name, "inbound_nodes": [[["INPUT0", 0, 0, {}], ["INPUT1", 0, 0, {}]]]}


# The model of NVIDIA's simple_http_* examples, in FP32: the sum and the difference of two rows of sixteen.
SIMPLE = {"class_name": "Functional", "config": {"name": "simple", "layers": [
    source("INPUT0"), source("INPUT1"), merged("Add", "OUTPUT0"), merged("Subtract", "OUTPUT1")],
    "input_layers": [["INPUT0", 0, 0], ["INPUT1", 0, 0]], "output_layers": [["OUTPUT0", 0, 0], ["OUTPUT1", 0, 0]]}}


def refused(call):
    """Status and message of the failure, or None."""
    try:
        call()
    except InferenceServerException as e:
        return e.status(), e.message()
    return None


def given(x, binary=True):
    tensor = triton.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x, binary_data=binary)
    return tensor


def inference(check, client):
    for sent in (False, True):
        for asked in (None, False, True):
            outputs = None if asked is None else [triton.InferRequestedOutput("y", binary_data=asked)]
            y = client.infer("m", [given(X, sent)], outputs=outputs).as_numpy("y")
            check(f"infer, binary input {sent}, binary output {asked}", np.array_equal(y, 2 * X), y)
    for coding in ("gzip", "deflate"):
        result = client.infer("m", [given(X)], request_compression_algorithm=coding, response_compression_algorithm=coding)
        check(f"infer in {coding}", np.array_equal(result.as_numpy("y"), 2 * X), result.get_response())
    result = client.infer("m", [given(X)], request_id="7", priority=2, timeout=5000000, parameters={"k": 1.5}, model_version="1")
    got = result.get_response()
    check("with every parameter", got["id"] == "7" and got["model_name"] == "m" and got["model_version"] == "1"
          and np.array_equal(result.as_numpy("y"), 2 * X), got)
    check("the revision is in the answer", got["parameters"]["weights_revision"] >= 1, got)
    pending = [client.async_infer("m", [given(X + i)]) for i in range(20)]
    check("20 at once", all(np.array_equal(p.get_result().as_numpy("y"), 2 * (X + i)) for i, p in enumerate(pending)))
    odd = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    for binary in (False, True):
        y = client.infer("m", [given(odd)], outputs=[triton.InferRequestedOutput("y", binary_data=binary)]).as_numpy("y")
        check(f"what is not finite comes back, binary output {binary}", np.isnan(y).all() and y.shape == (1, 4), y)
    check("a model that is not there", refused(lambda: client.infer("none", [given(X)]))
          == ("404", "Request for unknown model: 'none' is not found"), refused(lambda: client.infer("none", [given(X)])))
    wrong = refused(lambda: client.infer("m", [given(np.zeros((1, 5), np.float32))]))
    check("a wrong shape", wrong == ("400", "unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [1,5]."), wrong)
    tensor = triton.InferInput("x", (1, 4), "INT32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.int32))
    wrong = refused(lambda: client.infer("m", [tensor]))
    check("a wrong datatype", wrong == ("400", "inference input 'x' data-type is 'INT32', but model 'm' expects 'FP32'"), wrong)
    wrong = refused(lambda: client.infer("m", [given(X)], outputs=[triton.InferRequestedOutput("z")]))
    check("an output that is not there", wrong == ("400", "unexpected inference output 'z' for model 'm'"), wrong)


def metadata(check, client):
    check("live, ready, the model too", client.is_server_live() and client.is_server_ready() and client.is_model_ready("m"))
    check("another model is not", not client.is_model_ready("none"))
    got = client.get_server_metadata()
    check("server metadata", got["name"] == "triton" and "binary_tensor_data" in got["extensions"], got)
    got = client.get_model_metadata("m", "1")
    check("model metadata", got["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}] and got["versions"] == ["1"], got)
    got = client.get_model_config("m")
    check("model configuration", got["input"][0]["dims"] == [4] and got["max_batch_size"] == 65536, got)
    before = client.get_inference_statistics("m")["model_stats"][0]
    for _ in range(3):
        client.infer("m", [given(X)])
    after = client.get_inference_statistics("m")["model_stats"][0]
    check("statistics count samples and executions", after["inference_count"] - before["inference_count"] == 6
          and after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 3, (before, after))
    check("statistics of all models", {"m"} <= {s["name"] for s in client.get_inference_statistics()["model_stats"]})


def repository(check, client, d):
    got = client.get_model_repository_index()
    check("the repository's index", {"name": "m", "version": "1", "state": "READY", "reason": ""} in got, got)
    client.unload_model("m")
    check("unload", not client.is_model_ready("m") and client.is_server_ready())
    client.load_model("m")
    check("load", client.is_model_ready("m") and np.array_equal(client.infer("m", [given(X)]).as_numpy("y"), 2 * X))
    client.load_model("m", config=json.dumps({"max_batch_size": "1"}))
    wrong = refused(lambda: client.infer("m", [given(X)]))
    check("load with a configuration", client.get_model_config("m")["max_batch_size"] == 1 and wrong and wrong[0] == "400", wrong)
    weights = d.get("/v2/models/m/weights").body
    client.load_model("inline", config="{}", files={"file:1/model.safetensors": weights})
    check("load with its files", np.array_equal(client.infer("inline", [given(X)]).as_numpy("y"), 2 * X))
    wrong = refused(lambda: client.load_model("none"))
    check("a model that is not there", wrong and wrong[0] == "400" and "failed to load" in wrong[1], wrong)
    got = client.update_log_settings({"log_verbose_level": 1})
    check("log settings", got["log_verbose_level"] == 1 and client.get_log_settings()["log_verbose_level"] == 1, got)
    check("shared memory: none", client.get_system_shared_memory_status() == [] and client.get_cuda_shared_memory_status() == [])


def simple_inputs(binary=(False, True)):
    rows = np.arange(16, dtype=np.float32).reshape(1, 16), np.ones((1, 16), np.float32)
    inputs = [triton.InferInput(f"INPUT{i}", row.shape, "FP32") for i, row in enumerate(rows)]
    for tensor, row, b in zip(inputs, rows, binary):
        tensor.set_data_from_numpy(row, binary_data=b)
    return inputs, rows


def simple_outputs(*binary):
    return [triton.InferRequestedOutput(f"OUTPUT{i}", binary_data=b) for i, b in enumerate(binary)]


def right(result, rows):
    return np.array_equal(result.as_numpy("OUTPUT0"), rows[0] + rows[1]) and np.array_equal(result.as_numpy("OUTPUT1"), rows[0] - rows[1])


def published(check, client, address):
    """What the examples that NVIDIA publishes with the client do, as far as it is of extensions that onelipd has: infer, async_infer,
    aio_infer, health_metadata, model_control. The others are of strings, sequences and shared memory."""
    inputs, rows = simple_inputs()
    query, headers = {"test_1": 1, "test_2": 2}, {"my_header": "x"}
    for coding in (None, "gzip", "deflate"):  # simple_http_infer_client
        result = client.infer("simple", inputs, outputs=simple_outputs(True, False), query_params=query, headers=headers,
                              request_compression_algorithm=coding, response_compression_algorithm=coding)
        check(f"simple_http_infer: sum and difference, {coding or 'plain'}", right(result, rows), result.get_response())
    result = client.infer("simple", inputs, outputs=simple_outputs(True), query_params=query)
    check("one output of two", result.as_numpy("OUTPUT1") is None and np.array_equal(result.as_numpy("OUTPUT0"), rows[0] + rows[1]))
    got = client.get_inference_statistics(model_name="simple")
    check("and statistics of it", len(got["model_stats"]) == 1 and got["model_stats"][0]["name"] == "simple", got)
    pending = [client.async_infer("simple", inputs, outputs=simple_outputs(True, True), query_params=query) for _ in range(2)]
    check("simple_http_async_infer", all(right(p.get_result(), rows) for p in pending))  # simple_http_async_infer_client
    check("simple_http_aio_infer", asyncio.run(aio_infer(address)))  # simple_http_aio_infer_client
    # simple_http_health_metadata
    check("simple_http_health_metadata: live, ready, the model", client.is_server_live(query_params=query) and client.is_server_ready(query_params=query)
          and client.is_model_ready("simple", query_params=query))
    check("the server's name and the model's", client.get_server_metadata(query_params=query)["name"] == "triton"
          and client.get_model_metadata("simple", query_params=query)["name"] == "simple")
    wrong = refused(lambda: client.get_model_metadata("wrong_model_name", query_params=query))
    check("a wrong name in the words that it looks for", wrong and "Request for unknown model" in wrong[1], wrong)
    # simple_http_model_control
    client.unload_model("simple")
    check("simple_http_model_control: unloaded", not client.is_model_ready("simple"))
    client.load_model("simple")
    check("loaded, and it computes", client.is_model_ready("simple") and right(client.infer("simple", inputs, outputs=simple_outputs(True, True)), rows))
    wrong = refused(lambda: client.load_model("wrong_model_name"))
    check("what is not there fails to load", wrong and "failed to load" in wrong[1], wrong)


async def aio_infer(address):
    inputs, rows = simple_inputs()
    async with aio.InferenceServerClient(address) as client:
        return right(await client.infer("simple", inputs, outputs=simple_outputs(True, False), query_params={"test_1": 1}), rows)


async def asynchronous(check, address):
    async with aio.InferenceServerClient(address) as client:
        results = await asyncio.gather(*(client.infer("m", [given(X[:1] + i)]) for i in range(10)))
        check("the asyncio client", await client.is_model_ready("m")
              and all(np.array_equal(r.as_numpy("y"), 2 * (X[:1] + i)) for i, r in enumerate(results)))


def plan(check):
    with Daemon("--id", "triton") as d:
        d.create("m", IDENTITY)
        d.put("/v2/models/m/weights/y/kernel", {"data": (2 * np.eye(4)).ravel().tolist(), "shape": [4, 4], "datatype": "FP32", "name": "y/kernel"})
        d.create("simple", SIMPLE)
        d.create("mlp", training=TRAINING)
        d.post("/v2/models/mlp/train_step", batch(6))
        address = f"{d.host}:{d.port}"
        with triton.InferenceServerClient(address, concurrency=4) as client:
            inference(check, client)
            metadata(check, client)
            asyncio.run(asynchronous(check, address))
            published(check, client, address)
            if "model_repository" in client.get_server_metadata()["extensions"]:
                repository(check, client, d)


run(plan)
