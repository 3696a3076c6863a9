# What a client can ask of onelipd, with curl, from top to bottom against an empty daemon:
#
#   onelipd --listen 127.0.0.1:8000 --listen unix:./onelipd.sock --state-dir ./state
#
# A line that begins with #=> is part of the answer to the command above it, #=! part of a refusal. A test runs all of this.

B=http://127.0.0.1:8000
curl -s $B/health
#=> "ready":true

# ---- a model: Keras's own JSON, a forward pass in JSON and in bytes, what is proven of it --------------------------------

cat > demo.json <<'END'
{"class_name":"Sequential","config":{"k_coef_lip":1.0,"layers":[
 {"class_name":"InputLayer","config":{"batch_input_shape":[null,4],"name":"x"}},
 {"class_name":"SpectralDense","config":{"units":16,"name":"d1"}},
 {"class_name":"GroupSort2","config":{"name":"sort"}},
 {"class_name":"FrobeniusDense","config":{"units":3,"disjoint_neurons":true,"name":"y"}}]}}
END
curl -s -T demo.json $B/v2/models/demo
#=> "name":"demo"
curl -s $B/v2/models
#=> {"models":["demo"]}
curl -s $B/v2/models/demo/infer -d '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
#=> "datatype":"FP32","shape":[1,3]
printf '\0\0\200\077\0\0\0\100\0\0\100\100\0\0\200\100' > x.f32   # 1 2 3 4 as float32
curl -s $B/v2/models/demo/infer -H 'Inference-Header-Content-Length: 0' --data-binary @x.f32 -o y.bin -w '%{http_code}'
#=> 200
curl -s --unix-socket ./onelipd.sock http://onelipd/v2/models/demo/lipschitz
#=> "sound_claim":true
curl -s "$B/v2/models/demo/layers/d1/singular_values?k=3"
#=> "count":4,"largest":[

# ---- training, a step a request -------------------------------------------------------------------------------------------

curl -s -X PUT $B/v2/models/demo/training -d '{"optimizer":"adam","loss":{"class_name":"TauCategoricalCrossentropy","config":{"tau":10.0}},"metrics":["accuracy"]}'
#=> "tau":10.0
cat > step.json <<'END'
{"inputs":[{"name":"x","shape":[3,4],"datatype":"FP32","data":[1,2,3,4, 4,3,2,1, 0,1,0,1]},
           {"name":"y_true","shape":[3],"datatype":"INT64","data":[0,1,2]}]}
END
curl -s $B/v2/models/demo/train_step -d @step.json
#=> "step":1
tag() { curl -sI $B/v2/models/demo | tr -d '\r' | sed -n 's/^[Ee][Tt]ag: //p'; }
E=$(tag)
curl -s $B/v2/models/demo/train_step -H "If-Match: $E" -d @step.json
#=> "step":2
curl -s $B/v2/models/demo/train_step -H "If-Match: $E" -d @step.json   # somebody trained since: nothing is changed
#=! "code":"precondition_failed"
curl -s $B/v2/models/demo/evaluate -d @step.json
#=> "metrics":{"loss":
curl -s $B/v2/models/demo/gradients -d @step.json
#=> "name":"value","datatype":"FP64","shape":[3]
curl -s $B/v2/models/demo/certify -d @step.json
#=> "name":"radius","datatype":"FP64","shape":[3]
curl -s $B/v2/models/demo/wasserstein -d '{"inputs":[{"name":"p","shape":[2,4],"datatype":"FP32","data":[0,0,0,0,1,0,0,0]},{"name":"q","shape":[2,4],"datatype":"FP32","data":[3,0,0,0,4,0,0,0]}],"parameters":{"index":0}}'
#=> "wasserstein":{"lower":
curl -s -X POST $B/v2/models/demo/condense -H "If-Match: $(tag)"
#=> "max_abs_output_change":
curl -s -X POST $B/v2/models/demo/versions -d '{"labels":["stable"]}'
#=> "stable"
curl -s $B/v2/models/demo/labels/stable/infer -d '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
#=> "outputs":[{"name":"y"

# ---- weights, files, settings ---------------------------------------------------------------------------------------------

curl -sOJ "$B/v2/models/demo/export?format=keras_json&vanilla=true" -w '%{filename_effective}'
#=> demo-
curl -s $B/v2/models/demo/weights -o w.safetensors -w '%{content_type}'
#=> application/x-safetensors
curl -s -T w.safetensors $B/v2/models/demo/weights -H "If-Match: $(tag)"
#=> "effective_kernel":
curl -s $B/v2/models/demo/weights/d1/bias
#=> "shape":[16]
curl -s $B/v2/models/demo/weights/d1/kernel -H 'Accept: application/x-npy' -o d1.npy -w '%{content_type}'
#=> application/x-npy
curl -s -X POST $B/v2/models/demo/refresh
#=> "weights_revision":
curl -s -X PATCH $B/v2/models/demo/config -d '{"dynamic_batching":{"default_queue_policy":{"max_queue_size":64}}}'
#=> "max_queue_size":64
curl -s -X PATCH $B/v2/config -d '{"cors_origins":["https://lab.example"]}'
#=> "https://lab.example"

# ---- a training job over a dataset ----------------------------------------------------------------------------------------

printf 'a,b,c,d,label\n1,2,3,4,0\n4,3,2,1,1\n0,1,0,1,2\n' > toy.csv
curl -s -T toy.csv "$B/v2/datasets/toy?label=label"
#=> "y_true"
J=$(curl -s $B/v2/jobs -d '{"type":"train","model":"demo","dataset":"toy","epochs":20,"batch_size":3}' | sed 's/.*"id":"\([^"]*\)".*/\1/')
curl -sN $B/v2/jobs/$J/events -H 'Accept: text/event-stream'   # ends with the job
#=> event: 
curl -s $B/v2/jobs/$J
#=> "status":"succeeded"
curl -s -X DELETE $B/v2/models/demo -w '%{http_code}\n'
#=> 204
