#!/usr/bin/env python3
"""Answers calls of s3-fetch.py, s3-readback.py and s3-try.py, so that Python and boto3 start once and not for each call.

    s3-calls.py SOCKET

A connection to SOCKET is a call: a JSON line, ["s3-try.py", ARGUMENT…], answered by one JSON document,
{"code": EXIT CODE, "out": "…", "err": "…"}. Prints a line when it listens, and ends with its standard input.
"""
import contextlib
import importlib.util
import io
import json
import os
import select
import socketserver
import sys
import traceback

import boto3

HERE = os.path.dirname(os.path.abspath(__file__))


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(HERE, name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTS = {name: load(name) for name in ("s3-fetch.py", "s3-readback.py", "s3-try.py")}


def run(script):
    try:
        SCRIPTS[script].main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except Exception:
        traceback.print_exc()
        return 1
    return 0


class Call(socketserver.StreamRequestHandler):
    def handle(self):
        sys.argv = json.loads(self.rfile.readline())
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(sys.argv[0])
        self.wfile.write(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}).encode())


class Calls(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Each call is a process of its own: calls neither wait for each other nor share anything."""

    request_queue_size = 128

    def service_actions(self):
        super().service_actions()
        if select.select([0], [], [], 0)[0] and not os.read(0, 1):
            raise SystemExit


def main():
    with contextlib.suppress(FileNotFoundError):
        os.unlink(sys.argv[1])
    # The session keeps the description of S3 that the first client has read.
    boto3.client("s3", region_name="x", aws_access_key_id="x", aws_secret_access_key="x")
    with Calls(sys.argv[1], Call) as calls:
        print("listening", flush=True)
        try:
            calls.serve_forever()
        finally:
            os.unlink(sys.argv[1])


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    main()
