#!/usr/bin/env python3
"""Tries one operation as one identity, and says in JSON how it ended.

    s3-try.py SERVER.json BUCKET --as IDENTITY OPERATION [KEY] [--version ID]
              [--tag NAME=VALUE] [--hold ON|OFF] [--if-none-match] [--body TEXT]

    {"ok": false, "status": 403, "code": "AccessDenied"}    {"ok": true, "status": 200, …}

Exit code 0 whatever the answer; not 0 when there was none.
`hold-on` and `hold-off` set the legal hold; `get-version` and `delete-version` want
--version; `retag` replaces the tags by those given; `list-versions` tells of every
version and delete marker its tags and legal hold.
"""
import argparse
import json

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from s3client import connect


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("bucket")
    parser.add_argument("--as", dest="identity", required=True)
    parser.add_argument("operation", choices=sorted(OPERATIONS))
    parser.add_argument("key", nargs="?", default="")
    parser.add_argument("--version", dest="version")
    parser.add_argument("--tag", action="append", default=[])
    parser.add_argument("--hold", choices=["ON", "OFF"])
    parser.add_argument("--if-none-match", action="store_true")
    parser.add_argument("--body", default="test")
    return parser.parse_args()


def where(args):
    found = {"Bucket": args.bucket, "Key": args.key}
    if args.version:
        found["VersionId"] = args.version
    return found


def put(client, args, tagging=True):
    extra = {}
    if tagging:
        extra["Tagging"] = "&".join(args.tag or ["toezicht-retention=video"])
    if args.hold:
        extra["ObjectLockLegalHoldStatus"] = args.hold
    if args.if_none_match:
        extra["IfNoneMatch"] = "*"
    return client.put_object(Bucket=args.bucket, Key=args.key, Body=args.body.encode(), **extra)


def get(client, args):
    answer = client.get_object(**where(args))
    answer["body"] = answer.pop("Body").read().decode(errors="replace")[:200]
    return answer


def hold(status):
    return lambda c, a: c.put_object_legal_hold(**where(a), LegalHold={"Status": status})


def retag(client, args):
    pairs = [tag.split("=", 1) for tag in args.tag or ["toezicht-retention=held"]]
    return client.put_object_tagging(**where(args), Tagging={"TagSet": [{"Key": k, "Value": v} for k, v in pairs]})


def code_or(ask):
    try:
        return ask()
    except ClientError as error:
        return {"error": error.response["Error"].get("Code")}


def version_facts(client, bucket, version):
    at = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
    return {
        "key": version["Key"],
        "versionId": version["VersionId"],
        "latest": version["IsLatest"],
        "lastModified": version["LastModified"].isoformat(),
        "size": version["Size"],
        "tags": code_or(lambda: {t["Key"]: t["Value"] for t in client.get_object_tagging(**at)["TagSet"]}),
        "legalHold": code_or(lambda: client.get_object_legal_hold(**at)["LegalHold"]["Status"]),
    }


def list_versions(client, args):
    versions, markers = [], []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=args.bucket, Prefix=args.key):
        versions += [version_facts(client, args.bucket, v) for v in page.get("Versions", [])]
        markers += [
            {"key": m["Key"], "versionId": m["VersionId"], "latest": m["IsLatest"]}
            for m in page.get("DeleteMarkers", [])
        ]
    return {"ResponseMetadata": {"HTTPStatusCode": 200}, "versions": versions, "deleteMarkers": markers}


def list_keys(client, args):
    answer = client.list_objects_v2(Bucket=args.bucket, Prefix=args.key)
    answer["keys"] = [o["Key"] for o in answer.get("Contents", [])]
    return answer


def notify(client, args):
    """A topic of Ceph's, and a notification of the bucket to it."""
    with open(args.server, encoding="utf-8") as file:
        server = json.load(file)
    keys = server["identities"][args.identity]
    topics = boto3.client(
        "sns",
        endpoint_url=server["endpoint"],
        region_name="default",
        aws_access_key_id=keys["accessKey"],
        aws_secret_access_key=keys["secretKey"],
    )
    topic = topics.create_topic(Name=f"t-{args.bucket}", Attributes={"push-endpoint": "http://127.0.0.1:1"})
    told = {"Id": "x", "TopicArn": topic["TopicArn"], "Events": ["s3:ObjectCreated:*"]}
    return client.put_bucket_notification_configuration(
        Bucket=args.bucket, NotificationConfiguration={"TopicConfigurations": [told]}
    )


OPERATIONS = {
    "create-bucket": lambda c, a: c.create_bucket(Bucket=a.bucket, ObjectLockEnabledForBucket=True),
    "notify": notify,
    "head-bucket": lambda c, a: c.head_bucket(Bucket=a.bucket),
    "put": put,
    "put-without-tag": lambda c, a: put(c, a, tagging=False),
    "get": get,
    "get-version": get,
    "head": lambda c, a: c.head_object(**where(a)),
    "list": list_keys,
    "list-versions": list_versions,
    "delete": lambda c, a: c.delete_object(**where(a)),
    "delete-version": lambda c, a: c.delete_object(**where(a)),
    "retag": retag,
    "get-tags": lambda c, a: c.get_object_tagging(**where(a)),
    "hold-on": hold("ON"),
    "hold-off": hold("OFF"),
    "get-hold": lambda c, a: c.get_object_legal_hold(**where(a)),
}
# What of an answer is shown, under which name.
SHOWN = {
    "VersionId": "versionId", "DeleteMarker": "deleteMarker", "body": "body", "keys": "keys", "TagSet": "tags",
    "LegalHold": "legalHold", "versions": "versions", "deleteMarkers": "deleteMarkers",
}  # fmt: skip


def main():
    args = arguments()
    try:
        answer = OPERATIONS[args.operation](connect(args.server, args.identity), args)
    except ClientError as error:
        meta = error.response["ResponseMetadata"]
        result = {"ok": False, "status": meta["HTTPStatusCode"], "code": error.response["Error"].get("Code")}
    except BotoCoreError as error:  # no answer at all
        print(json.dumps({"ok": False, "status": None, "code": type(error).__name__}))
        raise SystemExit(1) from error
    else:
        result = {"ok": True, "status": answer["ResponseMetadata"]["HTTPStatusCode"]}
        result |= {name: answer[key] for key, name in SHOWN.items() if key in answer}
    print(json.dumps(result, default=str))


if __name__ == "__main__":
    main()
