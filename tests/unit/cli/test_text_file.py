"""Text that a user names: whatever stands at the path, the answer is the text or one clear line."""

import os
import subprocess
import threading

import pytest
from kvpool_cli import text_file
from kvpool_cli.errors import INVALID_INPUT, UserError
from kvpool_cli.text_file import read_text


def refusal(path, **told):
    with pytest.raises(UserError) as caught:
        read_text(path, **told)
    assert caught.value.exit_code == INVALID_INPUT
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_read_as_utf_8_with_or_without_a_byte_order_mark(tmp_path):
    (tmp_path / "plain").write_text("ä: 1\n")
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    assert read_text(tmp_path / "plain") == "ä: 1\n"
    assert read_text(tmp_path / "marked") == "a: 1\r\n"


def test_what_is_missing_or_a_folder_is_said(tmp_path):
    assert f"--trace {tmp_path / 'none'}: cannot be read: No such file" in refusal(tmp_path / "none", named="--trace")
    assert "Is a directory" in refusal(tmp_path)


def test_bytes_that_are_no_text_are_named_with_their_place(tmp_path):
    (tmp_path / "utf-16").write_bytes("a: 1".encode("utf-16"))
    assert "byte 1 is not UTF-8; save it as UTF-8 text" in refusal(tmp_path / "utf-16")


def test_a_file_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "MOST_BYTES", 1 << 20)
    assert "more than 1 MiB" in refusal("/dev/zero")


def test_a_pipe_is_read_to_its_end(tmp_path):
    with subprocess.Popen(["printf", "a: 1"], stdout=subprocess.PIPE) as writer:
        assert read_text(f"/dev/fd/{writer.stdout.fileno()}") == "a: 1"


def test_a_writer_that_comes_late_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a: 1",))
    writer.start()
    assert read_text(tmp_path / "pipe") == "a: 1"
    writer.join(5)


def test_a_pipe_into_which_nobody_writes_is_one_line_and_not_a_wait_for_ever(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe into which nobody wrote within 0.05 s" in refusal(tmp_path / "pipe", writer_within_s=0.05)
