// report.js: what is proven of a model: the network, its layers, their spectra.

import { enc, get, query } from "./api.js";
import { Chart } from "./chart.js";
import {
    act,
    announce,
    button,
    down,
    facts,
    field,
    h,
    near,
    note,
    round,
    select,
    shape,
    svg,
    table,
    tag,
    up,
} from "./dom.js";

/* In words what sound_claim says. */
export function verdict(bound, short = false) {
    if (bound.claimed === null || bound.claimed === undefined) return tag("claims nothing");
    if (bound.sound_claim === true) return tag("holds", "good");
    if (bound.sound_claim === false) return tag("exceeded", "bad");
    return tag(short ? "undecided" : "not decided", "fair");
}

function sentence({ claimed, lower, upper, sound_claim }) {
    if (upper === null) return "No bound is proven: no rule covers one of its layers.";
    const proven = `Its output moves at most ${up(upper)} times as far as its input.`;
    if (claimed === null) return proven;
    if (sound_claim === true) return `The claim of ${near(claimed)} holds for the weights that are served. ${proven}`;
    if (sound_claim === false)
        return `The claim of ${near(claimed)} is wrong for the weights that are served: its output does move ${down(lower)} times as far as its input somewhere. ${proven}`;
    return `Whether the claim of ${near(claimed)} holds is not decided: the constant lies between ${down(lower)} and ${up(upper)}. A stronger method may decide it. ${proven}`;
}

/* The interval of the constant on one scale for all layers, and the claim in it. */
function interval({ claimed, lower, upper, sound_claim }, top) {
    const W = 130,
        at = x => (x / top) * W;
    const text = `between ${down(lower)} and ${upper === null ? "nothing proven" : up(upper)}, claimed ${claimed === null ? "nothing" : near(claimed)}`;
    return svg(
        "svg",
        { class: "interval", width: W, height: 18, viewBox: `0 0 ${W} 18`, role: "img", "aria-label": text },
        svg("title", null, text),
        svg("line", { class: "scale", x1: 0, x2: W, y1: 9, y2: 9 }),
        upper === null
            ? null
            : svg("rect", {
                  class: sound_claim === false ? "bad" : "",
                  x: Math.min(at(lower), W - 3),
                  y: 5,
                  width: Math.max(3, at(upper) - at(lower)),
                  height: 8,
                  rx: 2,
              }),
        claimed === null ? null : svg("line", { class: "claim", x1: at(claimed), x2: at(claimed), y1: 1, y2: 17 }),
    );
}

function pairsTable(pairs) {
    const top = Math.max(...pairs.flat());
    const shade = x => `q${Math.round((9 * x) / top)}`;
    return table(
        "Bounds of the difference of two outputs",
        ["from \\ to", ...pairs.map((_, i) => [String(i), "n"])],
        pairs.map((row, i) => [
            String(i),
            ...row.map((x, j) => h("span", { class: i === j ? "dim" : shade(x) }, i === j ? "·" : up(x, 4))),
        ]),
        { class: "dense pairs" },
    );
}

class Spectra {
    constructor(base, signal) {
        Object.assign(this, { base, signal, node: h("div", { class: "charts" }), told: h("div"), drawn: new Map() });
    }

    async draw(layer) {
        if (!this.drawn.has(layer.name)) {
            const s = await get(`${this.base}/layers/${enc(layer.name)}/singular_values`, { signal: this.signal });
            const lines = [layer.claimed !== null && { y: layer.claimed, name: "claimed" }].filter(l => l);
            const chart = new Chart({
                title: `${layer.name}: ${s.operator.replace("_", " ")}, ${shape(s.shape)}`,
                x: "index",
                y: "singular value",
                lines,
                yRange: [0, undefined],
            });
            const largest = s.largest.map((v, i) => [i + 1, Number(v)]);
            const smallest = s.smallest
                .map(Number)
                .sort((a, b) => b - a)
                .map((v, i) => [s.count - s.smallest.length + i + 1, v]);
            chart.set(
                s.largest.length === s.count
                    ? [{ name: "σ", points: largest }]
                    : [
                          { name: "largest", points: largest, dots: true },
                          { name: "smallest", points: smallest, dots: true },
                      ],
            );
            this.drawn.set(layer.name, chart.node);
            this.node.append(chart.node);
        }
        return this.drawn.get(layer.name);
    }
}

