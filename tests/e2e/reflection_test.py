"""A client that knows the server only through reflection lists and calls every
method.

Usage: reflection_test.py SERVER MODEL_ROOT
"""

import sys
import unittest

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf import message_factory

from running_server import RunningServer

SERVER, MODEL_ROOT = sys.argv[1:3]
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
CALL_SECONDS = 60
MODEL = "tiny-mixtral"


def reflection_messages():
    """Request and response of the reflection protocol, by field number."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="reflection_subset.proto", package="subset", syntax="proto3")

    def message(name, *fields):
        entry = file.message_type.add(name=name)
        for number, field_name, kind, label, type_name in fields:
            entry.field.add(number=number, name=field_name, type=kind,
                            label=label, type_name=type_name)

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    text, data, sub = field.TYPE_STRING, field.TYPE_BYTES, field.TYPE_MESSAGE
    message("Request", (4, "file_containing_symbol", text, one, None),
            (7, "list_services", text, one, None))
    message("Files", (1, "file_descriptor_proto", data, many, None))
    message("Service", (1, "name", text, one, None))
    message("Services", (1, "service", sub, many, ".subset.Service"))
    message("Response", (4, "files", sub, one, ".subset.Files"),
            (6, "services", sub, one, ".subset.Services"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return [factory.GetPrototype(pool.FindMessageTypeByName("subset." + name))
            for name in ("Request", "Response")]


class ReflectedClient:
    """Calls methods whose types it learns from the server."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.request, self.response = reflection_messages()
        self.pool = descriptor_pool.DescriptorPool()
        self.factory = message_factory.MessageFactory(self.pool)
        self.known = set()

    def ask(self, **what):
        call = self.channel.stream_stream(
            REFLECTION, self.request.SerializeToString,
            self.response.FromString)
        return next(call(iter([self.request(**what)]), timeout=CALL_SECONDS,
                         wait_for_ready=True))

    def services(self):
        answer = self.ask(list_services="*").services
        return sorted(service.name for service in answer.service)

    def methods(self, service):
        files = self.ask(file_containing_symbol=service).files
        for data in files.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            self.pending = getattr(self, "pending", {})
            self.pending[file.name] = file
        for name in list(self.pending):
            self.add(name)
        return self.pool.FindServiceByName(service).methods

    def add(self, name):
        """Adds a file after those that it imports."""
        if name in self.known:
            return
        self.known.add(name)
        for imported in self.pending[name].dependency:
            self.add(imported)
        self.pool.Add(self.pending[name])

    def call(self, method, /, **fields):
        """All answers of one call."""
        proto = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(proto)
        request = json_format.ParseDict(
            fields, self.factory.GetPrototype(method.input_type)())
        kind = (self.channel.unary_stream if proto.server_streaming
                else self.channel.unary_unary)
        call = kind(f"/{method.containing_service.full_name}/{method.name}",
                    type(request).SerializeToString,
                    self.factory.GetPrototype(method.output_type).FromString)
        answer = call(request, timeout=CALL_SECONDS)
        return list(answer) if proto.server_streaming else [answer]


