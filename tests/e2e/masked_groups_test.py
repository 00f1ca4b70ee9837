"""A trace by either convention for the experts of masked groups: what is asked for
decides ids, provenance and key of the result.

Usage: masked_groups_test.py SERVER CLIENT FIXTURES
"""

import json
import os
import sys
import unittest

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, FIXTURES = sys.argv[1:4]
# Some of its choice values are negative; its own convention is -infinity.
MODEL = "deepseek_v3_negbias"
POSITIVE = "deepseek_v2"
TOKENS = ",".join(str(7 * i % 61) for i in range(40))


class MaskedGroups(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer(SERVER, FIXTURES)
        cls.addClassCleanup(cls.server.close)
        cls.client = CommandLine(CLIENT, cls.server)

    def trace(self, model, *flags):
        """The document of a trace."""
        return self.client.ask("trace", model, "--tokens", TOKENS, *flags)

    def test_the_count_is_that_of_the_tokens_of_other_experts(self):
        own, zero = self.trace(MODEL), self.trace(MODEL, "--masked-groups=zero")

        ids, others = (array(document, "layer.1.topk_ids")
                       for document in (own, zero))
        differing = sum(sorted(a) != sorted(b) for a, b in zip(ids, others))
        self.assertGreater(differing, 0)
        self.assertEqual(array(own, "layer.1.tokens_by_mask"), [differing])
        self.assertEqual(array(zero, "layer.1.tokens_by_mask"), [differing])
        self.assertEqual(array(own, "layer.1.router_logits"),
                         array(zero, "layer.1.router_logits"))

    def test_the_provenance_says_which_it_was(self):
        own, zero = self.trace(MODEL), self.trace(MODEL, "--masked-groups=zero")

        self.assertIn("(others count as -infinity)", routing(own))
        self.assertIn("(others count as 0 as asked for, not -infinity as the "
                      "model has it)", routing(zero))
        shown = self.client.run("trace", MODEL, "--tokens", TOKENS,
                                "--masked-groups=zero").stdout
        self.assertIn("routing: " + routing(zero), shown)

    def test_the_models_own_convention_by_its_name_is_the_same_question(self):
        def key(*flags):
            return self.trace(MODEL, *flags)["result"]

        self.assertEqual(key("--masked-groups=negative_infinity"), key())
        self.assertEqual(key("--masked-groups=model"), key())
        self.assertNotEqual(key("--masked-groups=zero"), key())

    def test_positive_choices_are_the_same_by_both(self):
        own = self.trace(POSITIVE)
        lowest = self.trace(POSITIVE, "--masked-groups=negative_infinity")

        self.assertIn("(others count as 0)", routing(own))
        self.assertIn("(others count as -infinity as asked for",
                      routing(lowest))
        for layer in (1, 2):
            ids = f"layer.{layer}.topk_ids"
            self.assertEqual(array(own, ids), array(lowest, ids))

    def test_a_model_without_groups_refuses_it_by_name(self):
        done = self.client.run("trace", "mixtral", "--tokens", TOKENS,
                               "--masked-groups=zero")
        self.assertEqual(done.returncode, 1)
        self.assertIn("spec.masked_groups", done.stderr)
        self.assertIn("no groups of experts", done.stderr)

    def test_analyze_takes_it_as_a_parameter(self):
        path = os.path.join(self.server.folder, "zero.json")
        done = self.client.run("analyze", MODEL, "routing_trace", "--tokens",
                               TOKENS, "--set", "masked_groups=zero", "-o", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, encoding="utf-8") as file:
            ids = array(json.load(file), "layer.1.topk_ids")
        self.assertEqual(ids, array(self.trace(MODEL, "--masked-groups=zero"),
                                    "layer.1.topk_ids"))
        wrong = self.client.run("analyze", MODEL, "routing_trace", "--tokens",
                                TOKENS, "--set", "masked_groups=one")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("negative_infinity", wrong.stderr)


def array(document, name):
    return document["arrays"][name]["values"]


def routing(document):
    return document["routing"]


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
