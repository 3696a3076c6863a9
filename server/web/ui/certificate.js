// certificate.js: a certificate as a headline, a curve and a table.

import { Chart } from "./chart.js";
import { down, facts, h, percent, table, up } from "./dom.js";

/* The step function: accuracy[i] is left up to and with radius[i], so the line begins at the radius before it. What is beyond
 * every radius is not drawn. */
function curveOf({ curve, epsilons, provable_accuracy: provable }) {
    if (!curve) return epsilons.map((e, i) => [Number(e), provable[i]]);
    const points = [];
    let before = 0;
    curve.radius.forEach((r, i) => {
        const radius = Number(r);
        if (radius > before || (!points.length && radius === 0 && i === curve.radius.length - 1)) {
            points.push([before, curve.accuracy[i]]);
            before = radius;
        }
    });
    if (Number.isFinite(before)) points.push([before, 0]);
    return points;
}

export function certificateNodes(certificate, { samples, accuracy = null, revision }) {
    const { epsilons, provable_accuracy: provable, reference } = certificate;
    const chart = new Chart({
        title: "Provable accuracy",
        x: `radius (${certificate.norm})`,
        y: "accuracy",
        xRange: [0, undefined],
        yRange: [0, 1],
        legend: true,
    });
    const series = [{ name: "proven", points: curveOf(certificate), step: Boolean(certificate.curve) }];
    if (reference)
        series.push({
            name: "deel-lip's formula",
            points: epsilons.map((e, i) => [Number(e), reference.provable_accuracy[i]]),
            dots: true,
        });
    chart.set(series);
    const rows = epsilons.map((e, i) => [
        String(e),
        percent(provable[i]),
        reference ? percent(reference.provable_accuracy[i]) : "–",
    ]);
    return [
        h(
            "section",
            { class: "headline" },
            facts([
                ["Samples", String(samples)],
                accuracy !== null && ["Accuracy", percent(accuracy)],
                ["Mean radius", down(certificate.mean_radius, 5)],
                ["Head", certificate.head],
                ["Arithmetic", certificate.arithmetic],
                ["Network", `≤ ${up(certificate.network_upper)}`],
                ["Revision", String(revision)],
                certificate.complete === false && ["Cut short", "yes"],
            ]),
        ),
        ...(certificate.warnings ?? []).map(w => h("p", { class: "warning" }, typeof w === "string" ? w : w.text)),
        h(
            "div",
            { class: "charts" },
            chart.node,
            rows.length
                ? table(
                      "Provable accuracy at each ε",
                      [
                          ["ε", "n"],
                          ["Proven", "n"],
                          ["deel-lip's formula", "n"],
                      ],
                      rows,
                  )
                : null,
        ),
    ];
}
