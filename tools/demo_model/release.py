"""Makes models/demo and tests/demo of a checkpoint: everything of the demo model that the repository has.

    python3 -m tools.demo_model.release CHECKPOINT --tokenizer TOKENIZER.json --moxie build/release/moxie [--reference FILE.json]

Into models/demo: model.safetensors, config.json, generation_config.json, tokenizer.json, tokenizer_config.json, chat_template.jinja,
tools.json, loss.png (where the checkpoint has one) and README.md; 16 MiB at most. Into tests/demo: the held-out sets, scores.json (what moxie
scores on them, what PyTorch does with unquantised experts, and the smoke set's right answers by instruction set) and logits.json.

--reference is what reference.py has written for this checkpoint and these sets; without it, it is made here.
--unscored leaves all measuring out and the card without a table. The same checkpoint gives the same bytes, scores by instruction set.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from . import checkpoints, export, make_sets, make_tokenizer, model_card, reference
from .conversations import SCORED
from .model import Config

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FILES = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tools.json",
         "loss.png", "README.md"}
KEPT = ("items", "right", "reference_tokens", "reference_nll", "verdicts")


def write_model(checkpoint: pathlib.Path, tokenizer: pathlib.Path, out: pathlib.Path) -> dict:
    """All files but the card; returns the checkpoint's facts and the fingerprint of its weights."""
    _, facts, weights, _ = checkpoints.load(checkpoint)
    if facts["scale_rule"] is None:
        sys.exit(f"{checkpoint} was trained without quantisation; train it further with it")
    out.mkdir(parents=True, exist_ok=True)
    unknown = {path.name for path in out.iterdir()} - FILES
    if unknown:
        sys.exit(f"{out} has files that are not of the demo model: {', '.join(sorted(unknown))}; remove them")
    document = json.loads(tokenizer.read_text(encoding="utf-8"))
    (out / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    make_tokenizer.write_json(out / "tokenizer_config.json", make_tokenizer.tokenizer_config(document))
    shutil.copyfile(HERE / "chat_template.jinja", out / "chat_template.jinja")
    (out / "loss.png").unlink(missing_ok=True)
    if (checkpoint / "loss.png").exists():
        shutil.copyfile(checkpoint / "loss.png", out / "loss.png")
    export.write_folder(out, Config(**facts["config"]), weights, export.special_tokens(tokenizer), facts["scale_rule"])
    return {"step": facts["step"], "scale_rule": facts["scale_rule"], "weights": reference.fingerprint(weights)}


def write_sets(tests: pathlib.Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tools.demo_model.make_sets", "--out", str(tests), "--committed"], cwd=ROOT, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"make_sets failed: {done.stderr}")
    stale = {path.stem for path in (tests / "sets").glob("*.jsonl")} - SCORED.keys()
    if stale:
        sys.exit(f"{tests}/sets has sets that are not made any more: {', '.join(sorted(stale))}; remove them")


def evaluate(moxie: pathlib.Path, model: pathlib.Path, sets: pathlib.Path, isa: str | None = None) -> dict:
    """The report of `moxie eval --json`, without the items."""
    environment = {**os.environ, **({"MOXIE_CPU_ISA": isa} if isa else {})}
    done = subprocess.run([str(moxie.resolve()), "eval", str(model), str(sets), "--max-tokens", str(reference.MOST_TOKENS), "--batch", "16", "--json", "-"],
                          text=True, capture_output=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"moxie eval failed: {done.stderr}")
    report = json.loads(done.stdout)
    return {"backend": report["backend"], "right": report["total"]["right"],
            "abilities": {entry["ability"]: {key: entry[key] for key in KEPT} for entry in report["abilities"]}}


def instruction_sets(moxie: pathlib.Path) -> list[str]:
    """Those that this machine can run."""
    report = json.loads(subprocess.run([str(moxie.resolve()), "doctor", "--json"], text=True, capture_output=True, check=True).stdout)
    return [backend["name"].removeprefix("cpu ") for backend in report["backends"] if backend["name"].startswith("cpu ") and backend["available"]]


def read_reference(arguments: argparse.Namespace, facts: dict) -> dict:
    path = arguments.reference
    if path is None:
        path = arguments.checkpoint / "reference.json"
        sys.argv = ["reference", str(arguments.checkpoint), "--tokenizer", str(arguments.tokenizer), "--tests", str(arguments.tests), "--out", str(path)]
        reference.main()
    document = json.loads(path.read_text())
    if document["weights"] != facts["weights"]:
        sys.exit(f"{path} is of other weights than {arguments.checkpoint}; run reference.py on this checkpoint")
    if document["sets"] != reference.fingerprint_of_sets(arguments.tests):
        sys.exit(f"{path} is of other sets than {arguments.tests}; run reference.py on these sets")
    if document["limit"] is not None:
        print(f"note: {path} has only {document['limit']} items of each set")
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--moxie", type=pathlib.Path, default=ROOT / "build" / "release" / "moxie")
    parser.add_argument("--reference", type=pathlib.Path, help="result of reference.py")
    parser.add_argument("--unscored", action="store_true", help="measure nothing")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models" / "demo")
    parser.add_argument("--tests", type=pathlib.Path, default=ROOT / "tests" / "demo")
    arguments = parser.parse_args()

    facts = write_model(arguments.checkpoint, arguments.tokenizer, arguments.model)
    write_sets(arguments.tests)
    scores = None
    if arguments.unscored:
        for name in ("scores.json", "logits.json"):  # of another model
            (arguments.tests / name).unlink(missing_ok=True)
    else:
        known = read_reference(arguments, facts)
        full = evaluate(arguments.moxie, arguments.model, arguments.tests / "sets")
        smoke = {isa: evaluate(arguments.moxie, arguments.model, arguments.tests / "smoke.jsonl", isa)["right"] for isa in instruction_sets(arguments.moxie)}
        scores = {"model_sha256": hashlib.sha256((arguments.model / "model.safetensors").read_bytes()).hexdigest(), "facts": facts, "sets": known["sets"],
                  "backend": full["backend"].split(", ")[0], "moxie": full["abilities"], "unquantised": known["scores"]["unquantised"], "smoke_right": smoke}
        (arguments.tests / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
        (arguments.tests / "logits.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in known["logits"]) + "\n]\n")
        print(model_card.score_table(scores))
        print("smoke set:", ", ".join(f"{isa} {right}" for isa, right in smoke.items()))
    model_card.write(arguments.model, scores, facts)

    size = sum(path.stat().st_size for path in arguments.model.iterdir())
    print(f"{arguments.model}: {size} bytes ({size / 2**20:.2f} MiB)")
    if size > export.MAX_BYTES:
        sys.exit(f"{arguments.model}: {size} bytes are over {export.MAX_BYTES}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
