#!/usr/bin/env python3
"""Write golden.tsv: expressions and their values, computed by Python's own parser on fractions.

    python3 make.py           # Python 3.9 or later, the standard library alone

The values are `eval` of the expression with `^` read as `**` and every literal as an exact fraction,
rounded to six decimals, halves away from zero. What Python cannot do exactly is left out.
"""

import random
import re
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 10**30
SCALE = 10**6


def exact(expression):
    """The value as a fraction, or the error's text; None where it is out of what is compared."""
    code = re.sub(r"\d+\.?\d*|\.\d+", lambda m: f'F("{m.group().rstrip(".")}")', expression)
    code = code.replace("^", "**")
    try:
        value = eval(code, {"__builtins__": {}, "F": Fraction})
    except ZeroDivisionError:
        return "error: division by zero"
    except OverflowError:
        return None
    return value if isinstance(value, Fraction) else None


def text(value):
    if isinstance(value, str):
        return value
    if abs(value.numerator) > LIMIT or value.denominator > LIMIT:
        return None
    scaled = (2 * SCALE * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    whole, part = divmod(scaled, SCALE)
    sign = "-" if value < 0 and scaled else ""
    decimals = f"{part:06}".rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def literal(random):
    kind = random.randrange(10)
    if kind < 6:
        return str(random.randrange(10 ** random.randrange(1, 5)))
    if kind < 9:
        return f"{random.randrange(1000)}.{random.randrange(10 ** random.randrange(1, 4))}"
    return random.choice([f".{random.randrange(100)}", f"{random.randrange(100)}."])


def expression(random, depth):
    kind = random.randrange(12)
    if depth == 0 or kind < 2:
        return literal(random)
    space = random.choice(["", " "])
    if kind < 9:
        operator = random.choice("++--**//%")
        left, right = expression(random, depth - 1), expression(random, depth - 1)
        return f"{left}{space}{operator}{space}{right}"
    if kind == 9:
        return f"({expression(random, depth - 1)})"
    if kind == 10:
        return f"-{expression(random, depth - 1)}"
    exponent = random.choice(["2", "3", "0", "1", "-1", "-2", "(1 + 1)", "2^2"])
    return f"({expression(random, depth - 1)}){space}^{space}{exponent}"


BY_HAND = """\
1 + 1
47 * 36
0.1 + 0.2
1 / 3
2 / 3
-2 / 3
22 / 7
-2 ^ 2
2 ^ -1
2 ^ 3 ^ 2
(2 ^ 3) ^ 2
-(-3)
--3
+-+3
7 % 3
-7 % 3
7 % -3
-7 % -3
7.5 % 2
2 * 3 % 4
2 + 3 * 4 - 5 / 2
(2 + 3) * (4 - 5) / 2
10 / 4 / 5
10 - 4 - 5
0 ^ 0
0 * -1
5 / 0
5 % 0
1 / (2 - 2)
0.0000005
0.0000004
-0.0000005
-0.0000004
1.9999995
2 ^ 90
12345678901234567890 * 98765
80 * 15 / 100
(22 + 5) % 24
3.50 + 12.25
100 - 3 * 12.99""".splitlines()


def main():
    draw = random.Random(6)
    cases = dict.fromkeys(BY_HAND)
    while len(cases) < 2500:
        candidate = expression(draw, draw.randrange(1, 5))
        if len(candidate) <= 120:
            cases[candidate] = None
    lines = ["# expression, value: written by make.py"]
    for case in cases:
        value = exact(case)
        shown = None if value is None else text(value)
        if shown is not None:
            lines.append(f"{case}\t{shown}")
    (HERE / "golden.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
