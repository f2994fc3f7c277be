#!/usr/bin/env python3
"""Units of streams that ffmpeg encodes, and the values that ffmpeg reads in them.

    nal_units.py FILE

Writes tests/expected/nal-units.txt. Its head describes its lines. It needs ffmpeg with x264 and x265, such as that of Debian 12.
ffmpeg reads the values with its filter trace_headers, writes the configuration box with its MP4 muxer, and ffprobe reads the
size from that file. Streams that no encoder of ffmpeg makes consist of headers that this script writes; ffmpeg reads them too.
"""
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

SLICE_BYTES = 32
T = pathlib.Path(tempfile.mkdtemp())
SOURCE = "testsrc2=s={size}:r=25"

def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True)

def encode(name, codec, size, pixels, params, frames=4, extra=()):
    path = T / f"{name}.{codec}"
    lib = {"h264": ("libx264", "-x264-params"), "h265": ("libx265", "-x265-params")}[codec]
    if codec == "h265":
        params = ":".join(filter(None, ["info=0:log-level=none", params]))
    run("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", SOURCE.format(size=size), "-frames:v", str(frames),
        "-pix_fmt", pixels, "-c:v", lib[0], *extra, lib[1], params or "threads=1", str(path))
    return path

def split(data):
    parts = re.split(b"\x00\x00\x01", data)[1:]
    return [p.rstrip(b"\x00") for p in parts]

def trace(path):
    r = subprocess.run(["ffmpeg", "-i", str(path), "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"], capture_output=True, text=True)
    units, live = [], False
    for line in r.stderr.splitlines():
        if "] Packet: " in line: live = True
        if "] Extradata" in line: live = False
        m = re.match(r"\[trace_headers @ \w+\] (\d+) +(\S+) +([01]*) = (-?\d+)", line)
        if not live or not m: continue
        if m[2] == "forbidden_zero_bit": units.append({})
        units[-1].setdefault(m[2], int(m[4]))
    return units

def box(path, codec):
    out = T / "out.mp4"
    tag = {"h264": "avc3", "h265": "hev1"}[codec]
    run("ffmpeg", "-v", "error", "-y", "-i", str(path), "-c", "copy", "-tag:v", tag, str(out))
    data = out.read_bytes()
    at = data.index({"h264": b"avcC", "h265": b"hvcC"}[codec])
    assert data.index(tag.encode()) < at
    size = struct.unpack(">I", data[at - 4:at])[0]
    probe = run("ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", str(out)).stdout
    return data[at + 4:at - 4 + size], [int(x) for x in probe.strip().split(",")]

def describe(name, codec, path, comment, lines, most=6):
    units, facts = split(path.read_bytes()), trace(path)
    assert len(units) == len(facts), (name, len(units), len(facts))
    config, (width, height) = box(path, codec)
    lines += ["", f"# {comment}", f"clip {name} {codec} {width} {height}", f"entry {config.hex()}"]
    seen, slices = set(), 0
    for unit, f in zip(units, facts):
        kind = f["nal_unit_type"]
        is_h264 = codec == "h264"
        assert kind == (unit[0] & 31 if is_h264 else unit[0] >> 1), (kind, unit[:4])
        if kind in ((7, 8) if is_h264 else (32, 33, 34)):
            if unit in seen: continue
            seen.add(unit)
            word = {7: "sps", 8: "pps", 32: "vps", 33: "sps", 34: "pps"}[kind]
            lines.append(f"{word} {unit.hex()}")
        elif kind in ((6,) if is_h264 else (39,)):
            count = f.get("recovery_frame_cnt", f.get("recovery_poc_cnt"))
            if count is not None:
                lines.append(f"recovery {count} {f['exact_match_flag']} {f['broken_link_flag']} {unit.hex()[:400]}")
        elif "slice_type" in f or "first_slice_segment_in_pic_flag" in f:
            slices += 1
            if slices > most: continue
            if is_h264:
                keys = ["first_mb_in_slice", "slice_type", "pic_parameter_set_id", "frame_num", "field_pic_flag",
                        "bottom_field_flag", "idr_pic_id", "pic_order_cnt_lsb", "nal_ref_idc"]
            else:
                keys = ["first_slice_segment_in_pic_flag", "slice_type", "slice_pic_parameter_set_id"]
            words = " ".join(str(f.get(key, "-")) for key in keys)
            lines.append(f"slice {kind} {words} {unit[:SLICE_BYTES].hex()}")

