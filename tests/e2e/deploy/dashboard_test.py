"""Every query of every dashboard, evaluated by a real Prometheus that scrapes
a running server.

Usage: dashboard_test.py PROMETHEUS SERVER CLIENT MODEL_ROOT SOURCE_DIR
SOURCE_DIR is the root of the repository.
"""

import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

PROMETHEUS, SERVER, CLIENT, MODEL_ROOT, SOURCE_DIR = sys.argv[1:6]
MODEL = "tiny-mixtral"
START_SECONDS = 60
CALL_SECONDS = 120

# Queries that a server on which all goes well leaves empty; the labels of these,
# too, are held against the declarations. All others must find something.
MAY_BE_EMPTY = {
    "Jobs waiting A", "Queued and running A", "Queued and running B",
    "Share of server faults A", "Loads that failed A", "Rejected A",
    "Lost and recovered A", "Lost and recovered B", "Time to cancel A",
    "Store errors A",
}

# Labels that Prometheus adds.
SCRAPED_LABELS = {"job", "instance", "le"}

# What Grafana would put in; the scrape interval here is one second.
VARIABLES = {
    "$__rate_interval": "30s",
    "$__interval": "5s",
    "$job": ".*",
    "$instance": ".*",
}


def wait_for(what, probe, processes):
    """The first true answer of probe(), within START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for process in processes:
            if process.poll() is not None:
                raise AssertionError(
                    f"{process.args[0]} ended with {process.returncode} "
                    f"while waiting for {what}:\n{log_of(process)}")
        answer = probe()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"no {what} within {START_SECONDS} s:\n" +
                         "\n".join(log_of(p) for p in processes))


def log_of(process):
    with open(process.log_path, encoding="utf-8", errors="replace") as file:
        return file.read()[-4000:]


def start(log_path, *command):
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    process.log_path = log_path
    return process


def stop(process):
    """Asks a process to end, and makes it end if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url):
    """(status, text) of the answer; status 0 where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def panels():
    """(dashboard file, panel) of all panels that have queries."""
    pattern = os.path.join(SOURCE_DIR, "deploy", "grafana", "*.json")
    for path in sorted(glob.glob(pattern)):
        with open(path, encoding="utf-8") as file:
            dashboard = json.load(file)
        pending = list(dashboard["panels"])
        while pending:
            panel = pending.pop(0)
            pending += panel.get("panels", [])
            if panel["type"] != "row":
                yield os.path.basename(path), panel


def queries():
    """(where it stands, expression with the variables filled in)."""
    for name, panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for variable in sorted(VARIABLES, key=len, reverse=True):
                expression = expression.replace(variable, VARIABLES[variable])
            yield f"{name}: {panel['title']} {target['refId']}", expression


def declared_labels():
    """The labels of each metric, by its name, from the server's one table."""
    path = os.path.join(SOURCE_DIR, "server", "telemetry", "metric_table.cc")
    with open(path, encoding="utf-8") as file:
        rows = re.findall(r'\{"(moescope_\w+)",\s*k\w+,\s*"([\w,]*)"', file.read())
    return {name: set(filter(None, labels.split(","))) for name, labels in rows}


def unknown_labels(expression, declared):
    """Labels that a query of one metric selects or groups by and that the
    metric does not have."""
    known = set(SCRAPED_LABELS)
    used = set()
    for metric, matchers in re.findall(r"\b(moescope_\w+)\{([^}]*)\}", expression):
        family = re.sub(r"_(bucket|sum|count)$", "", metric)
        known |= declared.get(metric, declared.get(family, set()))
        used |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
    for labels in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        used |= {label.strip() for label in labels.split(",")}
    return used - known


class DashboardFiles(unittest.TestCase):
    maxDiff = None

    def test_there_are_queries_to_look_at(self):
        self.assertGreaterEqual(len(list(queries())), 20)

    def test_every_panel_describes_itself(self):
        bare = [p["title"] for _, p in panels() if not p.get("description")]
        self.assertEqual(bare, [])

    def test_every_metric_is_one_that_the_server_declares(self):
        declared = set()
        for folder in ("include/moescope/telemetry", "server/telemetry"):
            for path in glob.glob(os.path.join(SOURCE_DIR, folder, "*")):
                with open(path, encoding="utf-8") as file:
                    declared |= set(re.findall(r'"(moescope_[a-z0-9_]+)"',
                                               file.read()))
        unknown = []
        for where, expression in queries():
            for metric in re.findall(r"\bmoescope_[a-z0-9_]+", expression):
                family = re.sub(r"_(bucket|sum|count)$", "", metric)
                if metric not in declared and family not in declared:
                    unknown.append((where, metric))
        self.assertEqual(unknown, [])


    def test_every_label_is_one_that_the_metric_has(self):
        declared = declared_labels()
        self.assertGreaterEqual(len(declared), 40)
        wrong = [(where, labels) for where, expression in queries()
                 for labels in [unknown_labels(expression, declared)] if labels]
        self.assertEqual(wrong, [])

    def test_a_wrong_label_is_noticed(self):
        declared = {"moescope_x_total": {"tier"}}
        self.assertEqual(unknown_labels(
            'sum by (tier) (rate(moescope_x_total{job="a"}[1m]))', declared),
            set())
        self.assertEqual(unknown_labels(
            'sum by (level) (rate(moescope_x_total{teir="a"}[1m]))', declared),
            {"level", "teir"})


