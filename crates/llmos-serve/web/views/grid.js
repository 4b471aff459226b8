// A grid of buttons with one tab stop, in which the arrow keys move; shades for shares.

import { useState } from "../html.js";

/**
 * @returns {{onKeyDown: Function, cell: (row: number, column: number) => object}} a handler for the element
 *   around the grid, and the attributes of each of its buttons
 */
export function useGrid(first = "0,0") {
  const [current, setCurrent] = useState(first);
  const onKeyDown = (event) => {
    const place = event.target.dataset?.cell;
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!place || !step) return;
    const [row, column] = place.split(",").map(Number);
    const next = event.currentTarget.querySelector(`[data-cell="${row + step[0]},${column + step[1]}"]`);
    event.preventDefault();
    next?.focus();
  };
  const cell = (row, column) => {
    const name = `${row},${column}`;
    return { "data-cell": name, tabindex: name === current ? 0 : -1, onFocus: () => setCurrent(name) };
  };
  return { onKeyDown, cell };
}

/** 0 to `count` − 1. */
export const range = (count) => Array.from({ length: count }, (_, i) => i);

/** A share from 0 to 1 as CSS takes it for `.heat`. */
export const heat = (share) => ({ "--heat": `${Math.round(45 * Math.min(1, Math.max(0, share)))}%` });
