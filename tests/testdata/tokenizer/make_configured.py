"""Writes what AutoTokenizer makes of tokenizer files beside a
tokenizer_config.json: configured.json, and <name>.expected.json for each
<name>.tokenizer_config.json:

    python3 make_configured.py

Needs the package `transformers`, version 4: version 5 does not read
add_bos_token and add_eos_token. Rerunning it gives the same files.
"""

import json
import pathlib
import tempfile

import transformers
from transformers import AutoTokenizer

from make_variants import HERE, write


def added(content):
    return {"__type": "AddedToken", "content": content, "special": True}


TEXT = "Hello</s>, 12"
OLMOE = {"bos_token": "|||IP_ADDRESS|||", "eos_token": "<|endoftext|>"}
LLAMA = {"bos_token": "<|begin_of_text|>", "eos_token": added("<|eot|>")}
DEEPSEEK = {"bos_token": added("<｜begin▁of▁sentence｜>"),
            "eos_token": "<｜end▁of▁sentence｜>"}
BOTH = {"add_bos_token": True, "add_eos_token": True}
NEITHER = {"add_bos_token": False, "add_eos_token": False}
# Name, tokenizer file, tokenizer_config.json.
CASES = [
    ("LlamaFast", "deepseek_llm", {"tokenizer_class": "LlamaTokenizerFast", **DEEPSEEK}),
    ("LlamaEos", "deepseek_llm", {"tokenizer_class": "LlamaTokenizer", **DEEPSEEK, **BOTH}),
    ("LlamaEosOnly", "deepseek_llm", {"tokenizer_class": "LlamaTokenizer", **DEEPSEEK,
                                      "add_bos_token": False, "add_eos_token": True}),
    ("LlamaNullFlags", "llama4", {"tokenizer_class": "LlamaTokenizerFast", **LLAMA,
                                  "add_bos_token": None, "add_eos_token": None}),
    ("LlamaTakesTheTemplateAway", "llama4",
     {"tokenizer_class": "LlamaTokenizerFast", **LLAMA, **NEITHER}),
    ("LlamaUnusedNull", "llama4", {"tokenizer_class": "LlamaTokenizerFast", **NEITHER,
                                   "bos_token": None, "eos_token": None}),
    ("LlamaDefaults", "phi", {"tokenizer_class": "LlamaTokenizer"}),
    ("LlamaDefaultEos", "phi", {"tokenizer_class": "LlamaTokenizer", "add_eos_token": True}),
    ("CodeLlama", "phi", {"tokenizer_class": "CodeLlamaTokenizer"}),
    ("Gemma", "olmoe", {"tokenizer_class": "GemmaTokenizer", **OLMOE}),
    ("GemmaFastEos", "olmoe", {"tokenizer_class": "GemmaTokenizerFast", **OLMOE, **BOTH}),
    ("Cohere", "olmoe", {"tokenizer_class": "CohereTokenizer", **OLMOE}),
    ("GptNeoX", "olmoe", {"tokenizer_class": "GPTNeoXTokenizer", **OLMOE}),
    ("GptNeoXDefaultTokens", "olmoe", {"tokenizer_class": "GPTNeoXTokenizer", **BOTH}),
    ("PlainKeepsNone", "deepseek_llm",
     {"tokenizer_class": "PreTrainedTokenizerFast", **DEEPSEEK, **BOTH}),
    ("PlainKeepsTheTemplate", "llama4",
     {"tokenizer_class": "PreTrainedTokenizerFast", **LLAMA, **NEITHER}),
    ("Qwen2Keeps", "nfc_added_tokens", {"tokenizer_class": "Qwen2Tokenizer", **BOTH,
                                        "bos_token": None}),
    ("Gpt2Keeps", "dbrx", {"tokenizer_class": "GPT2Tokenizer", **BOTH,
                           "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
]


def load(name, config):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "tokenizer.json").write_bytes((HERE / f"{name}.json").read_bytes())
        (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder)


def main():
    library = f"transformers {transformers.__version__}"
    cases = [{"name": name, "tokenizer": tokenizer, "config": config,
              "ids": load(tokenizer, config)(TEXT).input_ids}
             for name, tokenizer, config in CASES]
    write(HERE / "configured.json", {"library": library, "text": TEXT, "cases": cases})
    texts = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    for path in sorted(HERE.glob("*.tokenizer_config.json")):
        name = path.name[:-len(".tokenizer_config.json")]
        tokenizer = load(name, json.loads(path.read_text(encoding="utf-8")))
        ids = [tokenizer(text).input_ids for text in texts]
        decoded = [tokenizer.decode(row, skip_special_tokens=False,
                                    clean_up_tokenization_spaces=False) for row in ids]
        write(HERE / f"{name}.expected.json",
              {"library": library, "ids": ids, "decoded": decoded})
        print(name, sum(map(len, ids)), "ids")


if __name__ == "__main__":
    main()