export async function render(view, { base, signal, query: asked }) {
    const method = select(
        [
            { value: "product", text: "product of the layers (quick)" },
            { value: "auto", text: "every method (seconds)" },
            { value: "rescaled", text: "rescaled" },
            { value: "lipsdp", text: "LipSDP" },
            { value: "liplt", text: "LipLT" },
            { value: "fourier", text: "Fourier" },
        ],
        { value: asked.get("method") ?? "product" },
    );
    const seconds = h("input", { type: "number", min: 0.1, max: 600, step: "any", value: asked.get("seconds") ?? 10 });
    const norm = h("input", { type: "number", min: 0, step: "any", placeholder: "√d" });
    const pairs = h("input", { type: "checkbox" });
    const told = h("div"),
        out = h("div", { class: "report" }),
        spectra = new Spectra(base, signal),
        choice = h("p", { class: "buttons" });

    async function prove() {
        const report = await get(
            `${base}/lipschitz${query({ method: method.value, max_seconds: seconds.value, input_norm: norm.value, pairs: pairs.checked || null })}`,
            { signal },
        );
        const { network, layers, arithmetic } = report;
        const top = 1.08 * Math.max(...layers.flatMap(l => [l.upper ?? 0, l.claimed ?? 0, l.lower ?? 0]));
        const rows = layers.map(l => {
            const stored =
                l.effective_kernel === "stored"
                    ? h(
                          "span",
                          {
                              title: `its effective kernel came with the weights, ${near(l.stored_distance)} from what the kernel gives`,
                          },
                          " ",
                          tag("stored"),
                      )
                    : null;
            return [
                [h("code", null, l.name), stored],
                l.class_name,
                l.claimed === null ? "–" : near(l.claimed),
                down(l.lower),
                l.upper === null ? "none" : up(l.upper),
                interval(l, top),
                [
                    verdict(l),
                    l.per_output
                        ? h(
                              "small",
                              {
                                  title: `each output alone moves at most ${up(l.output_upper)} times as far as the input`,
                              },
                              " each output",
                          )
                        : null,
                ],
                l.method,
                down(l.sigma_min, 5),
                round(l.defect, 1, 3),
            ];
        });
        const methods = Object.entries(network.methods ?? {}).filter(([, v]) => v !== null);
        out.replaceChildren(
            h(
                "section",
                { class: "headline" },
                h("p", { class: "verdict" }, verdict(network), " ", sentence(network)),
                facts([
                    [
                        "Claimed",
                        network.claimed === null ? "nothing" : near(network.claimed),
                        "k as the definition has it",
                    ],
                    ["Proven at most", up(network.upper), "verified upper bound, rounded up"],
                    ["At least", down(network.lower), `found by ${network.lower_method}, rounded down`],
                    ["Tightness", near(network.tightness, 4), "upper / lower"],
                    ["Method", network.complete ? network.method : `${network.method}, cut short`],
                    [
                        "Arithmetic",
                        `${arithmetic.accumulate} ± ${round(arithmetic.deviation, 1, 3)}`,
                        `for inputs of norm up to ${near(arithmetic.input_norm)}`,
                    ],
                    ["Revision", String(report.weights_revision)],
                ]),
            ),
            methods.length > 1
                ? h("p", { class: "meta" }, "By method: ", methods.map(([name, v]) => `${name} ${up(v)}`).join(" · "))
                : "",
            ...report.warnings.map(w => h("p", { class: "warning" }, w.text)),
            table(
                "Layers",
                [
                    "Layer",
                    "Class",
                    ["Claimed", "n"],
                    ["At least", "n"],
                    ["At most", "n"],
                    "Interval",
                    "The claim",
                    "Proven by",
                    ["σ min", "n"],
                    ["Defect", "n"],
                ],
                rows,
                { class: "dense" },
            ),
            report.pairs
                ? h(
                      "section",
                      null,
                      h("h2", null, "Pairs of classes"),
                      h(
                          "p",
                          { class: "meta" },
                          "How far the difference of two outputs moves at most, for each unit of the input.",
                      ),
                      pairsTable(report.pairs),
                  )
                : "",
        );
        const matrices = layers.filter(l => l.effective_kernel);
        choice.replaceChildren(
            ...matrices.map(l =>
                button(l.name, () => spectra.draw(l), spectra.told, {
                    class: "small quiet",
                    "aria-label": `Spectrum of ${l.name}`,
                }),
            ),
            matrices.length > 1
                ? button(
                      "All",
                      async () => {
                          for (const layer of matrices) await spectra.draw(layer);
                      },
                      spectra.told,
                      { class: "small quiet", "aria-label": "All spectra" },
                  )
                : "",
        );
        announce(sentence(network));
    }

    const run = button("Prove", prove, told, { class: "main" });
    view.append(
        h(
            "details",
            { class: "panel", open: asked.has("method") },
            h("summary", null, "How it is proven"),
            h(
                "div",
                { class: "row" },
                field("Method", method),
                field("Seconds at most", seconds),
                field("Norm of inputs up to", norm),
                field("Bounds of each pair of classes", pairs),
            ),
            h("p", { class: "buttons" }, run),
            told,
        ),
        out,
        h(
            "section",
            null,
            h("h2", null, "Singular values"),
            note(
                "Of a layer's true operator, with its padding, stride and input size. An orthogonal layer has all of them at its claim.",
            ),
            choice,
            spectra.told,
            spectra.node,
        ),
    );
    await act(run, told, prove);
}
