#!/usr/bin/env python3
"""Units of streams that ffmpeg encodes, and the values that ffmpeg reads in them.

    nal_units.py FILE

Writes tests/expected/nal-units.txt. Its head describes its lines. Needs ffmpeg with x264 and x265, such as that of Debian 12.
The filter trace_headers reads the values, the MP4 muxer writes the configuration box, and ffprobe reads the size from that
file. Some streams have headers that no encoder of ffmpeg makes. This script writes them, and ffmpeg reads them too.
"""
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

SLICE_BYTES = 32
FOLDER = pathlib.Path(tempfile.mkdtemp())
HEAD = """\
# Units of streams that ffmpeg 5.1 (x264, x265) encodes, and the values that ffmpeg reads in them. tests/testbed/nal_units.py
# writes this file.
# clip NAME CODEC WIDTH HEIGHT; entry: avcC or hvcC; vps, sps, pps: units; recovery COUNT EXACT BROKEN UNIT;
# slice TYPE …: H.264 first_mb_in_slice, slice_type, pps, frame_num, field_pic_flag, bottom_field_flag, idr_pic_id,
# pic_order_cnt_lsb, nal_ref_idc; H.265 first_slice_segment_in_pic_flag, slice_type, pps; then the first 32 bytes.
"""
SETS = {"h264": {7: "sps", 8: "pps"}, "h265": {32: "vps", 33: "sps", 34: "pps"}}
SEI = {"h264": 6, "h265": 39}
VALUES = {
    "h264": [
        "first_mb_in_slice", "slice_type", "pic_parameter_set_id", "frame_num", "field_pic_flag", "bottom_field_flag",
        "idr_pic_id", "pic_order_cnt_lsb", "nal_ref_idc",
    ],
    "h265": ["first_slice_segment_in_pic_flag", "slice_type", "slice_pic_parameter_set_id"],
}
REFRESH = "intra-refresh=1:keyint=8:bframes=0"
OPEN_GOP = "open-gop=1:keyint=4:min-keyint=1:bframes=2:b-adapt=0:scenecut=0"
# Name, size, pixel format, parameters of the encoder, number of frames.
CLIPS = {
    "h264": [
        ("baseline", "320x240", "yuv420p", "bframes=0:cabac=0 baseline", 4),
        ("main_cropped", "640x360", "yuv420p", "bframes=2 main", 4),
        ("full_hd", "1920x1080", "yuv420p", "slices=3:aud=1 high", 4),
        ("high_10", "320x240", "yuv420p10le", "bframes=2", 4),
        ("high_422", "322x242", "yuv422p", "keyint=2", 4),
        ("high_444", "322x242", "yuv444p", "bframes=1", 4),
        ("gray", "322x242", "gray", "bframes=1", 4),
        ("interlaced", "720x572", "yuv420p", "tff=1:bframes=1", 4),
        ("scaling_lists", "320x240", "yuv420p", "cqm=jvt", 4),
        ("hrd", "320x240", "yuv420p", "nal-hrd=vbr:vbv-maxrate=1000:vbv-bufsize=1000:bitrate=500", 4),
        ("set_id_7", "320x240", "yuv420p", "sps-id=7", 4),
        ("intra_refresh", "320x240", "yuv420p", REFRESH, 12),
        ("open_gop", "320x240", "yuv420p", OPEN_GOP, 12),
    ],
    "h265": [
        ("main", "320x240", "yuv420p", "bframes=2", 4),
        ("cropped", "322x242", "yuv420p", "slices=2", 4),
        ("main_10", "1920x1080", "yuv420p10le", "bframes=2", 4),
        ("main_12", "320x240", "yuv420p12le", "bframes=2", 4),
        ("main_422_10", "322x242", "yuv422p10le", "bframes=2", 4),
        ("main_444", "322x242", "yuv444p", "bframes=2", 4),
        ("gray_265", "322x242", "gray", "bframes=2", 4),
        ("fields_265", "320x240", "yuv420p", "interlace=tff", 4),
        ("temporal_layers", "320x240", "yuv420p", "temporal-layers=1:bframes=3", 4),
        ("high_tier", "320x240", "yuv420p", "level-idc=5.1:high-tier=1:vbv-maxrate=100000:vbv-bufsize=100000:hrd=1:aud=1", 4),
        ("still", "320x240", "yuv420p", "keyint=1", 4),
        ("intra_refresh_265", "320x240", "yuv420p", REFRESH, 12),
        ("open_gop_265", "320x240", "yuv420p", OPEN_GOP, 12),
    ],
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True)


