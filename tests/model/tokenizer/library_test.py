"""Compares ids and texts with the libraries `tokenizers` and `sentencepiece` on
random strings:

    python3 library_test.py TOKENIZER_MAIN TESTDATA [COUNT]

COUNT strings (default 400) for every tokenizer file of TESTDATA, from a fixed
seed; a tokenizer.json also beside a tokenizer_config.json that puts BOS and EOS
around the text. Exit status 1 on the first tokenizer with a difference, which is printed.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

SEED = 20240711
# Ranges of characters that pre-tokenizers treat differently, all of them
# assigned since Unicode 10, so that every library knows them.
RANGES = [
    (0x20, 0x7E), (0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0x09, 0x0D), (0x00, 0x1F),
    (0x20, 0x20), (0x20, 0x20), (0x0A, 0x0A), (0x0D, 0x0D), (0x27, 0x27), (0xA0, 0xFF),
    (0x7F, 0x9F), (0x100, 0x17F), (0x1C4, 0x1CC), (0x300, 0x33F), (0x391, 0x3A1), (0x3B1, 0x3C9),
    (0x410, 0x44F), (0x561, 0x586), (0x5D0, 0x5EA), (0x621, 0x64A), (0x64B, 0x652),
    (0x660, 0x669), (0x904, 0x939), (0x93E, 0x94C), (0x966, 0x96F), (0xE01, 0xE2E),
    (0xE31, 0xE3A), (0x10D0, 0x10F0), (0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2),
    (0x13A0, 0x13F4), (0x1E00, 0x1EFF), (0x1F00, 0x1F15), (0x1FB6, 0x1FC4), (0x2000, 0x200D),
    (0x2010, 0x2027), (0x2028, 0x202F), (0x2070, 0x2071), (0x20A0, 0x20BF), (0x2100, 0x214F),
    (0x2150, 0x218B), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x25FF),
    (0x2700, 0x27BF), (0x3000, 0x3029), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5),
    (0xAB70, 0xABBF), (0xAC00, 0xD7A3), (0xF900, 0xFA2D), (0xFB00, 0xFB06), (0xFE0F, 0xFE0F),
    (0xFEFF, 0xFEFF), (0xFF01, 0xFF5E), (0xFFFD, 0xFFFD), (0x10400, 0x1044F), (0x1D400, 0x1D454),
    (0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6A4),
]
SNIPPETS = ["'s", "'LL", "'Re", "n't", "  ", "   ", "\r\n", "\n\n", " \n", "123", "0", "\u200d",
            "▁", "Ġ", "<s>", "</s>", "<unk>", "<0x41>", "<0xE4>", "the ", " in", "ing", "def ",
            "return", "://", "...", "--", "/", "\\u00", "\\x", "\t\t"]


def random_text(random_source, own_tokens):
    parts = []
    for _ in range(random_source.choice([1, 2, 3, 5, 8, 13, 30])):
        kind = random_source.random()
        if kind < 0.15:
            parts.append(random_source.choice(SNIPPETS))
        elif kind < 0.2:
            parts.append(random_source.choice(own_tokens))
        elif kind < 0.25:
            first, last = random_source.choice(RANGES)
            parts.append(chr(random_source.randint(first, last)) * random_source.choice([3, 9, 40]))
        else:
            first, last = random_source.choice(RANGES)
            parts.extend(chr(random_source.randint(first, last))
                         for _ in range(random_source.randint(1, 6)))
    return "".join(parts)


def ours(program, path, config, texts):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / f"tokenizer{path.suffix}").symlink_to(path.resolve())
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        run = subprocess.run([program, name], capture_output=True, check=False, encoding="utf-8",
                             input="".join(json.dumps(text) + "\n" for text in texts))
    if run.returncode != 0:
        sys.exit(f"{path.name}: {run.stderr}")
    return [tuple(json.loads(line)) for line in run.stdout.split("\n") if line]


def tokenizers_library(path, config):
    """Encoding, decoding, and the tokens worth having in texts."""
    library = Tokenizer.from_file(str(path))
    state = json.loads(path.read_text(encoding="utf-8"))
    if config["tokenizer_class"] == "LlamaTokenizerFast":
        # What that class of transformers 4 does with these keys.
        around = [config["bos_token"], config["eos_token"]]
        library.post_processor = TemplateProcessing(
            single=[around[0], "$A", around[1]],
            special_tokens=[(token, library.token_to_id(token)) for token in set(around)])
    return (lambda text: library.encode(text).ids,
            lambda ids: library.decode(ids, skip_special_tokens=False),
            [token["content"] for token in state["added_tokens"]])


def sentencepiece_library(path, _):
    library = SentencePieceProcessor(model_file=str(path))
    pieces = [library.id_to_piece(id) for id in range(library.get_piece_size())]
    return library.encode, library.decode, pieces


def configs(path):
    """Those to put beside the file; the class says whether the keys count."""
    if path.suffix == ".model":
        return [{"add_bos_token": False}]
    state = json.loads(path.read_text(encoding="utf-8"))
    tokens = [token["content"] for token in state["added_tokens"]] or list(state["model"]["vocab"])
    keys = {"add_bos_token": True, "add_eos_token": True,
            "bos_token": tokens[0], "eos_token": tokens[-1]}
    return [{"tokenizer_class": name, **keys}
            for name in ("PreTrainedTokenizerFast", "LlamaTokenizerFast")]


def check(program, path, config, count):
    encode, decode, own_tokens = (
        sentencepiece_library if path.suffix == ".model" else tokenizers_library)(path, config)
    source = random.Random(f"{SEED} {path.name}")
    texts = [random_text(source, own_tokens or [""]) for _ in range(count)]
    for text, (ids, decoded) in zip(texts, ours(program, path, config, texts), strict=True):
        expected = encode(text)
        if ids != expected:
            sys.exit(f"{path.name}: {text!r} (seed {SEED})\n  gives    {ids}\n  expected {expected}")
        expected = decode(ids)
        if decoded != expected:
            sys.exit(f"{path.name}: ids {ids} of {text!r} (seed {SEED})\n"
                     f"  decode to {decoded!r}\n  expected  {expected!r}")
    print(f"{path.name}, class {config.get('tokenizer_class')}: {count} texts alike")


def main():
    program, testdata = sys.argv[1], pathlib.Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 400
    print(f"seed {SEED}")
    for path in sorted([*testdata.glob("*.json"), *testdata.glob("*.model")]):
        if path.suffix == ".model" or "model" in json.loads(path.read_text(encoding="utf-8")):
            for config in configs(path):
                check(program, path, config, count)


if __name__ == "__main__":
    main()
