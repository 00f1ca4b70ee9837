"""Trains the SentencePiece models here (*.model) and writes what the
`sentencepiece` library makes of texts.json with each (*.model.expected.json):

    python3 make_sentencepiece.py

Needs the package `sentencepiece`.
"""

import io
import json
import pathlib

import sentencepiece

HERE = pathlib.Path(__file__).parent
CORPORA = HERE.parent / "corpora"

# Llama 2's and Mixtral's settings; what Grok-1's and T5's differ in.
LLAMA = dict(normalization_rule_name="identity", remove_extra_whitespaces=False,
             split_digits=True, allow_whitespace_only_pieces=True)
VARIANTS = {
    "llama_bpe": dict(LLAMA, model_type="bpe", byte_fallback=True),
    "plain_bpe": dict(model_type="bpe", normalization_rule_name="identity",
                      user_defined_symbols=["<sep>", "</think>", "don't"]),
    "nfkc_unigram": dict(model_type="unigram", normalization_rule_name="nmt_nfkc",
                         pad_id=3),
    "bytes_unigram": dict(LLAMA, model_type="unigram", byte_fallback=True,
                          add_dummy_prefix=False, user_defined_symbols=["[INST]", "  "]),
}


def sentences():
    for name in ("prose.txt", "python.txt", "german.txt"):
        for line in (CORPORA / name).read_text(encoding="utf-8")[:60_000].splitlines():
            if line and len(line) < 2000:
                yield line


def train(options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_writer=model, vocab_size=900,
        character_coverage=0.999, hard_vocab_limit=False, num_threads=1,
        minloglevel=2, **options)
    return model.getvalue()


def main():
    texts = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    for name, options in VARIANTS.items():
        path = HERE / f"{name}.model"
        path.write_bytes(train(options))
        library = sentencepiece.SentencePieceProcessor(model_file=str(path))
        ids = [library.encode(text) for text in texts]
        expected = {"library": sentencepiece.__version__, "size": library.get_piece_size(),
                    "bos": library.bos_id(), "eos": library.eos_id(), "ids": ids,
                    "decoded": [library.decode(row) for row in ids]}
        (HERE / f"{name}.model.expected.json").write_text(
            json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n",
            encoding="utf-8")
        print(name, path.stat().st_size, "bytes,", sum(map(len, ids)), "ids")


if __name__ == "__main__":
    main()
