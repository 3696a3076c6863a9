// manage.js: actions that change a model, its export, its end.

import { call, enc, query, send } from "./api.js";
import { announce, button, down, download, field, form, h, near, note, select, sure, table, up } from "./dom.js";

/* The formats of this build: those that the answer to an impossible one lists. */
async function formats(base, signal) {
    try {
        await call("GET", `${base}/export?format=which`, { signal });
    } catch (error) {
        if (error.code === "not_acceptable") return error.formats;
        throw error;
    }
    return [];
}

const rowsOf = {
    condense: a => [
        ["Layer", ["Kernel moved", "n"], ["σ", "n"], ["Iterations", "n"], ["Residual", "n"]],
        a.layers.map(l => [
            l.name,
            near(l.kernel_distance),
            near(l.sigma),
            String(l.bjorck_iterations ?? "–"),
            near(l.residual, 3),
        ]),
    ],
    tighten: a => [
        ["Layer", ["Factor before", "n"], ["Factor after", "n"], ["Proven before", "n"], ["Proven after", "n"]],
        a.layers.map(l => [
            l.name,
            near(l.coef_lip_before, 6),
            near(l.coef_lip_after, 6),
            up(l.upper_before),
            up(l.upper_after),
        ]),
    ],
    refresh: a => [
        ["Layer", ["Change", "n"], ["Iterations", "n"], ["Residual", "n"]],
        a.layers.map(l => [l.name, near(l.change), String(l.bjorck_iterations ?? "–"), near(l.residual, 3)]),
    ],
};

/* A model that is loaded or not, and one that shall be no more. */
export function ending(name, path, told, again, loaded = true) {
    const verb = loaded ? "unload" : "load";
    return h(
        "section",
        null,
        h("h2", null, "In memory and on disk"),
        h(
            "p",
            { class: "buttons" },
            button(
                loaded ? "Unload" : "Load",
                async () => {
                    await send("POST", `/v2/repository/models/${enc(name)}/${verb}`, {});
                    announce(`${name} is ${verb}ed`);
                    again();
                },
                told,
            ),
            button(
                "Delete the model",
                async () => {
                    if (
                        !(await sure(
                            `Delete ${name}?`,
                            "Weights, versions and checkpoints are removed from memory and disk. There is no way back.",
                            "Delete",
                            true,
                        ))
                    )
                        return;
                    await call("DELETE", path);
                    announce(`${name} is gone`);
                    location.hash = "#/models";
                },
                told,
                { class: "danger" },
            ),
        ),
    );
}

export async function render(view, { model, path, base, version, etag, names, signal, again }) {
    const told = h("div"),
        out = h("div", { class: "report", role: "status" });
    let tag = etag;

    async function change(action, title, text, yes) {
        if (!(await sure(title, text, yes))) return;
        const answer = await call("POST", `${path}/${action}`, {
                body: "{}",
                headers: { "Content-Type": "application/json", "If-Match": tag },
            }),
            body = await answer.json();
        tag = answer.headers.get("ETag");
        const [columns, rows] = rowsOf[action](body);
        out.replaceChildren(
            h(
                "p",
                null,
                `Revision ${body.weights_revision} is served.`,
                body.max_abs_output_change === undefined
                    ? ""
                    : ` Outputs of ${body.probe_samples} probes moved by ${up(body.max_abs_output_change, 3)} at most.`,
            ),
            rows.length ? table(action, columns, rows, { class: "dense" }) : note("There was nothing to do."),
        );
        announce(`${action}: revision ${body.weights_revision} is served`);
    }

    const format = select(await formats(base, signal)),
        vanilla = h("input", { type: "checkbox", checked: true }),
        verify = h("input", { type: "checkbox" });
    const transfer = select([{ value: "", text: "none" }, "fp32", "tf32", "bf16", "fp16"]),
        result = h("p", { class: "meta", role: "status" });
    const take = async () => {
        const answer = await call(
            "GET",
            `${base}/export${query({ format: format.value, vanilla: vanilla.checked, verify: verify.checked, transfer: transfer.value })}`,
            { signal, headers: { Accept: "*/*" } },
        );
        const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? names.name,
            deviation = answer.headers.get("Onelip-Transfer-Deviation");
        download(await answer.blob(), name);
        result.textContent =
            name + (deviation ? `: in that arithmetic answers are off by ${up(Number(deviation), 3)} at most` : "");
    };
    view.append(told);
    if (!version)
        view.append(
            h(
                "section",
                null,
                h("h2", null, "Change the weights"),
                h(
                    "p",
                    { class: "buttons" },
                    button(
                        "Condense",
                        () =>
                            change(
                                "condense",
                                "Condense?",
                                "Every kernel becomes the effective kernel computed from it. Answers stay as they are, to rounding.",
                                "Condense",
                            ),
                        told,
                    ),
                    button(
                        "Tighten",
                        () =>
                            change(
                                "tighten",
                                "Tighten?",
                                "Each layer's factor is set so that its proven norm equals its claim. The function changes: its answers are scaled.",
                                "Tighten",
                            ),
                        told,
                    ),
                    button(
                        "Refresh",
                        () =>
                            change(
                                "refresh",
                                "Refresh?",
                                "Every effective kernel is computed anew and published.",
                                "Refresh",
                            ),
                        told,
                    ),
                ),
                out,
            ),
        );
    view.append(
        h(
            "section",
            null,
            h("h2", null, "Export"),
            form(
                take,
                "Download",
                h("div", { class: "row" }, field("Format", format), field("Certificate of a transfer to", transfer)),
                h(
                    "div",
                    { class: "row" },
                    field("Plain Keras layers", vanilla, "without what only training needs"),
                    field("Check it first", verify, "read back, and compare answers"),
                ),
            ),
            result,
        ),
    );
    if (!version) {
        const about = h("input", { value: model.description ?? "" });
        view.append(
            h(
                "section",
                null,
                h("h2", null, "Description"),
                form(
                    async () => {
                        await send("PATCH", path, { description: about.value });
                        announce("The description was changed");
                        again();
                    },
                    "Save",
                    field("Description", about),
                ),
            ),
            ending(names.name, path, told, again),
        );
    }
}
