"""What one would write with boto3: a listing, and 32 threads.

    boto3_loop.py sweep|place|release BUCKET      (the store: $TOEZICHT_TEST_S3, as operator-scoped)
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import boto3
from botocore.config import Config

THREADS = 32
# The most that S3 takes at once.
BATCH = 1000


def client():
    with open(os.environ["TOEZICHT_TEST_S3"]) as file:
        server = json.load(file)
    identity = server["identities"].get("operator-scoped") or server["identities"]["operator"]
    return boto3.client(
        "s3",
        endpoint_url=server["endpoint"],
        region_name=server["region"],
        aws_access_key_id=identity["accessKey"],
        aws_secret_access_key=identity["secretKey"],
        config=Config(max_pool_connections=THREADS, s3={"addressing_style": "path"}),
    )


def versions(s3, bucket):
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix="video/"):
        yield from page.get("Versions", []) + page.get("DeleteMarkers", [])


def batches(of):
    while batch := list(islice(of, BATCH)):
        yield batch


def sweep(s3, bucket, pool):
    def delete(batch):
        objects = [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in batch]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        assert not answer.get("Errors"), answer["Errors"][:1]
        return len(batch)

    return sum(pool.map(delete, batches(versions(s3, bucket))))


def mark(status, tag):
    def all_of_it(s3, bucket, pool):
        def one(version):
            which = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
            s3.put_object_legal_hold(**which, LegalHold={"Status": status})
            s3.put_object_tagging(**which, Tagging={"TagSet": [{"Key": "toezicht-retention", "Value": tag}]})
            return 1

        return sum(pool.map(one, versions(s3, bucket)))

    return all_of_it


WORK = {"sweep": sweep, "place": mark("ON", "held"), "release": mark("OFF", "video")}


def main():
    work, bucket = WORK[sys.argv[1]], sys.argv[2]
    s3 = client()
    with ThreadPoolExecutor(THREADS) as pool:
        begun = time.monotonic()
        count = work(s3, bucket, pool)
        print(json.dumps({"seconds": time.monotonic() - begun, "versions": count}))


main()