class Bits:
    def __init__(self): self.b = ""
    def u(self, n, v): self.b += format(v, f"0{n}b"); return self
    def ue(self, v):
        s = format(v + 1, "b"); self.b += "0" * (len(s) - 1) + s; return self
    def nal(self, header):
        b = self.b + "1"; b += "0" * (-len(b) % 8)
        raw = bytes(int(b[i:i + 8], 2) for i in range(0, len(b), 8))
        out = bytearray(header); zeros = 0
        for x in raw:
            if zeros >= 2 and x <= 3: out.append(3); zeros = 0
            out.append(x); zeros = zeros + 1 if x == 0 else 0
        return bytes(out)

def payload_bits(unit, header):
    raw = bytearray(); zeros = 0
    for x in unit[header:]:
        if zeros >= 2 and x == 3: zeros = 0; continue
        raw.append(x); zeros = zeros + 1 if x == 0 else 0
    bits = "".join(format(x, "08b") for x in raw)
    return bits[:bits.rstrip("0").__len__() - 1]  # without the stop bit

def write(name, codec, units):
    path = T / f"{name}.{codec}"
    path.write_bytes(b"".join(b"\0\0\0\1" + unit for unit in units))
    return path

lines = ["# Units of streams that ffmpeg 5.1 (x264, x265) encodes, and what ffmpeg reads in them (trace_headers, MP4 muxer, ffprobe).",
  "# clip NAME CODEC WIDTH HEIGHT; entry: avcC or hvcC; vps, sps, pps: units; recovery COUNT EXACT BROKEN UNIT;",
  "# slice TYPE …: H.264 first_mb_in_slice, slice_type, pps, frame_num, field_pic_flag, bottom_field_flag, idr_pic_id,",
  "# pic_order_cnt_lsb, nal_ref_idc; H.265 first_slice_segment_in_pic_flag, slice_type, pps; then the first 32 bytes."]

H264 = [
  ("baseline", "320x240", "yuv420p", "bframes=0:cabac=0", ("-profile:v", "baseline")),
  ("main_cropped", "640x360", "yuv420p", "bframes=2", ("-profile:v", "main")),
  ("full_hd", "1920x1080", "yuv420p", "slices=3:aud=1", ("-profile:v", "high")),
  ("high_10", "320x240", "yuv420p10le", "bframes=2", ()),
  ("high_422", "322x242", "yuv422p", "keyint=2", ()),
  ("high_444", "322x242", "yuv444p", "bframes=1", ()),
  ("gray", "322x242", "gray", "bframes=1", ()),
  ("interlaced", "720x572", "yuv420p", "tff=1:bframes=1", ()),
  ("scaling_lists", "320x240", "yuv420p", "cqm=jvt", ()),
  ("hrd", "320x240", "yuv420p", "nal-hrd=vbr:vbv-maxrate=1000:vbv-bufsize=1000:bitrate=500", ()),
  ("set_id_7", "320x240", "yuv420p", "sps-id=7", ()),
  ("intra_refresh", "320x240", "yuv420p", "intra-refresh=1:keyint=8:bframes=0", ()),
  ("open_gop", "320x240", "yuv420p", "open-gop=1:keyint=4:min-keyint=1:bframes=2:b-adapt=0:scenecut=0", ()),
]
for name, size, pixels, params, extra in H264:
    frames = 12 if name in ("intra_refresh", "open_gop") else 4
    path = encode(name, "h264", size, pixels, params, frames, extra)
    describe(name, "h264", path, f"libx264, {size}, {pixels}, {params} {' '.join(extra)}".strip(), lines, 12 if frames == 12 else 6)

# Two PPS of one SPS, the second one with id 1.
path = encode("two", "h264", "320x240", "yuv420p", "bframes=0", 2)
units = split(path.read_bytes())
sps, pps = [next(u for u in units if u[0] & 31 == k) for k in (7, 8)]
bits = payload_bits(pps, 1)
assert bits[0] == "1"
second = Bits(); second.b = "010" + bits[1:]
second = second.nal(pps[:1])
path = write("two_pps", "h264", [sps, pps, second] + [u for u in units if u[0] & 31 in (1, 5)])
describe("two_pps", "h264", path, "libx264, 320x240, with a copy of the PPS under id 1", lines)

