"""Which volume holds a directory, and whether it is missing: at every kind of boot, mount and unmount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.disks import small_disk

from btfast.storage.volumes import Volume, Volumes, mount_points

DISK = os.makedev(8, 17)
NO_DISK = os.makedev(0, 50)  # tmpfs, btrfs, NFS, overlay


def mounts(*points: Path) -> bytes:
    """As the kernel tells them."""
    lines = [f"{n} 1 0:{n} / {str(point).replace(' ', chr(92) + '040')} rw - t s rw" for n, point in enumerate(points)]
    return "\n".join(lines).encode() + b"\n"


def test_paths_are_read_as_the_kernel_escapes_them() -> None:
    text = b"36 35 98:0 /root /mnt/a\\040b\\134c rw - ext4 /dev/sda1 rw\n\nnonsense\n37 35 0:9 / /\xff rw shared:1 - nfs h:/x\n"
    assert mount_points(text) == {"/mnt/a b\\c", os.fsdecode(b"/\xff")}


@pytest.mark.parametrize("volume", [Volume("/mnt/a disk", 2**64 - 1), Volume("/", 0)])
def test_a_volume_is_text_and_back(volume: Volume) -> None:
    assert Volume.unpack(volume.pack()) == volume


@pytest.mark.parametrize("text", ["", "x /a", "1", "1 relative", "1 "])
def test_of_text_that_makes_no_sense_nothing_is_known(text: str) -> None:
    assert Volume.unpack(text) == Volume()
    assert Volume().pack() == ""


def test_the_nearest_mount_holds_a_directory(tmp_path: Path) -> None:
    inner = tmp_path / "a disk" / "out"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inner)
    volumes = Volumes(mounts(Path("/"), tmp_path / "a disk", tmp_path / "a disk" / "ou"))
    for directory in (inner, tmp_path / "link"):
        assert volumes.of(str(directory)) == (str(tmp_path / "a disk"), os.statvfs(inner).f_fsid)
    assert volumes.of(str(tmp_path)).point == "/"
    with pytest.raises(FileNotFoundError):
        volumes.of(str(tmp_path / "not there"))


@pytest.mark.parametrize("device", [DISK, NO_DISK])
@pytest.mark.parametrize("there", ["not at all", "empty", "with something else"])
def test_a_volume_of_any_kind_that_is_not_mounted_is_missing(tmp_path: Path, device: int, there: str) -> None:
    point = tmp_path / "disk"
    directory = point / "out"
    if there != "not at all":
        directory.mkdir(parents=True)
    if there == "with something else":
        (directory / "else").touch()
    recorded = Volume(str(point), 5)
    assert Volumes(mounts(Path("/"))).missing(recorded, device, str(directory))


def test_after_a_boot_that_numbers_everything_anew_what_was_removed_is_not_missed(tmp_path: Path) -> None:
    here = os.statvfs(tmp_path).f_fsid
    point = str(tmp_path)
    volumes = Volumes(mounts(Path("/"), tmp_path))
    for directory in (point, str(tmp_path / "gone")):
        assert not volumes.missing(Volume(point, 5), NO_DISK, directory), "a tmpfs loses all of it"
        assert not volumes.missing(Volume("/", 5), DISK, directory), "what is mounted at the root is always there"
        if here:
            assert not volumes.missing(Volume(point, here), DISK, directory), "the disk has another number"
        assert volumes.missing(Volume(point, here + 1), DISK, directory), "it is another disk"
        assert not volumes.missing(Volume(point, here + 1), os.stat(tmp_path).st_dev or DISK, directory)


def test_a_file_system_is_the_same_under_another_number(tmp_path: Path) -> None:
    here = os.statvfs(tmp_path).f_fsid
    volumes, point = Volumes(mounts()), str(tmp_path)
    assert volumes.renumbered(Volume("/", 5), point, NO_DISK, NO_DISK + 1)
    assert not volumes.renumbered(Volume("/", here + 1), point, DISK, DISK + 1)
    assert not volumes.renumbered(Volume("/", 0), point, DISK, NO_DISK)
    assert volumes.renumbered(Volume("/", here), point, DISK, DISK + 1) is (here != 0)


def test_where_the_kernel_has_no_list_directories_tell(tmp_path: Path) -> None:
    volumes = Volumes(b"")
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        assert volumes.of(str(disk)).point == str(disk)
    assert volumes.missing(Volume(str(tmp_path / "disk")), NO_DISK, str(tmp_path / "disk"))


def test_real_mounts_come_and_go(tmp_path: Path) -> None:
    with small_disk(tmp_path / "a disk", "size=1m") as disk:
        inner = disk / "inner"
        inner.mkdir()
        bound = tmp_path / "bound"
        bound.mkdir()
        subprocess.run(["mount", "--bind", inner, bound], check=True)
        try:
            assert Volumes().of(str(inner)).point == str(disk)
            recorded = Volumes().of(str(bound))  # a device of its own it has not
            assert recorded.point == str(bound)
            assert not Volumes().missing(recorded, disk.stat().st_dev, str(bound))
        finally:
            subprocess.run(["umount", bound], check=True)
        assert Volumes().missing(recorded, disk.stat().st_dev, str(bound))
        there = Volumes().of(str(disk))
    assert Volumes().missing(there, NO_DISK, str(disk))
    with small_disk(tmp_path / "a disk", "size=1m"):
        assert not Volumes().missing(there, NO_DISK, str(disk))
