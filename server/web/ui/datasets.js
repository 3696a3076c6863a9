// datasets.js: named data: what there is, what is in one, and more of it.

import { call, enc, get, list, query } from "./api.js";
import {
    announce,
    bytes,
    button,
    count,
    down,
    facts,
    field,
    form,
    h,
    near,
    note,
    shape,
    sure,
    table,
    up,
    when,
} from "./dom.js";
import { pictureOf, thumbnail } from "./data.js";

export const title = ({ name }) => name ?? "Datasets";

/* fetch tells nothing of an upload's progress; this does. */
function upload(path, file, headers, told) {
    return new Promise((resolve, reject) => {
        const request = new XMLHttpRequest(),
            bar = h("progress", { max: file.size || 1, value: 0, "aria-label": `Sending ${file.name}` });
        const said = h("span", { class: "meta" }),
            stop = h("button", { type: "button", class: "small", onclick: () => request.abort() }, "Stop");
        told.replaceChildren(h("p", { class: "buttons" }, bar, said, stop));
        request.upload.onprogress = e => {
            bar.value = e.loaded;
            said.textContent = `${bytes(e.loaded)} of ${bytes(e.total)}`;
        };
        request.upload.onload = () => {
            stop.hidden = true;
            said.textContent = "the server reads it";
        };
        request.onload = () => {
            told.replaceChildren();
            resolve(new Response(request.responseText, { status: request.status }));
        };
        request.onerror = () => {
            told.replaceChildren();
            reject(Object.assign(new Error("The connection broke."), { title: "The file did not arrive" }));
        };
        request.onabort = () => {
            told.replaceChildren();
            reject(Object.assign(new Error("Nothing was changed."), { title: "Stopped" }));
        };
        request.open("PUT", path);
        for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
        request.send(file);
    });
}

function adder(again, names) {
    const name = h("input", {
            required: true,
            pattern: "[A-Za-z0-9_][A-Za-z0-9._\\-]{0,127}",
            spellcheck: "false",
            list: "datasets",
        }),
        file = h("input", { type: "file", required: true });
    const label = h("input", { placeholder: "label", spellcheck: "false" }),
        tensor = h("input", { placeholder: "x", spellcheck: "false" }),
        scale = h("input", { type: "number", step: "any", placeholder: "1" });
    const table_ = h("div", { class: "row" }, field("Column of the label", label, "CSV: it becomes y_true"));
    const one = h(
        "div",
        { class: "row", hidden: true },
        field("Tensor", tensor, "x, y_true or an input's name"),
        field("Scale", scale, "0.00392156862745098 makes pixels 0 to 1"),
    );
    const single = () => /\.(npy|idx|idx[1-4]-ubyte|ubyte)(\.gz)?$|-ubyte(\.gz)?$/.test(file.files[0]?.name ?? "");
    file.addEventListener("change", () => {
        one.hidden = !single();
        table_.hidden = !/\.csv$/i.test(file.files[0]?.name ?? ".csv");
        if (/label|y_true|-y\b/.test(file.files[0]?.name ?? "")) tensor.value = "y_true";
        name.value ||= (file.files[0]?.name ?? "")
            .replace(/\..*$/, "")
            .replace(/[^A-Za-z0-9._-]/g, "_")
            .replace(/^[.-]+/, "");
    });
    const told = h("div");
    const send = async () => {
        const [chosen] = file.files,
            alone = single();
        const path = `/v2/datasets/${enc(name.value)}${alone ? `/${enc(tensor.value || "x")}` : ""}${query(alone ? { scale: scale.value, filename: chosen.name } : { label: table_.hidden ? "" : label.value, filename: chosen.name })}`;
        const answer = await call("PUT", path, {
            headers: { "Content-Type": "application/octet-stream" },
            upload: (url, headers) => upload(url, chosen, headers, told),
        });
        const { samples } = await answer.json();
        announce(`${name.value} has ${samples} samples`);
        again();
    };
    return h(
        "details",
        { class: "panel" },
        h("summary", null, "Add data"),
        form(
            send,
            "Upload",
            h(
                "datalist",
                { id: "datasets" },
                names.map(n => h("option", { value: n })),
            ),
            field(
                "File",
                file,
                "A whole set: npz, safetensors or CSV with a header line. One tensor of a set: npy or IDX, plain or gzip.",
            ),
            h("div", { class: "row" }, field("Name of the set", name)),
            table_,
            one,
        ),
        told,
    );
}

