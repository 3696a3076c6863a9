"""KServe's InferenceRESTClient, as it is on PyPI, against a real daemon."""

import asyncio
import pathlib
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "http"))
from daemon import Daemon, run

DOUBLE = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 4, "use_bias": False, "name": "y"}}]}}
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def request(x, binary, asked):
    tensor = InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=binary)
    outputs = None if asked is None else [RequestedOutput("y", parameters={"binary_data": asked})]
    return InferRequest("m", [tensor], request_outputs=outputs)


async def talk(check, url):
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    check("live", await client.is_server_live(url) is True)
    check("ready", await client.is_server_ready(url) is True)
    check("the model is ready", await client.is_model_ready(url, "m") is True)
    for binary in (False, True):
        for asked in (None, False, True):
            answer = await client.infer(url, request(X, binary, asked), model_name="m")
            y = answer.outputs[0].as_numpy()
            check(f"infer, binary input {binary}, binary output {asked}", np.array_equal(y.reshape(2, 4), 2 * X), answer.to_dict())
            check("its answer names model and id", answer.model_name == "m" and answer.id)
    try:
        await client.infer(url, request(np.zeros((1, 5), np.float32), True, True), model_name="m")
        said = "nothing"
    except Exception as e:
        said = str(e)
    check("a wrong shape is said in words", "Expected [-1,4], got [1,5]" in said, said)
    await client.close()


def plan(check):
    with Daemon() as d:
        d.create("m", DOUBLE)
        d.put("/v2/models/m/weights/y/kernel", {"data": (2 * np.eye(4)).ravel().tolist(), "shape": [4, 4], "datatype": "FP32", "name": "y/kernel"})
        asyncio.run(talk(check, f"http://{d.host}:{d.port}"))


run(plan)
