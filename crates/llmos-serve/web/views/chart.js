// Lines over steps as SVG: read with a pointer, with the arrow keys, or as a table.

import { html, useId, useMemo, useState } from "../html.js";
import { useWidth } from "./latest.js";

/** Words that charts need; a page with charts takes them into its own. */
export const words = {
  en: {
    "chart.table": "The numbers as a table",
    "chart.line": "{name}: from {first} at {from} to {last} at {to}; lowest {low} at {at}.",
    "chart.empty": "Nothing has been measured yet.",
    "chart.keys": "Left and right arrows read the values.",
  },
  zh: {
    "chart.table": "以表格显示数值",
    "chart.line": "{name}：{from} 处为 {first}，{to} 处为 {last}；最低 {low}，在 {at} 处。",
    "chart.empty": "还没有测量值。",
    "chart.keys": "用左右方向键读取数值。",
  },
};

const HEIGHT = 230;
const EDGE = { top: 10, right: 14, bottom: 36, left: 58 };
const ROWS = 25; // of a table

/** Means of as many columns, split where a value is no number: lines of [x, y]. */
export function thinned(points, columns) {
  const lines = [];
  if (!points.length) return lines;
  const first = points[0][0];
  const span = points[points.length - 1][0] - first;
  const isWhole = points.length <= columns;
  let line = null;
  let at = null;
  let n = 0;
  points.forEach(([x, y], i) => {
    if (y === undefined) return;
    if (!Number.isFinite(y)) {
      line = null; // also JSON's null, which stands for what is no number
      return;
    }
    const here = isWhole || !span ? i : Math.floor(((x - first) / span) * (columns - 1));
    if (line && here === at) {
      const last = line[line.length - 1];
      n += 1;
      last[1] += (y - last[1]) / n;
      last[0] = x;
      return;
    }
    if (!line) lines.push((line = []));
    line.push([x, y]);
    at = here;
    n = 1;
  });
  return lines;
}

/** Round numbers from at least `low` to at most `high`, about `count` of them. */
export function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => power * factor >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

const extent = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);

/** The point of `points` whose x is nearest. */
function nearest(points, x) {
  let low = 0;
  let high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle;
    else high = middle;
  }
  return points[x - points[low]?.[0] < points[high]?.[0] - x ? low : high];
}

/**
 * @param series [{name, points: [[x, y]…] x rising, isDots?, slot}]: `slot` (0–5) is the colour and the dashes
 * @param x {label, format}
 * @param y {label, format}
 * @param marks [{y, low?, high?, name, slot}] levels to compare with: a forecast and its interval
 */
