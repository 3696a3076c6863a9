// infer.js: one sample, drawn, dropped, taken from a dataset or typed; the answer, and how far it provably stays.

import { list, sendTensors } from "./api.js";
import { classOf, fits, paint, pictureOf, samples, sizeOf } from "./data.js";
import { act, announce, button, down, facts, field, h, near, note, select, svg, tag } from "./dom.js";

/* A bar for each value, from zero. */
function bars(values, best) {
    const low = Math.min(0, ...values),
        high = Math.max(0, ...values),
        at = v => (100 * (v - low)) / (high - low || 1);
    return h(
        "div",
        { class: "bars", role: "list", "aria-label": "Outputs" },
        values.map((v, i) => {
            const kind = i === best ? "top-one" : "";
            return [
                h(
                    "span",
                    { class: kind, role: "listitem" },
                    String(i),
                    h("span", { class: "visually-hidden" }, `: ${near(v)}`),
                ),
                svg(
                    "svg",
                    { class: kind, viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
                    svg("rect", {
                        x: Math.min(at(0), at(v)),
                        y: 2,
                        width: Math.max(0.4, Math.abs(at(v) - at(0))),
                        height: 10,
                    }),
                    svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 14, "stroke-width": 0.3 }),
                ),
                h("span", { class: `n ${kind}`, "aria-hidden": "true" }, near(v)),
            ];
        }),
    );
}

/* A place to draw on in the model's resolution: white on black, with a round brush. */
class Easel {
    constructor(picture, changed) {
        Object.assign(this, {
            picture,
            changed,
            values: new Float32Array(picture.height * picture.width * picture.channels),
        });
        this.canvas = h("canvas", {
            class: "pixels drawing",
            role: "img",
            "aria-label": "The picture: draw with a pointer, drop a file, or use the controls beside it",
        });
        this.canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
        this.canvas.addEventListener("pointerdown", e => {
            this.canvas.setPointerCapture(e.pointerId);
            this.from = null;
            this.stroke(e);
        });
        this.canvas.addEventListener("pointermove", e => e.buttons && this.stroke(e));
        this.canvas.addEventListener("pointerup", () => this.changed());
        for (const kind of ["dragover", "dragleave", "drop"])
            this.canvas.addEventListener(kind, e => {
                e.preventDefault();
                this.canvas.classList.toggle("over", kind === "dragover");
            });
        this.canvas.addEventListener("drop", e => e.dataTransfer.files[0] && this.load(e.dataTransfer.files[0]));
        this.show();
    }

    show(low = 0, high = 1) {
        paint(this.canvas, this.values, this.picture, low, high);
    }

    set(values, low, high) {
        this.values.set(values);
        this.show(low, high);
    }

    stroke(event) {
        const { height, width, channels } = this.picture,
            box = this.canvas.getBoundingClientRect(),
            radius = Math.max(0.9, Math.min(height, width) / 22);
        const to = [
                ((event.clientX - box.left) / box.width) * width,
                ((event.clientY - box.top) / box.height) * height,
            ],
            from = this.from ?? to;
        const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) * 2));
        for (let s = 1; s <= steps; s++) {
            const x = from[0] + ((to[0] - from[0]) * s) / steps,
                y = from[1] + ((to[1] - from[1]) * s) / steps;
            for (let i = Math.max(0, Math.floor(y - radius - 1)); i < Math.min(height, y + radius + 1); i++)
                for (let j = Math.max(0, Math.floor(x - radius - 1)); j < Math.min(width, x + radius + 1); j++) {
                    const ink = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(j + 0.5 - x, i + 0.5 - y)));
                    for (let c = 0; c < channels; c++)
                        this.values[(i * width + j) * channels + c] = Math.max(
                            this.values[(i * width + j) * channels + c],
                            ink,
                        );
                }
        }
        this.from = to;
        this.show();
    }

    async load(file) {
        const { height, width, channels } = this.picture,
            small = new OffscreenCanvas(width, height),
            context = small.getContext("2d");
        let bitmap;
        try {
            bitmap = await createImageBitmap(file);
        } catch {
            throw Object.assign(new Error(`${file.name} is not a picture that this browser reads.`), {
                title: "No picture",
            });
        }
        const scale = Math.min(width / bitmap.width, height / bitmap.height),
            w = bitmap.width * scale,
            hh = bitmap.height * scale;
        context.fillRect(0, 0, width, height);
        context.imageSmoothingQuality = "high";
        context.drawImage(bitmap, (width - w) / 2, (height - hh) / 2, w, hh);
        const { data } = context.getImageData(0, 0, width, height);
        for (let i = 0; i < height * width; i++) {
            const [r, g, b] = [0, 1, 2].map(c => data[4 * i + c] / 255);
            if (channels === 3) this.values.set([r, g, b], 3 * i);
            else this.values[i] = 0.299 * r + 0.587 * g + 0.114 * b;
        }
        this.show();
        this.changed();
    }
}

