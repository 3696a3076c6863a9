// versions.js: frozen versions, labels, checkpoints of the head.

import { call, enc, list, send } from "./api.js";
import { announce, bytes, button, count, field, form, h, note, select, sure, table, tag, when } from "./dom.js";

export async function render(view, { path, names, signal, again }) {
    const [versions, checkpoints] = await Promise.all([
        list(`${path}/versions`, { signal }),
        list(`${path}/checkpoints`, { signal }),
    ]);
    const told = h("div"),
        here = `#/models/${enc(names.name)}`;
    const done = text => {
        announce(text);
        again();
    };
    const act = (label, work, attributes) => button(label, work, told, { class: "small quiet", ...attributes });

    const label = h("input", { required: true, pattern: "[A-Za-z0-9_][A-Za-z0-9._\\-]*", spellcheck: "false" }),
        of = select(versions.map(v => v.version));
    const freezeLabel = h("input", { pattern: "[A-Za-z0-9_][A-Za-z0-9._\\-]*", spellcheck: "false" }),
        about = h("input"),
        kept = h("input", { pattern: "[A-Za-z0-9_][A-Za-z0-9._\\-]*", spellcheck: "false" });
    const unlabel = name =>
        act(
            "×",
            async () => {
                await call("DELETE", `${path}/labels/${enc(name)}`);
                done(`The label ${name} is gone`);
            },
            { "aria-label": `Remove the label ${name}`, title: `Remove the label ${name}` },
        );
    const remove = v =>
        act(
            "Delete",
            async () => {
                if (await sure(`Delete version ${v.version}?`, "Its weights are gone with it.", "Delete", true)) {
                    await call("DELETE", `${path}/versions/${enc(v.version)}`);
                    done(`Version ${v.version} is gone`);
                }
            },
            { "aria-label": `Delete version ${v.version}` },
        );
    const restore = c =>
        act(
            "Restore",
            async () => {
                if (
                    await sure(
                        `Back to ${c.name}?`,
                        "Weights, optimizer and generators become those of the checkpoint, as a new revision. What was trained since is lost unless it is kept.",
                        "Restore",
                    )
                ) {
                    await send("POST", `${path}/checkpoints/${enc(c.name)}/restore`, {});
                    done(`${c.name} is restored`);
                }
            },
            { "aria-label": `Restore ${c.name}` },
        );
    const forget = c =>
        act(
            "Delete",
            async () => {
                await call("DELETE", `${path}/checkpoints/${enc(c.name)}`);
                done(`${c.name} is gone`);
            },
            { "aria-label": `Delete ${c.name}` },
        );

    view.append(
        told,
        h(
            "section",
            null,
            h("h2", null, "Versions"),
            note(
                "The head trains. Freezing it makes a version that never changes, and opens the next number as the head.",
            ),
            table(
                "Versions",
                ["Version", "State", "Labels", ["Revision", "n"], "Frozen", "Description", "Actions"],
                versions.map(v => [
                    h("a", { href: v.head ? here : `${here}?version=${enc(v.version)}` }, v.version),
                    v.head ? tag("head") : tag("frozen"),
                    v.labels.map(l => [tag(l), unlabel(l), " "]),
                    count(v.weights_revision),
                    when(v.frozen_at),
                    v.description,
                    v.head ? null : remove(v),
                ]),
            ),
        ),
        h(
            "div",
            { class: "row" },
            h(
                "section",
                { class: "panel" },
                h("h2", null, "Freeze the head"),
                form(
                    async () => {
                        await send("POST", `${path}/versions`, {
                            description: about.value,
                            labels: freezeLabel.value ? [freezeLabel.value] : [],
                        });
                        done("The head was frozen");
                    },
                    "Freeze",
                    field("Description", about),
                    field("Label", freezeLabel, "perhaps; stable, for one"),
                ),
            ),
            h(
                "section",
                { class: "panel" },
                h("h2", null, "Label a version"),
                form(
                    async () => {
                        await send("PUT", `${path}/labels/${enc(label.value)}`, { version: of.value });
                        done(`${label.value} is version ${of.value}`);
                    },
                    "Label",
                    field("Label", label),
                    field("Version", of),
                ),
            ),
        ),
        h(
            "section",
            null,
            h("h2", null, "Checkpoints of the head"),
            checkpoints.length
                ? table(
                      "Checkpoints",
                      ["Name", ["Step", "n"], ["Revision", "n"], ["Size", "n"], "Made", "Job", "Actions"],
                      checkpoints.map(c => [
                          c.name,
                          count(c.step),
                          count(c.state_revision),
                          bytes(c.bytes),
                          when(c.created_at),
                          c.job ? h("a", { href: `#/jobs/${enc(c.job)}` }, "job") : "",
                          [restore(c), " ", forget(c)],
                      ]),
                  )
                : note("There is none."),
            form(
                async () => {
                    await send("POST", `${path}/checkpoints`, kept.value ? { name: kept.value } : {});
                    done("The head's state is kept");
                },
                "Keep the head's state",
                field("Name", kept, "left empty: by its revision"),
            ),
        ),
    );
}
