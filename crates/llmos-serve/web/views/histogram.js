// Histograms as SVG.

/** The outline of a histogram within `width` × `height`; `isLog` shows counts by their logarithm. */
export function outline(counts, width, height, isLog = false) {
  const tall = counts.map((count) => (isLog ? Math.log1p(count) : count));
  const most = Math.max(...tall, 1e-9);
  const step = width / counts.length;
  const steps = tall.map((value) => `V${(height * (1 - value / most)).toFixed(1)}h${step.toFixed(2)}`);
  return `M0 ${height}${steps.join("")}V${height}Z`;
}
