// Answers that follow what was asked last.

import { useEffect, useRef, useState } from "../html.js";
import { isAbort } from "../api.js";

/**
 * Runs `work(signal)` when `keys` change, and gives its last answer. What is overtaken is aborted; the old
 * answer stands until the new one is there, so that nothing flickers. Without work there is nothing to ask:
 * null clears the answer, undefined leaves it until there is work again.
 * @returns {{value: any, error: Error|null, isBusy: boolean}}
 */
export function useLatest(work, keys) {
  const [state, setState] = useState({ value: null, error: null, isBusy: false });
  useEffect(() => {
    if (work === undefined) return undefined;
    if (work === null) {
      setState({ value: null, error: null, isBusy: false });
      return undefined;
    }
    const abort = new AbortController();
    setState((old) => ({ ...old, isBusy: true }));
    work(abort.signal).then(
      (value) => abort.signal.aborted || setState({ value, error: null, isBusy: false }),
      (error) => abort.signal.aborted || isAbort(error) || setState((old) => ({ ...old, error, isBusy: false })),
    );
    return () => abort.abort();
  }, keys);
  return state;
}

/** Calls `work(signal)` now and again `pause` milliseconds after each answer, while the page is looked at. */
export function useRepeated(work, pause, keys) {
  useEffect(() => {
    if (!work) return undefined;
    const abort = new AbortController();
    let timer = 0;
    const again = async () => {
      if (!document.hidden) await work(abort.signal);
      if (!abort.signal.aborted) timer = setTimeout(again, pause);
    };
    again();
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, keys);
}

/** The width of an element in pixels, as it changes: `[ref, width]`. */
export function useWidth(first = 640) {
  const ref = useRef(null);
  const [width, setWidth] = useState(first);
  useEffect(() => {
    if (!ref.current) return undefined;
    const watch = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width) || first));
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return [ref, width];
}
