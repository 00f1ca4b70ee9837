"""What a scrape of a server at work shows.

Usage: metrics_test.py SERVER CLIENT MODEL_ROOT
"""

import re
import sys
import unittest
import urllib.request

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, MODEL_ROOT = sys.argv[1:4]
MODEL = "tiny-mixtral"
# The labels of every family that has been used by then; of a histogram those of
# its buckets.
LABELS = {
    "build_info": "version torch blas_core",
    "ready": "", "draining": "",
    "rpc_started_total": "method", "rpc_handled_total": "method code",
    "rpc_seconds_bucket": "method le", "rpc_in_flight": "method",
    "rpc_bytes_total": "direction",
    "model_state": "state", "model_load_seconds_bucket": "stage le",
    "model_resident_bytes": "device kind",
    "model_evictions_total": "reason", "model_estimate_error_ratio": "",
    "device_budget_bytes": "device",
    "jobs_oldest_queued_seconds": "", "jobs_queued_work_seconds": "",
    "jobs_finished_total": "analysis outcome",
    "job_wait_seconds_bucket": "priority le",
    "job_run_seconds_bucket": "analysis le",
    "job_attempts_total": "", "job_leases_lost_total": "",
    "jobs_recovered_total": "", "jobs_rejected_total": "reason",
    "cache_requests_total": "tier outcome", "cache_bytes": "tier",
    "cache_saved_seconds_total": "",
    "store_seconds_bucket": "op le", "store_up": "",
    "tokens_total": "",
    "process_resident_memory_bytes": "",
    "process_allocated_memory_bytes": "",
}


def scrape(server):
    """Values by name and by labels in the order of their names."""
    url = f"http://{server.addresses['metrics']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    values = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(
            r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
        pairs = re.findall(r'(\w+)="([^"]*)"', labels or "")
        values.setdefault(name, {})[tuple(sorted(pairs))] = float(value)
    return values


class Scrape(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        server = RunningServer(SERVER, MODEL_ROOT)
        cls.addClassCleanup(server.close)
        client = CommandLine(CLIENT, server)
        trace = ["trace", MODEL, "--tokens", "1,2,3,4,5"]
        client.ask(*trace)
        client.ask(*trace)
        cls.resident = scrape(server)
        client.run("trace", "nobody", "--tokens", "1")
        client.ask("models", "unload", MODEL)
        cls.values = scrape(server)

    def value(self, name, **labels):
        return self.values["moescope_" + name][tuple(sorted(labels.items()))]

    def test_every_family_has_its_labels(self):
        shown = {name: {tuple(sorted(label for label, _ in labels))
                        for labels in self.values.get("moescope_" + name, {})}
                 for name in LABELS}
        self.assertEqual(shown, {name: {tuple(sorted(labels.split()))}
                                 for name, labels in LABELS.items()})

    def test_no_name_lacks_the_prefix(self):
        self.assertEqual([name for name in self.values
                          if not name.startswith("moescope_")], [])

    def test_calls_are_counted_by_method_and_code(self):
        trace = "AnalysisService/TraceRouting"
        self.assertEqual(self.value("rpc_started_total", method=trace), 3)
        self.assertEqual(
            self.value("rpc_handled_total", method=trace, code="OK"), 2)
        self.assertEqual(
            self.value("rpc_handled_total", method=trace, code="NOT_FOUND"), 1)
        self.assertEqual(self.value("rpc_in_flight", method=trace), 0)

    def test_work_is_counted_once(self):
        self.assertEqual(self.value("tokens_total"), 5)
        self.assertEqual(self.value("job_attempts_total"), 1)
        self.assertEqual(self.value("jobs_finished_total",
                                    analysis="routing_trace",
                                    outcome="succeeded"), 1)
        self.assertEqual(
            self.value("cache_requests_total", tier="disk", outcome="miss"), 1)
        hits = [value for labels, value in
                self.values["moescope_cache_requests_total"].items()
                if ("outcome", "hit") in labels]
        self.assertEqual(sum(hits), 1)

    def test_estimate_of_a_load_is_close(self):
        self.assertLess(abs(self.value("model_estimate_error_ratio")), 0.05)

    def test_memory_of_a_model_is_shown_while_it_is_loaded(self):
        weights = tuple(sorted({"device": "cpu", "kind": "weights"}.items()))
        before = self.resident["moescope_model_resident_bytes"][weights]
        self.assertGreater(before, 10e6)
        self.assertEqual(
            self.value("model_resident_bytes", device="cpu", kind="weights"), 0)
        self.assertEqual(self.value("model_evictions_total", reason="request"), 1)

    def test_memory_of_a_device_is_shown_of_gpus_alone(self):
        self.assertNotIn("moescope_device_memory_bytes", self.values)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
