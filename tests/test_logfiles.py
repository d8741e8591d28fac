"""Public names of logs and pid files: real links, real files of other users, real read-only folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.memory.logfiles import Link, link_fault, mend, mendable, real_fault, remove_public, write_public

BOB = 65534  # nobody
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")


@pytest.fixture
def link(tmp_path: Path) -> Link:
    (tmp_path / "state").mkdir()
    (tmp_path / "tmp").mkdir(mode=0o777)
    real = tmp_path / "state" / "recon-api.log"
    real.write_text("the real log\n")
    return Link(str(tmp_path / "tmp" / "recon-api.log"), str(real))


def lies_in(link: Link) -> list[str]:
    return sorted(os.listdir(os.path.dirname(link.public)))


def leave_to_bob(path: str) -> None:
    os.lchown(path, BOB, BOB)


def test_a_missing_link_is_made_and_a_second_time_nothing_changes(link: Link) -> None:
    assert link_fault(link) == "missing"
    assert mendable(link)
    assert mend(link) is None
    made = os.lstat(link.public)
    assert os.readlink(link.public) == link.real
    assert link_fault(link) is None
    assert not mendable(link)
    assert mend(link) is None
    assert os.lstat(link.public) == made
    assert lies_in(link) == ["recon-api.log"]


def test_f33_the_public_path_is_removed_and_made_again_while_a_writer_goes_on(link: Link) -> None:
    mend(link)
    with open(link.real, "a") as service:
        os.unlink(link.public)
        assert link_fault(link) == "missing"
        assert mend(link) is None
        service.write("written on\n")
    assert Path(link.public).read_text() == "the real log\nwritten on\n"


def test_f33_the_real_file_is_removed_and_that_is_seen_until_a_restart(link: Link) -> None:
    mend(link)
    with open(link.real, "a") as service:
        info = os.fstat(service.fileno())
        opened = (info.st_dev, info.st_ino)
        assert real_fault(link.real, opened) is None
        os.unlink(link.real)
        assert "was deleted" in (real_fault(link.real, opened) or "")
        Path(link.real).touch()  # by hand: the writer does not know of it
        assert "not the file that the service writes to" in (real_fault(link.real, opened) or "")
        assert real_fault(link.real) is None
    assert link_fault(link) is None


def test_a_link_of_ours_to_elsewhere_is_turned(link: Link, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    os.symlink(elsewhere, link.public)
    assert link_fault(link) == f"points elsewhere: {elsewhere}"
    assert mend(link) is None
    assert os.readlink(link.public) == link.real
    assert elsewhere.read_text() == "untouched"
    assert lies_in(link) == ["recon-api.log"]


def test_an_old_file_of_ours_is_kept_aside_and_never_overwritten(link: Link) -> None:
    for number in range(3):
        Path(link.public).unlink(missing_ok=True)
        Path(link.public).write_text(f"old {number}")
        assert link_fault(link) == "a regular file of ours"
        assert mendable(link)
        assert mend(link) is None
        assert os.readlink(link.public) == link.real
    _, *kept = lies_in(link)
    folder = Path(link.public).parent
    assert all(re.fullmatch(r"recon-api\.log\.old-\d{8}T\d{6}(-\d)?", name) for name in kept)
    assert sorted((folder / name).read_text() for name in kept) == ["old 0", "old 1", "old 2"]


def test_many_that_mend_at_once_keep_the_old_file_once_and_make_one_link(link: Link) -> None:
    for _ in range(20):
        Path(link.public).unlink(missing_ok=True)
        Path(link.public).write_text("precious")
        together(8, lambda: mend(link))
        assert link_fault(link) is None
    kept = [Path(link.public).with_name(name) for name in lies_in(link) if name != "recon-api.log"]
    assert all(path.is_file() and not path.is_symlink() and path.read_text() == "precious" for path in kept)
    assert len({path.stat().st_ino for path in kept}) == 20


def together(count: int, call: Callable[[], object]) -> None:
    start = threading.Barrier(count)

    def run() -> None:
        start.wait(10)
        call()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)


@as_root
def test_another_users_link_is_left_alone_by_root_too(link: Link, tmp_path: Path) -> None:
    os.symlink(tmp_path / "trap", link.public)
    leave_to_bob(link.public)
    refused(link, "user nobody's symlink: left alone")
    assert os.readlink(link.public) == str(tmp_path / "trap")
    assert not (tmp_path / "trap").exists()


@as_root
def test_another_users_link_to_the_right_place_is_left_alone_too(link: Link) -> None:
    os.symlink(link.real, link.public)
    leave_to_bob(link.public)
    refused(link, "user nobody's symlink: left alone")


@as_root
def test_another_users_file_is_left_alone_by_root_too(link: Link) -> None:
    Path(link.public).write_text("bob's")
    leave_to_bob(link.public)
    refused(link, "user nobody's file: left alone")
    assert Path(link.public).read_text() == "bob's"


def test_a_directory_and_a_fifo_are_left_alone(link: Link) -> None:
    os.mkdir(link.public)
    refused(link, "a directory: left alone")
    os.rmdir(link.public)
    os.mkfifo(link.public)
    refused(link, "a special file: left alone")


def refused(link: Link, words: str) -> None:
    """It is reported, not mended, and neither written over nor removed as a pid file would be."""
    before = os.lstat(link.public)
    assert link_fault(link) == words
    assert not mendable(link)
    assert mend(link) == words
    assert write_public(link.public, "1\n") == f"{link.public}: {words}"
    assert remove_public(link.public) == f"{link.public}: {words}"
    after = os.lstat(link.public)
    assert (after.st_ino, after.st_uid, after.st_mtime) == (before.st_ino, before.st_uid, before.st_mtime)
    assert lies_in(link) == ["recon-api.log"]


@as_root
def test_a_folder_behind_another_users_link_is_not_worked_in(link: Link, tmp_path: Path) -> None:
    os.symlink(tmp_path / "state", tmp_path / "way")
    leave_to_bob(str(tmp_path / "way"))
    words = f"{tmp_path / 'way'} is user nobody's symlink: left alone"
    trap = Link(str(tmp_path / "way" / "x.log"), link.real)
    assert mend(trap) == words
    assert write_public(trap.public, "1\n") == f"{trap.public}: {words}"
    assert os.listdir(tmp_path / "state") == ["recon-api.log"]


def test_a_missing_folder_is_named(link: Link, tmp_path: Path) -> None:
    away = Link(str(tmp_path / "away" / "x.log"), link.real)
    assert link_fault(away) == mend(away) == f"folder {tmp_path / 'away'} does not exist"
    assert not mendable(away)
    assert write_public(away.public, "1") == f"{away.public}: folder {tmp_path / 'away'} does not exist"
    assert remove_public(away.public) is None
    below = Link(f"{link.real}/x.log", link.real)
    assert mend(below) == f"{link.real} is not a folder"


def test_a_log_that_is_its_own_public_name_is_let_be(link: Link) -> None:
    for there in (True, False):
        assert link_fault(Link(link.real, link.real)) is None
        assert mend(Link(link.real, link.real)) is None
        assert os.path.exists(link.real) == there
        Path(link.real).unlink(missing_ok=True)


UNWRITABLE = """
import os, sys
from ops.memory.logfiles import Link, link_fault, mend, mendable, write_public
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
link = Link(*sys.argv[1:3])
print(link_fault(link), mendable(link), mend(link), write_public(link.public, "1"), sep="|")
"""


def test_a_folder_that_we_may_not_write_to_is_named(link: Link, tmp_path: Path) -> None:
    folder = os.path.dirname(link.public)
    os.chmod(folder, 0o555)
    above = tmp_path
    while above != above.parent and above.stat().st_uid == os.geteuid() and above != Path("/tmp"):
        above.chmod(0o755)  # pytest's folders are closed to the plain user that root becomes here
        above = above.parent
    command = [sys.executable, "-c", UNWRITABLE, link.public, link.real]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    os.chmod(folder, 0o755)
    words = f"{folder} is not writable"
    assert said.strip() == f"{words}|False|{words}|{link.public}: {words}"


def test_a_pid_file_is_written_whole_and_replaced(link: Link) -> None:
    for text in ("4711\n", "4712\n"):
        assert write_public(link.public, text) is None
        assert Path(link.public).read_text() == text
        assert lies_in(link) == ["recon-api.log"]


def test_a_pid_file_is_for_all_to_read_and_for_us_to_write(link: Link) -> None:
    before = os.umask(0)
    try:
        assert write_public(link.public, "4711\n") is None
    finally:
        os.umask(before)
    assert os.stat(link.public).st_mode & 0o777 == 0o644


FULL = """
import resource, sys
from ops.memory.logfiles import write_public
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte can be written: Python ignores SIGXFSZ
print(write_public(sys.argv[1], "4712"), flush=True)
"""


def test_a_write_that_fails_leaves_what_was_there(link: Link) -> None:
    write_public(link.public, "4711\n")
    command = [sys.executable, "-c", FULL, link.public]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=20).stdout
    assert said == f"{link.public}: File too large\n"
    assert Path(link.public).read_text() == "4711\n"
    assert lies_in(link) == ["recon-api.log"]


def test_a_pid_file_is_never_written_through_a_link(link: Link) -> None:
    os.symlink(link.real, link.public)
    assert write_public(link.public, "4711\n") is None
    assert Path(link.real).read_text() == "the real log\n"
    assert not os.path.islink(link.public)


def test_a_reader_never_sees_half_a_pid_file(link: Link) -> None:
    text = "4711\n" * 1000
    write_public(link.public, text)
    seen: list[str] = []
    together(2, lambda: seen.extend(read_or_write(link.public, text) for _ in range(300)))
    assert set(seen) == {text}


def read_or_write(path: str, text: str) -> str:
    write_public(path, text)
    return Path(path).read_text()


def test_what_is_ours_is_removed_and_nothing_behind_it(link: Link) -> None:
    os.symlink(link.real, link.public)
    assert remove_public(link.public) is None
    write_public(link.public, "4711\n")
    assert remove_public(link.public) is None
    assert remove_public(link.public) is None
    assert lies_in(link) == []
    assert os.path.exists(link.real)
