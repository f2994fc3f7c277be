#!/usr/bin/env python3
"""The Heusden example, moved to where the tests run.

Reads the example's objects (JSON documents, one after another) and writes them with the S3 server of
$TOEZICHT_DEMO_S3 (without it, $TOEZICHT_TEST_S3), the cameras of $TOEZICHT_TEST_CAMERAS (without it, the example's own addresses,
where none answers), and the Secrets that the example's README tells a user to make. All else stays as it is in the example, but for
segments of six seconds instead of sixty, so that a demonstration need not take minutes.
"""
import json
import os
import sys

OPERATOR = "operator-scoped"  # on the test bed's SeaweedFS: may make buckets named tz-…
CODECS = ("h264", "h265")


def secret(namespace, name, type_, data):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": namespace, "name": name},
        "type": f"toezicht.dev/{type_}",
        "stringData": data,
    }


def documents(text):
    """kubectl writes one document after another, with nothing between them."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        yield from document["items"] if document["kind"] == "List" else [document]


def identity(server, name):
    known = server["identities"]
    return known[name] if name in known else known["operator"]


def main():
    path = os.environ.get("TOEZICHT_DEMO_S3") or os.environ["TOEZICHT_TEST_S3"]
    with open(path, encoding="utf-8") as file:
        server = json.load(file)
    cameras = os.environ.get("TOEZICHT_TEST_CAMERAS")
    login = {
        "username": os.environ.get("TOEZICHT_TEST_CAMERA_USER", "camera"),
        "password": os.environ.get("TOEZICHT_TEST_CAMERA_PASSWORD", "none"),
    }
    objects = list(documents(sys.stdin.read()))
    secrets = {}

    def want(namespace, reference, type_, data):
        secrets[namespace, reference["name"]] = secret(namespace, reference["name"], type_, data)

    count = 0
    for item in objects:
        namespace, spec = item["metadata"].get("namespace"), item.get("spec", {})
        if item["kind"] == "Site":
            storage = spec["storage"]
            storage.update(
                bucket=f"tz-{storage['bucket']}"[:63],
                endpoint=server["endpoint"],
                region=server["region"],
                pathStyle=server["pathStyle"],
            )
            storage.pop("caRef", None)
            for role, name in (("operator", OPERATOR), ("recorder", "recorder")):
                who = identity(server, name)
                storage[role]["principal"] = who["principal"]
                data = {"accessKeyId": who["accessKey"], "secretAccessKey": who["secretKey"]}
                want(namespace, storage[role]["credentialsRef"], "s3", data)
            if "other" in server["identities"]:
                storage.get("auditor", {}).update(principal=identity(server, "other")["principal"])
            else:
                storage.pop("auditor", None)
            for person in spec["managers"]:
                person["principal"] = identity(server, "manager")["principal"]
            spec.setdefault("recorder", {}).update(
                segmentDuration="6s",
                spool={"size": "512Mi"},
                resources={"requests": {"cpu": "10m", "memory": "32Mi"}},
            )
        elif item["kind"] == "RecordingPolicy":
            for person in spec.get("incidentOfficers", []):
                person["principal"] = identity(server, "manager")["principal"]
        elif item["kind"] == "Camera":
            stream = spec["stream"]
            if cameras:
                stream["url"] = f"{cameras}/{CODECS[count % 2]}/{count // 2}"
            stream.pop("caRef", None)
            stream.setdefault("credentialsRef", {"name": "camera-login"})
            want(namespace, stream["credentialsRef"], "camera", login)
            count += 1
    first = [item for item in objects if item["kind"] == "Namespace"]
    rest = [item for item in objects if item["kind"] != "Namespace"]
    items = [*first, *secrets.values(), *rest]
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout)


main()
