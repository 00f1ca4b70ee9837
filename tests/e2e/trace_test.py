"""A trace on the command line: the values of the reference, and the same file
after restarts.

Usage: trace_test.py SERVER CLIENT MODEL_ROOT
"""

import os
import sys
import unittest

import numpy

import safetensors_file
from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, MODEL_ROOT = sys.argv[1:4]
MODEL = "tiny-mixtral"
TEXT = "As an open source alternative to"
LAYERS = range(6)
# fp32 sums of some hundred terms in another order than the reference's.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


class Trace(unittest.TestCase):
    def setUp(self):
        self.server = RunningServer(SERVER, MODEL_ROOT)
        self.addCleanup(self.server.close)
        self.client = CommandLine(CLIENT, self.server)

    def trace(self, name):
        path = os.path.join(self.server.folder, name)
        done = self.client.run("trace", MODEL, "--text", TEXT, "-o", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        return path

    def test_ids_logits_and_weights_are_those_of_the_reference(self):
        expected = safetensors_file.read(
            os.path.join(MODEL_ROOT, MODEL, "reference.safetensors"))
        actual = safetensors_file.read(self.trace("t.safetensors"))

        ids = expected["short.input_ids"]
        numpy.testing.assert_array_equal(actual.pop("input_ids"), ids)
        self.assertEqual(list(actual.pop("sequence_lengths")), [len(ids)])
        for layer in LAYERS:
            theirs, ours = f"short.layers.{layer}.", f"layer.{layer}."
            numpy.testing.assert_array_equal(actual.pop(ours + "topk_ids"),
                                             expected[theirs + "topk_ids"])
            for name in ("topk_weights", "router_logits"):
                numpy.testing.assert_allclose(
                    actual.pop(ours + name), expected[theirs + name],
                    err_msg=ours + name, **CLOSE)
        self.assertEqual(list(actual), [])

    def test_restarted_servers_give_the_same_file_from_the_cache(self):
        files = [self.trace("0.safetensors")]
        counts = [self.requests()]
        for restart in (1, 2):
            self.assertEqual(self.server.terminate(), 0)
            self.server.launch()
            files.append(self.trace(f"{restart}.safetensors"))
            counts.append(self.requests())

        contents = []
        for path in files:
            with open(path, "rb") as file:
                contents.append(file.read())
        self.assertEqual(contents[1], contents[0])
        self.assertEqual(contents[2], contents[0])
        # Each server counts from its own start.
        self.assertEqual(counts, [("0", "1"), ("1", "0"), ("1", "0")])

    def requests(self):
        """Hits and misses, as `server cache` shows them."""
        cache = self.client.ask("server", "cache")
        return cache["hits"], cache["misses"]


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
