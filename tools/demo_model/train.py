"""Trains the demo model: python3 -m tools.demo_model.train --data FOLDER --out FOLDER [options]; README.md explains.

FOLDER holds shards of make_shards.py. Into --out go log.jsonl (a line for each step and each evaluation), loss.png,
scores.txt, wrong.jsonl (what was answered wrongly) and the checkpoint. With the same arguments, data, machine and versions a run repeats itself.
"""

import time

STARTED = time.monotonic()  # before torch is imported: --minutes counts that, too

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products on a GPU

import numpy as np  # noqa: E402
import torch  # noqa: E402

from . import checkpoints, mxfp4, packing, plot, scoring, shards  # noqa: E402
from .export import special_tokens  # noqa: E402
from .model import Config, GptOss  # noqa: E402
from .optimizer import Optimizer  # noqa: E402
from .tokenizer import Tokenizer  # noqa: E402

WAIT_SECONDS = 60  # for a shard
FLUSH_STEPS = 20  # how often a GPU's queue is waited for, to log and to look at the clock


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True, help="folder of shards; read anew for each pass")
    add("--shards", type=int, help="of a pass: pass t takes numbers t * SHARDS and up, waits for them, and training ends when they do not come; "
        "default: each pass takes all that are there")
    add("--tokenizer", type=pathlib.Path, required=True, help="tokenizer.json, for the ids of special tokens")
    add("--out", type=pathlib.Path, required=True)
    add("--sets", type=pathlib.Path, help="folder of held-out sets (make_sets.py)")
    add("--items-per-ability", type=int, default=300, help="that are scored; default 300")
    add("--score", action=argparse.BooleanOptionalAction, default=True, help="let the model answer the sets at the end; otherwise their loss only")
    add("--config", type=pathlib.Path, help="JSON of the model's sizes that differ from the demo model's")
    add("--resume", type=pathlib.Path, help="folder of a checkpoint")
    add("--fresh", action="store_true", help="with --resume: take the weights only and warm up a fresh optimizer")
    add("--keep", choices=checkpoints.KEEP, default="compact", help="what the checkpoint holds; default compact")
    add("--steps", type=int, required=True, help="of the whole schedule, over all runs")
    add("--minutes", type=float, help="stop training in time to evaluate, save and exit within so many minutes")
    add("--reserve-seconds", type=float, default=60, help="of --minutes, for the end of the run; default 60")
    add("--rows", type=int, default=128, help="rows of a batch; default 128")
    add("--length", type=int, default=512, help="tokens of a row; default 512")
    add("--schedule", choices=("wsd", "cosine"), default="wsd", help="wsd: constant, then linearly to 0; default wsd")
    add("--decay", type=float, default=0.3, help="the share of wsd's steps that fall; default 0.3")
    add("--warmup", type=int, default=200, help="steps; default 200")
    add("--optimizer", choices=("adamw", "muon"), default="adamw", help="default adamw")
    add("--rate", type=float, default=3e-3, help="AdamW's learning rate; default 3e-3")
    add("--matrix-rate", type=float, default=0.02, help="Muon's learning rate; default 0.02")
    add("--weight-decay", type=float, default=0.01)
    add("--clip", type=float, default=1.0, help="largest norm of a gradient; default 1")
    add("--scale-rule", choices=(*mxfp4.SCALE_RULES, "none"), default="even", help="none: do not train for MXFP4; default even")
    add("--quantise-from", type=int, default=0, help="the step from which the experts are quantised; default 0")
    add("--evaluate-every", type=int, default=1000, help="steps between measurements of the held-out loss; default 1000")
    add("--seed", type=int, default=1)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--float32", action="store_true", help="products in float32; otherwise in bfloat16 on a GPU")
    add("--compile", action=argparse.BooleanOptionalAction, help="torch.compile; default: on a GPU")
    return parser.parse_args(argv)