const tensorsTable = tensors =>
    table(
        "Tensors",
        [
            "Name",
            "Type",
            ["Shape", "n"],
            ["Least", "n"],
            ["Most", "n"],
            ["Classes", "n"],
            ["Scale", "n"],
            ["Offset", "n"],
        ],
        tensors.map(t => [
            h("code", null, t.name),
            t.datatype,
            shape(t.shape),
            down(t.min),
            up(t.max),
            t.classes === undefined ? "–" : String(t.classes),
            near(t.scale ?? 1),
            near(t.offset ?? 0),
        ]),
    );

async function one(view, { names: { name }, query: asked, signal }) {
    const dataset = await get(`/v2/datasets/${enc(name)}`, { signal }),
        told = h("div"),
        out = h("div"),
        where = h("span", { class: "meta", role: "status" }),
        N = 60;
    let start = Math.max(0, Number(asked.get("from")) || 0);
    async function peek() {
        const truth = dataset.tensors.find(t => t.name === "y_true"),
            x = dataset.tensors.find(t => t.name !== "y_true" && t.name !== "sample_weight");
        const read = async t =>
            t && (await get(`/v2/datasets/${enc(name)}/${enc(t.name)}?start=${start}&count=${N}`, { signal }));
        const [rows, labels] = await Promise.all([read(x), read(truth)]),
            picture = x && pictureOf(x.shape),
            n = Math.min(N, dataset.samples - start);
        const flat = rows?.data.flat(Infinity).map(Number),
            width = flat ? flat.length / n : 0,
            y = labels?.data.flat(Infinity).map(Number),
            wide = y ? y.length / n : 0;
        const about = `Rows ${start} to ${start + n - 1}`,
            cells = Array.from({ length: n }, (_, i) => {
                const values = flat?.slice(i * width, (i + 1) * width) ?? [];
                return [
                    String(start + i),
                    picture
                        ? thumbnail(values, picture, x.min ?? 0, x.max ?? 1, `row ${start + i}`)
                        : h(
                              "code",
                              null,
                              values
                                  .slice(0, 8)
                                  .map(v => near(v, 4))
                                  .join("  "),
                              width > 8 ? " …" : "",
                          ),
                    y
                        ? y
                              .slice(i * wide, (i + 1) * wide)
                              .map(v => near(v, 4))
                              .join(" ")
                        : "–",
                ];
            });
        out.replaceChildren(
            ...(picture
                ? [
                      h(
                          "ol",
                          { class: "pictures", "aria-label": about },
                          cells.map(([row, look, label]) =>
                              h("li", { title: `row ${row}` }, look, h("span", null, label)),
                          ),
                      ),
                  ]
                : [table(about, ["Row", x?.name ?? "x", "y_true"], cells, { class: "dense" })]),
        );
        where.textContent = about;
    }
    const turn = (label, by) =>
        button(
            label,
            async () => {
                start = Math.max(0, Math.min(dataset.samples - 1, start + by));
                await peek();
            },
            told,
        );
    view.append(
        h("p", { class: "crumb" }, h("a", { href: "#/datasets" }, "Datasets")),
        h("h1", null, name),
        facts([
            ["Samples", count(dataset.samples)],
            ["Size", bytes(dataset.bytes)],
            ["Made", when(dataset.created_at)],
        ]),
        tensorsTable(dataset.tensors),
        h(
            "section",
            null,
            h("h2", null, "Rows"),
            h("p", { class: "buttons" }, turn("Back", -N), turn("On", N), where),
            told,
            out,
        ),
        h(
            "p",
            { class: "buttons" },
            button(
                "Delete the dataset",
                async () => {
                    if (await sure(`Delete ${name}?`, "Its tensors are removed from the disk.", "Delete", true)) {
                        await call("DELETE", `/v2/datasets/${enc(name)}`);
                        announce(`${name} is gone`);
                        location.hash = "#/datasets";
                    }
                },
                told,
                { class: "danger" },
            ),
        ),
    );
    await peek();
}

export async function render(view, context) {
    if (context.names.name) return one(view, context);
    const datasets = await list("/v2/datasets", { signal: context.signal });
    view.append(
        h("h1", null, "Datasets"),
        datasets.length
            ? table(
                  "Datasets",
                  ["Name", ["Samples", "n"], ["Size", "n"], "Tensors", "Made"],
                  datasets.map(d => [
                      h("a", { href: `#/datasets/${enc(d.name)}` }, d.name),
                      count(d.samples),
                      bytes(d.bytes),
                      d.tensors
                          .map(t => `${t.name} ${shape(t.shape.slice(1)) || "1"} ${t.datatype.toLowerCase()}`)
                          .join(", "),
                      when(d.created_at),
                  ]),
              )
            : note("There is none yet."),
        adder(
            context.again,
            datasets.map(d => d.name),
        ),
    );
}
