"""Output that cannot be written is dropped, and the reason kept."""

from __future__ import annotations

import errno
import os

from affect_jax.core.lossy_streams import LossyStream


def test_text_is_written_at_once():
    reader, writer = os.pipe()
    stream = LossyStream(writer)
    print("größer \udc80", file=stream)
    assert os.read(reader, 100).decode() == "größer \\udc80\n"
    assert stream.error is None and not stream.isatty() and stream.fileno() == writer
    os.close(reader)
    print("text", file=stream)
    assert stream.error is not None and stream.error.errno == errno.EPIPE
    os.close(writer)


def test_full_disk_does_not_raise():
    with open("/dev/full", "w") as full:
        stream = LossyStream(full.fileno())
        print("text", file=stream, flush=True)
    assert stream.error is not None and stream.error.errno == errno.ENOSPC


def test_closed_descriptor_is_not_given_to_another_file(tmp_path):
    reader, writer = os.pipe()
    os.close(writer)
    stream = LossyStream(writer)
    with (tmp_path / "file").open("w") as file:
        assert file.fileno() != writer
        print("text", file=stream)
    assert (tmp_path / "file").read_text() == ""
    assert stream.error is not None and stream.error.errno == errno.EBADF
    os.close(reader)
    os.close(writer)
