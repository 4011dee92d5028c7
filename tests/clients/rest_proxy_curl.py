"""Requests to the REST proxy, by curl."""

import json
import subprocess

from check import equal, until

V2, JSON = "application/vnd.kafka.v2+json", "application/json"


class Answer:
    def __init__(self, status, media, body):
        self.status, self.media, self.text = status, media, body

    @property
    def json(self):
        return json.loads(self.text)


class Curl:
    def __init__(self, address):
        self.address = address

    def __call__(self, method, path, body=None, media=None, accept=None, *more):
        """One request; the path may be a whole URI."""
        uri = path if path.startswith("http://") else f"http://{self.address}{path}"
        command = ["curl", "-sS", "--max-time", "60", "-X", method, "-o", "-", "-w", "\n%{http_code} %{content_type}", *more]
        if media:
            command += ["-H", f"Content-Type: {media}"]
        if accept:
            command += ["-H", f"Accept: {accept}"]
        if body is not None:
            command += ["--data-binary", body if isinstance(body, str) else json.dumps(body)]
        printed = subprocess.run(command + [uri], capture_output=True, check=True, text=True).stdout
        text, _, last = printed.rpartition("\n")
        status, _, media = last.partition(" ")
        return Answer(int(status), media, text)

    @staticmethod
    def refused(answer, status, code):
        equal((answer.status, answer.json["error_code"]), (status, code))
        equal(set(answer.json), {"error_code", "message"})

    @staticmethod
    def nothing(answer):
        equal((answer.status, answer.text), (204, ""))

    def made(self, topic, partitions):
        cluster = self("GET", "/v3/clusters").json["data"][0]["cluster_id"]
        body = {"topic_name": topic, "partitions_count": partitions}
        equal(self("POST", f"/v3/clusters/{cluster}/topics", body, JSON).status, 201)
        return f"/v3/clusters/{cluster}/topics/{topic}"

    def read(self, base, accept, count):
        """Records of reads until there are so many."""
        records = []

        def enough():
            answer = self("GET", f"{base}/records?timeout=1000&max_bytes=300000", accept=accept)
            equal((answer.status, answer.media), (200, accept))
            records.extend(answer.json)
            return len(records) >= count

        until(enough)
        return records
