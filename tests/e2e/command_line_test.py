"""The command line tool as a program: what it loads, how soon it is there, what
it shows of a server.

Usage: command_line_test.py SERVER CLIENT MODEL_ROOT
"""

import os
import subprocess
import sys
import time
import unittest

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, MODEL_ROOT = sys.argv[1:4]
START_SECONDS = 0.05
# Other work on the machine delays most of them, not all.
STARTS = 20


class Program(unittest.TestCase):
    def test_torch_is_not_loaded(self):
        loaded = subprocess.run(["ldd", CLIENT], encoding="utf-8", check=True,
                                stdout=subprocess.PIPE).stdout
        self.assertIn("libgrpc++", loaded)
        self.assertNotIn("torch", loaded)
        self.assertNotIn("not found", loaded)

    def test_starts_in_milliseconds(self):
        seconds = []
        for _ in range(STARTS):
            begun = time.monotonic()
            subprocess.run([CLIENT, "--version"], check=True,
                           stdout=subprocess.DEVNULL)
            seconds.append(time.monotonic() - begun)
        print(f"starts in {min(seconds):.3f} s")
        self.assertLess(min(seconds), START_SECONDS)


class AgainstServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer(SERVER, MODEL_ROOT)
        cls.addClassCleanup(cls.server.close)
        cls.client = CommandLine(CLIENT, cls.server)

    def test_server_info_shows_core_and_measured_rate(self):
        numerics = self.client.ask("server", "info")["numerics"]
        self.assertTrue(numerics["blas_core_fits"], numerics)
        self.assertGreater(numerics["gemm_gflops"], 0)
        shown = self.client.run("server", "info").stdout
        self.assertIn("blas_core: " + numerics["blas_core"], shown)
        self.assertIn("gemm_gflops: ", shown)

    def test_models_under_the_root_are_listed(self):
        names = [model["name"]
                 for model in self.client.ask("models", "list")["models"]]
        self.assertEqual(names, ["tiny-deepseek", "tiny-mistral", "tiny-mixtral"])

    def test_a_model_is_described(self):
        model = self.client.ask("models", "describe", "tiny-deepseek")["model"]
        tokenizer = model.pop("tokenizer")
        identity = model.pop("identity")
        size = model.pop("size_bytes")
        self.assertEqual(model, {
            "name": "tiny-deepseek", "family": "deepseek",
            "state": "MODEL_STATE_AVAILABLE", "layers": "5",
            "moe_layers": ["1", "2", "3", "4"], "experts": "32",
            "experts_per_token": "4", "shared_experts": "2", "width": "128",
            "expert_width": "64", "shared_width": "128", "dense_width": "384",
            "vocab_size": "2048", "max_positions": "1024",
            "routing": "softmax over 32, top-4, not renormalised",
            "dtype": "BF16",
            "tokenizer_error": "", "device": "", "resident_bytes": "0",
            "users": 0, "forward_pass": True, "forward_error": ""})
        self.assertIn("2048 entries", tokenizer)
        self.assertRegex(identity, "^(stat|content):[0-9a-f]{64}$")
        self.assertEqual(int(size), os.path.getsize(os.path.join(
            MODEL_ROOT, "tiny-deepseek", "model.safetensors")))

    def test_a_description_is_shown_in_words(self):
        shown = self.client.run("models", "describe", "tiny-deepseek").stdout
        self.assertIn("family: deepseek\n", shown)
        self.assertIn("moe_layers: 1, 2, 3, 4\n", shown)
        self.assertIn("size_bytes: 8.4 MiB\n", shown)
        self.assertIn("forward_pass: ", shown)

    def test_a_job_leads_to_its_result(self):
        submitted = self.client.run("analyze", "tiny-mixtral",
                                    "expert_similarity", "--detach")
        job = submitted.stdout.strip()
        self.assertIn("moescope results fetch " + job, submitted.stderr)
        watched = self.client.run("jobs", "watch", job)
        self.assertEqual(watched.returncode, 0, watched.stderr)
        last = watched.stdout.splitlines()[-1]
        self.assertRegex(last, "^result: [0-9a-f]{64}$")
        name = last.split()[1]
        by_job = self.client.run("results", "show", job).stdout
        self.assertIn("name: " + name, by_job)
        self.assertEqual(by_job, self.client.run("results", "show", name).stdout)
        path = os.path.join(self.server.folder, "by_job.json")
        fetched = self.client.run("results", "fetch", job, "-o", path)
        self.assertEqual(fetched.returncode, 0, fetched.stderr)
        self.assertGreater(os.path.getsize(path), 0)

    def test_whoever_takes_no_part_is_named(self):
        said = self.client.run("similarity", "tiny-deepseek", "--layers", "1",
                               "--shared").stderr
        self.assertIn("S left out: matrix (its shape is not an expert's), "
                      "router (it has no router row)\n", said)

    def test_what_loading_needs_is_set_against_what_is_there(self):
        shown = self.client.run("models", "load", "tiny-mixtral",
                                "--dry-run").stdout
        self.assertRegex(shown, "needed: .* MiB \\(weights 10.6 MiB, workspace ")
        self.assertRegex(shown, "\navailable: .* of ")
        self.assertIn("\nfits: yes\n", shown)
        self.assertIn("\nloaded: no\n", shown)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
