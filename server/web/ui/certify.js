// certify.js: radii within which answers provably stay, of rows of a dataset.

import { enc, list, send, sendTensors } from "./api.js";
import { certificateNodes } from "./certificate.js";
import { classOf, fits, pictureOf, samples, thumbnail } from "./data.js";
import { announce, button, down, field, form, h, near, note, percent, select, table, tag } from "./dom.js";

export const epsilonsOf = text =>
    text
        .split(/[\s,;]+/)
        .filter(s => s)
        .map(Number);

/* Outputs of an answer by name. */
const outputsOf = answer => Object.fromEntries(answer.outputs.map(o => [o.name, o]));

function rowsTable(answer, { x, y, n, low, high }, start, picture) {
    const { label, margin, radius, method, attack_radius: attack } = outputsOf(answer),
        width = x.data.length / n;
    const rows = Array.from({ length: n }, (_, i) => {
        const truth = classOf(y, i),
            right =
                truth === null || Number(truth) === Number(label.data[i]) || (Number(truth) < 0 && label.data[i] === 0);
        const looks = picture
            ? thumbnail(x.data.subarray(i * width, (i + 1) * width), picture, low, high, `row ${start + i}`)
            : h(
                  "code",
                  null,
                  Array.from(x.data.subarray(i * width, i * width + Math.min(width, 4)), v => near(v, 3)).join(" "),
                  width > 4 ? " …" : "",
              );
        return [
            String(start + i),
            looks,
            truth === null ? "–" : String(truth),
            [String(label.data[i]), " ", right ? null : tag("wrong", "bad")],
            near(margin.data[i]),
            down(radius.data[i], 5),
            method.data[i],
            ...(attack ? [near(attack.data[i], 5)] : []),
        ];
    });
    const node = table(
        "Samples",
        [
            "Row",
            "Sample",
            "True",
            "Answer",
            ["Margin", "n"],
            ["Radius", "n"],
            "Proven by",
            ...(attack ? [["Moved by attack at", "n"]] : []),
        ],
        rows,
        { class: "dense" },
    );
    node.classList.add("tall");
    return node;
}

export async function render(view, { model, path, base, version, signal, names }) {
    const [input] = model.inputs,
        datasets = (await list("/v2/datasets", { signal })).filter(d => model.inputs.length === 1 && fits(d, input));
    if (!datasets.length) {
        view.append(
            note("No dataset has rows of this model's input. ", h("a", { href: "#/datasets" }, "Upload one"), "."),
        );
        return;
    }
    const dataset = select(datasets.map(d => d.name)),
        start = h("input", { type: "number", min: 0, step: 1, value: 0, required: true }),
        rows = h("input", { type: "number", min: 1, max: 1000, step: 1, value: 64, required: true });
    const epsilons = h("input", { value: "0.1 0.25 0.5 1", spellcheck: "false" }),
        norm = select(["l2", "l1", "linf"]),
        arithmetic = select(["float64", "float32"]);
    const attack = h("input", { type: "checkbox" }),
        local = h("input", { type: "checkbox", checked: true });
    const out = h("div", { class: "report" }),
        told = h("div");
    const parameters = () => ({
        norm: norm.value,
        arithmetic: arithmetic.value,
        local: local.checked,
        attack: attack.checked,
        curve: true,
    });

    async function run() {
        const chosen = datasets.find(d => d.name === dataset.value);
        const from = Number(start.value),
            n = Math.min(Number(rows.value), chosen.samples - from);
        if (n < 1)
            throw Object.assign(new Error(`${chosen.name} has ${chosen.samples} rows.`), {
                title: "There is no such row",
            });
        const batch = await samples(chosen, input, from, n, signal);
        const answer = await sendTensors(
            `${base}/certify`,
            batch.y ? [batch.x, batch.y] : [batch.x],
            { parameters: parameters(), epsilons: epsilonsOf(epsilons.value) },
            { signal },
        );
        const { label } = outputsOf(answer);
        const right = batch.y
            ? Array.from(
                  label.data,
                  (v, i) => Number(v) === Number(classOf(batch.y, i)) || (classOf(batch.y, i) < 0 && v === 0),
              ).filter(Boolean).length / n
            : null;
        out.replaceChildren(
            ...certificateNodes(answer.certificate, {
                samples: n,
                accuracy: right,
                revision: answer.parameters.weights_revision,
            }),
            rowsTable(answer, batch, from, pictureOf(input.shape)),
        );
        announce(
            `${n} samples certified, mean radius ${down(answer.certificate.mean_radius, 4)}${right === null ? "" : `, accuracy ${percent(right)}`}`,
        );
    }

    const whole = button(
        "The whole dataset, as a job",
        async () => {
            const job = await send("POST", "/v2/jobs", {
                type: "certify",
                model: names.name,
                dataset: dataset.value,
                epsilons: epsilonsOf(epsilons.value),
                parameters: parameters(),
            });
            location.hash = `#/jobs/${enc(job.id)}`;
        },
        told,
    );
    view.append(
        note(
            "A radius says how far a sample may move before the answer can change; it is proven, and rounded down. Distances are those of the model's input, as the dataset's scale makes it.",
        ),
        form(
            run,
            "Certify these rows",
            h(
                "div",
                { class: "row" },
                field("Dataset", dataset),
                field("From row", start),
                field("Rows", rows),
                field("ε", epsilons),
                field("Norm", norm),
                field("Arithmetic", arithmetic),
            ),
            h(
                "div",
                { class: "row" },
                field("Local bounds", local, "closer, slower"),
                field("Attack", attack, "also look for the nearest other answer"),
            ),
            { button: version ? null : whole, told },
        ),
        out,
    );
}
