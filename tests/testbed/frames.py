#!/usr/bin/env python3
"""Which frames of the test cameras are in an MP4 file (fragmented or not)?

    frames.py FILE…      or      frames.py < FILE

Prints a JSON line for every access unit, in the file's order:
    {"number": 42, "wall_ns": 1780000000000000000, "pts": 1.4, "keyframe": true, "idr": true}
`number` and `wall_ns` are what the camera wrote into it (null: nothing), `pts` is in
seconds, `keyframe` is what the container says and `idr` what the bitstream says.
ffprobe finds the access units; only their SEI messages are read here.
"""
import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

UUID = b"toezicht-testbed"


def probe(path):
    """The codec and the packets of the video track."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-select_streams", "v:0"]
    command += ["-show_entries", "stream=codec_name:packet=pts_time,flags,pos,size", path]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if not found.get("streams"):
        raise SystemExit(f"{path}: no video track")
    return found["streams"][0]["codec_name"], found.get("packets", [])


def nal_units(sample):
    """NAL units of an MP4 sample, each after its length in four bytes."""
    at = 0
    while at + 4 <= len(sample):
        (length,) = struct.unpack_from(">I", sample, at)
        if at + 4 + length > len(sample):
            raise SystemExit("a NAL unit longer than its sample")
        yield sample[at + 4 : at + 4 + length]
        at += 4 + length


def frame(hevc, sample):
    number = wall = None
    idr = False
    for nal in nal_units(sample):
        kind = (nal[0] >> 1) & 63 if hevc else nal[0] & 31
        idr = idr or (16 <= kind <= 21 if hevc else kind == 5)
        if kind == (39 if hevc else 6):
            payload = nal.replace(b"\x00\x00\x03", b"\x00\x00")  # undo emulation prevention
            at = payload.find(UUID)
            if at >= 0:
                number, wall = struct.unpack_from(">QQ", payload, at + len(UUID))
    return {"number": number, "wall_ns": wall, "idr": idr}


def show(path):
    codec, packets = probe(path)
    with open(path, "rb") as file:
        for packet in packets:
            file.seek(int(packet["pos"]))
            found = frame(codec == "hevc", file.read(int(packet["size"])))
            found["pts"] = float(packet["pts_time"])
            found["keyframe"] = "K" in packet["flags"]
            print(json.dumps(found))


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # frames.py … | head
    if len(sys.argv) > 1:
        for path in sys.argv[1:]:
            show(path)
        return
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        show(file.name)


if __name__ == "__main__":
    main()
