"""Ctrl-C on the command line: exit status 130, and the work ends on the server
too.

Usage: interrupt_test.py SERVER CLIENT MODEL_ROOT TEXT
"""

import os
import signal
import subprocess
import sys
import time
import unittest

from command_line import CommandLine
from running_server import RunningServer

SERVER, CLIENT, MODEL_ROOT, TEXT = sys.argv[1:5]
MODEL = "tiny-mixtral"
LONG_TEXTS = ["--corpus", "a=" + TEXT, "--corpus", "b=" + TEXT]
WAIT_SECONDS = 60


def wait_for(what, probe):
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError("no " + what)
        time.sleep(0.02)


class Interrupt(unittest.TestCase):
    def setUp(self):
        # One thread, so that the work lasts.
        self.server = RunningServer(SERVER, MODEL_ROOT, "--threads=1")
        self.addCleanup(self.server.close)
        self.client = CommandLine(CLIENT, self.server)

    def start(self, *arguments):
        process = subprocess.Popen(
            self.client.command(*arguments), encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def close():
            if process.poll() is None:
                process.kill()
            process.communicate()

        self.addCleanup(close)
        return process

    def jobs(self, *states):
        return [job["id"] for job in self.client.ask("jobs", "list")["jobs"]
                if job["state"] in ["JOB_STATE_" + state for state in states]]

    def interrupted(self, process):
        """Sends Ctrl-C; returns what the program said."""
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_SECONDS)
        self.assertEqual(process.returncode, 130, err)
        self.assertEqual(out, "")
        return err

    def test_trace_is_cancelled(self):
        process = self.start("trace", MODEL, "--file", TEXT, "-o",
                             os.path.join(self.server.folder, "t.npz"))
        wait_for("running job", lambda: self.jobs("RUNNING"))
        self.assertEqual(self.interrupted(process), "interrupted\n")
        wait_for("end", lambda: not self.jobs("RUNNING", "QUEUED"))
        self.assertEqual(len(self.jobs("CANCELLED")), 1)
        self.assertEqual(os.listdir(self.server.folder).count("t.npz"), 0)

    def test_timeout_names_the_job_that_goes_on(self):
        done = self.client.run("--timeout=2", "analyze", MODEL,
                               "activation_statistics", *LONG_TEXTS,
                               "--set", "block_tokens=256")
        self.assertEqual(done.returncode, 1, done.stderr)
        [job] = self.jobs("RUNNING", "QUEUED")
        self.assertIn(f"job {job} goes on, see `jobs watch {job}`", done.stderr)
        self.assertIn("DEADLINE_EXCEEDED", done.stderr)
        self.client.ask("jobs", "cancel", job)

    def test_unary_call_is_cancelled(self):
        process = self.start("neurons", MODEL, *LONG_TEXTS)
        wait_for("running job", lambda: self.jobs("RUNNING"))
        self.assertEqual(self.interrupted(process), "interrupted\n")
        wait_for("end", lambda: not self.jobs("RUNNING", "QUEUED"))
        # The other is the weights', which may have been done by then.
        self.assertIn(len(self.jobs("CANCELLED")), (1, 2))
        self.assertEqual(len(self.jobs("CANCELLED", "SUCCEEDED")), 2)

    def test_followed_job_is_cancelled(self):
        process = self.start("analyze", MODEL, "activation_statistics",
                             *LONG_TEXTS)
        wait_for("running job", lambda: self.jobs("RUNNING"))
        self.assertEqual(self.interrupted(process), "interrupted\n")
        wait_for("end", lambda: not self.jobs("RUNNING", "QUEUED"))
        self.assertEqual(len(self.jobs("CANCELLED")), 1)

    def test_watched_job_goes_on(self):
        job = self.client.ask("analyze", MODEL, "activation_statistics",
                              *LONG_TEXTS, "--detach")["job"]["id"]
        process = self.start("jobs", "watch", job)
        wait_for("running job", lambda: self.jobs("RUNNING"))
        wait_for("handler of the signal",
                 lambda: catches(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT_SECONDS)
        self.assertEqual(process.returncode, 130, err)
        self.assertEqual(self.jobs("RUNNING"), [job])
        self.client.ask("jobs", "cancel", job)

    def test_fetched_job_goes_on(self):
        job = self.client.ask("analyze", MODEL, "activation_statistics",
                              *LONG_TEXTS, "--detach")["job"]["id"]
        wait_for("running job", lambda: self.jobs("RUNNING"))
        process = self.start("results", "fetch", job, "-o",
                             os.path.join(self.server.folder, "f.npz"))
        wait_for("handler of the signal",
                 lambda: catches(process.pid, signal.SIGINT))
        self.assertEqual(self.interrupted(process), "interrupted\n")
        self.assertEqual(self.jobs("RUNNING"), [job])
        self.client.ask("jobs", "cancel", job)

    def test_second_signal_ends_at_once(self):
        process = self.start("analyze", MODEL, "activation_statistics",
                             *LONG_TEXTS)
        wait_for("running job", lambda: self.jobs("RUNNING"))
        # To cancel the job takes the server's answer, which does not come.
        self.server.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.server.process.send_signal, signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        wait_for("first signal's arrival", lambda: not pending(process.pid))
        self.assertIsNone(process.poll())
        # Who got only one would now say "interrupted", seconds later.
        self.assertEqual(self.interrupted(process), "")


def signals(pid, field):
    """A set of signals out of the process's status, as a mask."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    return int(fields[field], 16)


def pending(pid):
    """Whether a signal to the process waits to be handled."""
    return signals(pid, "ShdPnd") != 0


def catches(pid, number):
    """Whether the signal would not simply end the process."""
    return signals(pid, "SigCgt") >> (number - 1) & 1 != 0


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