def rate_factor(step: int, arguments: argparse.Namespace, fresh_from: int) -> float:
    """What the learning rates are multiplied by at a step from 0; a fresh optimizer warms up from its own first step."""
    warm = min(1.0, (step - fresh_from + 1) / max(arguments.warmup, 1))
    if arguments.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / arguments.steps)))
    falling = max(arguments.steps * arguments.decay, 1)
    return min(warm, 1.0, (arguments.steps - step) / falling)


@dataclasses.dataclass
class Place:
    """Where in the data a run is: so many batches into a pass over data with this fingerprint."""

    turn: int = 0
    batch: int = 0
    data: list = dataclasses.field(default_factory=list)


def endless_batches(arguments: argparse.Namespace, place: Place) -> Iterator[tuple[packing.Batch, Place]]:
    """Batches from a place on, each with the place behind it. They are the same however fast shards are written."""
    turn, skip, expected = place.turn, place.batch, place.data
    while True:
        if arguments.shards:
            paths = shards.numbered(arguments.data, range(turn * arguments.shards, (turn + 1) * arguments.shards), WAIT_SECONDS)
            if not paths:
                print(f"the shards of pass {turn} did not come in {WAIT_SECONDS} s: the data ends here", flush=True)
                return
        else:
            paths = shards.all_in(arguments.data)
        documents, dropped = shards.read(paths, arguments.length, special_tokens(arguments.tokenizer))
        data = shards.fingerprint(documents)
        if expected and expected != data:
            print(f"pass {turn}: the data is not that of the checkpoint, {data[0]} conversations; the next pass begins", flush=True)
            turn, skip, expected = turn + 1, 0, []
            continue
        expected = []
        print(f"pass {turn}: {len(documents)} conversations, {len(documents.ids)} tokens, {int(documents.mask.sum())} learned, "
              f"{dropped} too long for a row", flush=True)
        seen = 0
        for batch in packing.batches(documents, arguments.length, arguments.rows, (arguments.seed << 20) + turn):
            seen += 1
            if seen > skip:
                yield batch, Place(turn, seen, data)
        if seen == 0:
            sys.exit(f"{arguments.data}: less than one batch of {arguments.rows} rows of {arguments.length} tokens")
        turn, skip = turn + 1, 0