def encode(name, codec, size, pixels, parameters, frames):
    """Encodes a test picture, and returns the path of the byte stream."""
    path = FOLDER / f"{name}.{codec}"
    parameters, _, profile = parameters.partition(" ")
    encoder = ["-c:v", "libx264", "-x264-params", parameters]
    if codec == "h265":
        encoder = ["-c:v", "libx265", "-x265-params", f"info=0:log-level=none:{parameters}"]
    if profile:
        encoder += ["-profile:v", profile]
    source = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=25", "-frames:v", str(frames)]
    run("ffmpeg", "-v", "error", "-y", *source, "-pix_fmt", pixels, *encoder, str(path))
    return path


def split(path):
    """The units of a byte stream."""
    return [unit.rstrip(b"\0") for unit in re.split(b"\0\0\1", path.read_bytes())[1:]]


def trace(path):
    """The values of each unit of a byte stream: of a repeated name the first one."""
    command = ["ffmpeg", "-i", str(path), "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"]
    units, is_stream = [], False
    for line in run(*command).stderr.splitlines():
        if "] Packet: " in line:
            is_stream = True
        if "] Extradata" in line:
            is_stream = False
        value = re.match(r"\[trace_headers @ \w+\] \d+ +(\S+) +[01]* = (-?\d+)", line)
        if is_stream and value:
            if value[1] == "forbidden_zero_bit":
                units.append({})
            units[-1].setdefault(value[1], int(value[2]))
    return units


def configuration(path, codec):
    """The content of avcC or hvcC, and the size that ffprobe reads in the file."""
    entry, kind = {"h264": ("avc3", b"avcC"), "h265": ("hev1", b"hvcC")}[codec]
    out = FOLDER / "out.mp4"
    run("ffmpeg", "-v", "error", "-y", "-i", str(path), "-c", "copy", "-tag:v", entry, str(out))
    content = out.read_bytes()
    start = content.index(kind) + 4
    (size,) = struct.unpack(">I", content[start - 8:start - 4])
    show = ["-show_entries", "stream=width,height", "-of", "csv=p=0:s=x"]
    return content[start:start - 8 + size], run("ffprobe", "-v", "error", *show, str(out)).stdout.strip().split("x")


def describe(name, codec, path, comment, most_slices):
    """The lines of a clip."""
    units, values = split(path), trace(path)
    assert len(units) == len(values), name
    entry, (width, height) = configuration(path, codec)
    lines = ["", f"# {comment}", f"clip {name} {codec} {width} {height}", f"entry {entry.hex()}"]
    slices = 0
    for unit, value in zip(units, values):
        kind = value["nal_unit_type"]
        if kind in SETS[codec]:
            line = f"{SETS[codec][kind]} {unit.hex()}"
            if line not in lines:
                lines.append(line)
        elif kind == SEI[codec]:
            count = value.get("recovery_frame_cnt", value.get("recovery_poc_cnt"))
            if count is not None:
                flags = f"{value['exact_match_flag']} {value['broken_link_flag']}"
                lines.append(f"recovery {count} {flags} {unit.hex()}")
        elif VALUES[codec][0] in value and slices < most_slices:
            slices += 1
            words = " ".join(str(value.get(key, "-")) for key in VALUES[codec])
            lines.append(f"slice {kind} {words} {unit[:SLICE_BYTES].hex()}")
    return lines


class Bits:
    """Writer of a unit."""

    def __init__(self, bits=""):
        self.bits = bits

    def u(self, count, value):
        self.bits += format(value, f"0{count}b")
        return self

    def ue(self, value):
        code = format(value + 1, "b")
        self.bits += "0" * (len(code) - 1) + code
        return self

    def unit(self, header):
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        unit, zeros = bytearray(header), 0
        for byte in (int(bits[at:at + 8], 2) for at in range(0, len(bits), 8)):
            if zeros >= 2 and byte <= 3:
                unit.append(3)
                zeros = 0
            unit.append(byte)
            zeros = 0 if byte else zeros + 1
        return bytes(unit)


