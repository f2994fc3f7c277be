#!/usr/bin/python3
"""RTSP cameras for tests, on GStreamer's RTSP server (the library in the firmware of
many real cameras). They loop encoded clips in real time and have an audio track on
purpose.

    rtsp://ADDRESS:PORT/h264/0 …   rtsp://ADDRESS:PORT/h265/0 …

Every access unit carries an SEI message (user data unregistered) of
    16 bytes UUID, 8 bytes frame number, 8 bytes wall clock in ns since 1970 (big endian)
so a test can prove from a recording alone which frames are there, and how true its
times are (frames.py reads them back).

A camera numbers its frames by the time since it started, one number a frame period:
while anyone watches there is no hole; when nobody does, the stream stops, and begins
again at a keyframe with the number that time has reached. So the numbers missing in a
recording tell how long nothing was recorded.

With --epoch, the frames of all cameras are numbered from that instant, and each carries
the time at which it was due instead of the clock. So numbers and times go on where they
were after a restart of the process, and after it was stopped and continued.

A clip is a byte stream of whole GOPs with access unit delimiters and no B-frames.
"""
import argparse
import os
import socket
import struct
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

UUID = b"toezicht-testbed"
START = b"\x00\x00\x00\x01"
# Nobody needs to listen. Without the tee a viewer of the video alone would make the audio
# source fail, and with it the camera for whoever comes next (503 until the first viewer left).
AUDIO = (
    " audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=8000,channels=1"
    " ! tee allow-not-linked=true ! alawenc ! rtppcmapay name=pay1 pt=8"
)


class Clip:
    """Access units of a byte stream, and where in each the SEI message goes."""

    def __init__(self, path):
        self.kind = "h265" if path.endswith("h265") else "h264"
        with open(path, "rb") as file:
            data = file.read()
        delimiter = START + (b"\x46\x01" if self.kind == "h265" else b"\x09")
        cuts, at = [], data.find(delimiter)
        while at >= 0:
            cuts.append(at)
            at = data.find(delimiter, at + 4)
        units = [data[a:b] for a, b in zip(cuts, cuts[1:] + [len(data)])]
        self.units = [self.split(unit) for unit in units]

    def split(self, unit):
        """The unit before and from its first slice."""
        at = unit.find(b"\x00\x00\x01")
        while at >= 0:
            first = unit[at + 3]
            slice_ = (first >> 1) & 63 < 32 if self.kind == "h265" else first & 31 in (1, 5)
            if slice_:
                at -= unit[at - 1] == 0  # a start code of four bytes
                return unit[:at], unit[at:]
            at = unit.find(b"\x00\x00\x01", at + 3)
        raise ValueError("an access unit without a slice")

    def frame(self, index, number, wall_ns):
        before, after = self.units[index % len(self.units)]
        return before + self.message(number, wall_ns) + after

    def message(self, number, wall_ns):
        payload = UUID + struct.pack(">QQ", number, wall_ns)
        out, zeros = bytearray(), 0
        for byte in bytes([5, len(payload)]) + payload + b"\x80":
            if zeros >= 2 and byte <= 3:  # emulation prevention
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return START + (b"\x4e\x01" if self.kind == "h265" else b"\x06") + bytes(out)


def not_seekable(_pad, info):
    """Cameras do not seek. Without this each further client that asks for "npt=0-"
    makes the server seek in the stream that the others watch, and is refused itself."""
    seeking = info.get_query().type == Gst.QueryType.SEEKING
    return Gst.PadProbeReturn.DROP if seeking else Gst.PadProbeReturn.OK


def forget_when_silent(_server, client):
    """A client whose power was cut holds up the stream that the others watch until TCP gives it up, which takes a quarter of
    an hour. Cameras forget a client that acknowledges nothing much earlier."""
    client.get_connection().get_read_socket().set_option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000)


