// data.js: rows of datasets as a model takes them, and pictures.

import { enc, get } from "./api.js";
import { h } from "./dom.js";

export const sizeOf = shape => shape.slice(1).reduce((a, b) => a * b, 1);

/* The picture that an input of this shape is: [n, h, w, c] with 1 or 3 channels, or [n, h, w], or a square of at least 8 × 8. */
export function pictureOf(shape) {
    const [, height, width, channels = 1] = shape,
        side = Math.sqrt(height);
    const fits = (a, b) => a >= 4 && b >= 4 && a <= 1024 && b <= 1024;
    if (shape.length === 4 && (channels === 1 || channels === 3) && fits(height, width))
        return { height, width, channels };
    if (shape.length === 3 && fits(height, width)) return { height, width, channels: 1 };
    if (shape.length === 2 && Number.isInteger(side) && side >= 8) return { height: side, width: side, channels: 1 };
    return null;
}

/* Values between low and high, from black to white. */
export function paint(canvas, values, { height, width, channels }, low = 0, high = 1) {
    const image = new ImageData(width, height);
    for (let i = 0; i < height * width; i++) {
        for (let c = 0; c < 3; c++)
            image.data[4 * i + c] = (255 * (values[i * channels + (channels === 3 ? c : 0)] - low)) / (high - low || 1);
        image.data[4 * i + 3] = 255;
    }
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
}

export const thumbnail = (values, picture, low, high, about) =>
    paint(h("canvas", { class: "pixels thumb", role: "img", "aria-label": about }), values, picture, low, high);

/* The tensor of a dataset that goes into an input: the one of its name, else the only one beside y_true and sample_weight. */
export function tensorFor(dataset, input) {
    const others = dataset.tensors.filter(t => t.name !== "y_true" && t.name !== "sample_weight");
    return others.find(t => t.name === input.name) ?? (others.length === 1 ? others[0] : null);
}

export const fits = (dataset, input) => {
    const tensor = tensorFor(dataset, input);
    return tensor !== null && sizeOf(tensor.shape) === sizeOf(input.shape);
};

async function rowsOf(dataset, tensor, start, n, signal) {
    const { data, shape } = await get(
        `/v2/datasets/${enc(dataset.name)}/${enc(tensor.name)}?start=${start}&count=${n}`,
        { signal },
    );
    return { shape, data: data.flat(Infinity).map(Number) };
}

/* Rows start… of a dataset: x as the model takes it, scaled as the dataset says, and y_true, or null. */
export async function samples(dataset, input, start, n, signal) {
    const tensor = tensorFor(dataset, input),
        truth = dataset.tensors.find(t => t.name === "y_true");
    const { shape, data } = await rowsOf(dataset, tensor, start, n, signal),
        { scale = 1, offset = 0 } = tensor;
    const x = {
        name: input.name,
        shape: [shape[0], ...input.shape.slice(1)],
        data: Float32Array.from(data, v => Math.fround(Math.fround(v) * scale + offset)),
    };
    let y = null;
    if (truth) {
        const read = await rowsOf(dataset, truth, start, n, signal),
            whole = /INT/.test(truth.datatype) && (truth.scale ?? 1) === 1 && !truth.offset;
        y = {
            name: "y_true",
            shape: read.shape,
            data: whole ? read.data : Float32Array.from(read.data, v => v * (truth.scale ?? 1) + (truth.offset ?? 0)),
        };
    }
    return {
        x,
        y,
        n: shape[0],
        low: tensor.min === undefined ? 0 : tensor.min * scale + offset,
        high: tensor.max === undefined ? 1 : tensor.max * scale + offset,
    };
}

/* The class that a row of y_true names: itself, or the largest of its one-hot. */
export function classOf(y, i) {
    if (!y) return null;
    const width = y.data.length / y.shape[0];
    if (width === 1) return y.data[i];
    const row = Array.from(y.data.slice(i * width, (i + 1) * width));
    return row.indexOf(Math.max(...row));
}
