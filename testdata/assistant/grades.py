#!/usr/bin/env python3
"""Writes grades.json: answers of many kinds, and what `grade` and `matches` of validate.py say of them.

    python3 testdata/assistant/grades.py

Standard library only. The answers are the accepted phrases in other clothes, wrong ones, numbers beside numbers, and
texts put together from pieces that are hard to read: marks, spaces, signs, separators of several alphabets.
"""
import json
import os
import random
import sys

from validate import HERE, grade, matches, normalise

CLOTHES = [
    "{}", "It is {}.", "I think it's {}, all in all", "**{}**", "“{}”", "答案是{}。", "是 {} 吗？", "The answer:\n\n{}\n", "x{}", "{}x", "1{}",
    "{}5", "-{}", "${}", "{}.", "{},", "({})", "'{}'", "，{}，", "1,{}", "{},000", "{}.50", "十{}", "{}个", "not {} but 7", "{} °C", "`{}`",
]
PIECES = [
    "0", "5", "12", "007", "1,692", "1692", "1,69", "12,345,678", ".5", "5.", "0.50", "-", "−", "–", "--", "+", "=", "/", "*", "**", "***", "_",
    "__", "'", "’", "\"", "“", "”", "「", "」", " ", "  ", "\n", "\t", "\u00a0", "\u3000", ",", ".", "。", "，", "、", "!", "！", "?", "no", "No",
    "know", "can not", "cannot", "Can Not", "can  not", "我", "不", "五", "十五", "千", "个", "５", "１２", "②", "½", "ﬁ", "ΑΣ", "İ", "é", "e\u0301",
    "a", "x", "c-a-t", "(", ")", "[", "]", "%", "$", "llmos", "LLMOS", "我是", "\u2028", "\x1f", "ʼ", "《", "》", "．", "…", "\u200b", "😀",
]
PHRASES = [
    "5", "12", "1692", "1,692", "-5", ".5", "0.5", "5.00", "no", "no.", "know", "cannot", "can not", "can't", "don't know", "五", "十五", "不", "我是llmos",
    "llmos", "c-a-t", "cat", "12,345,678", "12345678", "a", "x", "fi", "½", "1/2", "e", "é", "", " ", "**", "我不知道", "1.5.2", "3 cats", "cats 3",
    "5,", "。", "=5", "1 2", "i̇", "ας",
]
RESULTS = [
    "84", "84.0", " 84 ", "84.0000009", "84.000002", "83.9999995", "1,084", "-84", "+84", "8.4e1", "168/2", "", "error: division by zero", "84.", ".84",
    "0084", "８４", 84, 84.0, None, True, "1_0", "99999999999999999999999999999999999999999", "0.000001", "-0",
]


def main():
    draw = random.Random(20261127)
    with open(os.path.join(HERE, "hand.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    cases = []

    def add(expect, answer, calls):
        row = {"expect": expect}
        cases.append({"expect": expect, "answer": answer, "tool_calls": calls, "grade": grade(row, answer, calls)})

    def call(name, result):
        return {"name": name, "arguments": {}, "result": result}

    for row in rows:
        expect = row["expect"]
        phrases = expect["answer_any"] + expect["answer_none"] + ["7", "Hello there", row["messages"][-1]["content"]]
        for phrase in draw.sample(phrases, min(2, len(phrases))):
            answer = draw.choice(CLOTHES).replace("{}", phrase)
            result = expect.get("result", "Friday, 27 November 2026, 10:39")
            calls = draw.choice([
                [], [call("calculator", result)], [call("clock", result)], [call("clock", "10:39"), call("calculator", result)],
                [call("calculator", "1"), call("calculator", result)], [call("calculator", result), call("calculator", "1")],
                [call("calculator", result), call("clock", "10:39")], [call("search", result)],
            ])  # fmt: skip
            add(expect, answer, calls)
    for result in RESULTS:
        for wanted in ["84", "-84", "84.5", "0", "0.000001", "99999999999999999999999999999999999999998.5", "error: division by zero"]:
            add({"tool": "calculator", "result": wanted}, "84", [call("calculator", result)])
    add({"tool": "clock", "result": "Friday"}, "Friday", [call("clock", "Friday")])
    add({"tool": None, "answer_none": ["yes"]}, "", [])
    add({"tool": None, "answer_none": ["yes"]}, " \n", [])
    add({"tool": None, "answer_none": ["yes"]}, "no", [])

    found = []
    for _ in range(2500):
        text = "".join(draw.choice(PIECES) for _ in range(draw.randint(0, 7)))
        if draw.random() < 0.3:
            phrase = "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 2)))
        else:
            phrase = draw.choice(PHRASES)
        if draw.random() < 0.4:
            at = draw.randint(0, len(text))
            text = text[:at] + phrase + text[at:]
        found.append([phrase, text, normalise(text), matches(phrase, text)])
    with open(os.path.join(HERE, "grades.json"), "w", encoding="utf-8") as file:
        json.dump({"grades": cases, "matches": found}, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")
    yes = sum(case[3] for case in found)
    print(f"{len(cases)} graded answers; {len(found)} phrases, of which {yes} match")


if __name__ == "__main__":
    sys.exit(main())
