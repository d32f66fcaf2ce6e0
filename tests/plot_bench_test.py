#!/usr/bin/env python3
"""tools/plot-bench on results made here and on one that `moxie bench` writes: tests/plot_bench_test.py MOXIE"""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOXIE = ""
SVG = "{http://www.w3.org/2000/svg}"
SPEED = {"median": 100.0, "min": 80.0, "max": 110.0}
RESULT = {
    "moxie": "0.1.0", "cpu": "Some <CPU> & co", "backend": "cpu avx2, 2 threads", "threads": 2, "model": "random 20b", "layers": 6, "runs": 3,
    "read_bytes_per_second": 4e10, "arithmetic_isa": "avx2", "arithmetic_flops_per_second": 2e11,
    "prefill": [{"tokens": 512, "tokens_per_second": SPEED, "flops_per_second": 1e11, "share_of_arithmetic": 0.5}],
    "decode": [{"context": 0, "batch": 1, "tokens_per_second": SPEED, "bytes_per_second": 3e10, "share_of_reading": 0.75}],
}


class PlotBench(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="moxie_plot_bench_")
        self.addCleanup(self.folder.cleanup)

    def file(self, result, name="result.json") -> str:
        path = pathlib.Path(self.folder.name, name)
        path.write_text(result if isinstance(result, str) else json.dumps(result), encoding="utf-8")
        return str(path)

    def plot(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, str(ROOT / "tools" / "plot-bench"), *arguments], capture_output=True, text=True, timeout=60)

    def drawn(self, *arguments: str) -> tuple[list[str], dict[str, list[float]]]:
        """The picture's texts, and the widths of its bars by kind."""
        done = self.plot(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        root = xml.fromstring(done.stdout)
        widths: dict[str, list[float]] = {}
        for rect in root.iter(SVG + "rect"):
            widths.setdefault(rect.get("class"), []).append(float(rect.get("width")))
        return [text.text for text in root.iter(SVG + "text")], widths

    def test_bars_are_as_long_as_the_shares(self) -> None:
        texts, widths = self.drawn(self.file(RESULT))
        self.assertAlmostEqual(widths["prefill"][0] / widths["track"][0], 0.5, delta=0.002)
        self.assertAlmostEqual(widths["decode"][0] / widths["track"][1], 0.75, delta=0.002)
        for expected in ("50 %", "75 %", "100 tokens/s", "100 of 200 GFLOP/s", "30.0 of 40.0 GB/s"):
            self.assertIn(expected, texts)

    def test_what_is_common_is_said_once_and_what_differs_names_the_bars(self) -> None:
        other = copy.deepcopy(RESULT)
        other["backend"] = "cpu amx, 2 threads"
        texts, _ = self.drawn(self.file(RESULT), self.file(other, "other.json"))
        self.assertIn("moxie 0.1.0 · Some <CPU> & co · random 20b, 6 layers · 2 threads", texts)
        self.assertIn("cpu avx2, 512 tokens", texts)
        self.assertIn("cpu amx, context 0", texts)

    def test_labels_and_title_by_hand(self) -> None:
        texts, _ = self.drawn("--title", "a < b", "before=" + self.file(RESULT))
        self.assertIn("a < b", texts)
        self.assertIn("before, 512 tokens", texts)

    def test_a_share_over_the_limit_is_seen(self) -> None:
        over = copy.deepcopy(RESULT)
        over["prefill"][0]["share_of_arithmetic"] = 1.2
        texts, widths = self.drawn(self.file(over))
        self.assertIn("125 %", texts)
        self.assertLess(widths["prefill"][0], widths["track"][0])
        self.assertTrue(any("120 %" in text for text in texts))

    def test_the_programs_own_result(self) -> None:
        path = str(pathlib.Path(self.folder.name, "own.json"))
        subprocess.run([MOXIE, "bench", "--like", "tiny", "--prefill", "16", "--decode", "4", "--runs", "1", "--threads", "1", "--no-limits",
                        "--json", path], check=True, capture_output=True, timeout=120)
        texts, widths = self.drawn(path)
        self.assertEqual(sorted(widths), ["track"])  # no limit, no bar
        self.assertTrue(any(text.endswith("limit not measured") for text in texts))

    def test_what_is_no_result_is_refused_with_a_sentence(self) -> None:
        broken = copy.deepcopy(RESULT)
        broken["decode"][0]["tokens_per_second"]["median"] = "fast"
        for text, words in (("no json", "not JSON"), ("[]", "not a result"), ("{}", "not a result"),
                            ({**RESULT, "prefill": [], "decode": []}, "neither"), (broken, '"median" must be a number')):
            done = self.plot(self.file(text))
            self.assertEqual(done.returncode, 1, text)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    MOXIE = sys.argv.pop(1)
    unittest.main()