export function LineChart({ t, title, series, x, y, marks = [] }) {
  const [ref, width] = useWidth();
  const [cursor, setCursor] = useState(null);
  const id = useId();
  const shown = useMemo(() => {
    const columns = Math.max(50, Math.round((width - EDGE.left - EDGE.right) / 2));
    const drawn = series.map((one) => ({ ...one, lines: thinned(one.points, columns) }));
    return drawn.map((one) => ({ ...one, flat: one.lines.flat() })).filter((one) => one.flat.length);
  }, [series, width]);
  if (!shown.length) {
    return html`<figure class="chart" ref=${ref}><figcaption>${title}</figcaption><p class="dim">${t("chart.empty")}</p></figure>`;
  }
  const flats = shown.flatMap((one) => one.flat);
  const [left, right] = extent(flats.map((point) => point[0]));
  let [low, high] = extent([...flats.map((point) => point[1]), ...marks.flatMap((mark) => [mark.y, mark.low ?? mark.y, mark.high ?? mark.y])]);
  if (low === high) [low, high] = [low - Math.abs(low) * 0.1 - 1e-9, high + Math.abs(high) * 0.1 + 1e-9];
  const inner = Math.max(60, width - EDGE.left - EDGE.right);
  const tall = HEIGHT - EDGE.top - EDGE.bottom;
  const px = (value) => EDGE.left + ((value - left) / (right - left || 1)) * inner;
  const py = (value) => EDGE.top + (1 - (value - low) / (high - low)) * tall;
  const path = (line) => line.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("");
  const longest = shown.reduce((best, one) => (one.flat.length > best.length ? one.flat : best), []);
  const move = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const value = left + ((event.clientX - box.left - EDGE.left) / inner) * (right - left);
    setCursor(longest.indexOf(nearest(longest, value)));
  };
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") setCursor(null);
    if (step === undefined) return;
    event.preventDefault();
    setCursor(Math.min(longest.length - 1, Math.max(0, (cursor ?? (step < 0 ? longest.length : -1)) + step)));
  };
  const at = cursor === null ? null : longest[Math.min(cursor, longest.length - 1)]?.[0];
  const values = (where) => shown.map((one) => `${one.name} ${y.format(nearest(one.flat, where)[1])}`);
  const summary = shown.map(({ name, flat }) => {
    const lowest = flat.reduce((best, point) => (point[1] < best[1] ? point : best));
    const [first, last] = [flat[0], flat[flat.length - 1]];
    return t("chart.line", {
      name, first: y.format(first[1]), from: x.format(first[0]), last: y.format(last[1]), to: x.format(last[0]),
      low: y.format(lowest[1]), at: x.format(lowest[0]),
    });
  });
  const every = Math.max(1, Math.ceil(longest.length / ROWS));
  const rows = longest.filter((_, i) => i % every === 0 || i === longest.length - 1).map((point) => point[0]);
  return html`<figure class="chart" ref=${ref}>
    <figcaption id=${id}><b>${title}</b> <span class="dim">${y.label}</span>
      <span class="key">${[...shown, ...marks].filter((one) => one.name !== title || shown.length > 1).map(
        (one) => html`<span key=${one.name}><svg class="swatch" viewBox="0 0 20 8" aria-hidden="true">${one.isDots
          ? html`<circle class=${`dot slot-${one.slot}`} cx="10" cy="4" r="3" />`
          : html`<path class=${`${one.points ? "line" : "mark"} slot-${one.slot}`} d="M0 4H20" />`}</svg>${one.name}</span>`,
      )}</span>
    </figcaption>
    <svg width=${width} height=${HEIGHT} viewBox=${`0 0 ${width} ${HEIGHT}`} role="img" tabindex="0"
      aria-label=${`${title}. ${summary.join(" ")} ${t("chart.keys")}`}
      onPointerMove=${move} onPointerLeave=${() => setCursor(null)} onKeyDown=${onKeyDown} onBlur=${() => setCursor(null)}>
      ${ticks(low, high, 4).map((value) => html`<g key=${`y${value}`}>
        <line class="grid" x1=${EDGE.left} x2=${width - EDGE.right} y1=${py(value)} y2=${py(value)} />
        <text x=${EDGE.left - 6} y=${py(value) + 4} text-anchor="end">${y.format(value)}</text></g>`)}
      ${ticks(left, right, Math.max(2, Math.floor(inner / 110))).map(
        (value) => html`<text key=${`x${value}`} x=${px(value)} y=${HEIGHT - EDGE.bottom + 16} text-anchor="middle">${x.format(value)}</text>`,
      )}
      <text x=${EDGE.left + inner / 2} y=${HEIGHT - 4} text-anchor="middle">${x.label}</text>
      ${marks.map((mark) => html`<g key=${mark.name}>
        ${mark.low !== undefined && html`<rect class=${`band slot-${mark.slot}`} x=${EDGE.left} width=${inner} y=${py(mark.high)} height=${Math.max(1, py(mark.low) - py(mark.high))} />`}
        <line class=${`mark slot-${mark.slot}`} x1=${EDGE.left} x2=${width - EDGE.right} y1=${py(mark.y)} y2=${py(mark.y)} /></g>`)}
      ${shown.map((one) => one.isDots
        ? one.flat.map(([a, b]) => html`<circle key=${`${one.name}${a}`} class=${`dot slot-${one.slot}`} cx=${px(a)} cy=${py(b)} r="3" />`)
        : one.lines.map((line, i) => html`<path key=${`${one.name}${i}`} class=${`line slot-${one.slot}`}
            d=${line.length > 1 ? path(line) : `${path(line)}h2`} />`))}
      ${at !== null && at !== undefined && html`<line class="cursor" x1=${px(at)} x2=${px(at)} y1=${EDGE.top} y2=${EDGE.top + tall} />`}
    </svg>
    <p class="reading" aria-live="polite">${at === null || at === undefined ? " " : `${x.label} ${x.format(at)}: ${values(at).join(", ")}`}</p>
    <details><summary>${t("chart.table")}</summary>
      <p>${summary.join(" ")}</p>
      <div class="scroll" tabindex="0" role="group" aria-label=${title}><table>
        <thead><tr><th scope="col">${x.label}</th>${shown.map((one) => html`<th scope="col" key=${one.name}>${one.name}</th>`)}</tr></thead>
        <tbody>${rows.map((where) => html`<tr key=${where}><th scope="row">${x.format(where)}</th>
          ${shown.map((one) => html`<td key=${one.name}>${y.format(nearest(one.flat, where)[1])}</td>`)}</tr>`)}</tbody>
      </table></div>
    </details>
  </figure>`;
}
