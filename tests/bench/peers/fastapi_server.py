"""The Open Inference Protocol's infer on FastAPI, uvicorn (uvloop, httptools), orjson and onnxruntime, without pydantic: a peer
of bench_serving.py.

    fastapi_server.py MODEL.onnx WORKERS PORT
"""

import os
import sys

import numpy
import onnxruntime
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ.get("PEER_MODEL") or sys.argv[1], options, providers=["CPUExecutionProvider"])
app = FastAPI()


@app.get("/v2/health/ready")
async def ready():
    return Response()


@app.post("/v2/models/mlp/infer")
async def infer(request: Request):
    body = await request.body()
    length = request.headers.get("inference-header-content-length")
    header = orjson.loads(body if length is None else body[:int(length)])
    tensor = header["inputs"][0]
    if length is None:
        x = numpy.array(tensor["data"], numpy.float32).reshape(tensor["shape"])
    else:
        x = numpy.frombuffer(body, numpy.float32, offset=int(length)).reshape(tensor["shape"])
    y = session.run(None, {"x": x})[0]
    output = {"name": "y", "datatype": "FP32", "shape": list(y.shape)}
    answer = {"model_name": "mlp", "model_version": "1", "outputs": [output]}
    if length is None:
        output["data"] = y.ravel().tolist()
        return Response(orjson.dumps(answer), media_type="application/json")
    output["parameters"] = {"binary_data_size": y.nbytes}
    text = orjson.dumps(answer)
    return Response(text + y.tobytes(), media_type="application/octet-stream",
                    headers={"Inference-Header-Content-Length": str(len(text))})


if __name__ == "__main__":
    os.environ["PEER_MODEL"] = sys.argv[1]
    uvicorn.run("fastapi_server:app", host="127.0.0.1", port=int(sys.argv[3]), workers=int(sys.argv[2]), loop="uvloop",
                http="httptools", log_level="error", access_log=False, app_dir=os.path.dirname(os.path.abspath(__file__)))
