#!/usr/bin/env python3
"""The configuration of a bucket as the server tells it, in one JSON document.

    s3-readback.py SERVER.json BUCKET [--as IDENTITY]

What the server refuses or does not have is {"error": CODE}.
"""
import argparse
import json

from botocore.exceptions import ClientError
from s3client import connect


def policy(client, bucket):
    return json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])


QUESTIONS = {
    "objectLock": lambda c, b: c.get_object_lock_configuration(Bucket=b)["ObjectLockConfiguration"],
    "versioning": lambda c, b: c.get_bucket_versioning(Bucket=b).get("Status"),
    "lifecycle": lambda c, b: c.get_bucket_lifecycle_configuration(Bucket=b)["Rules"],
    "policy": policy,
    "encryption": lambda c, b: c.get_bucket_encryption(Bucket=b)["ServerSideEncryptionConfiguration"],
    "publicAccessBlock": lambda c, b: c.get_public_access_block(Bucket=b)["PublicAccessBlockConfiguration"],
    "acl": lambda c, b: c.get_bucket_acl(Bucket=b)["Grants"],
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("bucket")
    parser.add_argument("--as", dest="identity", default="admin")
    args = parser.parse_args()
    client = connect(args.server, args.identity)
    answers = {}
    for name, ask in QUESTIONS.items():
        try:
            answers[name] = ask(client, args.bucket)
        except ClientError as error:
            answers[name] = {"error": error.response["Error"].get("Code")}
    print(json.dumps(answers, indent=1, default=str))


if __name__ == "__main__":
    main()