class Step:
    """The clipped gradients of a batch, left at the parameters, and what is logged of it: loss, balance and norm, float32 [3].

    On a GPU all of it is recorded at the first batch and replayed from then on: launched one by one, some thousand kernels take
    longer than they run. What a replay gives is held against what launching gave before it is relied upon.
    """

    def __init__(self, model: GptOss, clip: float, record: bool) -> None:
        self.model, self.clip, self.to_record = model, clip, record
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        if self.to_record:
            self.to_record = False
            try:
                self.record(tensors)
            except RuntimeError as error:
                print(f"steps are not replayed: {error}", flush=True)
        if self.graph is None:
            return self.launch([tensor.to(self.model.quantising.device, non_blocking=True) for tensor in tensors])
        for mine, tensor in zip(self.inputs, tensors, strict=True):
            mine.copy_(tensor, non_blocking=True)
        self.graph.replay()
        return self.values.clone()

    def launch(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        for parameter in self.model.parameters():
            parameter.grad = None
        loss, balance = self.model.loss(*tensors)
        (loss + self.model.config.router_aux_loss_coef * balance).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        return torch.stack([loss.detach(), balance.detach(), norm.detach()])

    def record(self, tensors: list[torch.Tensor]) -> None:
        self.inputs = [tensor.to(self.model.quantising.device) for tensor in tensors]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # compiles, and lets libraries set themselves up
                launched = self.launch(self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.values = self.launch(self.inputs)
        graph.replay()
        if not torch.equal(self.values, launched):
            raise RuntimeError(f"a replay gives {self.values.tolist()}, not {launched.tolist()}")
        self.graph = graph


class Log:
    """log.jsonl, and the lines of loss.png; a resumed run goes on in the file it finds."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.path = folder / "log.jsonl"
        self.entries = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def write(self, entries: list[dict]) -> None:
        self.entries += entries
        with self.path.open("a") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries)

    def draw(self) -> None:
        training = [(entry["step"], entry["loss"]) for entry in self.entries if "loss" in entry]
        if not training:
            return
        width = max(1, len(training) // 400)
        means = [(training[at][0], sum(loss for _, loss in training[at : at + width]) / len(training[at : at + width]))
                 for at in range(0, len(training), width)]
        heldout = [(entry["step"], entry["heldout_loss"]) for entry in self.entries if "heldout_loss" in entry]
        plot.chart(self.folder / "loss.png", "loss in nats by step", {"training": means, "held-out": heldout})


def write_wrong(path: pathlib.Path, tokenizer: Tokenizer, wrong: list[tuple[scoring.Item, list[int]]]) -> None:
    """What was answered wrongly, as text: to see what a model has not learned yet."""
    with path.open("w", encoding="utf-8") as file:
        for item, answer in sorted(wrong, key=lambda pair: pair[0].ability):
            texts = {"prompt": item.ids[: item.turn], "expected": item.ids[item.turn :], "answered": answer}
            file.write(json.dumps({"ability": item.ability, **{name: tokenizer.decode(ids) for name, ids in texts.items()}}) + "\n")


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    rule = None if arguments.scale_rule == "none" else arguments.scale_rule
    special = special_tokens(arguments.tokenizer)

    step, place, state, count, fresh_from = 0, Place(), {}, 0, 0
    if arguments.resume:
        kept, facts, weights, state = checkpoints.load(arguments.resume)
        config, step, place = Config(**facts["config"]), facts["step"], Place(**facts["place"])
        count, fresh_from = facts["optimizer_count"], facts["fresh_from"]
        if kept == "weights" and not arguments.fresh:
            sys.exit(f"{arguments.resume} holds weights only: resume with --fresh")
        if not arguments.fresh and facts["optimizer"] != arguments.optimizer:
            sys.exit(f"{arguments.resume} has the state of {facts['optimizer']}, not of {arguments.optimizer}: resume with --fresh")
    else:
        config = Config.load(arguments.config) if arguments.config else Config()
    if config.vocab_size <= max(special.values()):  # they come last
        sys.exit(f"the vocabulary of {config.vocab_size} has no room for the special tokens up to {max(special.values())}")
    model = GptOss(config, rule, torch.bfloat16 if on_gpu and not arguments.float32 else torch.float32)
    if arguments.resume:
        model.load_state_dict(weights)
    else:
        model.initialise(arguments.seed)
    model.to(device)
    optimizer = Optimizer(model.named_parameters(), arguments.optimizer, arguments.rate, arguments.matrix_rate, arguments.weight_decay)
    if arguments.resume and not arguments.fresh:
        optimizer.load(state, count)
    elif arguments.resume:
        fresh_from = step
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{num_parameters} parameters on {device}, products in {model.dtype}, from step {step}", flush=True)

    if on_gpu if arguments.compile is None else arguments.compile:
        model.compile()
    items = []
    for path in sorted(arguments.sets.glob("*.jsonl")) if arguments.sets else ():
        if path.name != "smoke.jsonl":  # items of the other sets
            items += scoring.read_items(path, Tokenizer.load(arguments.tokenizer))[: arguments.items_per_ability]
    if arguments.sets and not items:
        sys.exit(f"{arguments.sets}: expected sets named ABILITY.jsonl, found none")
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = Log(arguments.out)
    deadline = STARTED + 60 * arguments.minutes - arguments.reserve_seconds if arguments.minutes else math.inf
    pending: list[dict] = []
    flushed_at, flushed_step = time.monotonic(), step

    def flush() -> None:
        """Waits for the device, writes the steps since the last time, and stops at a loss that is no number."""
        nonlocal flushed_at, flushed_step
        if not pending:
            return
        values = torch.stack([entry.pop("values") for entry in pending]).tolist()
        now = time.monotonic()
        speed = round((step - flushed_step) * arguments.rows * arguments.length / max(now - flushed_at, 1e-9))
        flushed_at, flushed_step = now, step
        entries = [{**entry, "loss": loss, "balance": balance, "norm": norm, "tokens_per_s": speed}
                   for entry, (loss, balance, norm) in zip(pending, values)]
        pending.clear()
        log.write(entries)
        if not all(math.isfinite(entry["loss"]) and math.isfinite(entry["norm"]) for entry in entries):
            sys.exit(f"the loss or its gradient is no finite number near step {step}; nothing was saved")
        last = entries[-1]
        print(f"step {last['step']:6}  loss {last['loss']:.4f}  balance {last['balance']:.3f}  norm {last['norm']:.2f}  "
              f"{speed} tokens/s  {now - STARTED:.0f} s", flush=True)

    def measure() -> None:
        nonlocal flushed_at
        if items:
            value = scoring.heldout_loss(model, items, arguments.length, arguments.rows)
            log.write([{"step": step, "heldout_loss": value}])
            print(f"step {step:6}  held-out loss {value:.4f}", flush=True)
            flushed_at = time.monotonic()

    take_step = Step(model, arguments.clip, on_gpu)
    source = packing.ahead(endless_batches(arguments, place))
    while step < arguments.steps and time.monotonic() < deadline:
        following = next(source, None)
        if following is None:
            break
        batch, place = following
        model.quantising.fill_(step >= arguments.quantise_from)
        tensors = [torch.from_numpy(array) for array in batch.arrays()]
        values = take_step([tensor.pin_memory() for tensor in tensors] if on_gpu else tensors)
        factor = rate_factor(step, arguments, fresh_from)
        optimizer.step(factor)
        pending.append({"step": step, "rate": factor, "quantised": rule is not None and step >= arguments.quantise_from, "values": values})
        step += 1
        if step % FLUSH_STEPS == 0:
            flush()
        if step % arguments.evaluate_every == 0:
            flush()
            measure()
    flush()
    del take_step  # and the memory that its recording holds

    facts = {"config": dataclasses.asdict(config), "step": step, "steps": arguments.steps, "place": dataclasses.asdict(place),
             "optimizer": arguments.optimizer, "optimizer_count": optimizer.count, "fresh_from": fresh_from, "scale_rule": rule}
    size = checkpoints.save(arguments.out, arguments.keep, facts, model.state_dict(), optimizer.state())
    print(f"saved step {step} of {arguments.steps} ({arguments.keep}): {size} bytes, {time.monotonic() - STARTED:.0f} s", flush=True)
    log.draw()
    if items:
        model.quantising.fill_(rule is not None)
        measure()
        log.draw()
    if items and arguments.score:
        columns = {}
        for name, quantising in (("MXFP4 experts", True), ("unquantised", False)):
            if rule is None and quantising:
                continue
            model.quantising.fill_(quantising)
            wrong: list[tuple[scoring.Item, list[int]]] = []
            stops = {special["<|return|>"], special["<|call|>"]}
            scores = scoring.exact_match(model, items, special["<|start|>"], stops, batch=512 if on_gpu else 64, wrong=wrong)
            columns[name] = scores
            write_wrong(arguments.out / "wrong.jsonl", Tokenizer.load(arguments.tokenizer), wrong)
            log.write([{"step": step, "quantised": quantising, "exact_match": {a: [s.right, s.total] for a, s in scores.items()}}])
        text = f"step {step} of {arguments.steps}, exact match (95 % interval)\n{scoring.table(columns)}\n"
        (arguments.out / "scores.txt").write_text(text)
        print(text, end="")
    print(f"done in {time.monotonic() - STARTED:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
