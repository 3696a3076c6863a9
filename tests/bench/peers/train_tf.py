"""deel-lip on TensorFlow, as bench_training.py's peer: one graph function for the whole step, its fastest way.

    train_tf.py FOLDER BATCH INTRA INTER
"""

import sys

import tensorflow as tf
from deel.lip import layers as lip
from deel.lip.losses import TauCategoricalCrossentropy
from deel.lip.model import Sequential

from training import Folder, serve

folder, batch, intra, inter = sys.argv[1], *map(int, sys.argv[2:5])
tf.config.threading.set_intra_op_parallelism_threads(intra)
tf.config.threading.set_inter_op_parallelism_threads(inter)
net = Folder(folder, batch)

model = Sequential([tf.keras.layers.InputLayer(net.input)] + [
    getattr(lip, entry["class_name"], getattr(tf.keras.layers, entry["class_name"], None))(**entry["config"])
    for entry in net.layers[1:]])
model(net.batches[0][0][:1], training=True)
for layer in model.layers:
    for name in ("kernel", "bias", "u"):
        if f"{layer.name}/{name}" in net.weights:
            getattr(layer, name).assign(net.weights[f"{layer.name}/{name}"])
loss = TauCategoricalCrossentropy(10.0)
# The older class is not the slower one: its update is one fused kernel a variable.
optimizer = tf.keras.optimizers.legacy.Adam(1e-3)


@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    variables = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))
    return value


serve(f"TensorFlow {tf.__version__}, {intra} intra-op and {inter} inter-op threads",
      [(tf.constant(x), tf.one_hot(y, 10)) for x, y in net.batches], step)
