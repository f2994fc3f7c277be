#!/usr/bin/python3
"""First process of the bed's PID namespace: starts one script and reaps orphans.

When it is killed the kernel ends every process of the bed with it: daemons,
containerd's shims, the containers' processes and whatever `bed run` left. With the
last of them go the bed's network and mount namespaces and all that is in these.

    init.py NAME SCRIPT
"""
import os
import signal
import sys

script = sys.argv[2]
signal.signal(signal.SIGCHLD, lambda *_: None)  # so that pause() returns
if os.fork() == 0:
    os.setsid()
    os.execv("/bin/bash", ["bash", script])
while True:
    try:
        os.wait()
    except ChildProcessError:
        signal.pause()
