"""Black-box tests of the moxie program: cli_test.py PROGRAM. Python's standard library only."""

import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from scripted_model import chain_of, make_model  # noqa: E402

PROGRAM = None
ROOT = None


def model(name):
    return os.path.join(ROOT, name)


def make_models():
    words = ["assistant", "analysis", "final", "hard ", "thinking", "The answer", " is", " 42",
             " END", " indeed."]
    # The chain has no memory, so each model says one message.
    make_model(model("answers"), chain_of(
        ["assistant", "<|channel|>", "final", "<|message|>", "The answer", " is", " 42", " END",
         " indeed.", "<|return|>"]), words)
    make_model(model("reasons"), chain_of(
        ["assistant", "<|channel|>", "analysis", "<|message|>", "hard ", "thinking",
         "<|return|>"]), words)
    make_model(model("calls"), chain_of(
        ["assistant", "<|channel|>", "commentary", " to=functions.", "get_weather",
         " ", "<|constrain|>", "json", "<|message|>", "{\"city\":", " \"Oslo\"}", "<|call|>"]),
        ["assistant", "commentary", " to=functions.", "get_weather", "json", "{\"city\":",
         " \"Oslo\"}"])
    # Never ends: the two letters follow each other.
    make_model(model("endless"), {**chain_of(["assistant", "<|channel|>", "final", "<|message|>",
                                              "x", "y"]), "y": "x"},
               ["assistant", "final"], max_position=131072)
    # Characters of several bytes, each byte a token; and a byte that steers terminals.
    make_model(model("unicode"), chain_of(
        ["assistant", "<|channel|>", "final", "<|message|>", b"\xc3", b"\xa9", b"\xf0", b"\x9f",
         b"\x98", b"\x8a", b"\x1b", b"!", "<|return|>"]), ["assistant", "final"])
    # Nothing is learnt: every token is as likely as any other.
    make_model(model("noise"), {}, ["assistant"])
    with open(model("tools.json"), "w") as file:
        json.dump([{"type": "function", "function": {
            "name": "get_weather", "description": "Tells the weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}], file)


def moxie(*args, stdin=b"", env=None, timeout=60, program=None):
    """Runs the program without a terminal; (exit code, stdout, stderr)."""
    full = dict(os.environ, HF_HUB_CACHE=os.path.join(ROOT, "hub"), HOME=ROOT, **(env or {}))
    if isinstance(stdin, str):
        stdin = stdin.encode()
    done = subprocess.run([program or PROGRAM, *args], input=stdin, capture_output=True, env=full,
                          timeout=timeout)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(
        errors="replace")


class Terminal:
    """The program on a pseudo-terminal."""

    def __init__(self, *args, env=None):
        self.text = b""
        full = dict(os.environ, TERM="xterm", HOME=ROOT, XDG_STATE_HOME=os.path.join(ROOT, "state"),
                    LC_ALL="C.UTF-8")
        full.pop("NO_COLOR", None)
        full.update(env or {})
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(PROGRAM, [PROGRAM, *args], full)

    def read_until(self, wanted, timeout=20):
        """Waits until the text behind what was read before contains `wanted`; returns that text."""
        if isinstance(wanted, str):
            wanted = wanted.encode()
        end = time.monotonic() + timeout
        while wanted not in self.text:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self.fd], [], [], left)[0]
            if not ready:
                raise AssertionError(f"no {wanted!r} within {timeout} s; got {self.text[-2000:]!r}")
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                piece = b""
            if not piece:
                raise AssertionError(f"ended before {wanted!r}; got {self.text[-2000:]!r}")
            self.text += piece
        cut = self.text.index(wanted) + len(wanted)
        seen, self.text = self.text[:cut], self.text[cut:]
        return seen.decode(errors="replace")

    def send(self, data):
        os.write(self.fd, data.encode() if isinstance(data, str) else data)

    def finish(self, timeout=20):
        """Reads to the end; (exit code, the rest of the text)."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if not select.select([self.fd], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                break
            if not piece:
                break
            self.text += piece
        else:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise AssertionError(f"did not end; got {self.text[-2000:]!r}")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return code, self.text.decode(errors="replace")


class CommandLine(unittest.TestCase):
    def fails(self, code, pattern, *args, **more):
        """One line on stderr, nothing on stdout, that exit code."""
        got, out, err = moxie(*args, **more)
        self.assertEqual(got, code, err)
        self.assertEqual(out, "")
        self.assertRegex(err, r"\Amoxie: error: [^\n]*\n\Z")
        self.assertRegex(err, pattern)

    def test_version_and_help(self):
        code, out, _ = moxie("--version")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"\Amoxie \d+\.\d+\.\d+\n\Z")
        code, out, err = moxie("--help")
        self.assertEqual((code, err), (0, ""))
        commands = re.findall(r"^  ([a-z]+) {3,}", out.split("Subcommands:")[1], re.MULTILINE)
        self.assertTrue({"run", "chat", "bench", "logits", "tokenize", "detokenize", "doctor",
                         "completion"} <= set(commands), commands)
        for command in commands:
            code, out, err = moxie(command, "--help")
            self.assertEqual((code, err), (0, ""), command)
            self.assertIn("Examples:", out, command)
            self.assertIn(f"moxie {command}", out, command)

    def test_no_command_shows_the_help(self):
        code, out, err = moxie()
        self.assertEqual((code, out), (2, ""))
        self.assertIn("Subcommands:", err)

    def test_wrong_words(self):
        self.fails(2, r"no command 'tokenise' \(did you mean tokenize\?\).*--help", "tokenise", "x")
        self.fails(2, r"no option --vresion", "--vresion")
        self.fails(2, r"moxie run has no option --tempereture \(did you mean --temperature\?\); see "
                      r"`moxie run --help`", "run", model("answers"), "hi", "--tempereture", "1")
        self.fails(2, r"--temperature", "run", model("answers"), "hi", "--temperature", "3")
        self.fails(2, r"--effort", "run", model("answers"), "hi", "--effort", "huge")
        self.fails(2, r"--top-p", "run", model("answers"), "hi", "--top-p", "0")
        self.fails(2, r"--ctx", "run", model("answers"), "hi", "--ctx", "0")
        self.fails(2, r"SHELL", "completion", "tcsh")

    def test_completion_scripts_know_every_command(self):
        for shell in ["bash", "zsh", "fish"]:
            code, out, err = moxie("completion", shell)
            self.assertEqual((code, err), (0, ""))
            for word in ["chat", "tokenize", "temperature", "low"]:
                self.assertIn(word, out)
            if shutil.which(shell):
                check = subprocess.run([shell, "-n"], input=out.encode(), capture_output=True)
                self.assertEqual(check.returncode, 0, check.stderr)

    def test_bash_completion_completes(self):
        _, script, _ = moxie("completion", "bash")
        done = subprocess.run(
            ["bash", "-c", script + 'COMP_WORDS=(moxie run --eff); COMP_CWORD=2; _moxie; '
             'echo "${COMPREPLY[@]}"; COMP_WORDS=(moxie run --effort m); COMP_CWORD=3; _moxie; '
             'echo "${COMPREPLY[@]}"; COMP_WORDS=(moxie eval dem); COMP_CWORD=2; _moxie; '
             'echo "${COMPREPLY[@]}"'], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual(done.stdout, "--effort\nmedium\ndemo\n", done.stderr)

    def test_models_that_are_none(self):
        self.fails(1, r"no folder .*/nowhere", "run", model("nowhere"), "hi")
        self.fails(1, r"openai/gpt-oss-20b", "run", "openai/gpt-oss-20b", "hi")
        os.makedirs(model("empty"), exist_ok=True)
        self.fails(1, r"config\.json", "run", model("empty"), "hi")

    def test_half_a_checkpoint(self):
        shutil.copytree(model("answers"), model("half"))
        path = os.path.join(model("half"), "model.safetensors")
        os.truncate(path, os.path.getsize(path) // 2)
        self.fails(1, r"model\.safetensors", "run", model("half"), "hi")
        self.fails(1, r"model\.safetensors", "logits", model("half"), "--tokens", "1", "--out",
                   model("half.out"))
        self.assertFalse(os.path.exists(model("half.out")))

    def test_a_checkpoint_of_another_model(self):
        shutil.copytree(model("answers"), model("llama"))
        with open(os.path.join(model("llama"), "config.json"), "w") as file:
            json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, file)
        self.fails(1, r"Llama|llama", "run", model("llama"), "hi")

    def test_a_tokenizer_of_another_model(self):
        shutil.copytree(model("answers"), model("mixed"))
        path = os.path.join(model("mixed"), "tokenizer.json")
        with open(path) as file:
            tokenizer = json.load(file)
        tokenizer["added_tokens"][-1]["id"] = 5000
        with open(path, "w") as file:
            json.dump(tokenizer, file)
        self.fails(1, r"token ids up to 5000.*another model", "run", model("mixed"), "hi")

    def test_a_prompt_longer_than_the_context(self):
        self.fails(1, r"prompt has \d+ tokens and the context holds 64", "run", model("answers"),
                   "hello " * 50, "--ctx", "64")
        self.fails(1, r"--ctx 5000 is more than the 4096", "run", model("answers"), "hi", "--ctx",
                   "5000")


class Demo(unittest.TestCase):
    """The model that is used when none is named: found from where the program is."""

    def install(self, places):
        """A copy of the program in prefix/bin, and models at these places of the prefix."""
        prefix = tempfile.mkdtemp(dir=ROOT)
        program = os.path.join(prefix, "bin", "moxie")
        os.mkdir(os.path.dirname(program))
        try:
            os.link(PROGRAM, program)
        except OSError:  # another file system
            shutil.copy(PROGRAM, program)
        for place, name in places.items():
            shutil.copytree(model(name), os.path.join(prefix, place))
        return prefix, program

    def test_installed_and_in_a_checkout(self):
        for place in ["share/moxie/models/demo", "models/demo"]:
            prefix, program = self.install({place: "answers"})
            code, out, err = moxie("run", "What is the answer?", program=program)
            self.assertEqual((code, out), (0, "The answer is 42 END indeed.\n"), err)
            self.assertIn("(no MODEL named: the demo model answers)\n", err)
            _, out, _ = moxie("doctor", program=program)
            self.assertIn(f"demo      {prefix}/{place}: gpt-oss, 1 layers", out)
        build = os.path.join(prefix, "build", "release")
        os.makedirs(build)
        shutil.move(program, build)
        code, out, err = moxie("run", "What is the answer?", "--quiet", program=os.path.join(build, "moxie"))
        self.assertEqual((code, out, err), (0, "The answer is 42 END indeed.\n", ""))

    def test_the_installed_one_comes_first(self):
        _, program = self.install({"share/moxie/models/demo": "answers", "models/demo": "noise"})
        self.assertEqual(moxie("run", "?", program=program)[1], "The answer is 42 END indeed.\n")

    def test_one_word_is_the_prompt_unless_it_can_only_be_a_model(self):
        _, program = self.install({"models/demo": "calls"})
        answer = "The answer is 42 END indeed.\n"
        call = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n"
        for words, stdin, expected in [
                (["hello"], "", call), (["demo"], "hello", call), (["demo", "demo"], "", call),
                ([], "hello", call), (["hello", "--file", model("tools.json")], "", call), (["12/4"], "", call),
                ([model("answers")], "hello", answer), ([model("answers"), "demo"], "", answer)]:
            code, out, err = moxie("run", *words, stdin=stdin, program=program)
            self.assertEqual((code, out), (0, expected), (words, err))
            self.assertEqual("(no MODEL named" in err, words[:1] in (["hello"], ["12/4"], []), words)

    def test_commands_that_know_its_name(self):
        _, program = self.install({"models/demo": "answers"})
        self.assertEqual(moxie("chat", stdin="hi\n", program=program)[1], "The answer is 42 END indeed.\n")
        self.assertEqual(moxie("inspect", "demo", program=program)[0], 0)
        self.assertEqual(moxie("tokenize", "demo", stdin="The", program=program)[1], "84 104 101\n")
        line = {"id": "1", "ability": "a", "messages": [{"role": "user", "content": "?"}], "expect": {"final": "The answer is 42 END indeed."}}
        code, out, err = moxie("eval", "demo", "-", "--min-score", "100", stdin=json.dumps(line), program=program)
        self.assertEqual(code, 0, err)

    def test_a_folder_of_that_name_comes_first(self):
        _, program = self.install({"models/demo": "noise"})
        folder = tempfile.mkdtemp(dir=ROOT)
        shutil.copytree(model("answers"), os.path.join(folder, "demo"))
        done = subprocess.run([program, "run", "demo", "hi"], cwd=folder, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout, "The answer is 42 END indeed.\n", done.stderr)

    def test_missing(self):
        prefix, program = self.install({})
        places = f"{prefix}/share/moxie/models/demo, {prefix}/models/demo and {os.path.dirname(prefix)}/models/demo"
        for words, pattern in [(["run"], "moxie run needs a MODEL: "), (["chat"], "moxie chat needs a MODEL: "),
                               (["run", "hello"], "needs a MODEL before the prompt: \"hello\" is neither "),
                               (["eval", "demo", "-"], "moxie eval needs a MODEL: ")]:
            code, out, err = moxie(*words, program=program)
            self.assertEqual((code, out), (2, ""))
            self.assertRegex(err, r"\Amoxie: error: [^\n]*\n\Z")
            self.assertIn(pattern, err)
            self.assertIn(places, err)
        self.assertIn(f"demo      not found in {places}\n", moxie("doctor", program=program)[1])
        self.assertIn(places, json.loads(moxie("doctor", "--json", program=program)[1])["demo_model"])


CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@unittest.skipUnless(os.path.exists(os.path.join(CHECKOUT, "models", "demo", "model.safetensors")),
                     "models/demo/model.safetensors is not here")
class CheckoutsDemo(unittest.TestCase):
    """What ./demo.sh shows."""

    def test_reasoning_and_answer_stand_on_lines_of_their_own_in_one_file(self):
        done = subprocess.run([PROGRAM, "run", "What is 347 + 58?", "--reasoning", "show", "--quiet"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        lines = done.stdout.splitlines()
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertGreater(len(lines), 1)
        self.assertIn("405", lines[-1])

    def test_greedy_by_its_own_settings(self):
        outs = {moxie("run", "What is 37 * 24?", "--json", "--seed", str(seed))[1].split('"seed"')[0] for seed in range(3)}
        self.assertEqual(len(outs), 1)
        self.assertNotIn("seed", moxie("run", "What is 37 * 24?")[2])

    def test_a_scripted_conversation_with_a_tool(self):
        tools = os.path.join(CHECKOUT, "models", "demo", "tools.json")
        code, out, err = moxie("chat", "--echo", "--tools", tools,
                               stdin="What is the weather in Oslo?\n{\"temperature\": 7, \"sky\": \"rainy\"}\n")
        self.assertEqual(code, 0, err)
        self.assertTrue(out.startswith(
            ">>> What is the weather in Oslo?\n{\"name\": \"get_weather\", \"arguments\": {\"city\":\"Oslo\"}}\n"
            "result of get_weather> {\"temperature\": 7, \"sky\": \"rainy\"}\n"), out)
        self.assertIn("rainy", out.splitlines()[-1])


class Run(unittest.TestCase):
    def run_ok(self, *args, **more):
        code, out, err = moxie("run", *args, **more)
        self.assertEqual(code, 0, err)
        return out, err

    def test_the_answer_goes_to_stdout_and_the_rest_to_stderr(self):
        out, err = self.run_ok(model("answers"), "What is the answer?", "--seed", "7")
        self.assertEqual(out, "The answer is 42 END indeed.\n")
        self.assertRegex(err, r"\Aprompt \d+ tokens at [\d.]+/s, answer 9 tokens at [\d.]+/s, seed "
                              r"7\n\Z")
        self.assertNotIn("\x1b", out + err)

    def test_the_prompt_comes_from_stdin_too(self):
        for args, stdin in [((), "hi\n"), (("-",), "hi"), (("hi", "--file", "-"), "there")]:
            out, _ = self.run_ok(model("answers"), *args, stdin=stdin)
            self.assertEqual(out, "The answer is 42 END indeed.\n")
        code, _, err = moxie("run", model("answers"), stdin="")
        self.assertEqual(code, 1)
        self.assertIn("prompt is empty", err)

    def test_reasoning_is_hidden_in_a_pipe_and_shown_on_stderr_when_asked(self):
        out, err = self.run_ok(model("reasons"), "hi", "-q")
        self.assertEqual((out, err), ("", ""))
        out, err = self.run_ok(model("reasons"), "hi", "-q", "--reasoning", "show")
        self.assertEqual((out, err), ("", "hard thinking\n"))

    def test_stop_texts_end_the_answer(self):
        out, _ = self.run_ok(model("answers"), "hi", "--stop", "nothing", "--stop", "2 EN")
        self.assertEqual(out, "The answer is 4\n")

    def test_max_tokens(self):
        out, err = self.run_ok(model("answers"), "hi", "-n", "5")
        self.assertEqual(out, "The answer is\n")
        self.assertIn("5 tokens, as --max-tokens asks", err)

    def test_json(self):
        out, _ = self.run_ok(model("answers"), "hi", "--json", "--seed", "3")
        answer = json.loads(out)
        self.assertEqual(answer["text"], "The answer is 42 END indeed.")
        self.assertEqual((answer["stop"], answer["seed"], answer["call"]), ("stop", 3, None))
        self.assertEqual(answer["generated_tokens"], 9)

    def test_characters_are_whole_and_bytes_reach_a_pipe_unchanged(self):
        out, _ = self.run_ok(model("unicode"), "hi")
        self.assertEqual(out, "\u00e9\U0001f60a\x1b!\n")

    def test_same_seed_same_text(self):
        args = (model("noise"), "hi", "--raw", "-n", "40", "--date", "2026-01-01")
        texts = [self.run_ok(*args, "--seed", str(seed))[0] for seed in (1, 1, 2)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])
        # The seed that is printed gives the text again.
        out, err = self.run_ok(*args)
        seed = re.search(r"seed (\d+)", err).group(1)
        self.assertEqual(self.run_ok(*args, "--seed", seed)[0], out)
        self.assertEqual(self.run_ok(*args, "--seed", "1", "--threads", "1")[0], texts[0])

    def test_generation_config_gives_the_defaults(self):
        shutil.copytree(model("noise"), model("greedy"))
        with open(os.path.join(model("greedy"), "generation_config.json"), "w") as file:
            json.dump({"temperature": 0.0}, file)
        out, err = self.run_ok(model("greedy"), "hi", "--raw", "-n", "5")
        self.assertEqual(out.encode("utf-8"), b"\x00" * 5 + b"\n")  # all equal: the smallest id
        self.assertNotIn("seed", err)

    def test_a_tool_call_is_printed_as_json(self):
        out, _ = self.run_ok(model("calls"), "Rain?", "--tools", model("tools.json"))
        self.assertEqual(json.loads(out), {"name": "get_weather", "arguments": {"city": "Oslo"}})
        out, _ = self.run_ok(model("calls"), "Rain?", "--tools", model("tools.json"), "--json")
        self.assertEqual(json.loads(out)["call"],
                         {"name": "get_weather", "arguments": {"city": "Oslo"}})
        code, _, err = moxie("run", model("calls"), "hi", "--tools", model("nothing.json"))
        self.assertEqual(code, 1)
        self.assertIn("nothing.json", err)

    def test_a_closed_pipe_ends_it_quietly(self):
        process = subprocess.Popen([PROGRAM, "run", model("endless"), "hi"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=20), 141)
        self.assertEqual(err, b"")

    def test_ctrl_c_prints_what_there_is(self):
        # Without a buffer: communicate() reads past it, and what the first read left there is lost.
        process = subprocess.Popen([PROGRAM, "run", model("endless"), "hi"], bufsize=0,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        first = b""
        while len(first) < 10:
            first += process.stdout.read(10 - len(first))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130)
        self.assertRegex((first + out).decode(), r"\A(xy)+x?\n\Z")
        self.assertRegex(err.decode(), r"\Aprompt .* seed \d+\n\Z")

    def test_on_a_terminal(self):
        terminal = Terminal("run", model("reasons"), "hi")
        code, text = terminal.finish()
        self.assertEqual(code, 0)
        self.assertIn("\x1b[2mhard thinking\x1b[0m", text)
        terminal = Terminal("run", model("reasons"), "hi", env={"NO_COLOR": "1"})
        self.assertNotIn("\x1b", terminal.finish()[1])
        # What would steer the terminal is made visible.
        code, text = Terminal("run", model("unicode"), "hi", "-q").finish()
        self.assertEqual(text, "\u00e9\U0001f60a^[!\r\n")

    def test_a_tool_result_is_asked_for_on_a_terminal(self):
        terminal = Terminal("run", model("calls"), "Rain?", "--tools", model("tools.json"))
        terminal.read_until("-> get_weather {\"city\": \"Oslo\"}")
        terminal.read_until("result of get_weather> ")
        terminal.send("{\"rain\": true}\n")
        terminal.read_until("result of get_weather> ")  # this model knows nothing else to say
        terminal.send("\x04")
        self.assertEqual(terminal.finish()[0], 0)


class Chat(unittest.TestCase):
    def chat(self, *args, stdin, code=0):
        got, out, err = moxie("chat", *args, stdin=stdin)
        self.assertEqual(got, code, err)
        return out, err

    def test_lines_of_a_pipe_are_said_in_turn(self):
        out, err = self.chat(model("answers"), stdin="one\n\"\"\"two\nlines\"\"\"\n/show messages\n")
        self.assertEqual(out, "The answer is 42 END indeed.\n" * 2 +
                         "[user] one\n[assistant final] The answer is 42 END indeed.\n"
                         "[user] two\nlines\n[assistant final] The answer is 42 END indeed.\n")
        self.assertEqual(err.count("seed"), 2)
        self.assertRegex(err, r"\(\d+ remembered\)")
        self.assertNotIn(">>>", out + err)

    def test_settings(self):
        out, _ = self.chat(model("answers"), stdin="/set effort high\n/set temperature 0.5\n"
                           "/set developer Be brief.\n/set seed 18446744073709551615\n/show\n")
        for line in [r"effort +high", r"temperature +0\.5", r"developer +Be brief\.",
                     r"seed +18446744073709551615"]:
            self.assertRegex(out, line)
        for command, pattern in [("/set effort huge", "low, medium or high"),
                                 ("/set temperature 9", "0 to 2"), ("/set top_p 0", "above 0"),
                                 ("/set nothing 1", "does not know"), ("/nothing", r"/\?"),
                                 ("/result x", "no tool call"), ("/load", "name of a file")]:
            _, err = self.chat(model("answers"), stdin=command + "\n", code=1)
            self.assertRegex(err, r"\Amoxie: error: [^\n]*\n\Z")
            self.assertRegex(err, pattern)

    def test_save_and_load(self):
        path = model("saved.json")
        self.chat(model("answers"), stdin=f"/set developer Be brief.\none\n/save {path}\n")
        with open(path) as file:
            saved = json.load(file)
        self.assertEqual(saved["developer"], "Be brief.")
        self.assertEqual([m["role"] for m in saved["messages"]], ["user", "assistant"])
        out, _ = self.chat(model("answers"), stdin=f"/load {path}\n/show messages\n/show\n")
        self.assertIn("[user] one\n[assistant final] The answer is 42", out)
        self.assertRegex(out, r"developer +Be brief\.")
        out, _ = self.chat(model("answers"), "--load", path, stdin="/reset\n/show messages\n")
        self.assertEqual(out, "")
        _, err = self.chat(model("answers"), stdin=f"/load {model('tools.json')}\n", code=1)
        self.assertIn("tools.json", err)
        _, err = self.chat(model("answers"), stdin=f"/save {ROOT}/no/such/folder\n", code=1)
        self.assertIn("cannot write", err)

    def test_a_tool_call_and_its_result(self):
        out, _ = self.chat(model("calls"), "--tools", model("tools.json"),
                           stdin="Rain?\n/result {\"rain\": true}\n/show messages\n")
        call = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n"
        self.assertTrue(out.startswith(call * 2), out)
        self.assertIn("[assistant commentary to functions.get_weather] {\"city\": \"Oslo\"}\n"
                      "[tool functions.get_weather commentary to assistant] {\"rain\": true}\n", out)

    def test_echo_shows_what_a_pipe_says(self):
        out, _ = self.chat(model("calls"), "--tools", model("tools.json"), "--echo",
                           stdin="Rain?\n{\"rain\": true}\n\"\"\"a\nb\"\"\"\n")
        call = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n"
        self.assertEqual(out, f">>> Rain?\n{call}result of get_weather> {{\"rain\": true}}\n{call}"
                              f"result of get_weather> \"\"\"a\n... b\"\"\"\n{call}")

    def test_a_failure_in_a_pipe_ends_it_and_says_why(self):
        _, err = self.chat(model("answers"), "--ctx", "64", stdin="hello " * 50 + "\n", code=1)
        self.assertRegex(err, r"\Amoxie: error: the prompt has \d+ tokens and the context holds 64")

    def test_an_open_quote_is_an_error(self):
        _, err = self.chat(model("answers"), stdin="\"\"\"never\nends\n", code=1)
        self.assertIn("closing \"\"\"", err)

    def test_on_a_terminal(self):
        terminal = Terminal("chat", model("answers"))
        terminal.read_until(">>> ")
        terminal.send("hello\r")
        terminal.read_until("The answer is 42 END indeed.\r\n")
        terminal.read_until(">>> ")
        terminal.send("/nonsense\r")
        terminal.read_until("moxie: error: there is no command /nonsense")
        terminal.read_until(">>> ")
        terminal.send("\"\"\"a\r")
        terminal.read_until("... ")
        terminal.send("b\"\"\"\r")
        terminal.read_until("The answer is 42 END indeed.\r\n")
        terminal.read_until(">>> ")
        terminal.send("\x1b[A")  # the line before, from the history
        terminal.read_until("a")
        terminal.send("\x03")
        terminal.read_until(">>> ")
        terminal.send("/bye\r")
        self.assertEqual(terminal.finish()[0], 0)
        with open(os.path.join(ROOT, "state/moxie/history")) as file:
            self.assertIn("hello", file.read())

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal = Terminal("chat", model("endless"), "-q")
        terminal.read_until(">>> ")
        terminal.send("hi\r")
        terminal.read_until("xyxyxy")
        terminal.send("\x03")
        terminal.read_until("(stopped)")
        terminal.read_until(">>> ")
        terminal.send("again\r")
        terminal.read_until("xyxyxy")
        terminal.send("\x03")
        terminal.read_until("(stopped)")
        terminal.read_until(">>> ")
        terminal.send("\x03")
        terminal.read_until("once more")
        terminal.read_until(">>> ")
        terminal.send("\x03")
        self.assertEqual(terminal.finish()[0], 130)

    def test_ctrl_d_leaves(self):
        terminal = Terminal("chat", model("answers"))
        terminal.read_until(">>> ")
        terminal.send("\x04")
        self.assertEqual(terminal.finish()[0], 0)

    def test_ctrl_g_opens_the_editor(self):
        script = model("editor.sh")
        with open(script, "w") as file:
            file.write("printf 'from\\nthe editor' > \"$1\"\n")
        terminal = Terminal("chat", model("answers"), env={"EDITOR": "sh " + script, "VISUAL": ""})
        terminal.read_until(">>> ")
        terminal.send("x\x07")
        terminal.read_until("from\r\nthe editor")
        terminal.read_until("The answer is 42")
        terminal.read_until(">>> ")
        terminal.send("/show messages\r")
        terminal.read_until("[user] from\r\nthe editor")
        terminal.read_until(">>> ")
        terminal.send("/bye\r")
        self.assertEqual(terminal.finish()[0], 0)


class Tokens(unittest.TestCase):
    def test_every_byte_there_and_back(self):
        data = bytes(range(256)) * 40 + "é 😊 <|start|> \r\n\0".encode() + b"\xff\xfe\xc3"
        code, ids, err = moxie("tokenize", model("answers"), stdin=data)
        self.assertEqual(code, 0, err)
        self.assertRegex(ids, r"\A\d+( \d+)*\n\Z")
        done = subprocess.run([PROGRAM, "detokenize", os.path.join(model("answers"),
                                                                   "tokenizer.json")],
                              input=ids.encode(), capture_output=True)
        self.assertEqual(done.stdout, data, done.stderr)

    def test_names_of_control_tokens_are_text_unless_asked(self):
        _, ids, _ = moxie("tokenize", model("answers"), stdin="<|start|>")
        self.assertEqual(ids.split(), [str(b) for b in b"<|start|>"])
        _, ids, _ = moxie("tokenize", model("answers"), "--special", stdin="<|start|>")
        self.assertEqual(len(ids.split()), 1)

    def test_nothing(self):
        self.assertEqual(moxie("tokenize", model("answers"))[:2], (0, "\n"))
        self.assertEqual(moxie("detokenize", model("answers"))[:2], (0, ""))

    def test_what_is_no_id(self):
        for stdin, pattern in [("1 x", r"word 2 \(byte 2"), ("1 -3", "-3"), ("99999", "99999"),
                               ("9" * 30, "word 1")]:
            code, _, err = moxie("detokenize", model("answers"), stdin=stdin)
            self.assertEqual(code, 1)
            self.assertRegex(err, pattern)


class Logits(unittest.TestCase):
    def read(self, path):
        with open(path, "rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            entry = json.loads(file.read(size))["logits"]
            data = file.read()
        self.assertEqual(entry["dtype"], "F32")
        return entry["shape"], data

    def test_rows_of_the_vocabulary(self):
        out = model("logits.safetensors")
        for precision in ["bf16", "fp32"]:
            code, stdout, err = moxie("logits", model("answers"), "--tokens", "5,17,99", "--out", out,
                                      "--precision", precision)
            self.assertEqual((code, stdout, err), (0, "", ""))
            shape, data = self.read(out)
            self.assertEqual(shape[0], 3)
            self.assertEqual(len(data), 4 * shape[0] * shape[1])

    def test_last_is_the_last_row_bit_for_bit(self):
        tokens = ",".join(str(i * 7 % 250) for i in range(200))
        moxie("logits", model("answers"), "--tokens", tokens, "--out", model("all"))
        moxie("logits", model("answers"), "--tokens", "@" + model("ids"), "--out", model("x"))
        moxie("logits", model("answers"), "--tokens", "-", "--last", "--out", model("last"),
              stdin=tokens)
        shape, data = self.read(model("all"))
        last_shape, last = self.read(model("last"))
        self.assertEqual((shape[0], last_shape[0]), (200, 1))
        self.assertEqual(data[-len(last):], last)

    def test_what_cannot_be(self):
        for code, pattern, args in [
                (2, "entry 2", ["--tokens", "5,x"]), (2, "at least one", ["--tokens", ","]),
                (1, "token id 100000 .*outside", ["--tokens", "5,100000"]),
                (2, "entry 1", ["--tokens", "-5"]), (2, "tokens", [])]:
            got, _, err = moxie("logits", model("answers"), "--out", model("no"), *args)
            self.assertEqual(got, code, err)
            self.assertRegex(err, pattern)
        got, _, err = moxie("logits", model("answers"), "--tokens", "1", "--out", "/no/such/file")
        self.assertEqual(got, 1)
        self.assertRegex(err, r"\Amoxie: error: [^\n]*/no/such/file[^\n]*\n\Z")
        self.assertFalse(os.path.exists(model("no")))


class Machine(unittest.TestCase):
    def test_doctor(self):
        code, out, err = moxie("doctor")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("used", out)
        code, out, _ = moxie("doctor", "--json")
        report = json.loads(out)
        self.assertEqual(code, 0)
        self.assertEqual(sum(backend["chosen"] for backend in report["backends"]), 1)
        self.assertGreaterEqual(report["threads"], 1)
        code, out, _ = moxie("doctor", "--json", env={"MOXIE_CPU_ISA": "nonsense"})
        self.assertEqual(code, 0)
        self.assertIn("nonsense", json.loads(out)["isa"])

    def test_bench(self):
        args = ["bench", "--like", "tiny", "--layers", "2", "--prefill", "1,20", "--decode", "3",
                "--context", "0,30", "--batch", "1,3", "--runs", "2", "--no-limits", "--threads", "1"]
        code, out, err = moxie(*args, "--json", "-")
        self.assertEqual(code, 0, err)
        result = json.loads(out)
        self.assertEqual([r["tokens"] for r in result["prefill"]], [1, 20])
        self.assertEqual([(r["context"], r["batch"]) for r in result["decode"]],
                         [(0, 1), (0, 3), (30, 1), (30, 3)])
        for entry in result["prefill"] + result["decode"]:
            rate = entry["tokens_per_second"]
            self.assertTrue(0 < rate["min"] <= rate["median"] <= rate["max"])
        self.assertEqual(result["decode"][0]["experts_per_layer"], 3)  # 3 of 8 per token
        code, out, err = moxie(*args)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("tokens/s", out)
        code, _, err = moxie("bench")
        self.assertEqual(code, 2)
        self.assertIn("--like", err)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    with tempfile.TemporaryDirectory() as folder:
        ROOT = folder
        make_models()
        unittest.main(verbosity=1)
