#!/usr/bin/env python3
"""tools/plot-kernels on results made here and on those that are kept: tests/plot_kernels_test.py"""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"
RESULT = {
    "gpu": "A <GPU>", "commit": "abc1234",
    "results": [
        {"operation": "moe", "rows": 1, "experts": 8, "variant": "a", "us": 10.0, "limit_us": 1.0, "target_us": 2.0},
        {"operation": "moe", "rows": 100, "experts": 8, "variant": "a", "us": 100.0, "limit_us": 50.0},
        {"operation": "moe", "rows": 10, "experts": 8, "variant": "slow", "us": 60.0, "limit_us": 5.0},
        {"operation": "moe", "rows": 10, "experts": 8, "variant": "fast", "us": 30.0, "limit_us": 5.0},
        {"operation": "prepack", "matrices": 16, "us": 300.0},
    ],
}


class PlotKernels(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="moxie_plot_kernels_")
        self.addCleanup(self.folder.cleanup)

    def file(self, result, name="result.json") -> str:
        path = pathlib.Path(self.folder.name, name)
        path.write_text(result if isinstance(result, str) else json.dumps(result), encoding="utf-8")
        return str(path)

    def plot(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, str(ROOT / "tools" / "plot-kernels"), *arguments], capture_output=True, text=True, timeout=60)

    def drawn(self, *arguments: str) -> tuple[list[str], dict[str, list[list[tuple[float, float]]]], xml.Element]:
        """The picture's texts, its lines by kind, and all of it."""
        done = self.plot(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        root = xml.fromstring(done.stdout)
        lines: dict[str, list[list[tuple[float, float]]]] = {}
        for line in root.iter(SVG + "polyline"):
            points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
            lines.setdefault(line.get("class"), []).append(points)
        return [text.text for text in root.iter(SVG + "text")], lines, root

    def test_axes_are_logarithmic_and_the_fastest_variant_is_drawn(self) -> None:
        texts, lines, _ = self.drawn(self.file(RESULT))
        (one, ten, hundred), = lines["series"]
        self.assertAlmostEqual(ten[0] - one[0], hundred[0] - ten[0], delta=0.2)  # 1, 10, 100 rows
        limit_one, limit_ten, limit_hundred = lines["limit"][0]
        decade = one[1] - hundred[1]  # 10 to 100 us
        self.assertAlmostEqual(limit_one[1] - one[1], decade, delta=0.2)  # 1 to 10 us
        self.assertAlmostEqual((ten[1] - hundred[1]) / decade, 0.523, delta=0.005)  # 30 us, not 60
        self.assertIn("A <GPU>, abc1234", texts)
        self.assertIn("moe: experts 8", texts)
        self.assertFalse(any("prepack" in text for text in texts))

    def test_two_files_share_a_panel(self) -> None:
        other = copy.deepcopy(RESULT)
        for entry in other["results"]:
            entry["us"] /= 2
        texts, lines, root = self.drawn("--title", "a & b", self.file(RESULT), "after=" + self.file(other, "other.json"))
        self.assertEqual(texts.count("moe: experts 8"), 1)
        self.assertEqual(len(lines["series"]), 2)
        for slow, fast in zip(*lines["series"]):
            self.assertEqual(slow[0], fast[0])
            self.assertGreater(fast[1], slow[1])
        self.assertIn("after", texts)
        self.assertEqual(root.find(SVG + "title").text, "a & b")
        self.assertIn("after, moe: experts 8, 100 rows: 50 us, limit 50", root.find(SVG + "desc").text)

    def test_one_size_alone_is_drawn(self) -> None:
        alone = {"results": [RESULT["results"][0]]}
        _, lines, _ = self.drawn(self.file(alone))
        self.assertEqual(len(lines["series"][0]), 1)

    def test_results_that_are_kept(self) -> None:
        kept = sorted(str(path) for path in (ROOT / "bench" / "results").glob("*-moe.json"))
        self.assertTrue(kept)
        texts, lines, _ = self.drawn(*kept)
        self.assertEqual(len(lines["series"]), 2 * len(kept))
        self.assertIn("moe: experts 128", texts)

    def test_what_is_no_result_is_refused_with_a_sentence(self) -> None:
        broken = copy.deepcopy(RESULT)
        broken["results"][1]["us"] = "fast"
        nothing = {"results": [RESULT["results"][4]]}
        for text, words in (("no json", "not JSON"), ("[]", "not a result"), ("{}", "not a result"), (nothing, "nothing that has rows"),
                            ({"results": [1]}, "must be an object"), (broken, '"us" must be a positive number, found "fast"')):
            done = self.plot(self.file(text))
            self.assertEqual(done.returncode, 1, text)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
