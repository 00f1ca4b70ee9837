"""What a user is told who asks for what can't be: exit status, field, reason.

Usage: bad_input_test.py SERVER CLIENT MODEL_ROOT
"""

import os
import shutil
import socket
import sys
import tempfile
import unittest

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, MODEL_ROOT = sys.argv[1:4]
SHARD = "model-00002-of-00002.safetensors"
TOO_MANY_TOKENS = 5_000_000


class Refusals(unittest.TestCase):
    """Every way to ask comes to the same answer; the shortest is taken."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="moescope-bad-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        root = os.path.join(cls.folder, "models")
        for model in ("good", "bare", "short"):
            shutil.copytree(os.path.join(MODEL_ROOT, "tiny-mixtral"),
                            os.path.join(root, model))
        os.remove(os.path.join(root, "bare", "config.json"))
        os.truncate(os.path.join(root, "short", SHARD), 3_000_000)
        cls.server = RunningServer(SERVER, root)
        cls.addClassCleanup(cls.server.close)
        cls.client = CommandLine(CLIENT, cls.server)

    def refused(self, *arguments, status=1):
        done = self.client.run(*arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        return done.stderr

    def test_unknown_model_is_named_with_those_that_exist(self):
        said = self.refused("trace", "nobody", "--text", "hi")
        self.assertIn('error: spec.model: "nobody" is not known (known: good, short)',
                      said)
        self.assertIn("NOT_FOUND MODEL_NOT_FOUND", said)

    def test_model_name_that_leaves_the_root_is_invalid(self):
        said = self.refused("similarity", "../x")
        self.assertIn('error: spec.model: "../x"', said)
        self.assertIn("INVALID_ARGUMENT", said)

    def test_layer_out_of_range_gets_the_allowed_ones(self):
        said = self.refused("trace", "good", "--text", "hi", "--layers", "5-6")
        self.assertIn("error: spec.layers: 6 is none of the MoE layers "
                      '0,1,2,3,4,5 of model "good"', said)
        self.assertIn("OUT_OF_RANGE", said)

    def test_empty_text_is_invalid(self):
        said = self.refused("trace", "good", "--text", "")
        self.assertIn("error: input.documents[0]: text is empty", said)
        self.assertIn("INVALID_ARGUMENT", said)

    def test_token_beyond_the_vocabulary_gets_the_allowed_range(self):
        said = self.refused("trace", "good", "--tokens", "1,2048")
        self.assertIn("error: input: token id 2048 is outside [0, 2047] "
                      'of model "good"', said)
        self.assertIn("OUT_OF_RANGE", said)

    def test_five_million_tokens_are_too_many_and_the_limit_is_told(self):
        path = os.path.join(self.folder, "tokens.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write((1000 * "7 " + "\n") * (TOO_MANY_TOKENS // 1000))
        limit = self.client.ask("server", "info")["limits"]["max_tokens"]
        for command in (["trace", "good"],
                        ["analyze", "good", "activation_statistics"]):
            said = self.refused(*command, "--tokens-file", path)
            self.assertIn(f"error: input: {TOO_MANY_TOKENS} tokens are "
                          f"more than the limit of {limit}\n", said)
            self.assertIn("RESOURCE_EXHAUSTED", said)

    def test_five_million_tokens_of_text_are_too_many(self):
        path = os.path.join(self.folder, "text.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write((999 * "a " + "\n") * (TOO_MANY_TOKENS // 1000))
        limit = self.client.ask("server", "info")["limits"]["max_tokens"]
        said = self.refused("trace", "good", "--file", path)
        self.assertIn(f"the limit of {limit}", said)
        self.assertIn("RESOURCE_EXHAUSTED", said)

    def test_model_folder_without_a_config_is_named(self):
        said = self.refused("trace", "bare", "--text", "hi")
        self.assertIn('error: spec.model: folder "bare" has no config.json', said)
        self.assertIn("FAILED_PRECONDITION", said)

    def test_truncated_shard_is_named(self):
        said = self.refused("trace", "short", "--text", "hi")
        self.assertIn(f"error: {SHARD}: ", said)
        self.assertIn("beyond the file's", said)
        self.assertIn("DATA_LOSS", said)

    def test_no_message_holds_a_path_of_the_server(self):
        for model in ("nobody", "bare", "short", "../x"):
            self.assertNotIn(self.folder,
                             self.refused("trace", model, "--text", "hi"))

    def test_files_of_ones_own_that_cant_be_read_are_wrong_usage(self):
        path = os.path.join(self.folder, "latin.txt")
        with open(path, "wb") as file:
            file.write(b"caf\xe9")
        for flag, wrong in (("--file", "/nowhere/text"), ("--file", "/"),
                            ("--tokens-file", path), ("--file", path)):
            said = self.refused("trace", "good", flag, wrong, status=2)
            self.assertTrue(said.startswith(f"error: {flag}: "), said)
            self.assertEqual(said.count("\n"), 1, said)
        self.assertIn("byte 3 of 4 is not UTF-8", said)
        self.assertIn("--corpus: ", self.refused(
            "neurons", "good", "--corpus", "a=" + path, status=2))

    def test_text_that_is_not_utf8_is_wrong_usage(self):
        self.assertEqual(
            "error: --text: byte 1 of 2 is not UTF-8\n",
            self.refused("trace", "good", "--text", b"a\xe9", status=2))

    def test_unknown_flag_is_wrong_usage(self):
        self.assertIn("--nonsense",
                      self.refused("trace", "good", "--text", "hi",
                                   "--nonsense", status=2))

    def test_unknown_command_is_wrong_usage(self):
        self.assertIn('"dream" is no command; there are: models trace ',
                      self.refused("dream", "good", status=2))
        self.assertIn('"dream" is no command; there are: list describe ',
                      self.refused("models", "dream", status=2))

    def test_unknown_parameter_is_wrong_usage(self):
        self.assertIn("nonsense", self.refused(
            "analyze", "good", "expert_similarity", "--set", "nonsense=1",
            status=2))

    def test_server_still_answers(self):
        done = self.client.run("trace", "good", "--tokens", "1,2047")
        self.assertEqual(done.returncode, 0, done.stderr)


class NoServer(unittest.TestCase):
    def test_server_that_is_not_there_is_named(self):
        with socket.socket() as holder:  # bound, so nobody else listens
            holder.bind(("127.0.0.1", 0))
            nobody = f"127.0.0.1:{holder.getsockname()[1]}"

            class Nobody:
                addresses = {"grpc": nobody}

            done = CommandLine(CLIENT, Nobody).run("models", "list")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"error: server not reachable at {nobody}: ", done.stderr)
        self.assertIn("UNAVAILABLE", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
