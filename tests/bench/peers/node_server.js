// The Open Inference Protocol's infer, JSON and binary tensors, on node's own http and onnxruntime-node: the peer of bench_serving.py.
//     node node_server.js MODEL.onnx WORKERS    prints its port
'use strict';
const cluster = require('cluster');
const http = require('http');
const ort = require('onnxruntime-node');

const [file, workers] = [process.argv[2], Number(process.argv[3])];

async function serve(port) {
  const session = await ort.InferenceSession.create(file, {intraOpNumThreads: 1, interOpNumThreads: 1});

  async function infer(request, response, body) {
    const framing = request.headers['inference-header-content-length'];
    const length = framing === undefined ? body.length : Number(framing);
    const header = JSON.parse(body.toString('utf8', 0, length));
    const input = header.inputs[0];
    let x;
    if (framing === undefined) {
      x = Float32Array.from(input.data);
    } else {
      const copy = body.subarray(length, length + input.parameters.binary_data_size);
      x = new Float32Array(copy.byteLength / 4);
      Buffer.from(x.buffer).set(copy);
    }
    const {y} = await session.run({x: new ort.Tensor('float32', x, input.shape)});
    const output = {name: 'y', datatype: 'FP32', shape: y.dims};
    const answer = {model_name: 'mlp', model_version: '1', outputs: [output]};
    if (framing === undefined) {
      output.data = Array.from(y.data);
      const text = JSON.stringify(answer);
      response.writeHead(200, {'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text)});
      response.end(text);
    } else {
      const bytes = Buffer.from(y.data.buffer, y.data.byteOffset, y.data.byteLength);
      output.parameters = {binary_data_size: bytes.length};
      const text = Buffer.from(JSON.stringify(answer));
      response.writeHead(200, {'Content-Type': 'application/octet-stream', 'Inference-Header-Content-Length': text.length,
                               'Content-Length': text.length + bytes.length});
      response.end(Buffer.concat([text, bytes]));
    }
  }

  const server = http.createServer((request, response) => {
    const pieces = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => infer(request, response, pieces.length === 1 ? pieces[0] : Buffer.concat(pieces)).catch((e) => {
      response.writeHead(400);
      response.end(String(e));
    }));
  });
  server.keepAliveTimeout = 60000;
  server.listen(port, '127.0.0.1', () => {
    if (!cluster.isWorker) console.log(server.address().port);
    else process.send(server.address().port);
  });
}

if (workers > 1 && cluster.isPrimary) {
  let ready = 0;
  for (let i = 0; i < workers; i++)
    cluster.fork().on('message', (port) => { if (++ready === workers) console.log(port); });
} else {
  serve(0);
}
