"""The command line tool as a program: what it loads, how soon it is there, what
it shows of a server.

Usage: command_line_test.py SERVER CLIENT MODEL_ROOT
"""

import os
import shutil
import subprocess
import sys
import tempfile
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


    def test_help_that_nobody_gets_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CLIENT, "--help"], encoding="utf-8",
                                  check=False, stdout=full,
                                  stderr=subprocess.PIPE)
        self.assertEqual(done.stderr, "error: standard output: No space left "
                                      "on device\n")
        self.assertEqual(done.returncode, 1)


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

    def test_an_answer_that_nobody_gets_is_an_error(self):
        for output in "--output=table", "--output=json":
            with self.subTest(output), open("/dev/full", "wb") as full:
                done = subprocess.run(
                    self.client.command("models", "list", output), stdout=full,
                    stderr=subprocess.PIPE, encoding="utf-8", check=False)
                self.assertEqual(done.stderr, "error: standard output: No "
                                              "space left on device\n")
                self.assertEqual(done.returncode, 1)

    def test_models_under_the_root_are_listed(self):
        names = [model["name"]
                 for model in self.client.ask("models", "list")["models"]]
        self.assertEqual(names, ["tiny-deepseek", "tiny-mistral", "tiny-mixtral"])

    def test_a_model_is_described(self):
        model = self.client.ask("models", "describe", "tiny-deepseek")["model"]
        tokenizer = model.pop("tokenizer")
        identity = model.pop("identity")
        size = model.pop("size_bytes")
        model.pop("hash_time", None)  # Another case may have loaded it.
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
            "users": 0, "weight_files": 1, "forward_pass": True, "forward_error": ""})
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

    def test_the_cache_is_passed_by_on_request(self):
        def computed(*flags):
            return self.client.ask("similarity", "tiny-mixtral", "--layers",
                                   "2", *flags)["started"]

        first = computed()
        self.assertEqual(computed(), first)
        self.assertGreater(computed("--no-cache"), first)
        self.assertEqual(computed(), first)
        refreshed = computed("--refresh")
        self.assertGreater(refreshed, first)
        self.assertEqual(computed(), refreshed)

    def test_jobs_are_filtered(self):
        job = self.client.run("analyze", "tiny-mixtral", "matrix_pca",
                              "--priority=interactive",
                              "--detach").stdout.strip()
        self.client.run("jobs", "watch", job)
        found = self.client.ask("jobs", "list", "--state=succeeded,failed",
                                "--analysis=matrix_pca",
                                "--model=tiny-mixtral")["jobs"]
        self.assertEqual([(one["id"], one["priority"]) for one in found],
                         [(job, "PRIORITY_INTERACTIVE")])
        for other in "--state=queued", "--analysis=no", "--model=no":
            listed = self.client.ask("jobs", "list", other)["jobs"]
            self.assertNotIn(job, [one["id"] for one in listed], other)

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


class Verifying(unittest.TestCase):
    """On a copy of a model, which may be changed."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="moescope-verify-")
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copytree(os.path.join(MODEL_ROOT, "tiny-mistral"),
                        os.path.join(self.folder, "m"))
        self.shard = os.path.join(self.folder, "m", "model.safetensors")
        server = RunningServer(SERVER, self.folder)
        self.addCleanup(server.close)
        self.client = CommandLine(CLIENT, server)

    def flip_last_byte(self):
        """Size and modification time stay."""
        before = os.stat(self.shard)
        with open(self.shard, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([byte ^ 1]))
        os.utime(self.shard, ns=(before.st_atime_ns, before.st_mtime_ns))

    def test_a_verdict_in_words(self):
        first = self.client.run("models", "verify", "m")
        self.assertRegex(first.stdout, "^hashed for the first time as they are "
                                       "now: 1 file, .* MiB\n$")
        second = self.client.run("models", "verify", "m")
        self.assertRegex(second.stdout, "^verified: 1 file, .* MiB, unchanged "
                                        "since 20.* UTC\n$")
        self.assertEqual((first.returncode, second.returncode), (0, 0))

    def test_a_change_that_the_time_hides_is_found_until_it_is_accepted(self):
        self.client.ask("models", "verify", "m")
        self.flip_last_byte()
        for _ in range(2):
            found = self.client.run("models", "verify", "m")
            self.assertEqual(found.returncode, 1, found.stdout)
            self.assertIn("model.safetensors: hash ", found.stderr)
            self.assertIn("CONTENT_CHANGED", found.stderr)
            self.assertIn("(touch)", found.stderr)
        refused = self.client.run("similarity", "m")
        self.assertIn("DATA_LOSS CONTENT_CHANGED", refused.stderr)
        note = "model.safetensors: hash "
        self.assertIn(note, self.client.run("models", "list").stdout)
        os.utime(self.shard)
        self.assertNotIn(note, self.client.run("models", "list").stdout)
        accepted = self.client.run("models", "verify", "m")
        self.assertIn("hashed for the first time", accepted.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
