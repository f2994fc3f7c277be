#!/usr/bin/env python3
"""Lets identities of Ceph ask its STS for temporary keys of their own, and makes it know an issuer of tokens.

    ceph-sts.py SERVER-FILE ISSUER CERTIFICATE IDENTITY…

CERTIFICATE, a PEM file, is that of the issuer's signing key."""
import hashlib
import json
import ssl
import sys

import boto3

server_file, issuer, certificate, *identities = sys.argv[1:]
with open(server_file, encoding="utf-8") as file:
    server = json.load(file)
with open(certificate, encoding="ascii") as file:
    thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(file.read())).hexdigest()
admin = server["identities"]["admin"]
iam = boto3.client(
    "iam",
    endpoint_url=server["endpoint"],
    region_name=server["region"],
    aws_access_key_id=admin["accessKey"],
    aws_secret_access_key=admin["secretKey"],
)
MAY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:GetSessionToken", "Resource": "*"}]}
for identity in identities:
    iam.put_user_policy(UserName=identity, PolicyName="sessions", PolicyDocument=json.dumps(MAY))
iam.create_open_id_connect_provider(Url=issuer, ClientIDList=["sts.amazonaws.com"], ThumbprintList=[thumbprint])
