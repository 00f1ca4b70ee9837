"""A job outlives the kills (-9) of its server.

Usage: kill_test.py SERVER CLIENT MODEL_ROOT TEXT KILLS MIN_TOKENS
MIN_TOKENS is what the job must at least consist of.
"""

import glob
import json
import os
import random
import sys
import time
import unittest

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, MODEL_ROOT, TEXT = sys.argv[1:5]
KILLS, MIN_TOKENS = (int(number) for number in sys.argv[5:7])
SEED = 20240627
BLOCK_TOKENS = 256
READY_SECONDS = 5
JOB_SECONDS = 300
# The others may fall while the server still takes its queue up.
MIN_KILLS_AT_WORK = KILLS * 3 // 4
JOB = ["analyze", "tiny-mixtral", "activation_statistics", "--file", TEXT,
       "--sequence-tokens", "128", "--set", f"block_tokens={BLOCK_TOKENS}"]


class SavedStates:
    """Counts the blocks whose state a job on `server` saves from now on."""

    def __init__(self, server):
        self.results = os.path.join(server.data_dir, "results")
        self.seen = self.present()
        self.count = 0

    def present(self):
        found = set()
        for path in glob.glob(os.path.join(self.results, "running", "*.state")):
            try:
                status = os.stat(path)
            except FileNotFoundError:  # replaced just now
                continue
            found.add((path, status.st_ino, status.st_mtime_ns))
        return found

    def sealed(self):
        return glob.glob(os.path.join(self.results, "sealed", "*"))

    def wait_for(self, count):
        """Until `count` states have been saved, or the job has ended."""
        deadline = time.monotonic() + JOB_SECONDS
        while self.count < count and not self.sealed():
            if time.monotonic() > deadline:
                raise AssertionError("the job does not go on")
            present = self.present()
            self.count += len(present - self.seen)
            self.seen = present
            time.sleep(0.001)


class Kills(unittest.TestCase):
    def start(self):
        server = RunningServer(SERVER, MODEL_ROOT)
        self.addCleanup(server.close)
        server.wait_until_ready()
        return server, CommandLine(CLIENT, server)

    def ended(self, client, job):
        client.run("jobs", "watch", job)
        record = client.ask("jobs", "show", job)
        self.assertEqual(record["state"], "JOB_STATE_SUCCEEDED", record)
        return record

    def digest(self, client, record):
        return client.ask("results", "show", record["result"])["result"]["digest"]

    def undisturbed(self):
        """Digest, number of blocks and seconds per block of the same job."""
        server, client = self.start()
        spec = json.loads(client.ask(*JOB, "--dry-run")["spec_json"])
        tokens = spec["input"]["tokens"]
        self.assertGreaterEqual(tokens, MIN_TOKENS)
        begun = time.monotonic()
        job = client.ask(*JOB, "--detach")["job"]["id"]
        record = self.ended(client, job)
        blocks = -(-tokens // BLOCK_TOKENS)
        return (self.digest(client, record), blocks,
                (time.monotonic() - begun) / blocks)

    def test_job_goes_on_after_every_kill_and_ends_once_with_the_same_digest(self):
        expected, blocks, block_seconds = self.undisturbed()
        rng = random.Random(SEED)
        server, client = self.start()
        states = SavedStates(server)
        job = client.ask(*JOB, "--detach")["job"]["id"]
        at_work, slowest, left = 0, 0.0, blocks
        for kill in range(KILLS):
            # Some blocks from here, so that those left last for all kills, and
            # somewhere inside the next; or while the queue is taken up.
            most = max(1, int(1.2 * left / (KILLS - kill + 1)))
            states.wait_for(rng.choice([0] + 7 * [rng.randint(1, most)]))
            time.sleep(rng.random() * block_seconds)
            server.kill()
            left = max(0, left - states.count)
            at_work += states.count > 0 and not states.sealed()
            states = SavedStates(server)
            server.launch()
            slowest = max(slowest, server.wait_until_ready())
        print(f"seed {SEED}: {at_work} of {KILLS} kills at work, {blocks} "
              f"blocks, slowest restart {slowest:.2f} s")
        record = self.ended(client, job)

        self.assertGreaterEqual(at_work, MIN_KILLS_AT_WORK)
        self.assertLess(slowest, READY_SECONDS)
        self.assertEqual(self.digest(client, record), expected)
        self.assertEqual(client.ask("jobs", "list")["jobs"], [record])
        self.assertEqual(server.terminate(), 0)
        server.launch()
        self.assertEqual(client.ask("jobs", "show", job), record)
        self.assertEqual(len(states.sealed()), 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
