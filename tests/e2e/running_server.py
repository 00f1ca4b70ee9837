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

    def __init__(self, program, model_root, *flags, environment=None):
        self.folder = tempfile.mkdtemp(prefix="moescope-e2e-")
        self.data_dir = os.path.join(self.folder, "data")
        self.port_file = os.path.join(self.folder, "ports.json")
        self.log_path = os.path.join(self.folder, "server.log")
        self.out_path = os.path.join(self.folder, "server.out")
        self.command = [
            program, "--model_root=" + model_root,
            "--data_dir=" + self.data_dir, "--listen=127.0.0.1:0",
            "--metrics_listen=127.0.0.1:0", "--device=cpu",
            "--port_file=" + self.port_file, *flags]
        # Beside the tester's own; may be changed before another launch.
        self.environment = environment or {}
        self.launch()

    def launch(self):
        """Starts the program, the first time or again on the same data."""
        if os.path.exists(self.port_file):
            os.remove(self.port_file)
        # The server is to choose for itself, whatever the tester's choice is.
        environment = {name: value for name, value in os.environ.items()
                       if name != "OPENBLAS_CORETYPE"}
        environment.update(self.environment)
        self.launched = time.monotonic()
        with open(self.log_path, "ab") as log, open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(self.command, stdout=out,
                                            stderr=log, env=environment)
        self.addresses = self._wait_for_addresses()

    def _wait_for_addresses(self):
        while not os.path.exists(self.port_file):
            self._check_start("no port file")
            time.sleep(0.01)
        with open(self.port_file, encoding="utf-8") as file:
            return json.load(file)

    def _check_start(self, lacking):
        if self.process.poll() is not None:
            raise AssertionError(
                f"the server ended with {self.process.returncode}:\n"
                + self.log())
        if time.monotonic() > self.launched + START_SECONDS:
            self.process.kill()
            raise AssertionError(f"{lacking}:\n" + self.log())

    def wait_until_ready(self):
        """Waits for grpc.health.v1 to say so; returns the seconds since the
        program was started."""
        import grpc  # what needs no readiness needs no grpcio

        # HealthCheckRequest{service: "readiness"}, and status: SERVING.
        question, serving = b"\n\treadiness", b"\x08\x01"
        with grpc.insecure_channel(self.addresses["grpc"]) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            while check(question, timeout=START_SECONDS,
                        wait_for_ready=True) != serving:
                self._check_start("never ready")
                time.sleep(0.01)
        return time.monotonic() - self.launched

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

    def kill(self):
        """Ends it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)