class Camera(GstRtspServer.RTSPMediaFactory):
    def __init__(self, path, clip, fps, audio, epoch):
        super().__init__()
        self.path, self.clip, self.fps, self.audio, self.since = path, clip, fps, audio, epoch
        self.epoch, self.number = time.monotonic() - (time.time() - epoch if epoch else 0), 0
        self.set_shared(True)  # all clients see the same stream

    def due(self):
        return int((time.monotonic() - self.epoch) * self.fps)

    def wall_ns(self, number):
        return round((self.since + number / self.fps) * 1e9) if self.since else time.time_ns()

    def tell(self, event):
        print(f"{time.time():.3f} {event} {self.path} {self.number}", flush=True)

    def do_create_element(self, _url):
        line = (
            f"( appsrc name=source is-live=true format=time"
            f" caps=video/x-{self.clip.kind},stream-format=byte-stream,alignment=au"
            f" ! rtp{self.clip.kind}pay name=pay0 pt=96 config-interval=-1"
        )
        element = Gst.parse_launch(line + (AUDIO if self.audio else "") + " )")
        for name in ("pay0", "pay1") if self.audio else ("pay0",):
            pad = element.get_child_by_name(name).get_static_pad("src")
            pad.add_probe(Gst.PadProbeType.QUERY_UPSTREAM, not_seekable)
        return element

    def do_configure(self, media):
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)  # makes it shared
        source = media.get_element().get_child_by_name("source")
        first = self.number = max(self.number, self.due())  # index 0 of the clip: a keyframe

        def push():
            while self.number <= self.due():
                index = self.number - first
                frame = self.clip.frame(index, self.number, self.wall_ns(self.number))
                buffer = Gst.Buffer.new_wrapped(frame)
                buffer.pts = buffer.dts = index * Gst.SECOND // self.fps
                buffer.duration = Gst.SECOND // self.fps
                if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return GLib.SOURCE_REMOVE
                self.number += 1
            return GLib.SOURCE_CONTINUE

        timer = GLib.timeout_add(1000 // self.fps // 4, push)

        self.tell("begins")

        def unprepared(_media):
            self.tell("ends")
            if GLib.MainContext.default().find_source_by_id(timer):
                GLib.source_remove(timer)

        media.connect("unprepared", unprepared)


def authentication(user, password, basic, tls):
    auth = GstRtspServer.RTSPAuth()
    if user:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if basic:  # the password in clear, as careless cameras want it
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
    if tls:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(tls))
    return auth


def permissions():
    granted = GstRtspServer.RTSPPermissions()
    granted.add_role("viewer")
    for what in ("access", "construct"):
        granted.add_permission_for_role("viewer", f"media.factory.{what}", True)
    return granted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="10.244.0.1")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--clips", required=True, help="folder with clip.h264 and clip.h265")
    parser.add_argument("--count", type=int, default=1, help="cameras of each codec")
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--epoch", type=float, default=0, help="number frames from this time, in seconds since 1970")
    parser.add_argument("--user", default="camera", help="empty: no authentication")
    parser.add_argument("--password", default="kijk-mee-niet")
    parser.add_argument("--no-audio", action="store_true")
    parser.add_argument("--basic", action="store_true", help="basic instead of digest authentication")
    parser.add_argument("--tls", help="PEM file of a certificate and its key: rtsps instead of rtsp")
    args = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(args.address)
    server.set_service(str(args.port))
    server.connect("client-connected", forget_when_silent)
    if args.user or args.tls:
        server.set_auth(authentication(args.user, args.password, args.basic, args.tls))
    for kind in ("h264", "h265"):
        clip = Clip(os.path.join(args.clips, f"clip.{kind}"))
        for index in range(args.count):
            camera = Camera(f"{kind}/{index}", clip, args.fps, not args.no_audio, args.epoch)
            if args.user:
                camera.set_permissions(permissions())
            server.get_mount_points().add_factory(f"/{kind}/{index}", camera)
    if server.attach(None) == 0:
        raise SystemExit(f"cannot listen on {args.address}:{args.port}")
    print(f"{args.count} cameras of each codec at rtsp://{args.address}:{args.port}/h264/0 …", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
