"""The Helm chart: lint, rendering, schema, offline validation.

Usage: chart_test.py HELM CHART GRAFANA_FOLDER [KUBERNETES_VALIDATE]
Without the last argument the tests of class Validation are not there.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import yaml

HELM, CHART, GRAFANA = sys.argv[1:4]
VALIDATE = sys.argv[4] if len(sys.argv) > 4 else None

# helm built from its module believes in a Kubernetes that is long gone.
KUBE_VERSION = "1.34.0"


def run(*command):
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=60, check=False)


def template(*arguments):
    return run(HELM, "template", "release", CHART, "--kube-version",
               KUBE_VERSION, *arguments)


def values_file(name):
    return os.path.join(CHART, "ci", name + "-values.yaml")


def render(*arguments):
    """The rendered objects by (kind, name)."""
    result = template(*arguments)
    assert result.returncode == 0, result.stderr
    objects = [o for o in yaml.safe_load_all(result.stdout) if o]
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def pod_of(objects):
    return objects["StatefulSet", "release-moescope"]["spec"]["template"]["spec"]


class Lint(unittest.TestCase):

    def lint(self, *arguments):
        result = run(HELM, "lint", "--strict", "--kube-version", KUBE_VERSION,
                     CHART, *arguments)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_default_values_lint_clean(self):
        self.lint()

    def test_gpu_values_lint_clean(self):
        self.lint("-f", values_file("gpu"))

    def test_existing_claim_values_lint_clean(self):
        self.lint("-f", values_file("existing-claim"))

    def test_host_path_values_lint_clean(self):
        self.lint("-f", values_file("host-path"))


def bytes_of(quantity):
    """"16GiB" of a flag, "20Gi" of Kubernetes."""
    match = re.fullmatch("([0-9]+)([KMGT])iB?", quantity)
    return int(match[1]) << 10 * (1 + "KMGT".index(match[2]))


class Rendering(unittest.TestCase):

    def test_results_leave_room_on_the_data_claim(self):
        objects = render()
        claim = objects["StatefulSet", "release-moescope"]["spec"][
            "volumeClaimTemplates"][0]["spec"]["resources"]["requests"]
        flags = pod_of(objects)["containers"][0]["args"]
        [cache] = [flag.split("=")[1] for flag in flags
                   if flag.startswith("--cache_bytes=")]
        self.assertLessEqual(bytes_of(cache),
                             0.9 * bytes_of(claim["storage"]))

    def test_defaults_are_one_server_with_its_claims_and_services(self):
        self.assertEqual(
            sorted(render()),
            [("ConfigMap", "release-moescope-dashboards"),
             ("PersistentVolumeClaim", "release-moescope-models"),
             ("Pod", "release-moescope-test"),
             ("Service", "release-moescope"),
             ("Service", "release-moescope-headless"),
             ("ServiceAccount", "release-moescope"),
             ("StatefulSet", "release-moescope")])

    def test_server_runs_without_any_privilege(self):
        pod = pod_of(render())
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertEqual(pod["securityContext"]["seccompProfile"],
                         {"type": "RuntimeDefault"})
        self.assertFalse(pod["automountServiceAccountToken"])
        self.assertEqual(
            pod["containers"][0]["securityContext"],
            {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
             "capabilities": {"drop": ["ALL"]}})

    def test_probes_ask_for_readiness_and_liveness_by_name(self):
        container = pod_of(render())["containers"][0]
        self.assertEqual(container["startupProbe"]["grpc"],
                         {"port": 50051, "service": "readiness"})
        self.assertEqual(container["readinessProbe"]["grpc"],
                         {"port": 50051, "service": "readiness"})
        self.assertEqual(container["livenessProbe"]["grpc"],
                         {"port": 50051, "service": "liveness"})

    def test_pod_is_not_killed_before_its_drain_is_over(self):
        pod = pod_of(render("--set", "server.drainGraceSeconds=120",
                            "--set", "preStopSeconds=7"))
        self.assertIn("--drain_grace=120s", pod["containers"][0]["args"])
        self.assertEqual(
            pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"],
            ["sleep", "7"])
        self.assertEqual(pod["terminationGracePeriodSeconds"], 142)

    def test_open_listening_is_said_in_so_many_words(self):
        opened = pod_of(render())["containers"][0]["args"]
        closed = pod_of(render("--set", "server.allowInsecureRemote=false"))
        self.assertIn("--allow_insecure_remote", opened)
        self.assertNotIn("--allow_insecure_remote",
                         closed["containers"][0]["args"])

    def test_gpus_stand_in_requests_and_limits(self):
        pod = pod_of(render("-f", values_file("gpu")))
        resources = pod["containers"][0]["resources"]
        self.assertEqual(resources["requests"],
                         {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 2})
        self.assertEqual(resources["limits"],
                         {"memory": "64Gi", "nvidia.com/gpu": 2})
        self.assertEqual(pod["runtimeClassName"], "nvidia")
        self.assertIn("--device=cuda:0", pod["containers"][0]["args"])
        self.assertIn("--preload=mixtral-8x7b", pod["containers"][0]["args"])

    def test_without_gpus_no_device_is_asked_for(self):
        resources = pod_of(render())["containers"][0]["resources"]
        self.assertEqual(resources["requests"], {"cpu": "2", "memory": "4Gi"})
        self.assertEqual(resources["limits"], {"memory": "8Gi"})

    def test_existing_claim_is_mounted_and_none_is_made(self):
        objects = render("-f", values_file("existing-claim"))
        self.assertNotIn(("PersistentVolumeClaim", "release-moescope-models"),
                         objects)
        self.assertIn(
            {"name": "models",
             "persistentVolumeClaim": {"claimName": "checkpoints"}},
            pod_of(objects)["volumes"])
        self.assertIn(
            {"name": "models", "mountPath": "/models", "readOnly": True,
             "subPath": "hub"},
            pod_of(objects)["containers"][0]["volumeMounts"])

    def test_host_path_is_mounted_and_no_claim_is_made(self):
        objects = render("-f", values_file("host-path"))
        self.assertNotIn(("PersistentVolumeClaim", "release-moescope-models"),
                         objects)
        self.assertIn(
            {"name": "models",
             "hostPath": {"path": "/srv/models", "type": "Directory"}},
            pod_of(objects)["volumes"])

    def test_service_monitor_picks_the_normal_service_only(self):
        objects = render("-f", values_file("existing-claim"))
        wanted = objects["ServiceMonitor", "release-moescope"]["spec"][
            "selector"]["matchLabels"].items()
        normal = objects["Service", "release-moescope"]["metadata"]["labels"]
        headless = objects["Service", "release-moescope-headless"]["metadata"][
            "labels"]
        self.assertLessEqual(wanted, normal.items())
        self.assertFalse(wanted <= headless.items())

    def test_services_select_the_server_and_not_the_test_pod(self):
        objects = render()
        wanted = objects["Service", "release-moescope"]["spec"][
            "selector"].items()
        server = objects["StatefulSet", "release-moescope"]["spec"]["template"][
            "metadata"]["labels"]
        test = objects["Pod", "release-moescope-test"]["metadata"]["labels"]
        self.assertLessEqual(wanted, server.items())
        self.assertFalse(wanted <= test.items())


class Schema(unittest.TestCase):

    def refusal(self, *arguments):
        result = template(*arguments)
        self.assertNotEqual(result.returncode, 0)
        return result.stderr

    def test_unknown_key_is_refused_by_name(self):
        self.assertIn("additional properties 'servr' not allowed",
                      self.refusal("--set", "servr.device=cpu"))

    def test_unknown_nested_key_is_refused_by_name(self):
        message = self.refusal("--set", "probes.startup.period=5")
        self.assertIn("'/probes/startup'", message)
        self.assertIn("additional properties 'period' not allowed", message)

    def test_wrong_type_is_refused_by_name(self):
        self.assertIn("'/gpu/count': got string, want integer",
                      self.refusal("--set-string", "gpu.count=2"))

    def test_unknown_device_is_refused_by_name(self):
        self.assertIn("'/server/device'",
                      self.refusal("--set", "server.device=tpu"))

    def test_every_object_with_known_keys_refuses_others(self):
        with open(os.path.join(CHART, "values.schema.json"),
                  encoding="utf-8") as file:
            schema = json.load(file)
        self.assertEqual(open_objects(schema, ""), [])

    def test_every_value_stands_in_the_schema(self):
        with open(os.path.join(CHART, "values.yaml"), encoding="utf-8") as file:
            values = yaml.safe_load(file)
        with open(os.path.join(CHART, "values.schema.json"),
                  encoding="utf-8") as file:
            schema = json.load(file)
        self.assertEqual(sorted(values),
                         sorted(set(schema["properties"]) - {"global"}))


def open_objects(node, path):
    """Paths of schema objects that list properties and yet allow others."""
    found = []
    if isinstance(node, dict):
        if "properties" in node and node.get("additionalProperties") is not False:
            found.append(path)
        for key, child in node.items():
            found += open_objects(child, path + "/" + key)
    return found


class Dashboards(unittest.TestCase):

    def test_chart_carries_the_dashboards_byte_for_byte(self):
        self.assertEqual(dashboards_in(os.path.join(CHART, "dashboards")),
                         dashboards_in(GRAFANA))

    def test_config_map_holds_the_dashboard_as_it_is(self):
        config_map = render()["ConfigMap", "release-moescope-dashboards"]
        with open(os.path.join(GRAFANA, "moescope-overview.json"),
                  encoding="utf-8") as file:
            expected = json.load(file)
        self.assertEqual(
            json.loads(config_map["data"]["moescope-overview.json"]), expected)
        self.assertEqual(config_map["metadata"]["labels"]["grafana_dashboard"],
                         "1")


def dashboards_in(folder):
    found = {}
    for name in os.listdir(folder):
        if name.endswith(".json"):
            with open(os.path.join(folder, name), "rb") as file:
                found[name] = file.read()
    return found


class Validation(unittest.TestCase):
    """Every rendered object against the API's own schemas, offline."""

    def validate(self, *arguments):
        rendered = template(*arguments)
        self.assertEqual(rendered.returncode, 0, rendered.stderr)
        # The operator's own type is in no offline schema.
        objects = [o for o in yaml.safe_load_all(rendered.stdout)
                   if o and o["kind"] != "ServiceMonitor"]
        self.assertGreaterEqual(len(objects), 5)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump_all(objects, file)
            file.flush()
            result = run(VALIDATE, "--strict", file.name)
        output = result.stdout + result.stderr
        self.assertEqual(result.returncode, 0, output)
        self.assertEqual(output.count("INFO"), len(objects), output)
        self.assertNotIn("WARN", output)

    def test_default_objects_are_valid(self):
        self.validate()

    def test_gpu_objects_are_valid(self):
        self.validate("-f", values_file("gpu"))

    def test_existing_claim_objects_are_valid(self):
        self.validate("-f", values_file("existing-claim"))

    def test_host_path_objects_are_valid(self):
        self.validate("-f", values_file("host-path"))


if VALIDATE is None:
    del Validation

if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
