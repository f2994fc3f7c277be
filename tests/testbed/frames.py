#!/usr/bin/env python3
"""Which frames of the test cameras are in an MP4 file (fragmented or not)?

    frames.py [--whole] FILE…      or      frames.py < FILE

Prints a JSON line for every access unit, in the file's order:
    {"number": 42, "wall_ns": 1780000000000000000, "pts": 1.4, "keyframe": true, "idr": true}
With --whole a line for every file: {"frames": […], "streams": […], "format": {…}}, the last two as ffprobe has them.
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
    """What ffprobe says of the file, and the codec and the packets of its video track."""
    command = ["ffprobe", "-v", "error", "-of", "json"]
    command += ["-show_entries", "stream:format:packet=stream_index,pts_time,flags,pos,size", path]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    track = next((stream for stream in found.get("streams", []) if stream["codec_type"] == "video"), None)
    if not track:
        raise SystemExit(f"{path}: no video track")
    packets = [packet for packet in found.pop("packets", []) if packet["stream_index"] == track["index"]]
    return found, track["codec_name"], packets


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


def read(path):
    """What ffprobe says of the file, and its frames."""
    whole, codec, packets = probe(path)
    frames = []
    with open(path, "rb") as file:
        for packet in packets:
            file.seek(int(packet["pos"]))
            found = frame(codec == "hevc", file.read(int(packet["size"])))
            found["pts"] = float(packet["pts_time"])
            found["keyframe"] = "K" in packet["flags"]
            frames.append(found)
    return whole, frames


def show(path):
    for found in read(path)[1]:
        print(json.dumps(found))


def show_whole(path):
    whole, frames = read(path)
    print(json.dumps(whole | {"frames": frames}))


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # frames.py … | head
    files = sys.argv[1:]
    if files[:1] == ["--whole"]:
        for path in files[1:]:
            show_whole(path)
        return
    if files:
        for path in files:
            show(path)
        return
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        show(file.name)


if __name__ == "__main__":
    main()
