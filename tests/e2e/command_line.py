"""Runs the command line tool for a test."""

import json
import subprocess

CALL_SECONDS = 120


class CommandLine:
    """The `moescope` program, pointed at a server."""

    def __init__(self, program, server):
        self.program = program
        self.server = server

    def command(self, *arguments):
        return [self.program, "--server=" + self.server.addresses["grpc"],
                *arguments]

    def run(self, *arguments):
        """What came of it: returncode, stdout, stderr."""
        return subprocess.run(
            self.command(*arguments), timeout=CALL_SECONDS, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def ask(self, *arguments):
        """The JSON that it prints; an AssertionError where it fails."""
        done = self.run("--output=json", *arguments)
        if done.returncode != 0:
            raise AssertionError(
                f"moescope {' '.join(arguments)}: exit {done.returncode}\n"
                f"{done.stderr}\n{self.server.log()}")
        return json.loads(done.stdout)
