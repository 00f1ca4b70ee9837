"""The server program as an operator meets it.

Usage: server_test.py SERVER MODEL_ROOT
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

from running_server import RunningServer

SERVER, MODEL_ROOT = sys.argv[1:3]


def run(*flags):
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([SERVER, *flags], cwd=folder, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              encoding="utf-8", check=False)


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return answer.read().decode()


class WrongUsage(unittest.TestCase):
    def refused(self, *flags):
        done = run("--model_root=" + MODEL_ROOT, *flags)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stdout, "")
        return done.stderr

    def test_unknown_flag_is_named_with_those_that_exist(self):
        said = self.refused("--nonsense=1")
        self.assertIn("--nonsense", said)
        self.assertIn("--drain_grace", said)

    def test_missing_model_root_is_named(self):
        done = run()
        self.assertEqual(done.returncode, 2)
        self.assertIn("--model_root", done.stderr)

    def test_unknown_device_gets_the_allowed_ones(self):
        self.assertIn("auto, cpu, cuda:N", self.refused("--device=gpu"))

    def test_unknown_store_gets_the_allowed_one(self):
        self.assertIn("sqlite", self.refused("--store=mysql"))

    def test_unknown_log_level_gets_the_allowed_ones(self):
        self.assertIn("debug, info, warning, error",
                      self.refused("--log_level=loud"))

    def test_budget_must_be_a_size(self):
        self.assertIn("--memory_budget", self.refused("--memory_budget=much"))

    def test_unknown_flag_in_a_file_is_named(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("nonsense=1\n")
            file.flush()
            self.assertIn("nonsense", self.refused("--config=" + file.name))

    def test_bad_value_in_a_file_gets_the_allowed_ones(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("device=gpu\n")
            file.flush()
            self.assertIn("auto, cpu, cuda:N",
                          self.refused("--config=" + file.name))

    def test_absent_file_of_flags_is_named(self):
        self.assertIn("/does/not/exist",
                      self.refused("--config=/does/not/exist"))

    def test_address_needs_a_port(self):
        self.assertIn("HOST:PORT", self.refused("--listen=127.0.0.1"))

    def test_remote_address_needs_a_word(self):
        said = self.refused("--listen=0.0.0.0:0")
        self.assertIn("--allow_insecure_remote", said)


class Start(unittest.TestCase):
    def test_version(self):
        done = run("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^moescope-server \d+\.\d+\.\d+\n$")

    def test_what_keeps_it_from_starting_is_named_by_flag_and_path(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            busy = f"127.0.0.1:{holder.getsockname()[1]}"
            file = os.path.join(folder, "file")
            with open(file, "w", encoding="utf-8") as text:
                text.write("no folder")
            absent = os.path.join(folder, "absent")
            for flag, value, reason in (
                    ("model_root", absent, "No such file or directory"),
                    ("data_dir", file, "Not a directory"),
                    ("listen", busy, "in use"),
                    ("metrics_listen", busy, "in use"),
                    ("port_file", absent + "/ports", "No such file"),
                    ("preload", "nobody", "not known")):
                with self.subTest(flag=flag, value=value):
                    flags = {"model_root": MODEL_ROOT,
                             "listen": "127.0.0.1:0",
                             "metrics_listen": "127.0.0.1:0", flag: value}
                    done = run(*(f"--{name}={text}"
                                 for name, text in flags.items()))
                    self.assertEqual(done.returncode, 1, done.stderr)
                    last = done.stderr.splitlines()[-1]
                    self.assertTrue(
                        last.startswith(f"moescope-server: --{flag}: "), last)
                    self.assertIn(value, last)
                    self.assertIn(reason, last)


class Running(unittest.TestCase):
    def start(self, *flags):
        server = RunningServer(SERVER, MODEL_ROOT, *flags)
        self.addCleanup(server.close)
        return server

    def ready(self, server):
        """Waits until /metrics says so."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            text = get(server.addresses["metrics"], "/metrics")
            if re.search(r"^moescope_ready 1$", text, re.MULTILINE):
                return text
            time.sleep(0.05)
        raise AssertionError("never ready:\n" + server.log())

    def test_one_line_tells_addresses_device_and_root(self):
        server = self.start()
        self.assertEqual(set(server.addresses), {"grpc", "metrics", "health"})
        self.assertEqual(
            re.sub(r"^moescope-server [\d.]+", "moescope-server V", server.out()),
            f"moescope-server V: grpc {server.addresses['grpc']}, "
            f"metrics {server.addresses['metrics']}, device cpu, "
            f"model root {MODEL_ROOT}\n")

    def test_metrics_and_liveness_are_served(self):
        server = self.start()
        self.assertIn("moescope_build_info{", self.ready(server))
        self.assertEqual(get(server.addresses["metrics"], "/healthz"), "ok\n")

    def test_preloaded_models_are_there_when_ready(self):
        server = self.start("--preload=tiny-mixtral,tiny-deepseek")
        text = self.ready(server)
        self.assertRegex(text, r'moescope_model_state\{state="ready"\} 2')

    def test_terminated_server_drains_and_exits_with_0(self):
        server = self.start()
        self.ready(server)
        self.assertEqual(server.terminate(), 0)
        self.assertIn('"event":"stopped"', server.log().replace(": ", ":"))

    def test_flags_may_stand_in_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "server.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write('preload="tiny-mixtral"\nthreads=1\n')
            server = self.start("--config=" + path)
        self.assertRegex(self.ready(server),
                         r'moescope_model_state\{state="ready"\} 1')

    def test_two_servers_do_not_share_a_data_folder(self):
        server = self.start()
        done = run("--model_root=" + MODEL_ROOT,
                   "--data_dir=" + server.folder + "/data",
                   "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f'--data_dir: "{server.folder}/data" is in use',
                      done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
