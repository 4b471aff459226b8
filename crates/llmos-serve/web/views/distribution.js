// What temperature, top-k, top-p and min-p make of a table of next words: the steps of the engine's sampler in
// its order (top-k, top-p, min-p, temperature), worked out in the page so that the bars follow a finger.

/** The model's own distribution. */
export const PLAIN = { temperature: 1, topK: 0, topP: 1, minP: 0 };

/**
 * @param {{probability: number}[]} next the likeliest tokens, likeliest first
 * @param {number} vocabulary how many tokens there are; those beyond `next` are taken as equally likely
 * @returns {{rows: {shaped: number, cut: string|null}[], rest: {count: number, probability: number, shaped: number}}}
 *   a row for each token of `next`: its new probability, and the step that cut it off
 */
export function reshape(next, vocabulary, { temperature, topK, topP, minP }) {
  const count = Math.max(0, vocabulary - next.length);
  const listed = next.reduce((sum, { probability }) => sum + probability, 0);
  const probability = count ? Math.max(0, 1 - listed) : 0;
  const each = count ? probability / count : 0;
  const cut = next.map(() => null);
  let kept = next.length; // of the list, likeliest first
  let beyond = count; // of those that are not listed
  const cutFrom = (from, step) => {
    for (let i = from; i < kept; i++) cut[i] = step;
    kept = Math.min(kept, from);
  };
  if (topK > 0) {
    beyond = Math.min(beyond, Math.max(0, Math.ceil(topK) - next.length));
    cutFrom(Math.ceil(topK), "top_k");
  }
  if (topP < 1) {
    const left = next.slice(0, kept).reduce((sum, row) => sum + row.probability, 0);
    const wanted = topP * (left + beyond * each);
    let sum = 0;
    let reached = 0;
    while (reached < kept && (reached === 0 || sum < wanted)) sum += next[reached++].probability;
    beyond = sum >= wanted || each === 0 ? 0 : Math.min(beyond, Math.ceil((wanted - sum) / each));
    cutFrom(reached, "top_p");
  }
  if (minP > 0 && kept) {
    const least = minP * next[0].probability;
    const reached = next.findIndex((row, i) => i > 0 && row.probability < least);
    if (reached > 0) cutFrom(reached, "min_p");
    if (each < least) beyond = 0;
  }
  if (temperature <= 0) {
    cutFrom(1, "temperature");
    beyond = 0;
  }
  const best = Math.log(next[0]?.probability ?? 1);
  const weight = (p) => (temperature <= 0 ? 1 : Math.exp((Math.log(p) - best) / temperature));
  const weights = next.map((row, i) => (i < kept ? weight(row.probability) : 0));
  const others = beyond && each ? beyond * weight(each) : 0;
  const total = weights.reduce((sum, w) => sum + w, others) || 1;
  return {
    rows: weights.map((w, i) => ({ shaped: w / total, cut: cut[i] })),
    rest: { count, probability, shaped: others / total },
  };
}

/** Draws one of `rows` by its probability, `chance` being uniform in 0 to 1; those that are not listed are never drawn. */
export function draw(rows, chance) {
  const total = rows.reduce((sum, row) => sum + row.shaped, 0);
  let left = chance * total;
  let last = 0;
  for (let i = 0; i < rows.length; i++) {
    if (rows[i].shaped <= 0) continue;
    last = i;
    left -= rows[i].shaped;
    if (left < 0) break;
  }
  return last;
}

/** How surprising a token of that log-probability (nats) is. */
export const bits = (logprob) => -logprob / Math.LN2;
