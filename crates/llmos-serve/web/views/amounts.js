// Amounts as people read them.

const STEPS = [[1e9, "gigabyte"], [1e6, "megabyte"], [1e3, "kilobyte"], [1, "byte"]];

/** Bytes, in decimal units. */
export function size(t, bytes) {
  const [unit, name] = STEPS.find(([least]) => bytes >= least) ?? STEPS[3];
  return t.number(bytes / unit, { style: "unit", unit: name, maximumFractionDigits: unit === 1 ? 0 : 1 });
}

/** A large number, short: 1.1B. */
export const short = (t, value) => t.number(value, { notation: "compact", maximumFractionDigits: 1 });

/** A number with as many digits as say something. */
export const few = (t, value, digits = 4) =>
  value !== 0 && Math.abs(value) < 1e-3 ? Number(value).toExponential(Math.min(2, digits - 1)) : t.number(value, { maximumSignificantDigits: digits });

/** A time: 1 h 02 min, 3 min 20 s, 12 s. */
export function duration(t, seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const part = (value, unit) => t.number(value, { style: "unit", unit, unitDisplay: "short" });
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${part(days, "day")} ${part(hours, "hour")}`;
  if (hours) return `${part(hours, "hour")} ${part(minutes, "minute")}`;
  return minutes ? `${part(minutes, "minute")} ${part(whole % 60, "second")}` : part(whole, "second");
}
