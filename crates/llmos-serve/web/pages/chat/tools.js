// Tools that the page runs for a model: the same two that `llmos chat` has, so that a model which learnt to
// call them gets the answers that it learnt from.

export const TOOLS = [
  {
    type: "function",
    function: {
      name: "calculator",
      description: "Computes an arithmetic expression exactly",
      parameters: {
        type: "object",
        properties: {
          expression: {
            type: "string",
            description: "Arithmetic with + - * / ^ % and parentheses, such as (47 + 36) * 2",
            maxLength: 256,
          },
        },
        required: ["expression"],
        additionalProperties: false,
      },
    },
  },
  {
    type: "function",
    function: {
      name: "clock",
      description: "Tells the local weekday, date and time",
      parameters: { type: "object", properties: {}, additionalProperties: false },
    },
  },
];

/** What a call is answered: a text, `error: ` and the reason where there is no result. */
export function run(name, argumentsText) {
  try {
    if (name === "clock") return clock(new Date());
    if (name !== "calculator") throw new Error(`there is no tool ${name}`);
    const { expression } = JSON.parse(argumentsText);
    if (typeof expression !== "string") throw new Error("expected one argument, expression, a text");
    return calculate(expression);
  } catch (error) {
    return `error: ${error.message}`;
  }
}

/** "Friday, 27 November 2026, 10:39": as in the texts that models learn from, whatever the reader's language. */
export function clock(now) {
  const date = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
  const part = Object.fromEntries(date.formatToParts(now).map(({ type, value }) => [type, value]));
  const time = [now.getHours(), now.getMinutes()].map((n) => String(n).padStart(2, "0")).join(":");
  return `${part.weekday}, ${part.day} ${part.month} ${part.year}, ${time}`;
}

const DECIMALS = 6;

/** The value of digits, + - * / ( ) . ^ %: exact fractions, rounded to six decimals when it is written. */
export function calculate(text) {
  if (text.length > 256) throw new Error("the expression is longer than 256 characters");
  const parts = text.match(/\d+\.?\d*|\.\d+|[-+*/^%()]|\S/g) ?? [];
  let at = 0;
  let depth = 0;
  const take = (...signs) => (signs.includes(parts[at]) ? parts[at++] : null);
  const sum = () => {
    let value = product();
    for (let sign; (sign = take("+", "-")); ) value = plus(value, product(), sign === "+" ? 1n : -1n);
    return value;
  };
  const product = () => {
    let value = signed();
    for (let sign; (sign = take("*", "/", "%")); ) {
      const other = signed();
      value = sign === "*" ? times(value, other) : sign === "/" ? over(value, other) : remainder(value, other);
    }
    return value;
  };
  const signed = () => {
    if (++depth > 64) throw new Error("the expression is nested too deep");
    const sign = take("+", "-");
    const value = sign ? signed() : power();
    depth--;
    return sign === "-" ? times(value, [-1n, 1n]) : value;
  };
  const power = () => {
    const base = atom();
    return take("^") ? raised(base, signed()) : base;
  };
  const atom = () => {
    if (take("(")) {
      const value = sum();
      if (!take(")")) throw new Error("expected a closing parenthesis");
      return value;
    }
    const part = parts[at++] ?? "";
    if (!/^[\d.]+$/.test(part) || part === ".") throw new Error("expected a number");
    const [whole, decimals = ""] = part.split(".");
    return fraction(BigInt(whole + decimals || 0), 10n ** BigInt(decimals.length));
  };
  const value = sum();
  if (at < parts.length) throw new Error("expected an operator");
  return written(value);
}

const abs = (n) => (n < 0n ? -n : n);

function fraction(top, bottom) {
  if (bottom === 0n) throw new Error("division by zero");
  let [a, b] = [abs(top), abs(bottom)];
  while (b) [a, b] = [b, a % b];
  const divisor = (a || 1n) * (bottom < 0n ? -1n : 1n);
  // As far as the command's own calculator counts.
  if (abs(top / divisor) >> 127n || abs(bottom / divisor) >> 127n) throw new Error("the number is too large");
  return [top / divisor, bottom / divisor];
}

const plus = ([a, b], [c, d], sign) => fraction(a * d + sign * c * b, b * d);
const times = ([a, b], [c, d]) => fraction(a * c, b * d);
const over = ([a, b], [c, d]) => fraction(a * d, b * c);

function remainder(value, other) {
  const [top, bottom] = over(value, other);
  const floor = top / bottom - (top % bottom < 0n ? 1n : 0n);
  return plus(value, times([floor, 1n], other), -1n);
}

function raised(base, exponent) {
  const [n, bottom] = exponent;
  if (bottom !== 1n) {
    const value = Number(base[0]) / Number(base[1]);
    if (value < 0) throw new Error("the root of a negative number is not a real number");
    const root = value ** (Number(n) / Number(bottom));
    if (!Number.isFinite(root) || root > 1e15) throw new Error("the number is too large");
    return fraction(BigInt(Math.round(root * 1e9)), 10n ** 9n);
  }
  if (abs(n) > 4096n) {
    if (abs(base[0]) > 1n || base[1] > 1n) throw new Error("the number is too large");
    return fraction(n % 2n ? base[0] : abs(base[0]), base[1]);
  }
  const [top, under] = n < 0n ? [base[1], base[0]] : base;
  return fraction(top ** abs(n), under ** abs(n));
}

function written([top, bottom]) {
  const scale = 10n ** BigInt(DECIMALS);
  // Halves go away from zero.
  const rounded = (2n * abs(top) * scale + bottom) / (2n * bottom);
  const decimals = String(rounded % scale).padStart(DECIMALS, "0").replace(/0+$/, "");
  const sign = top < 0n && rounded ? "-" : "";
  return `${sign}${rounded / scale}${decimals && `.${decimals}`}`;
}
