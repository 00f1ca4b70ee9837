"""Work that was begun on a processor of another numerics class starts anew where
it is taken up: nothing of the two is mixed.

Usage: other_processor_test.py SERVER CLIENT MODEL_ROOT TEXT
"""

import glob
import os
import sys
import time
import unittest

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, MODEL_ROOT, TEXT = sys.argv[1:5]
JOB = ["analyze", "tiny-mixtral", "activation_statistics", "--file", TEXT,
       "--sequence-tokens", "128", "--set", "block_tokens=256"]
# torch then leaves out every vector instruction that a processor may lack.
PLAIN = {"ATEN_CPU_CAPABILITY": "default"}
WAIT_SECONDS = 120


class OtherProcessor(unittest.TestCase):
    def start(self, environment):
        server = RunningServer(SERVER, MODEL_ROOT, "--threads=1",
                               environment=environment)
        self.addCleanup(server.close)
        return server, CommandLine(CLIENT, server)

    def numerics_class(self, client):
        return client.ask("server", "info")["numerics"]["numerics_class"]

    def ended(self, client, job):
        client.run("jobs", "watch", job)
        record = client.ask("jobs", "show", job)
        self.assertEqual(record["state"], "JOB_STATE_SUCCEEDED", record)
        return record

    def result(self, client, record):
        return client.ask("results", "show", record["result"])["result"]

    def wait_for_saved_state(self, server):
        pattern = os.path.join(server.data_dir, "results", "running", "*.state")
        deadline = time.monotonic() + WAIT_SECONDS
        while not glob.glob(pattern):
            self.assertLess(time.monotonic(), deadline, "no state was saved")
            time.sleep(0.001)

    def test_work_begun_elsewhere_starts_anew_under_the_key_of_this_place(self):
        _, usual_client = self.start({})
        here = self.numerics_class(usual_client)
        job = usual_client.ask(*JOB, "--detach")["job"]["id"]
        expected = self.ended(usual_client, job)

        server, client = self.start(PLAIN)
        self.assertNotEqual(self.numerics_class(client), here)
        job = client.ask(*JOB, "--detach")["job"]["id"]
        self.wait_for_saved_state(server)
        server.kill()
        server.environment = {}
        server.launch()
        record = self.ended(client, job)

        self.assertEqual(record["key"], expected["key"])
        result = self.result(client, record)
        self.assertEqual(result["provenance"]["numerics_class"], here)
        self.assertEqual(result["digest"],
                         self.result(usual_client, expected)["digest"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