export async function render(view, { model, base, signal }) {
    const told = h("div"),
        out = h("div", { class: "answer" }),
        picture = model.inputs.length === 1 ? pictureOf(model.inputs[0].shape) : null;
    const numbers = model.inputs.map(input =>
        h("textarea", {
            rows: picture ? 4 : 3,
            spellcheck: "false",
            value:
                Array(Math.min(sizeOf(input.shape), 16))
                    .fill("0")
                    .join(" ") + (sizeOf(input.shape) > 16 ? " …" : ""),
        }),
    );
    const truth = h("span");
    let easel = null,
        waiting = null;

    function read() {
        return model.inputs.map((input, i) => {
            const size = sizeOf(input.shape),
                values = numbers[i].value.split(/[\s,;[\]]+/).filter(s => s);
            let data = Float32Array.from(
                values.filter(v => v !== "…"),
                Number,
            );
            if (values.at(-1) === "…") data = Float32Array.from({ length: size }, (_, k) => data[k] ?? 0);
            if (data.length !== size || data.some(v => Number.isNaN(v)))
                throw Object.assign(
                    new Error(
                        `${input.name} takes ${size} numbers; here are ${data.filter(v => !Number.isNaN(v)).length}.`,
                    ),
                    { title: "These are not the numbers of one sample" },
                );
            return { name: input.name, shape: [1, ...input.shape.slice(1)], data };
        });
    }

    async function infer() {
        const inputs = easel
            ? [{ name: model.inputs[0].name, shape: [1, ...model.inputs[0].shape.slice(1)], data: easel.values }]
            : read();
        const began = performance.now(),
            answer = await sendTensors(`${base}/infer`, inputs, {}, { signal }),
            took = performance.now() - began;
        let certificate = null,
            none = "";
        try {
            certificate = await sendTensors(
                `${base}/certify`,
                inputs,
                { parameters: { arithmetic: "float32" } },
                { signal },
            );
        } catch (error) {
            if (error.name === "AbortError") throw error;
            none = error.detail ?? error.message;
        }
        const proven = certificate && Object.fromEntries(certificate.outputs.map(o => [o.name, o.data[0]]));
        out.replaceChildren(
            ...answer.outputs.map(o => {
                const values = o.data.flat(Infinity).map(Number),
                    best = values.length > 1 ? values.indexOf(Math.max(...values)) : -1;
                return h(
                    "section",
                    null,
                    h(
                        "h2",
                        null,
                        values.length > 1 ? `Class ${best}` : `${o.name} = ${near(values[0], 7)}`,
                        " ",
                        truth.cloneNode(true),
                    ),
                    values.length <= 64
                        ? bars(values, best)
                        : h("p", { class: "mono" }, values.map(v => near(v, 4)).join(" ")),
                );
            }),
            facts([
                proven && [
                    "Provably stays within",
                    down(proven.radius, 5),
                    "l2 distance of the input, float32 as served, rounded down",
                ],
                proven && ["Margin", near(proven.margin)],
                proven && ["Proven by", proven.method],
                ["Round trip", `${took.toFixed(1)} ms`],
                ["Revision", String(answer.parameters.weights_revision)],
            ]),
            none && note(`No certificate: ${none}`),
        );
        announce(out.querySelector("h2").textContent + (proven ? `, provably within ${down(proven.radius, 4)}` : ""));
    }

    const run = button("Infer", infer, told, { class: "main" });
    /* One answer at a time; a picture that changed meanwhile is asked for once more. */
    const soon = () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => (run.disabled ? soon() : act(run, told, infer)), 60);
    };
    const datasets = (await list("/v2/datasets", { signal }).catch(() => [])).filter(
        d => model.inputs.length === 1 && fits(d, model.inputs[0]),
    );
    const dataset = select(datasets.map(d => d.name)),
        row = h("input", { type: "number", min: 0, step: 1, value: 0 });
    const take = async () => {
        const { x, y, low, high } = await samples(
            datasets.find(d => d.name === dataset.value),
            model.inputs[0],
            Number(row.value),
            1,
            signal,
        );
        if (easel) easel.set(x.data, low, high);
        else numbers[0].value = Array.from(x.data).join(" ");
        truth.replaceChildren(y ? tag(`true: ${classOf(y, 0)}`) : "");
        soon();
    };
    const from = datasets.length
        ? h(
              "div",
              { class: "row" },
              field("Dataset", dataset),
              field("Row", row),
              h(
                  "p",
                  { class: "buttons" },
                  button("Take it", take, told),
                  button(
                      "Next",
                      async () => {
                          row.value = Number(row.value) + 1;
                          await take();
                      },
                      told,
                  ),
              ),
          )
        : null;

    if (picture) {
        easel = new Easel(picture, () => {
            truth.replaceChildren();
            soon();
        });
        const file = h("input", {
            type: "file",
            accept: "image/*",
            onchange: () => file.files[0] && act(run, told, () => easel.load(file.files[0])),
        });
        const clear = button(
            "Clear",
            async () => {
                easel.values.fill(0);
                easel.show();
                easel.changed();
            },
            told,
        );
        const invert = button(
            "Invert",
            async () => {
                easel.values.forEach((v, i) => {
                    easel.values[i] = 1 - v;
                });
                easel.show();
                easel.changed();
            },
            told,
        );
        view.append(
            note("Draw, drop a picture, or take a row. Pixels go from 0 (black) to 1 (white)."),
            h(
                "div",
                { class: "easel" },
                h(
                    "div",
                    { class: "view" },
                    easel.canvas,
                    h("p", { class: "buttons" }, run, clear, invert),
                    field("Picture", file),
                    from,
                ),
                h("div", { class: "view answer" }, told, out),
            ),
        );
    } else {
        view.append(
            ...model.inputs.map((input, i) =>
                field(
                    `${input.name}: ${sizeOf(input.shape)} numbers`,
                    numbers[i],
                    "separated by spaces or commas; … fills up with zeros",
                ),
            ),
            from,
            h("p", { class: "buttons" }, run),
            told,
            out,
        );
    }
}
