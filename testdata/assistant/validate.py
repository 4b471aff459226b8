#!/usr/bin/env python3
"""Checks hand.jsonl and is the reference for how its rows are graded.

    python3 testdata/assistant/validate.py

Standard library only. Prints a table and every fault; exit status 1 if there is one.
"""
import ast
import json
import os
import re
import sys
import unicodedata
from collections import Counter
from fractions import Fraction

HERE = os.path.dirname(os.path.abspath(__file__))
LANGUAGES = ("en", "zh")
COUNTS = {  # rows per language
    "arithmetic": 50, "clock": 25, "none": 46, "identity": 25, "limits": 25,
    "refusal": 20, "spelling": 15, "translation": 15, "story": 15,
}
TOOL = {"arithmetic": "calculator", "clock": "clock"}

# ---------------------------------------------------------------- grading

CJK = r"[\u3000-\u303f\u4e00-\u9fff]"
NUMERALS = "零〇一二三四五六七八九十百千万亿两"
# Digits are ASCII's: normalising has made full-width ones so.
NUMBER = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|-?\.[0-9]+")
NUMBERS = re.compile(
    r"(?<![0-9])(?:(?<![a-z0-9.)\]])-)?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"|(?<![a-z0-9.])-?\.[0-9]+")
RESULT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def normalise(text):
    """One spelling for what readers take as the same."""
    t = unicodedata.normalize("NFKC", text).lower()
    t = re.sub(r"[’‘ʼ]", "'", t)
    t = re.sub(r"[‐‑‒–—−]", "-", t)
    t = t.replace("。", ".")
    t = re.sub(r"\*\*|__|[\"“”「」『』《》〈〉`]", "", t)
    t = t.replace("*", " ")
    t = re.sub(r"(?<![a-z0-9])'|'(?![a-z0-9])", "", t)
    t = re.sub(r"\s+", " ", t).strip()
    t = re.sub(rf"(?<={CJK}) | (?={CJK})", "", t)
    t = re.sub(r"\bcan not\b", "cannot", t)
    return t


def numbers(t):
    """The whole numbers and decimals of a normalised text, thousands commas taken out."""
    return [Fraction(m.group().replace(",", "")) for m in NUMBERS.finditer(t)]


def matches(phrase, answer):
    """Does the answer hold the phrase?

    A phrase that is a number matches only a whole number of that value: "5" does not match
    "15", "5.2" or "-5"; "1692" matches "1,692" and "1692.00". Any other phrase must stand
    on its own: no letter or digit directly before or after it where it begins or ends with an
    ASCII letter or digit, and no Chinese numeral where it begins or ends with one.
    """
    p, t = normalise(phrase), normalise(answer)
    if not p:
        return False
    if not re.search(r"[.!?,;:]$", t):
        t += "."
    if NUMBER.fullmatch(p):
        return Fraction(p.replace(",", "")) in numbers(t)
    start = 0
    while True:
        i = t.find(p, start)
        if i < 0:
            return False
        before, after = t[i - 1] if i else " ", t[i + len(p)] if i + len(p) < len(t) else " "
        ok = True
        for edge, near in ((p[0], before), (p[-1], after)):
            if re.match(r"[a-z0-9]", edge) and re.match(r"[a-z0-9]", near):
                ok = False
            if edge in NUMERALS and near in NUMERALS:
                ok = False
        if re.match(r"[0-9]", p[0]) and re.search(r"[0-9][.,]$", t[:i]):
            ok = False
        if re.match(r"[0-9]", p[-1]) and re.match(r"[.,][0-9]", t[i + len(p):]):
            ok = False
        if ok:
            return True
        start = i + 1


def grade(row, answer, tool_calls):
    """{"routing", "result", "answer"}: True, False, or None where the row does not ask.

    tool_calls: [{"name", "arguments", "result"}, …] of the last turn, in order. A result that is
    no number, such as "error: division by zero", must be there word for word. `result` is asked of
    the calculator alone; lists that are left out are empty.
    """
    e = row["expect"]
    names = [c["name"] for c in tool_calls]
    if e["tool"] is None:
        routing = not names
    elif e["tool"] == "calculator":
        routing = bool(names) and set(names) == {"calculator"}
    else:
        routing = bool(names) and names[0] == e["tool"]
    result = None
    if e["tool"] == "calculator" and "result" in e:
        result = False
        if names and names[-1] == "calculator":
            got, wanted = (str(s).strip().replace(",", "") for s in (tool_calls[-1]["result"], e["result"]))
            if RESULT.fullmatch(got) and RESULT.fullmatch(wanted):
                result = abs(Fraction(got) - Fraction(wanted)) <= Fraction(1, 10**6)
            else:
                result = got == wanted
    said = None
    anything, nothing = e.get("answer_any", []), e.get("answer_none", [])
    if anything or nothing:
        said = bool(answer.strip()) and (not anything or any(matches(p, answer) for p in anything))
        said = said and not any(matches(p, answer) for p in nothing)
    return {"routing": routing, "result": result, "answer": said}


# ---------------------------------------------------------------- arithmetic

def evaluate(expression):
    def go(n):
        if isinstance(n, ast.Expression):
            return go(n.body)
        if isinstance(n, ast.Constant) and isinstance(n.value, (int, float)):
            return Fraction(ast.get_source_segment(expression, n))
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
            return -go(n.operand)
        if isinstance(n, ast.BinOp):
            a, b = go(n.left), go(n.right)
            if isinstance(n.op, ast.Add):
                return a + b
            if isinstance(n.op, ast.Sub):
                return a - b
            if isinstance(n.op, ast.Mult):
                return a * b
            if isinstance(n.op, ast.Div):
                return a / b
        raise ValueError(expression)
    return go(ast.parse(expression, mode="eval"))


def plain(f):
    """Integers without a point, else at most 6 decimals, trailing zeros cut."""
    q = round(abs(f) * 10**6)
    whole, part = divmod(q, 10**6)
    part = ("%06d" % part).rstrip("0")
    return ("-" if f < 0 and q else "") + str(whole) + ("." + part if part else "")


WORDS = [
    (r"multiplied by|times|乘以|乘|×", "*"), (r"divided by|除以|÷", "/"),
    (r"minus|减去|减", "-"), (r"plus|加上|加", "+"), (r"(?<=\d)\s*x\s*(?=\d)", "*"),
]


def expression_in(message):
    """The expression a message spells out, if it holds all of the message's numbers."""
    t = unicodedata.normalize("NFKC", message).lower()
    t = re.sub(r"(?<=\d),(?=\d{3}\b)", "", t)
    for pattern, op in WORDS:
        t = re.sub(pattern, op, t)
    all_numbers = re.findall(r"\d+(?:\.\d+)?", t)
    best = None
    for m in re.finditer(r"[(\d][\d.+\-*/() ]*[\d)]", t):
        s = m.group().strip()
        found = re.findall(r"\d+(?:\.\d+)?", s)
        if len(found) < 2 or len(found) != len(all_numbers) or not re.search(r"[+\-*/]", s):
            continue
        try:
            best = s, evaluate(s)
        except (SyntaxError, ValueError):
            pass
    return best


# ---------------------------------------------------------------- checks

FAULTS = []


def fault(where, what):
    FAULTS.append(f"{where}: {what}")


def check_messages(r):
    ms = r["messages"]
    if not ms or ms[-1].get("role") != "user":
        return fault(r["id"], "the last message must be the user's")
    previous = None
    for m in ms:
        role = m.get("role")
        if role == "user":
            good = set(m) == {"role", "content"} and m["content"].strip() and previous in (None, "assistant")
        elif role == "assistant" and "tool_calls" in m:
            good = set(m) == {"role", "content", "tool_calls"} and m["content"] == "" and previous == "user"
            for c in m["tool_calls"]:
                f = c["function"]
                good = good and c["type"] == "function" and f["name"] in ("calculator", "clock")
                keys = {"expression"} if f["name"] == "calculator" else set()
                good = good and set(f["arguments"]) == keys
        elif role == "assistant":
            good = set(m) == {"role", "content"} and m["content"].strip() and previous in ("user", "tool")
        elif role == "tool":
            good = set(m) == {"role", "name", "content"} and previous == "call"
        else:
            good = False
        if not good:
            fault(r["id"], f"message out of shape: {m}")
        previous = "call" if role == "assistant" and "tool_calls" in m else role
    calls = [c["function"] for m in ms for c in m.get("tool_calls", ())]
    outs = [m for m in ms if m["role"] == "tool"]
    if [c["name"] for c in calls] != [o["name"] for o in outs]:
        fault(r["id"], "calls and their results differ")
    for c, o in zip(calls, outs):
        if c["name"] == "calculator" and plain(evaluate(c["arguments"]["expression"])) != o["content"]:
            fault(r["id"], f"earlier call: {c} is not {o['content']}")


def check_expect(r):
    e, skill = r["expect"], r["skill"]
    keys = {"tool", "answer_any", "answer_none"} | ({"result"} if skill == "arithmetic" else set())
    if set(e) != keys:
        fault(r["id"], f"expect has the keys {sorted(e)}")
    if e["tool"] != TOOL.get(skill):
        fault(r["id"], f"tool {e['tool']} in {skill}")
    for k in ("answer_any", "answer_none"):
        if any(not isinstance(p, str) or not normalise(p) for p in e[k]) or len(set(e[k])) != len(e[k]):
            fault(r["id"], f"{k} has an empty or a double phrase")
    if skill not in ("clock", "none") and not e["answer_any"]:
        fault(r["id"], "answer_any is empty")
    if skill in ("limits", "refusal") and not 8 <= len(e["answer_any"]) <= 15:
        fault(r["id"], f"{len(e['answer_any'])} phrases")
    for p in e["answer_any"]:  # each accepted phrase, said alone, passes
        if not matches(p, p) or any(matches(n, p) for n in e["answer_none"]):
            fault(r["id"], f"the accepted phrase {p!r} does not pass")
    said = r["messages"][-1]["content"]
    if skill in ("arithmetic", "identity", "limits", "refusal", "translation"):  # a parrot fails
        if all(g for g in grade(r, said, []).values() if g is not None) or grade(r, said, [])["answer"]:
            fault(r["id"], "repeating the question passes")


def check_arithmetic(r, expressions, seen):
    result = r["expect"]["result"]
    x = expressions.get(r["id"])
    if x is None:
        return fault(r["id"], "no expression in hand-expressions.json")
    if plain(evaluate(x)) != result:
        fault(r["id"], f"{x} is {plain(evaluate(x))}, not {result}")
    found = expression_in(r["messages"][-1]["content"])
    if found:
        seen.append(r["id"])
        if plain(found[1]) != result:
            fault(r["id"], f"the message says {found[0]}, which is {plain(found[1])}, not {result}")
    calls = [{"name": "calculator", "arguments": {"expression": x}, "result": result}]
    if not all(grade(r, f"{result}", calls).values()):
        fault(r["id"], "the right answer does not pass")
    wrong = plain(Fraction(result) + 10 ** len(result))
    if grade(r, wrong, calls)["answer"]:
        fault(r["id"], f"{wrong} passes")


def self_test():
    yes = [("5", "There are 5."), ("1692", "It is 1,692."), ("12", "You owe $12.00."), ("-7", "It read −7 °C."), ("-9", "夜里是-9度"), ("5", "答案是5。"),
           ("no.", "No"), ("can't", "I can’t do that"), ("cannot", "I can not"), ("llmos", "我是 llmos。"),
           ("五", "一共五个字"), ("c-a-t", "C–A–T"), ("5", "5 个"), ("0.625", ".625"), ("2", "1, 2, 3"),
           ("2.50", "2.5"), ("我是claude", "我是 Claude"), ("friend", "It is '**friend**'."), ("5", "3+2=5")]
    no = [("5", "15"), ("5", "5.2"), ("5", "1,500"), ("5", "It is -5."), ("no", "I know"), ("五", "十五个"),
          ("fig", "figure"), ("4万", "24万"), ("16", "1692"), ("692", "1,692"), ("7 below", "17 below")]
    for p, t in yes:
        if not matches(p, t):
            fault("self test", f"{p!r} must match {t!r}")
    for p, t in no:
        if matches(p, t):
            fault("self test", f"{p!r} must not match {t!r}")


def main():
    self_test()
    rows = []
    with open(os.path.join(HERE, "hand.jsonl"), encoding="utf-8") as f:
        for k, line in enumerate(f, 1):
            try:
                rows.append(json.loads(line))
            except ValueError as why:
                fault(f"line {k}", why)
    with open(os.path.join(HERE, "hand-expressions.json"), encoding="utf-8") as f:
        expressions = json.load(f)
    ids, lasts, seen, table = Counter(), {}, [], Counter()
    several = Counter()
    for r in rows:
        if set(r) != {"id", "language", "skill", "messages", "expect"}:
            fault(r.get("id"), f"keys {sorted(r)}")
            continue
        ids[r["id"]] += 1
        if r["language"] not in LANGUAGES or not re.fullmatch(rf"hand-{r['language']}-\d{{3}}", r["id"]):
            fault(r["id"], "id and language do not agree")
        table[r["skill"], r["language"]] += 1
        several[r["language"]] += len(r["messages"]) > 1
        check_messages(r)
        check_expect(r)
        if r["skill"] == "arithmetic":
            check_arithmetic(r, expressions, seen)
        for m in r["messages"]:
            if m["role"] == "user":
                key = re.sub(r"[\W_]+", "", normalise(m["content"])) or m["content"]
                if key in lasts:
                    fault(r["id"], f"same user message as {lasts[key]}: {m['content']}")
                lasts[key] = r["id"]
    for k, n in ids.items():
        if n > 1:
            fault(k, "the id is not unique")
    for k in expressions:
        if k not in ids:
            fault(k, "an expression without a row")
    print(f"{'skill':<14}{'en':>6}{'zh':>6}{'all':>6}")
    for s, want in COUNTS.items():
        n = [table[s, l] for l in LANGUAGES]
        print(f"{s:<14}{n[0]:>6}{n[1]:>6}{sum(n):>6}")
        if n != [want, want]:
            fault(s, f"{n} rows, {want} wanted in each language")
    n = [sum(table[s, l] for s in COUNTS) for l in LANGUAGES]
    print(f"{'all':<14}{n[0]:>6}{n[1]:>6}{sum(n):>6}")
    print(f"{'several turns':<14}{several['en']:>6}{several['zh']:>6}{sum(several.values()):>6}")
    if sum(n) != len(rows):
        fault("hand.jsonl", "a skill that is not in the table")
    print(f"results recomputed: {len(expressions)} from hand-expressions.json, {len(seen)} of them also from the message itself")
    for f in FAULTS:
        print("FAULT", f)
    print("ok" if not FAULTS else f"{len(FAULTS)} faults")
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
