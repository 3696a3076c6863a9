// chart.js: lines and steps in SVG, as wide as their place. Every chart has a readout for mouse and arrow keys, and its data as a table.

import { h, near, svg, table } from "./dom.js";

const HEIGHT = 220,
    LEFT = 58,
    RIGHT = 14,
    TOP = 12,
    BOTTOM = 34,
    DRAWN = 800;

/* Round numbers from low to high, about n of them. */
export function ticks(low, high, n) {
    const raw = (high - low) / n || 1,
        power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find(s => s * power >= raw) * power,
        all = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
        all.push(Number((i * step).toPrecision(12)));
    return all;
}

/* At most DRAWN points: of each run of neighbours the lowest and the highest. */
function thinned(points) {
    if (points.length <= DRAWN) return points;
    const size = Math.ceil(points.length / (DRAWN / 2)),
        kept = [];
    for (let at = 0; at < points.length; at += size) {
        const run = points.slice(at, at + size);
        const low = run.reduce((a, b) => (b[1] < a[1] ? b : a)),
            high = run.reduce((a, b) => (b[1] > a[1] ? b : a));
        kept.push(...(low === high ? [low] : low[0] <= high[0] ? [low, high] : [high, low]));
    }
    return kept;
}

function range(values, fixed) {
    let low = fixed?.[0] ?? Math.min(...values),
        high = fixed?.[1] ?? Math.max(...values);
    if (!(low < high)) {
        const room = Math.abs(low) * 0.05 || 0.5;
        low -= fixed?.[0] === undefined ? room : 0;
        high = Math.max(high, low) + room;
    }
    const room = (high - low) * 0.04;
    return [fixed?.[0] ?? low - room, fixed?.[1] ?? high + room];
}

/* options: title, x, y (names of the axes), xRange and yRange ([low or undefined, high or undefined]), lines ([{y, name}]).
 * A series: {name, points: [[x, y], …] in the order of x, step: whether the value holds until the next point, dots: points
 * alone, faint: in the background}. */
export class Chart {
    constructor(options) {
        this.options = options;
        this.series = [];
        this.readout = h("p", { class: "readout", "aria-live": "off" });
        this.legend = h("ul", { class: "legend" });
        this.place = h("div", { class: "plot" });
        this.data = h(
            "details",
            { class: "data", ontoggle: () => this.data.open && this.list() },
            h("summary", null, "Data"),
        );
        this.node = h(
            "figure",
            { class: "chart" },
            h("figcaption", null, options.title, this.legend),
            this.place,
            this.readout,
            this.data,
        );
        new ResizeObserver(() => this.draw()).observe(this.place);
    }

    set(series) {
        this.series = series.map(s => ({
            ...s,
            points: s.points.filter(p => Number.isFinite(p[0]) && Number.isFinite(p[1])),
        }));
        const names = this.series.map(s => s.name).join("\n");
        if (names !== this.names) {
            this.names = names;
            this.legend.replaceChildren(
                ...(this.series.length > 1 || this.options.legend
                    ? this.series.map((s, i) => h("li", { class: `s${i % 6}` }, s.name))
                    : []),
            );
        }
        cancelAnimationFrame(this.frame);
        this.frame = requestAnimationFrame(() => this.draw());
        return this;
    }

