"""What `models describe` says of every fixture and model, against its config.json
and the headers of its .safetensors files, read here anew.

Usage: describe_test.py SERVER CLIENT TESTDATA
"""

import glob
import json
import os
import re
import sys
import unittest

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, TESTDATA = sys.argv[1:4]

# Router of a layer's feed-forward block, as hubs call it.
ROUTER = re.compile(
    r"\.(?:layers|blocks|decoder_layer)\.(\d+)\.(?:mlp\.(?:gate|router|router\.layer)"
    r"|block_sparse_moe\.gate|ffn\.router\.layer|feed_forward\.router"
    r"|moe_block\.gate)\.weight$")
EMBEDDINGS = re.compile(r"(?:embed_tokens|wte)\.weight$")
SHARED = re.compile(r"\.(\d+)\.(?:mlp|feed_forward)\.shared_experts?\."
                    r"(?:gate|up|down)_proj\.weight$")

FAMILIES = {"llama4_text": "llama4"}  # of other model_types: their own name

# The rules of routing per family, as their publishers have them: score function
# over E experts, choice of K, what becomes of the weights. {norm}: by the config.
SOFTMAX = "softmax over {E}, top-{K}, "
CHOSEN = "top-{K} of {E} logits, softmax over the chosen"
GROUPS = "{kept} of {groups} groups by "
RULES = {
    "mixtral": SOFTMAX + "renormalised",
    "deepseek": SOFTMAX + "{norm}",
    "deepseek_v2": SOFTMAX + "not renormalised",
    "deepseek_v2 in groups":
        "softmax over {E}, " + GROUPS + "their best (others count as 0), "
        "top-{K}, not renormalised, times {scaling}",
    "deepseek_v3":
        "sigmoid over {E}, choice by score plus correction bias, " + GROUPS
        + "the sum of their two best (others count as -infinity), top-{K}, "
        "{norm}, times {scaling}",
    "qwen2_moe": SOFTMAX + "{norm}",
    "qwen3_moe": SOFTMAX + "{norm}",
    "olmoe": SOFTMAX + "{norm}",
    "phimoe":
        "sparsemixer over {E}, two picks, each weighted by the softmax over the "
        "logits at most {threshold}% below it, not renormalised",
    "gpt_oss": CHOSEN,
    "jetmoe":
        CHOSEN + "; a second router chooses the attention's query heads by the "
        "same rule",
    "llama4":
        "top-{K} of {E} logits, sigmoid of each; the weight multiplies the "
        "expert's input",
    "dbrx": SOFTMAX + "renormalised",
    "grok1": SOFTMAX + "not renormalised",
    "mistral": "no router: all layers are dense",
    "llama": "no router: all layers are dense",
}


