#!/usr/bin/env python3
"""The objects of a bucket, for tests that prove what was recorded.

    s3-fetch.py SERVER.json BUCKET PREFIX [--limit N] [--to DIR]

Prints the keys under PREFIX in their order, the first N of them; with --to, each as KEY<tab>FILE, fetched
into DIR. Nobody may read recordings that no incident holds: where the bucket's policy
denies even the store's administrator, it is lifted for the length of the reading and
put back as it was.
"""
import argparse
import os

from botocore.exceptions import ClientError
from s3client import connect


def keys(client, bucket, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))


def fetch(client, bucket, wanted, folder):
    for number, key in enumerate(wanted):
        name = f"{number:05}.mp4"
        client.download_file(bucket, key, os.path.join(folder, name))
        print(f"{key}\t{name}")


def refused(error):
    return error.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("bucket")
    parser.add_argument("prefix")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--to")
    args = parser.parse_args()
    client = connect(args.server, "admin")

    def act():
        wanted = keys(client, args.bucket, args.prefix)[: args.limit]
        if args.to:
            fetch(client, args.bucket, wanted, args.to)
        else:
            print(*wanted, sep="\n", end="\n" if wanted else "")

    try:
        act()
    except ClientError as error:
        if not refused(error):
            raise
        policy = client.get_bucket_policy(Bucket=args.bucket)["Policy"]
        client.delete_bucket_policy(Bucket=args.bucket)
        try:
            act()
        finally:
            client.put_bucket_policy(Bucket=args.bucket, Policy=policy)


if __name__ == "__main__":
    main()