    draw() {
        const { options } = this,
            width = this.place.clientWidth,
            all = this.series.flatMap(s => s.points);
        if (!width) return;
        if (!all.length) {
            this.place.replaceChildren(h("p", { class: "empty" }, "Nothing yet."));
            return;
        }
        const lines = options.lines ?? [];
        const [x0, x1] = range(
            [
                Math.min(...this.series.filter(s => s.points.length).map(s => s.points[0][0])),
                Math.max(...this.series.filter(s => s.points.length).map(s => s.points.at(-1)[0])),
            ],
            options.xRange,
        );
        let low = Infinity,
            high = -Infinity;
        for (const [, y] of all) ((low = Math.min(low, y)), (high = Math.max(high, y)));
        const [y0, y1] = range([low, high, ...lines.map(l => l.y)], options.yRange);
        const px = x => LEFT + ((x - x0) / (x1 - x0)) * (width - LEFT - RIGHT),
            py = y => TOP + ((y1 - y) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
        Object.assign(this, { px, width, x0, x1 });

        const grid = ticks(y0, y1, 5).map(y => [
            svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: py(y), y2: py(y) }),
            svg("text", { class: "tick", x: LEFT - 8, y: py(y) + 4, "text-anchor": "end" }, near(y, 4)),
        ]);
        const feet = ticks(x0, x1, Math.max(2, Math.floor(width / 110))).map(x => [
            svg("line", { class: "grid", x1: px(x), x2: px(x), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }),
            svg("text", { class: "tick", x: px(x), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, near(x, 6)),
        ]);
        const marks = lines.map(l => [
            svg("line", { class: "mark", x1: LEFT, x2: width - RIGHT, y1: py(l.y), y2: py(l.y) }),
            svg("text", { class: "tick", x: width - RIGHT, y: py(l.y) - 4, "text-anchor": "end" }, l.name),
        ]);
        const drawn = this.series.map((s, i) => {
            const points = thinned(s.points),
                path = points
                    .map(([x, y], j) =>
                        !j
                            ? `M${px(x).toFixed(1)} ${py(y).toFixed(1)}`
                            : s.step
                              ? `H${px(x).toFixed(1)}V${py(y).toFixed(1)}`
                              : `L${px(x).toFixed(1)} ${py(y).toFixed(1)}`,
                    )
                    .join("");
            const dots =
                s.dots || points.length < 3
                    ? points.map(([x, y]) => svg("circle", { cx: px(x), cy: py(y), r: 3 }))
                    : [];
            return svg(
                "g",
                { class: `line s${i % 6} ${s.faint ? "faint" : ""}` },
                s.dots ? null : svg("path", { d: path }),
                dots,
            );
        });
        this.cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
        const about = `${options.title}: ${this.series.map(s => (s.points.length ? `${s.name} from ${near(s.points[0][1])} to ${near(s.points.at(-1)[1])}` : s.name)).join("; ")}. Arrow keys read it.`;
        const picture = svg(
            "svg",
            {
                width,
                height: HEIGHT,
                viewBox: `0 0 ${width} ${HEIGHT}`,
                role: "img",
                "aria-label": about,
                tabindex: 0,
                onpointermove: e => this.point(e.offsetX),
                onpointerleave: () => this.leave(),
                onblur: () => this.leave(),
                onkeydown: e => this.key(e),
            },
            grid,
            feet,
            marks,
            drawn,
            this.cross,
            svg(
                "text",
                { class: "axis", x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" },
                options.x,
            ),
            options.y &&
                svg(
                    "text",
                    {
                        class: "axis",
                        x: 0,
                        y: 0,
                        transform: `translate(11 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`,
                        "text-anchor": "middle",
                    },
                    options.y,
                ),
        );
        const focused = this.place.contains(document.activeElement);
        this.place.replaceChildren(picture);
        if (focused) picture.focus({ preventScroll: true });
        if (this.at !== undefined) this.read(this.at);
        if (this.data.open) this.list();
    }

    /* Every x of every series, in order, once. */
    places() {
        return [...new Set(this.series.flatMap(s => s.points.map(p => p[0])))].sort((a, b) => a - b);
    }

    point(offset) {
        const x = this.x0 + ((offset - LEFT) / (this.width - LEFT - RIGHT)) * (this.x1 - this.x0);
        this.read(this.places().reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a)));
    }

    key(event) {
        const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity }[
            event.key
        ];
        if (move === undefined) return;
        event.preventDefault();
        const places = this.places(),
            from = this.at === undefined ? -1 : places.indexOf(this.at);
        this.readout.setAttribute("aria-live", "polite");
        this.read(places[Math.max(0, Math.min(places.length - 1, from + move))]);
    }

    /* Of a step the value that holds at x, else the nearest point's. */
    read(x) {
        this.at = x;
        const values = this.series.map((s, i) => {
            const behind = s.points.findLastIndex(p => p[0] <= x),
                found = s.step
                    ? s.points[behind]
                    : s.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a), s.points[0] ?? []);
            return found?.length && h("span", { class: `s${i % 6}` }, `${s.name} ${near(found[1], 6)}`);
        });
        this.readout.replaceChildren(`${this.options.x} ${near(x, 6)}: `, ...values.filter(v => v));
        this.cross.setAttribute("x1", this.px(x));
        this.cross.setAttribute("x2", this.px(x));
        this.cross.setAttribute("visibility", "visible");
    }

    leave() {
        this.at = undefined;
        this.readout.replaceChildren();
        this.readout.setAttribute("aria-live", "off");
        this.cross?.setAttribute("visibility", "hidden");
    }

    list() {
        const places = this.places(),
            every = Math.ceil(places.length / 200);
        const rows = places
            .filter((x, i) => i % every === 0 || i === places.length - 1)
            .map(x => [
                near(x, 6),
                ...this.series.map(s => {
                    const p = s.points.find(q => q[0] === x);
                    return p ? near(p[1], 7) : "";
                }),
            ]);
        const old = this.data.querySelector(".scroll"),
            now = table(
                `Data of ${this.options.title}`,
                [[this.options.x, "n"], ...this.series.map(s => [s.name, "n"])],
                rows,
            );
        if (old) old.replaceWith(now);
        else this.data.append(now);
    }
}