# Fields: headers of slices, written by hand, with the sets of an interlaced stream.
path = T / "interlaced.h264"
units = split(path.read_bytes())
sps, pps = [next(u for u in units if u[0] & 31 == k) for k in (7, 8)]
facts = next(f for f in trace(path) if f["nal_unit_type"] == 7)
frame_bits = facts["log2_max_frame_num_minus4"] + 4
assert facts["pic_order_cnt_type"] == 0
poc_bits = facts["log2_max_pic_order_cnt_lsb_minus4"] + 4
def field(kind, ref, slice_type, frame_num, bottom, order, idr=None):
    b = Bits().ue(0).ue(slice_type).ue(0).u(frame_bits, frame_num).u(1, 1).u(1, bottom)
    if idr is not None: b.ue(idr)
    b.u(poc_bits, order)
    if slice_type % 5 == 0: b.u(1, 0).u(1, 0)
    elif slice_type % 5 == 1: b.u(1, 1).u(1, 0).ue(0).u(1, 0).u(1, 0)
    if ref and idr is None and slice_type % 5 in (2, ): b.u(1, 0)
    if idr is not None: b.u(2, 0)
    for _ in range(20): b.u(8, 0xA5)
    return b.nal(bytes([ref << 5 | kind]))
fields = [field(5, 3, 7, 0, 0, 0, 0), field(1, 3, 2, 0, 1, 1), field(1, 2, 2, 1, 0, 4), field(1, 2, 2, 1, 1, 5),
          field(1, 0, 2, 2, 0, 2), field(1, 0, 2, 2, 1, 3)]
path = write("fields", "h264", [sps, pps] + fields)
describe("fields", "h264", path, "the sets of the clip interlaced, and headers of I slices of fields, written by hand", lines)

H265 = [
  ("main", "320x240", "yuv420p", "bframes=2"),
  ("cropped", "322x242", "yuv420p", "slices=2"),
  ("main_10", "1920x1080", "yuv420p10le", "bframes=2"),
  ("main_12", "320x240", "yuv420p12le", ""),
  ("main_422_10", "322x242", "yuv422p10le", ""),
  ("main_444", "322x242", "yuv444p", ""),
  ("gray_265", "322x242", "gray", ""),
  ("fields_265", "320x240", "yuv420p", "interlace=tff"),
  ("temporal_layers", "320x240", "yuv420p", "temporal-layers=1:bframes=3"),
  ("high_tier", "320x240", "yuv420p", "level-idc=5.1:high-tier=1:vbv-maxrate=100000:vbv-bufsize=100000:hrd=1:aud=1"),
  ("still", "320x240", "yuv420p", "keyint=1"),
  ("intra_refresh_265", "320x240", "yuv420p", "intra-refresh=1:keyint=8:bframes=0"),
  ("open_gop_265", "320x240", "yuv420p", "open-gop=1:keyint=4:min-keyint=1:bframes=2:b-adapt=0:scenecut=0"),
]
for name, size, pixels, params in H265:
    frames = 12 if "_gop_" in name or "refresh" in name else 4
    path = encode(name, "h265", size, pixels, params, frames)
    describe(name, "h265", path, f"libx265, {size}, {pixels}, {params}", lines, 12 if frames == 12 else 6)

# Two PPS; the second one with id 1, dependent slices and 2 extra bits in each slice.
path = T / "main.h265"
units = split(path.read_bytes())
kind = lambda u: u[0] >> 1
vps, sps, pps = [next(u for u in units if kind(u) == k) for k in (32, 33, 34)]
bits = payload_bits(pps, 2)
assert bits[:2] == "11"
second = Bits(); second.b = "010" + "1" + "1" + "0" + "010" + bits[7:]
second = second.nal(pps[:2])
slices = [u for u in units if kind(u) < 32]
idr = Bits(); b = payload_bits(slices[0], 2)
assert kind(slices[0]) in (19, 20) and b[:3] == "101" or b[:3] == "111", b[:8]
idr.b = b[:2] + "010" + "10" + b[3:]
path = write("extra_bits", "h265", [vps, sps, pps, second, idr.nal(slices[0][:2])] + slices)
describe("extra_bits", "h265", path, "the clip main, and a copy of its PPS under id 1 with 2 extra bits in the slices", lines)
pathlib.Path(sys.argv[1]).write_text("\n".join(lines) + "\n")
