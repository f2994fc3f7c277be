"""A boto3 client for an identity of a server file (see README.md): an S3 client of
another make than the program's own, so what it reads back is independent of it."""
import json

import boto3
from botocore.config import Config


def connect(server_file, identity):
    with open(server_file, encoding="utf-8") as file:
        server = json.load(file)
    keys = server["identities"][identity]
    return boto3.client(
        "s3",
        endpoint_url=server["endpoint"],
        region_name=server["region"],
        aws_access_key_id=keys["accessKey"],
        aws_secret_access_key=keys["secretKey"],
        config=Config(
            s3={"addressing_style": "path" if server["pathStyle"] else "auto"},
            retries={"total_max_attempts": 1},  # tests want the first answer
            connect_timeout=5,
            read_timeout=20,
        ),
    )
