"""Starts the server program for a test, and stops it."""

import json
import os
import shutil
import subprocess
import tempfile
import time

START_SECONDS = 60
STOP_SECONDS = 60


class RunningServer:
    """A server on free ports with a data folder of its own."""

    def __init__(self, program, model_root, *flags):
        self.folder = tempfile.mkdtemp(prefix="moescope-e2e-")
        self.port_file = os.path.join(self.folder, "ports.json")
        self.log_path = os.path.join(self.folder, "server.log")
        self.out_path = os.path.join(self.folder, "server.out")
        command = [program, "--model_root=" + model_root,
                   "--data_dir=" + os.path.join(self.folder, "data"),
                   "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
                   "--device=cpu", "--port_file=" + self.port_file, *flags]
        # The server is to choose for itself, whatever the tester's choice is.
        environment = {name: value for name, value in os.environ.items()
                       if name != "OPENBLAS_CORETYPE"}
        with open(self.log_path, "wb") as log, open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=log,
                                            env=environment)
        self.addresses = self._wait_for_addresses()

    def _wait_for_addresses(self):
        deadline = time.monotonic() + START_SECONDS
        while not os.path.exists(self.port_file):
            if self.process.poll() is not None:
                raise AssertionError(
                    f"the server ended with {self.process.returncode}:\n"
                    + self.log())
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError("no port file:\n" + self.log())
            time.sleep(0.05)
        with open(self.port_file, encoding="utf-8") as file:
            return json.load(file)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def out(self):
        with open(self.out_path, encoding="utf-8") as file:
            return file.read()

    def terminate(self):
        """Asks it to end; returns the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=STOP_SECONDS)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)
