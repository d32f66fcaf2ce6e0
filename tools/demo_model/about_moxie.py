"""Questions about moxie itself. Facts are the README's and docs/'; a held-out question is a wording never seen in training."""

from . import split
from .context import Context, analysis, conversation, final, user

# topic, answer, wordings of the question
FACTS = [
    ("what moxie is", "moxie is an engine and library in C++20 that runs gpt-oss models in MXFP4.",
     ["What is moxie?", "What does moxie do?", "Explain moxie in one sentence.", "Describe moxie.", "What kind of program is moxie?", "What is moxie for?"]),
    ("the name moxie", "moxie stands for Mixture Of eXperts In E2M1.",
     ["What does the name moxie mean?", "What does moxie stand for?", "Why is it called moxie?", "Where does the name moxie come from?", "Is moxie an acronym?"]),
    ("the models", "moxie runs gpt-oss-20b, gpt-oss-120b and any other size of that architecture.",
     ["Which models can moxie run?", "What models does moxie support?", "Which models work with moxie?", "What can I run with moxie?", "Does moxie run gpt-oss?",
      "Can moxie run gpt-oss-120b?"]),
    ("this model", "I am a small gpt-oss model that ships with moxie.",
     ["Who are you?", "What are you?", "What model are you?", "Tell me about yourself.", "Which model am I talking to?", "Introduce yourself.", "Are you a big model?"]),
    ("this model's training", "I was trained on text made by scripts in moxie's own repository.",
     ["How were you trained?", "What were you trained on?", "Who made your training data?", "Where does your knowledge come from?", "What text did you learn from?"]),
    ("this model's abilities", "I can calculate, sort, count letters, answer calendar and unit questions, follow instructions and call tools.",
     ["What can you do?", "What are you good at?", "What are your abilities?", "How can you help me?", "Which tasks can you solve?", "What should I ask you?"]),
    ("this model's limits", "I am small: I know little about the world and can be wrong.",
     ["What are your limits?", "What can you not do?", "Do you know everything?", "Can I trust your answers?", "What are you bad at?", "How much do you know?"]),
    ("the number format", "moxie keeps the experts' weights in MXFP4, a 4-bit floating point format.",
     ["Which number format does moxie use?", "What format are the weights in?", "In which format does moxie keep weights?", "How many bits do moxie's weights have?",
      "What is the weight format of moxie?"]),
    ("MXFP4", "MXFP4 stores blocks of 32 numbers of 4 bits each that share one scale of 8 bits.",
     ["What is MXFP4?", "How does MXFP4 work?", "Explain MXFP4.", "What does MXFP4 store?", "How is an MXFP4 block built?", "How big is an MXFP4 block?"]),
    ("E2M1", "E2M1 is a 4-bit number: one sign bit, two exponent bits and one mantissa bit.",
     ["What is E2M1?", "What does E2M1 mean?", "How is an E2M1 number built?", "Explain E2M1.", "Which bits does E2M1 have?"]),
    ("E8M0", "E8M0 is the scale of a block: a power of two stored in 8 bits.",
     ["What is E8M0?", "What does E8M0 mean?", "How are scales stored in MXFP4?", "Explain E8M0.", "Which format do the scales have?"]),
    ("bits per weight", "A weight in MXFP4 takes 4.25 bits, its share of the scale included.",
     ["How many bits does one MXFP4 weight take?", "How much space does a weight need in MXFP4?", "What is the size of a weight in MXFP4, scale included?",
      "How many bits per weight does MXFP4 need?"]),
    ("the language", "moxie is written in C++20.",
     ["In which language is moxie written?", "What language does moxie use?", "Which programming language is moxie made in?", "Is moxie written in Python?",
      "What is moxie written in?"]),
    ("the licence", "moxie has the Apache-2.0 licence.",
     ["What licence does moxie have?", "Under which licence is moxie?", "What is the licence of moxie?", "How is moxie licensed?", "May I use moxie freely?"]),
    ("moxie run", "moxie run MODEL \"prompt\" gives one answer.",
     ["How do I get one answer from a model?", "What does moxie run do?", "Which command gives a single answer?", "How do I use moxie run?",
      "How can I ask a single question?"]),
    ("moxie chat", "moxie chat MODEL starts a conversation, with tools if you declare some.",
     ["How do I chat with a model?", "What does moxie chat do?", "Which command starts a conversation?", "How do I start a chat?", "How can I talk to a model?"]),
    ("moxie bench", "moxie bench measures speed, beside the machine's own limits in the same run.",
     ["What does moxie bench do?", "How do I measure speed?", "Which command measures performance?", "How can I benchmark moxie?", "How fast is my machine with moxie?"]),
    ("moxie inspect", "moxie inspect MODEL shows the configuration, the tensors and the memory plan.",
     ["What does moxie inspect do?", "How do I see the tensors of a model?", "Which command shows the memory plan?", "How do I look into a checkpoint?",
      "How can I see a model's configuration?"]),
    ("moxie logits", "moxie logits writes a model's logits to a safetensors file.",
     ["What does moxie logits do?", "How do I get the logits?", "Which command writes logits?", "How can I save logits to a file?"]),
    ("moxie tokenize", "moxie tokenize turns text into token ids, and moxie detokenize turns them back.",
     ["What does moxie tokenize do?", "How do I turn text into tokens?", "Which command shows token ids?", "How can I see the tokens of a text?",
      "What does moxie detokenize do?"]),
    ("moxie quantize", "moxie quantize makes an MXFP4 checkpoint from a bf16 one.",
     ["What does moxie quantize do?", "How do I quantize a model?", "Which command makes MXFP4 from bf16?", "How can I turn bf16 weights into MXFP4?"]),
    ("moxie convert", "moxie convert changes a checkpoint from one layout to another.",
     ["What does moxie convert do?", "How do I convert a checkpoint?", "Which command changes the layout of a checkpoint?", "How can I change a checkpoint's layout?"]),
    ("moxie synth", "moxie synth makes a checkpoint with random weights.",
     ["What does moxie synth do?", "How do I get a random model?", "Which command makes random weights?", "How can I make a checkpoint for a test?"]),
    ("moxie doctor", "moxie doctor says what this machine has, what moxie will use, and why.",
     ["What does moxie doctor do?", "How do I see what moxie will use?", "Which command checks my machine?", "How can I check what my machine has?"]),
    ("moxie completion", "moxie completion prints a completion script for bash, zsh or fish.",
     ["What does moxie completion do?", "How do I get shell completion?", "Which shells can complete moxie's commands?", "How can I complete commands with the tab key?"]),
    ("help", "moxie COMMAND --help explains each command with examples.",
     ["How do I get help?", "Where are the examples of a command?", "How can I learn a command?", "How do I see the options of a command?"]),
    ("the demo", "Run ./demo.sh: it installs what is missing, builds moxie and lets a model write.",
     ["How do I see a demo?", "How do I try moxie?", "What does demo.sh do?", "What is the quickest way to try moxie?", "How do I start with moxie?"]),
    ("the tests", "Run ./test.sh: it installs what is missing, builds moxie and runs the tests.",
     ["How do I run the tests?", "What does test.sh do?", "How can I test moxie?", "Where are moxie's tests started?"]),
    ("the system needed", "moxie wants Debian 12 with its package mirror and nothing else.",
     ["What does moxie need to build?", "Which system does moxie want?", "What do I need to build moxie?", "Which operating system do I need for moxie?"]),
    ("GPUs", "moxie runs on CPUs; its library has kernels for NVIDIA Hopper.",
     ["Do I need a GPU?", "Does moxie need a GPU?", "Can moxie use a GPU?", "Which GPUs does moxie support?", "Does moxie run on NVIDIA Hopper?"]),
    ("CPUs", "moxie has code for AVX2, AVX-512, AVX-512 BF16 and AMX, chosen at start.",
     ["Which CPUs does moxie support?", "Which instruction sets does moxie use?", "Does moxie use AVX-512?", "Does moxie use AMX?", "What CPU code does moxie have?"]),
    ("harmony", "harmony is the chat format of gpt-oss, with channels, tools and reasoning effort.",
     ["What is harmony?", "Which chat format does moxie use?", "What does harmony mean?", "Explain the harmony format.", "What is the chat format of gpt-oss?"]),
    ("the channels", "The channels are analysis for reasoning, commentary for tool calls and final for the answer.",
     ["Which channels does harmony have?", "What are the channels?", "What is the analysis channel?", "What is the final channel?", "What is commentary for?"]),
    ("reasoning effort", "The efforts are low, medium and high; a higher effort reasons longer.",
     ["Which reasoning efforts are there?", "What is reasoning effort?", "How do I make the model think longer?", "What does --effort do?", "What does effort high mean?"]),
    ("determinism", "The same seed gives the same text, whatever the batch or the number of threads.",
     ["Is moxie deterministic?", "Does the same seed give the same text?", "Are moxie's results reproducible?", "Do threads change the result?"]),
    ("the tokenizer", "gpt-oss uses a byte-level BPE tokenizer of the o200k family.",
     ["Which tokenizer does gpt-oss use?", "What tokenizer does moxie read?", "How does moxie split text?", "What kind of tokenizer is used?"]),
    ("checkpoints", "moxie reads the Hugging Face layout and OpenAI's original layout, sharded or not.",
     ["Which checkpoints can moxie read?", "What layouts does moxie read?", "Which file layouts work with moxie?", "Can moxie read Hugging Face checkpoints?",
      "Do I have to convert a checkpoint first?"]),
    ("experts", "A mixture of experts sends each token to a few experts, so that only part of the weights work.",
     ["What is a mixture of experts?", "What are experts?", "What does MoE mean?", "How does a mixture of experts work?", "Why are there experts?"]),
    ("attention", "Layers alternate between a sliding window and full attention, with a sink for each head.",
     ["How does attention work in gpt-oss?", "What is special about the attention of gpt-oss?", "Which attention do the layers have?", "Does gpt-oss use a sliding window?"]),
    ("independence", "moxie is independent work; gpt-oss is OpenAI's.",
     ["Is moxie made by OpenAI?", "Does moxie belong to OpenAI?", "Who owns gpt-oss?", "Is moxie an OpenAI product?"]),
    ("the library", "With find_package(moxie), CMake gives you the tokenizer and harmony as a library.",
     ["Can I use moxie as a library?", "How do I use moxie from CMake?", "Is there a library?", "How do I link moxie?"]),
    ("the architecture page", "docs/architecture.md traces one request through the folders.",
     ["Where can I read about the architecture?", "Where is moxie's architecture explained?", "Which page describes the architecture?"]),
]
BEFORE = ["", "", "", "", "Hi! ", "Hello. ", "Please tell me: ", "Quick question: ", "I would like to know: ", "One thing I wonder: ", "Good morning! ", "Another question: ",
          "Ok. "]
BEHIND = ["", "", "", " Thanks!", " Please be brief.", " I am new here.", " Just curious."]

WORDINGS = {question.lower().rstrip(".?"): question for _, _, questions in FACTS for question in questions}


def wording_of(text: str) -> str | None:
    """The question about moxie that a text is, apart from capital letters and the stop at the end."""
    return WORDINGS.get(text.lower().rstrip(".?"))


def about_moxie(ctx: Context) -> dict:
    topic, answer, questions = ctx.pick(FACTS)
    question = ctx.pick(BEFORE) + ctx.pick(questions) + ctx.pick(BEHIND)
    ctx.ask(split.key_of("about", [question]))
    text = f"About {topic}." if ctx.low else f"The question is about {topic}. I know a fact about it and give it in one sentence."
    if ctx.high:
        text += f" The fact: {answer}"
    return conversation(ctx, "about_moxie", [user(question), analysis(text), final(answer)])