class Reflection(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = RunningServer(SERVER, MODEL_ROOT)
        cls.addClassCleanup(cls.server.close)
        cls.client = ReflectedClient(cls.server.addresses["grpc"])
        cls.addClassCleanup(cls.client.channel.close)
        cls.methods = {}
        for service in cls.client.services():
            if service.startswith("moescope."):
                for method in cls.client.methods(service):
                    cls.methods[f"{service.split('.')[-1]}/{method.name}"] = method
        cls.called = set()

    def call(self, name, /, **fields):
        self.called.add(name)
        return self.client.call(self.methods[name], **fields)

    def one(self, name, /, **fields):
        return self.call(name, **fields)[0]

    def wait(self, job):
        self.call("JobService/WatchJob", id=job)
        answer = self.one("JobService/GetJob", id=job).job
        self.assertEqual(answer.error.message, "")
        return answer

    def test_services_are_listed(self):
        self.assertEqual(self.client.services(), [
            "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
            "moescope.v1.AdminService", "moescope.v1.AnalysisService",
            "moescope.v1.JobService", "moescope.v1.ModelService",
            "moescope.v1.ResultService"])

    def test_every_method_answers(self):
        self.models()
        self.direct_calls()
        self.jobs_and_results()
        self.admin()
        self.assertEqual(sorted(self.called), sorted(self.methods))

    def models(self):
        names = [model.name for model in self.one("ModelService/ListModels").models]
        self.assertEqual(names, ["tiny-deepseek", "tiny-mistral", "tiny-mixtral"])
        self.assertEqual(
            self.one("ModelService/GetModel", model=MODEL).model.experts, 8)
        self.assertTrue(
            self.one("ModelService/EstimateModel", model=MODEL).fits)
        self.wait(self.one("ModelService/LoadModel", model=MODEL).job.id)
        self.wait(self.one("ModelService/VerifyModel", model=MODEL).job.id)
        self.assertRegex(
            self.one("ModelService/GetModel", model=MODEL).model.identity,
            "^content:[0-9a-f]{64}$")
        self.assertGreater(
            self.one("ModelService/UnloadModel", model=MODEL).freed_bytes, 0)
        tokens = self.one("ModelService/Tokenize", model=MODEL,
                          text="As an open source alternative to").tokens
        self.assertGreater(len(tokens), 3)

    def direct_calls(self):
        answers = self.call(
            "AnalysisService/TraceRouting", spec={"model": MODEL},
            input={"documents": [{"tokens": {"ids": [1, 5, 9]}}]})
        self.assertTrue(answers[-1].result.digest)
        self.assertTrue(answers[0].slice.arrays)
        similarity = self.one("AnalysisService/ComputeExpertSimilarity",
                              spec={"model": MODEL})
        self.assertTrue(similarity.layers)
        statistics = self.one(
            "AnalysisService/ComputeNeuronStatistics", spec={"model": MODEL},
            input={"documents": [{"tokens": {"ids": [1, 5, 9]}}]})
        self.assertTrue(statistics.result.digest)
        self.assertTrue(statistics.activation_result.digest)
        names = [info.name for info in
                 self.one("AnalysisService/ListAnalyses").analyses]
        self.assertEqual(names, sorted(names))
        self.assertLessEqual(
            {"activation_statistics", "expert_similarity", "matrix_pca",
             "neuron_pca", "neuron_weight_statistics", "router_regression",
             "routing_trace", "static_suite"}, set(names))

    def jobs_and_results(self):
        submitted = self.one(
            "AnalysisService/SubmitAnalysis", request_id="once",
            spec={"activation_statistics": {"model": MODEL}},
            input={"documents": [{"tokens": {"ids": [3, 4, 5, 6]}}]})
        job = self.wait(submitted.job.id)
        listed = self.one("JobService/ListJobs").jobs
        self.assertIn(job.id, [entry.id for entry in listed])
        self.assertEqual(
            self.one("JobService/CancelJob", id=job.id).job.state, job.state)
        result = self.one("ResultService/GetResult", name=job.result).result
        parts = self.call("ResultService/ReadResult", name=job.result)
        self.assertEqual(parts[-1].result.digest, result.digest)

    def admin(self):
        info = self.one("AdminService/GetServerInfo")
        self.assertTrue(info.numerics.blas_core_fits, info.numerics)
        self.assertGreater(info.numerics.gemm_gflops, 0)
        self.assertEqual(
            [tier.name for tier in self.one("AdminService/GetCacheStats").tiers],
            ["memory", "disk"])

    def test_errors_name_their_field(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.call(self.methods["ModelService/GetModel"], model="../x")
        self.assertEqual(caught.exception.code(),
                         grpc.StatusCode.INVALID_ARGUMENT)
        details = dict(caught.exception.trailing_metadata())
        self.assertIn(b"google.rpc.BadRequest",
                      details["grpc-status-details-bin"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