class DashboardQueries(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="moescope-dashboard-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.start_server()
        cls.start_prometheus()
        cls.use_server()
        # Two looks after the last call, so that rates see its counters.
        seen = cls.scrapes()
        wait_for("two more scrapes", lambda: cls.scrapes() >= seen + 2,
                 [cls.server, cls.prometheus])

    @classmethod
    def start_server(cls):
        port_file = os.path.join(cls.folder, "ports.json")
        cls.server = start(
            os.path.join(cls.folder, "server.log"), SERVER,
            "--model_root=" + MODEL_ROOT,
            "--data_dir=" + os.path.join(cls.folder, "data"),
            "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
            "--device=cpu", "--port_file=" + port_file)
        cls.addClassCleanup(stop, cls.server)
        wait_for("port file", lambda: os.path.exists(port_file), [cls.server])
        with open(port_file, encoding="utf-8") as file:
            cls.ports = json.load(file)

    @classmethod
    def start_prometheus(cls):
        config = os.path.join(cls.folder, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({  # JSON is YAML
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [{
                    "job_name": "moescope",
                    "static_configs": [{"targets": [cls.ports["metrics"]]}],
                }],
            }, file)
        # Between choosing a port and taking it somebody else may: try again.
        for attempt in range(5):
            address = f"127.0.0.1:{free_port()}"
            cls.url = f"http://{address}"
            cls.prometheus = start(
                os.path.join(cls.folder, f"prometheus{attempt}.log"),
                PROMETHEUS, "--config.file=" + config,
                "--storage.tsdb.path=" + os.path.join(cls.folder, f"tsdb{attempt}"),
                "--web.listen-address=" + address)
            cls.addClassCleanup(stop, cls.prometheus)
            try:
                # Before its storage is open it answers with 503.
                wait_for("ready Prometheus",
                         lambda: get(cls.url + "/-/ready")[0] == 200,
                         [cls.prometheus])
                break
            except AssertionError:
                if "address already in use" not in log_of(cls.prometheus):
                    raise
        wait_for("first scrape", lambda: cls.scrapes() >= 1,
                 [cls.server, cls.prometheus])

    @classmethod
    def use_server(cls):
        """Calls that leave a mark on every kind of metric."""
        cls.call(0, "models", "list")
        cls.call(0, "models", "load", MODEL)
        for _ in range(2):  # the second answer is a cache hit
            cls.call(0, "trace", MODEL, "--text", "As an open source")
        cls.call(0, "similarity", MODEL)
        cls.call(0, "neurons", MODEL)
        cls.call(1, "models", "describe", "no-such-model")
        cls.call(0, "models", "unload", MODEL)

    @classmethod
    def call(cls, expected, *arguments):
        result = subprocess.run(
            [CLIENT, "--server=" + cls.ports["grpc"], "--output=json",
             *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=CALL_SECONDS, check=False)
        if result.returncode != expected:
            raise AssertionError(
                f"moescope {' '.join(arguments)}: exit {result.returncode}\n"
                f"{result.stderr[-2000:]}\n{log_of(cls.server)}")

    @classmethod
    def evaluate(cls, expression):
        # A refused expression comes as 400 or 422 with its error in the same JSON.
        status, answer = get(cls.url + "/api/v1/query?" +
                             urllib.parse.urlencode({"query": expression}))
        if status not in (200, 400, 422):
            return {"status": f"answer {status}: {answer}"}
        return json.loads(answer)

    @classmethod
    def scrapes(cls):
        found = cls.evaluate('count_over_time(up{job="moescope"}[1h])')
        result = found.get("data", {}).get("result", [])
        return int(result[0]["value"][1]) if result else 0

    def test_prometheus_can_read_the_metrics(self):
        result = self.evaluate('up{job="moescope"}')["data"]["result"]
        self.assertEqual([s["value"][1] for s in result], ["1"])

    def test_every_query_is_accepted(self):
        refused = []
        for where, expression in queries():
            answer = self.evaluate(expression)
            if answer["status"] != "success":
                refused.append((where, expression, answer))
        self.assertEqual(refused, [])

    def test_every_query_that_the_calls_feed_finds_a_value(self):
        # What a panel shows for nothing must not hide that there is nothing.
        empty = [(where, expression) for where, expression in queries()
                 if where.split(": ", 1)[1] not in MAY_BE_EMPTY
                 and not self.evaluate(expression.replace(" or vector(0)", ""))
                 ["data"]["result"]]
        self.assertEqual(empty, [])

    def test_what_may_be_empty_is_in_the_dashboards(self):
        there = {where.split(": ", 1)[1] for where, _ in queries()}
        self.assertEqual(MAY_BE_EMPTY - there, set())

    def test_variables_of_the_dashboards_find_their_labels(self):
        result = self.evaluate("moescope_build_info")["data"]["result"]
        self.assertEqual([s["metric"]["job"] for s in result], ["moescope"])
        self.assertEqual([s["metric"]["instance"] for s in result],
                         [self.ports["metrics"]])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
