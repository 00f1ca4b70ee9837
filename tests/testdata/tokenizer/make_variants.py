"""Writes the tokenizer files of the second table in README.md, and what the
`tokenizers` library makes of texts.json for every file here but those that need
their tokenizer_config.json, which are for make_configured.py:

    python3 make_variants.py

Needs the package `tokenizers`. Each file has the normalizer, pre-tokenizer,
decoder and post-processor of one published model, and a small vocabulary of its
own. Rerunning it gives the same files.
"""

import json
import pathlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
CORPORA = HERE.parent / "corpora"

# Letters of the Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and some
# further scripts, as DeepSeek LLM lists them.
DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿ\u01c4-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿ\u0386\u0388-\u038a\u038c\u038e-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-Ⴥ"
    "Ꭰ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
    "\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffcℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭ"
    "ℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎ\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "Ａ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃")
DEEPSEEK_LLM = ["[\r\n]", f"\\s?[{DEEPSEEK_LETTERS}]+",
                "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", "\\s+$", "[一-龥ࠀ-一가-\ud7ff]+"]
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = (CONTRACTIONS + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
          "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
UPPER, LOWER = "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}", "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
O200K = (f"[^\\r\\n\\p{{L}}\\p{{N}}]?[{UPPER}]*[{LOWER}]+{CONTRACTIONS}?"
         f"|[^\\r\\n\\p{{L}}\\p{{N}}]?[{UPPER}]+[{LOWER}]*{CONTRACTIONS}?"
         "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")


def training_texts():
    for name in ("prose.txt", "python.txt", "german.txt"):
        yield (CORPORA / name).read_text(encoding="utf-8")[:60_000]
    yield from json.loads((HERE / "texts.json").read_text(encoding="utf-8"))


def train(tokenizer, size, **options):
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)
    tokenizer.train_from_iterator(training_texts(), trainer)
    return tokenizer


def byte_level(splits, size=700, normalizer=None, use_regex=False, **model):
    """Cuts by `splits`, then bytes as letters."""
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    steps = [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if splits else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def special(content, **options):
    return AddedToken(content, special=True, normalized=False, **options)


def begin_with(tokenizer, token):
    """ByteLevel, then `token` before the text."""
    template = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B",
        special_tokens=[(token, tokenizer.token_to_id(token))])
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), template])


def deepseek_llm():
    tokenizer = byte_level([split(pattern) for pattern in DEEPSEEK_LLM] +
                           [pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.add_special_tokens([special("<｜begin▁of▁sentence｜>"),
                                  special("<｜end▁of▁sentence｜>")])
    # BOS comes from tokenizer_config.json.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def olmoe():
    """GPT-NeoX: NFC, GPT-2's regex, and runs of spaces as added tokens."""
    tokenizer = byte_level([], normalizer=normalizers.NFC(), use_regex=True)
    tokenizer.add_special_tokens([special("|||IP_ADDRESS|||"), special("<|padding|>"),
                                  special("<|endoftext|>")])
    tokenizer.add_tokens([AddedToken(" " * length, normalized=True)
                          for length in range(24, 1, -1)])
    tokenizer.add_tokens([AddedToken("|||EMAIL_ADDRESS|||", normalized=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A $B", special_tokens=[])
    return tokenizer


def llama4():
    tokenizer = byte_level([split(O200K)], ignore_merges=True)
    tokenizer.add_special_tokens([special("<|begin_of_text|>"), special("<|end_of_text|>"),
                                  special("<|header_start|>"), special("<|eot|>")])
    begin_with(tokenizer, "<|begin_of_text|>")
    return tokenizer


def gpt_oss():
    tokenizer = byte_level([split(O200K)])
    tokenizer.add_special_tokens([special("<|startoftext|>"), special("<|endoftext|>"),
                                  special("<|return|>"), special("<|constrain|>"),
                                  special("<|channel|>"), special("<|start|>"),
                                  special("<|end|>"), special("<|message|>")])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def dbrx():
    """The regex finds what to keep."""
    tokenizer = byte_level([split(CL100K, "removed", invert=True)])
    tokenizer.add_special_tokens([special("<|endoftext|>"), special("<|im_start|>"),
                                  special("<|im_end|>"), special("<|fim_prefix|>")])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def sentencepiece_like(specials):
    """A vocabulary as SentencePiece's BPE with byte fallback has it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    train(tokenizer, 800, limit_alphabet=120, special_tokens=[
        "<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))])
    # The bytes are ordinary tokens, which the text can't spell.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"], state["pre_tokenizer"] = state["added_tokens"][:3], None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(specials)
    return tokenizer


def mixtral_metaspace():
    """As transformers converts it since the legacy behaviour is off."""
    tokenizer = sentencepiece_like([])
    state = json.loads(tokenizer.to_str())
    state["normalizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


def phi():
    """Llama 2's with added tokens that take the white space after them."""
    tokenizer = sentencepiece_like([
        special("<|endoftext|>"), special("<|assistant|>", rstrip=True),
        special("<|user|>", rstrip=True), special("<|end|>", rstrip=True)])
    state = json.loads(tokenizer.to_str())
    for token in state["added_tokens"]:
        token["rstrip"] = token["rstrip"] or token["content"] == "</s>"
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A $B:1", special_tokens=[])
    return tokenizer


VARIANTS = [deepseek_llm, olmoe, llama4, gpt_oss, dbrx, mixtral_metaspace, phi]


def is_tokenizer(name):
    return name not in ("texts", "configured") and not name.endswith(
        (".expected", ".tokenizer_config"))


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n",
                    encoding="utf-8")


def main():
    texts = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    for make in VARIANTS:
        write(HERE / f"{make.__name__}.json", json.loads(make().to_str()))
    for path in sorted(HERE.glob("*.json")):
        name = path.name[:-len(".json")]
        if not is_tokenizer(name) or (HERE / f"{name}.tokenizer_config.json").exists():
            continue
        tokenizer = Tokenizer.from_file(str(path))
        ids = [tokenizer.encode(text).ids for text in texts]
        decoded = [tokenizer.decode(row, skip_special_tokens=False) for row in ids]
        write(HERE / f"{name}.expected.json",
              {"library": tokenizers.__version__, "ids": ids, "decoded": decoded})
        print(name, sum(map(len, ids)), "ids")


if __name__ == "__main__":
    main()
