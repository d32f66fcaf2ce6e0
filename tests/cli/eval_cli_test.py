"""Black-box tests of `moxie eval`: eval_cli_test.py PROGRAM. Python's standard library only."""

import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cli_test  # noqa: E402
from cli_test import Terminal, model, moxie  # noqa: E402
from scripted_model import chain_of, make_model  # noqa: E402


def item(name, expect, **more):
    return {"id": name, "ability": "talk", "expect": expect,
            "messages": [{"role": "user", "content": "hi " + name}], **more}


def final(text):
    return {"final": text}


def evaluate(*args, **more):
    # One thread: a busy machine would let several wait for one another.
    return moxie("eval", "--threads", "1", *args, **more)


def write_set(name, items):
    path = model(name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        for entry in items:
            file.write(entry if isinstance(entry, str) else json.dumps(entry) + "\n")
    return path


class Eval(unittest.TestCase):
    def eval_json(self, *args, **more):
        code, out, err = evaluate(*args, "--json", "-", **more)
        self.assertEqual((code, err), (0, ""), out)
        return json.loads(out)

    def fails(self, code, pattern, *args, **more):
        got, out, err = evaluate(*args, **more)
        self.assertEqual((got, out), (code, ""), err)
        self.assertRegex(err, r"\Amoxie: error: [^\n]*\n\Z")
        self.assertRegex(err, pattern)

    def test_what_run_answers_is_right_whatever_the_batch(self):
        _, out, _ = moxie("run", model("answers"), "hi 0", "--temperature", "0", "--date", "none",
                          "--json")
        answer = json.loads(out)["text"]
        path = write_set("right.jsonl", [item(str(i), final(answer)) for i in range(7)])
        alone, together = (self.eval_json(model("answers"), path, "--batch", batch)
                           for batch in ["1", "5"])
        self.assertEqual(alone["items"], together["items"])
        self.assertEqual((alone["total"]["items"], alone["total"]["right"]), (7, 7))
        self.assertEqual(alone["items"][0]["final"], "The answer is 42 END indeed.")
        self.assertTrue(alone["complete"])
        code, out, err = evaluate(model("answers"), path, "--min-score", "100")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"(?m)^talk +7 +7 +100\.0 % +64\.6 - 100\.0 +- +9\.0$")
        self.assertRegex(out, r"(?m)^total +7 +7 +100\.0 %")
        self.assertNotIn("not right", out)

    def test_random_weights_say_the_same_in_any_batch_and_as_in_run(self):
        code, _, err = moxie("synth", model("tiny"), "--like", "tiny")
        self.assertEqual(code, 0, err)
        reference = [{"role": "assistant", "channel": "final", "content": "5"}]
        path = write_set("tiny.jsonl", [item("x" * (1 + 9 * i), final(""), reference=reference)
                                        for i in range(7)])
        args = (model("tiny"), path, "-n", "12")
        alone = self.eval_json(*args, "--batch", "1")
        for batch in ["5", "64"]:
            self.assertEqual(self.eval_json(*args, "--batch", batch)["items"], alone["items"])
        self.assertEqual({entry["verdict"] for entry in alone["items"]}, {"max_tokens"})
        self.assertGreater(len({entry["raw"] for entry in alone["items"]}), 3)
        for entry in alone["items"][:2]:
            _, out, _ = moxie("run", model("tiny"), "hi " + entry["id"], "--temperature", "0",
                              "--date", "none", "-n", "12", "--threads", "1", "--json")
            run = json.loads(out)
            for key, value in [("mended", "mended"), ("prompt_tokens", "prompt_tokens"),
                               ("answer_tokens", "generated_tokens")]:
                self.assertEqual(entry[key], run[value])

    def test_calls(self):
        tools = [{"name": "get_weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}}}]
        path = write_set("calls.jsonl", [
            item("right", {"call": {"name": "get_weather", "arguments": {"city": "Oslo"}}},
                 tools=tools),
            item("other city", {"call": {"name": "get_weather", "arguments": {"city": "Bergen"}}},
                 tools=tools),
            item("other function", {"call": {"name": "get_time", "arguments": {}}}, tools=tools),
            item("text", final("Oslo"), tools=tools)])
        verdicts = [entry["verdict"] for entry in self.eval_json(model("calls"), path)["items"]]
        self.assertEqual(verdicts, ["right", "wrong", "wrong_function", "no_final"])
        make_model(model("broken"), chain_of(
            ["assistant", "<|channel|>", "commentary", " to=functions.", "get_weather", " ",
             "<|constrain|>", "json", "<|message|>", "{\"city\":", "<|call|>"]),
            ["assistant", "commentary", " to=functions.", "get_weather", "json", "{\"city\":"])
        entry = self.eval_json(model("broken"), path, "--limit", "1")["items"][0]
        self.assertEqual((entry["verdict"], entry["call"]["arguments"]), ("not_json", "{\"city\":"))

    def test_failures_are_counted_and_shown(self):
        path = write_set("kinds.jsonl", [item("good", final("The answer is 42 END indeed.")),
                                         item("bad", final("41"), ability="count"),
                                         item("pattern", {"final_pattern": "[A-Z]+"})])
        code, out, err = evaluate(model("answers"), path, "--show-failures", "1")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("\nnot right: 2 wrong\n", out)
        self.assertIn(f"\nbad ({path} line 2): wrong\n  question: hi bad\n  expected: 41\n  got:      "
                      "The answer is 42 END indeed.\n", out)
        self.assertNotIn("matches", out)
        self.assertRegex(out, r"(?m)^talk +2 +1 +50\.0 %")
        self.assertRegex(out, r"(?m)^count +1 +0 +0\.0 %")
        for name, words, more in [("reasons", "1 no final message", ()),
                                  ("endless", "1 stopped at --max-tokens", ("-n", "20")),
                                  ("endless", "1 the context was full", ("--ctx", "300"))]:
            code, out, _ = evaluate(model(name), path, "--limit", "1", *more)
            self.assertEqual(code, 0)
            self.assertIn("not right: " + words + "\n", out)

    def test_min_score(self):
        path = write_set("half.jsonl", [item("a", final("The answer is 42 END indeed.")),
                                        item("b", final("no"))])
        self.assertEqual(evaluate(model("answers"), path, "--min-score", "50")[0], 0)
        code, out, err = evaluate(model("answers"), path, "--min-score", "50.1")
        self.assertEqual(code, 1)
        self.assertIn("total", out)
        self.assertEqual(err, "moxie: error: 1 of 2 answers are right, 50.0 %, and --min-score asks "
                              "for 50.1 %\n")

    def test_perplexity(self):
        # All tokens are equally likely: the size of the vocabulary, 256 bytes, a word, 9 names.
        reference = [{"role": "assistant", "channel": "analysis", "content": "x"},
                     {"role": "assistant", "channel": "final", "content": "5"}]
        path = write_set("noise.jsonl", [item("a", final("5"), reference=reference),
                                         item("b", final("5"))])
        result = self.eval_json(model("noise"), path, "-n", "3")
        self.assertAlmostEqual(result["total"]["perplexity"], 266, places=9)
        # <|channel|> 8 bytes <|message|> x <|end|>, <|start|> assistant, <|channel|> 5 bytes
        # <|message|> 5 <|return|>
        self.assertEqual([entry["reference_tokens"] for entry in result["items"]], [12 + 2 + 9, 0])
        self.assertIsNone(result["items"][1]["perplexity"])
        # This model is sure of each token but the fourth, " indeed." in place of "The answer", and
        # of <|return|> at the end. A one-hot row of 512 after the norm is 22.625, its logit 45.25.
        path = write_set("sure.jsonl", [item("a", final(""), reference=[
            {"role": "assistant", "channel": "final", "content": " indeed."}])])
        entry = self.eval_json(model("answers"), path)["items"][0]
        self.assertEqual(entry["reference_tokens"], 5)
        self.assertAlmostEqual(entry["reference_nll"], 45.25, places=6)

    def test_sets_come_from_folders_and_pipes(self):
        right = item("a", final("The answer is 42 END indeed."))
        write_set("sets/b.jsonl", [right, item("b", final("x"))])
        write_set("sets/a.jsonl", [right])
        entries = self.eval_json(model("answers"), model("sets"), "-",
                                 stdin=json.dumps(right))["items"]
        self.assertEqual([(os.path.basename(entry["set"]), entry["line"], entry["right"])
                          for entry in entries],
                         [("a.jsonl", 1, True), ("b.jsonl", 1, True), ("b.jsonl", 2, False),
                          ("standard input", 1, True)])
        path = model("result.json")
        code, out, _ = evaluate(model("answers"), model("sets"), "--limit", "1", "--effort",
                             "high", "--json", path)
        self.assertEqual(code, 0)
        self.assertIn("total", out)
        with open(path) as file:
            result = json.load(file)
        self.assertEqual((result["total"]["items"], result["effort"]), (2, "high"))
        self.assertEqual({entry["ability"] for entry in result["abilities"]}, {"talk"})

    def test_what_cannot_be(self):
        right = item("a", final("x"))
        for pattern, lines in [
                (r"bad\.jsonl line 2: not valid JSON at byte", [right, "{\"id\":\n"]),
                (r"bad\.jsonl line 2: expected an id that no other line has", [right, right]),
                (r"bad\.jsonl: expected one item a line; found nothing", []),
                (r"line 1: expect: expected one of final", [item("a", {})])]:
            self.fails(1, pattern, model("answers"), write_set("bad.jsonl", lines))
        long = write_set("long.jsonl", [right, item("b" * 9000, final("x"))])
        self.fails(1, r"long\.jsonl line 2: expected a prompt and reference that fit the context of "
                      r"4096 tokens; found 9\d\d\d and 0", model("answers"), long)
        good = write_set("good.jsonl", [right])
        self.fails(1, r"cannot write /no/such/file", model("answers"), good, "--json",
                   "/no/such/file")
        self.fails(1, r"cannot open .*none\.jsonl", model("answers"), model("none.jsonl"))
        self.fails(1, r"named twice", model("answers"), good, good)
        self.fails(2, r"SET", "--json", "-", model("answers"))
        self.fails(2, r"--batch", model("answers"), good, "--batch", "0")
        self.fails(2, r"--min-score", model("answers"), good, "--min-score", "101")

    def test_ctrl_c_shows_what_is_done(self):
        path = write_set("many.jsonl", [item(str(i), final("x")) for i in range(500)])
        terminal = Terminal("eval", model("endless"), path, "-n", "1000", "--batch", "1",
                            "--threads", "1")
        seen = terminal.read_until(" left, ")  # an item is done
        self.assertRegex(seen, r"eval \[=* *\] \d+% [1-9]\d*/500, 0 right, \d+:\d\d left, \Z")
        terminal.send("\x03")
        code, rest = terminal.finish()
        self.assertEqual(code, 130, rest)
        self.assertRegex(rest, r"stopped after [1-9]\d* of 500 items")
        self.assertRegex(rest, r"total +[1-9]\d* +0 +0\.0 %")


if __name__ == "__main__":
    cli_test.PROGRAM = os.path.abspath(sys.argv.pop(1))
    with tempfile.TemporaryDirectory() as folder:
        cli_test.ROOT = folder
        cli_test.make_models()
        unittest.main(verbosity=1)
