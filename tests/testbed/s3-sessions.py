#!/usr/bin/env python3
"""Lets identities of an S3 server ask its STS for temporary keys of their own.

    s3-sessions.py SERVER-FILE IDENTITY…"""
import json
import sys

import boto3

MAY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:GetSessionToken", "Resource": "*"}]}

with open(sys.argv[1], encoding="utf-8") as file:
    server = json.load(file)
admin = server["identities"]["admin"]
iam = boto3.client(
    "iam",
    endpoint_url=server["endpoint"],
    region_name=server["region"],
    aws_access_key_id=admin["accessKey"],
    aws_secret_access_key=admin["secretKey"],
)
for identity in sys.argv[2:]:
    iam.put_user_policy(UserName=identity, PolicyName="sessions", PolicyDocument=json.dumps(MAY))
