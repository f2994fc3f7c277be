#!/usr/bin/env python3
"""Chart values for the tests and the demonstration: this image, and a grant for these
S3 servers alone (plain HTTP is what they speak in the test bed)."""
import json
import os
from urllib.parse import urlsplit

PROXIES = range(28333, 28341)  # where tests put a proxy before the first server


def main():
    repository, tag = os.environ["TOEZICHT_TEST_IMAGE"].rsplit(":", 1)
    endpoints = []
    for variable in ("TOEZICHT_TEST_S3", "TOEZICHT_TEST_S3_SECOND", "TOEZICHT_DEMO_S3"):
        if os.environ.get(variable):
            with open(os.environ[variable], encoding="utf-8") as file:
                endpoint = json.load(file)["endpoint"]
            if endpoint not in endpoints:
                endpoints.append(endpoint)
    host = urlsplit(endpoints[0]).hostname
    endpoints += [f"http://{host}:{port}" for port in PROXIES]
    grant = {
        "namespaces": ["*"],
        "endpoints": endpoints,
        "buckets": ["*"],
        "plainHttp": True,
        "exceptions": ["TakeOver", "OperatorOnly", "AllowUnprotected"],
    }
    image = {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}
    print(json.dumps({"image": image, "grants": [grant]}))


main()