def payload(unit, header):
    """The bits of a unit, without emulation prevention bytes and without the stop bit."""
    content = re.sub(b"\0\0\3", b"\0\0", unit[header:])
    bits = "".join(format(byte, "08b") for byte in content)
    return bits[:len(bits.rstrip("0")) - 1]


def write(name, codec, units):
    path = FOLDER / f"{name}.{codec}"
    # The muxer counts the first zero of a start code of four bytes to the unit before it.
    path.write_bytes(b"".join(b"\0\0\1" + unit for unit in units))
    return path


def pick(units, kinds, kind_of):
    return [next(unit for unit in units if kind_of(unit) == kind) for kind in kinds]


def h264_kind(unit):
    return unit[0] & 31


def h265_kind(unit):
    return unit[0] >> 1


def two_pps():
    """Two PPS of one SPS."""
    units = split(encode("two", "h264", "320x240", "yuv420p", "bframes=0", 2))
    sps, pps = pick(units, (7, 8), h264_kind)
    bits = payload(pps, 1)
    assert bits[0] == "1"
    second = Bits().ue(1)
    second.bits += bits[1:]
    slices = [unit for unit in units if h264_kind(unit) in (1, 5)]
    return write("two_pps", "h264", [sps, pps, second.unit(pps[:1]), *slices])


def fields():
    """I slices of fields, with the sets of an interlaced stream. Only their headers are real."""
    path = FOLDER / "interlaced.h264"
    sps, pps = pick(split(path), (7, 8), h264_kind)
    value = next(value for value in trace(path) if value["nal_unit_type"] == 7)
    assert value["pic_order_cnt_type"] == 0
    frame_num_bits = value["log2_max_frame_num_minus4"] + 4
    order_bits = value["log2_max_pic_order_cnt_lsb_minus4"] + 4

    def field(kind, reference, frame_num, is_bottom, order):
        bits = Bits().ue(0).ue(2).ue(0).u(frame_num_bits, frame_num).u(1, 1).u(1, is_bottom)
        if kind == 5:
            bits.ue(0)
        bits.u(order_bits, order)
        # dec_ref_pic_marking
        if kind == 5:
            bits.u(2, 0)
        elif reference:
            bits.u(1, 0)
        return bits.u(160, int("A5" * 20, 16)).unit(bytes([reference << 5 | kind]))

    slices = [
        field(5, 3, 0, 0, 0), field(1, 3, 0, 1, 1), field(1, 2, 1, 0, 4), field(1, 2, 1, 1, 5),
        field(1, 0, 2, 0, 2), field(1, 0, 2, 1, 3),
    ]
    return write("fields", "h264", [sps, pps, *slices])


def extra_bits():
    """A second PPS with id 1, dependent slices and 2 extra bits in each slice; a P slice that uses it; then the clip main."""
    units = split(FOLDER / "main.h265")
    vps, sps, pps = pick(units, (32, 33, 34), h265_kind)
    bits = payload(pps, 2)
    # PPS 0, SPS 0, no dependent slices, no output flag, no extra bits.
    assert bits[:7] == "1100000"
    second = Bits("010" + "1" + "1" + "0" + "010" + bits[7:]).unit(pps[:2])
    slices = [unit for unit in units if h265_kind(unit) < 32]
    bits = payload(slices[1], 2)
    # First slice, PPS 0.
    assert h265_kind(slices[1]) < 16 and bits[:2] == "11"
    other = Bits("1" + "010" + "10" + bits[2:]).unit(slices[1][:2])
    return write("extra_bits", "h265", [vps, sps, pps, second, slices[0], other, *slices[1:]])


def main():
    lines = []
    for codec, clips in CLIPS.items():
        for name, size, pixels, parameters, frames in clips:
            path = encode(name, codec, size, pixels, parameters, frames)
            lines += describe(name, codec, path, f"{size} {pixels} {parameters}", max(frames, 6))
    lines += describe("two_pps", "h264", two_pps(), "320x240 with a copy of the PPS under id 1", 6)
    lines += describe("fields", "h264", fields(), "sets of interlaced, and I slices of fields by hand", 6)
    comment = "main, and a copy of its PPS under id 1 with 2 extra bits in the slices"
    lines += describe("extra_bits", "h265", extra_bits(), comment, 6)
    pathlib.Path(sys.argv[1]).write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


main()
