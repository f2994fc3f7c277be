#!/usr/bin/env python3
"""The objects of a bucket, for tests that prove what was recorded.

    s3-fetch.py SERVER.json BUCKET PREFIX [--limit N] [--to DIR] [--as IDENTITY [--exactly]]

Prints the keys under PREFIX in their order, the first N of them; with --to, each as KEY<tab>FILE, fetched
into DIR. With --as, as this identity and no more; --exactly takes PREFIX for a key, which nobody need list.

Without --as, as the store's administrator or the bucket's owner. Nobody may read recordings that no incident holds:
where the bucket's policy denies even these, another takes its place for the length of the reading. It allows what that
one allowed, or no recorder could upload meanwhile. (Without any, Ceph lets only the recorder read what it wrote.) Where
an operator puts it back meanwhile, that is done once more.
"""
import argparse
import json
import os

from botocore.exceptions import ClientError
from s3client import connect

OWNERS = ("admin", "operator")
TRIES = 50


def keys(client, bucket, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))


def read(client, args):
    wanted = [args.prefix] if args.exactly else keys(client, args.bucket, args.prefix)[: args.limit]
    if not args.to:
        return wanted
    lines = []
    for number, key in enumerate(wanted):
        name = f"{number:05}.mp4"
        client.download_file(args.bucket, key, os.path.join(args.to, name))
        lines.append(f"{key}\t{name}")
    return lines


def is_refused(error):
    return error.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def unless_refused(act):
    """Whether it was refused, and what it gave."""
    try:
        return False, act()
    except ClientError as error:
        if not is_refused(error):
            raise
        return True, None


def read_with_own_policy(client, args, principal):
    policy = client.get_bucket_policy(Bucket=args.bucket)["Policy"]
    bucket = f"arn:aws:s3:::{args.bucket}"
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [principal]},
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [bucket, f"{bucket}/*"],
    }
    allowed = [other for other in json.loads(policy)["Statement"] if other["Effect"] == "Allow"]
    own = json.dumps({"Version": "2012-10-17", "Statement": [*allowed, statement]})
    try:
        for _ in range(TRIES):
            client.put_bucket_policy(Bucket=args.bucket, Policy=own)
            refused, lines = unless_refused(lambda: read(client, args))
            if not refused:
                return lines
        raise SystemExit(f"{args.bucket}: its policy was put back {TRIES} times")
    finally:
        client.put_bucket_policy(Bucket=args.bucket, Policy=policy)


def read_as_owner(args):
    with open(args.server, encoding="utf-8") as file:
        known = json.load(file)["identities"]
    for identity in OWNERS:
        if identity not in known:
            continue
        client = connect(args.server, identity)
        principal = known[identity].get("principal", "*")
        ways = (lambda: read(client, args), lambda: read_with_own_policy(client, args, principal))
        for way in ways:
            refused, lines = unless_refused(way)
            if not refused:
                return lines
    raise SystemExit(f"{args.bucket}: neither of {OWNERS} may read it")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("bucket")
    parser.add_argument("prefix")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--to")
    parser.add_argument("--as", dest="identity")
    parser.add_argument("--exactly", action="store_true")
    args = parser.parse_args()
    lines = read(connect(args.server, args.identity), args) if args.identity else read_as_owner(args)
    print(*lines, sep="\n", end="\n" if lines else "")


if __name__ == "__main__":
    main()