class Folder:
    """A checkpoint's files."""

    def __init__(self, name):
        self.path = os.path.join(TESTDATA, name)
        outer = self.read_json("config.json")
        self.quantisation = outer.get("quantization_config", {})
        self.config = outer.get("text_config", outer)
        self.architecture = outer["architectures"][0]
        single = os.path.join(self.path, "model.safetensors")
        self.files = [single] if os.path.exists(single) else sorted(
            glob.glob(os.path.join(self.path, "model-*.safetensors")))
        self.tensors = {}
        for path in self.files:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                self.tensors.update(json.loads(file.read(length)))
        self.tensors.pop("__metadata__", None)

    def read_json(self, name):
        with open(os.path.join(self.path, name), encoding="utf-8") as file:
            return json.load(file)

    def get(self, *keys, default=None):
        """The first of `keys` that config.json or its parts have."""
        parts = [self.config, self.config.get("ffn_config", {})]
        return next((part[key] for part in parts for key in keys
                     if part.get(key) is not None), default)

    def family(self):
        kind = self.config.get("model_type")
        if kind is None:
            return {"Grok1ModelForCausalLM": "grok1"}[self.architecture]
        return FAMILIES.get(kind, kind)

    def layers(self):
        return self.get("num_hidden_layers", "n_layers")

    def numbered(self, pattern):
        """Shapes of the tensors whose names have it, by layer; without layers
        beyond the last, which predict further tokens."""
        found = {}
        for name, tensor in self.tensors.items():
            match = pattern.search(name)
            if match and int(match.group(1)) < self.layers():
                found[int(match.group(1))] = tensor["shape"]
        return found

    def experts_per_token(self):
        if self.family() == "phimoe":
            return 2  # whatever the config says
        return self.get("num_experts_per_tok", "moe_top_k", default=0)

    def shared(self):
        if not self.numbered(SHARED):
            return 0
        return self.get("n_shared_experts", default=1)

    def dtype(self):
        """The format with most bytes; of codes and of the rest."""
        method = self.quantisation.get("quant_method")
        codes = {"fp8": "F8_E4M3", "mxfp4": "U8"}.get(method)
        size = {}
        for tensor in self.tensors.values():
            first, last = tensor["data_offsets"]
            size[tensor["dtype"]] = size.get(tensor["dtype"], 0) + last - first
        size.pop(codes, None)
        rest = max(size, key=size.get)
        if method == "fp8":
            rows, columns = self.quantisation["weight_block_size"]
            return f"F8_E4M3 blocks {rows}×{columns} + {rest}"
        return "MXFP4 + " + rest if method == "mxfp4" else rest

    def routing(self, experts):
        family = self.family()
        if (family == "deepseek_v2"
                and self.get("topk_method") == "group_limited_greedy"):
            family += " in groups"
        return RULES[family].format(
            E=experts, K=self.experts_per_token(),
            norm="renormalised" if self.get("norm_topk_prob", default=False)
            else "not renormalised",
            kept=self.get("topk_group"), groups=self.get("n_group"),
            scaling=f"{self.get('routed_scaling_factor', default=1):g}",
            threshold=f"{200 * self.get('router_jitter_noise', default=0.01):g}")

    def description(self):
        routers = self.numbered(ROUTER)
        embeddings = next(tensor["shape"]
                          for name, tensor in self.tensors.items()
                          if EMBEDDINGS.search(name))
        experts = next(iter(routers.values()))[0] if routers else 0
        return {
            "family": self.family(),
            "layers": str(self.layers()),
            "moe_layers": [str(layer) for layer in sorted(routers)],
            "experts": str(experts),
            "experts_per_token": str(self.experts_per_token()),
            "shared_experts": str(self.shared()),
            "width": str(embeddings[1]),
            "vocab_size": str(embeddings[0]),
            "routing": self.routing(experts),
            "dtype": self.dtype(),
            "size_bytes": str(sum(map(os.path.getsize, self.files))),
            "weight_files": len(self.files),
        }

    def tokens(self):
        """How many entries tokenizer.json has; None without one."""
        if not os.path.exists(os.path.join(self.path, "tokenizer.json")):
            return None
        tokenizer = self.read_json("tokenizer.json")
        added = {token["content"] for token in tokenizer["added_tokens"]}
        return len(added.union(tokenizer["model"]["vocab"]))


def names():
    return sorted(
        os.path.relpath(os.path.dirname(path), TESTDATA)
        for kind in ("fixtures", "models")
        for path in glob.glob(os.path.join(TESTDATA, kind, "*", "config.json")))


class Describe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer(SERVER, TESTDATA)
        cls.addClassCleanup(cls.server.close)
        cls.client = CommandLine(CLIENT, cls.server)

    def test_what_is_said_of_each_is_what_its_files_say(self):
        families = set()
        for name in names():
            with self.subTest(name):
                folder = Folder(name)
                expected = folder.description()
                said = self.client.ask("models", "describe", name)["model"]
                self.assertEqual({key: said[key] for key in expected}, expected)
                self.assertTrue(said["forward_pass"], said["forward_error"])
                families.add(said["family"])
        # Every rule was met, that of groups beside that of the family.
        self.assertEqual(len(families) + 1, len(RULES))

    def test_the_tokenizer_is_that_of_the_folder_or_said_to_lack(self):
        found = 0
        for name in names():
            with self.subTest(name):
                tokens = Folder(name).tokens()
                said = self.client.ask("models", "describe", name)["model"]
                if tokens is None:
                    self.assertEqual(said["tokenizer"], "")
                    self.assertIn("tokenizer.json", said["tokenizer_error"])
                else:
                    self.assertIn(f"{tokens} entries", said["tokenizer"])
                    self.assertEqual(said["tokenizer_error"], "")
                    found += 1
        self.assertGreater(found, 0)

    def test_a_table_shows_it_in_words(self):
        for name in names():
            with self.subTest(name):
                expected = Folder(name).description()
                shown = self.client.run("models", "describe", name).stdout
                expected["moe_layers"] = ", ".join(expected["moe_layers"])
                for key in ("family", "layers", "moe_layers", "experts",
                            "experts_per_token", "shared_experts", "routing",
                            "dtype"):
                    if expected[key] in ("", "0"):  # dense, or none shared
                        self.assertNotIn(f"  {key}: ", shown)
                    else:
                        self.assertIn(f"  {key}: {expected[key]}\n", shown)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
