"""A machine's file system: the host's, the stage over it, and files of its own over both.

Nothing of the host is copied and nothing of it can be changed: writes go to a layer that is thrown
away with the sandbox. What is the host's own business is hidden.
"""

import os
import secrets
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from driver.network import run

# Places of the host whose contents are nobody's business in a machine; and its databases, so that
# a machine begins without data.
HIDDEN = (
    "/etc/postgresql",
    "/home",
    "/root",
    "/tmp",
    "/var/lib/imgsys",
    "/var/lib/postgresql",
    "/var/lib/redis",
    "/var/log/journal",
    "/var/tmp",
)

# A machine starts what it is told to, not what the host starts.
WANTS = (
    "/etc/systemd/system/multi-user.target.wants",
    "/etc/systemd/system/network-online.target.wants",
    "/etc/systemd/system/sockets.target.wants",
    "/etc/systemd/system/sysinit.target.wants",
    "/etc/systemd/system/timers.target.wants",
)

# Of no use in a machine, and slow or noisy.
MASKED = (
    "getty.target",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_reap.service",
    "ldconfig.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
)

UNITS = "/etc/systemd/system"

# What services say goes into the machine's log as it is said, or a crash would take it along.
JOURNAL = "[Journal]\nStorage=volatile\nForwardToConsole=yes\n"


class Root:
    """The file system of one machine."""

    def __init__(self, directory: Path, stage: Path) -> None:
        self.path = directory / "root"
        self._upper = directory / "upper"
        self._work = directory / "work"
        self._stage = stage

    def mount(self, hidden: Iterable[str]) -> None:
        """Lays the layers over each other. `hidden` are further places to hide."""
        for part in (self.path, self._upper, self._work):
            part.mkdir(parents=True)
        for place in (*HIDDEN, *WANTS, *hidden):
            self._hide(place)
        layers = f"lowerdir={self._stage}:/,upperdir={self._upper},workdir={self._work}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.path))

    def furnish(self, name: str, hosts: str, files: Mapping[str, str], units: Iterable[str]) -> None:
        """Writes the machine's own files, makes its users, and enables its units."""
        self.write("/etc/hostname", f"{name}\n")
        self.write("/etc/hosts", hosts)
        self.write("/etc/fstab", "")
        self.write("/etc/resolv.conf", "")
        self.write("/etc/systemd/journald.conf.d/console.conf", JOURNAL)
        self.write("/etc/machine-id", f"{secrets.token_hex(16)}\n")
        for path, text in files.items():
            self.write(path, text)
        # What a package's installation would do.
        run("systemd-sysusers", f"--root={self.path}")
        for unit in MASKED:
            self._link(f"{UNITS}/{unit}", "/dev/null")
        for unit in units:
            self._link(f"{UNITS}/multi-user.target.wants/{unit}", self._unit(unit))

    def write(self, path: str, text: str) -> None:
        """Writes a file, whatever is there."""
        file = self.inside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text)

    def inside(self, path: str) -> Path:
        """Where the host sees a path of the machine."""
        return self.path / path.lstrip("/")

    def _hide(self, place: str) -> None:
        """An empty directory that the layers below don't show through, with its owner and mode."""
        cover = self._upper / place.lstrip("/")
        below = Path(place)
        if not below.is_dir():
            return
        for parent in reversed(cover.relative_to(self._upper).parents):
            self._copy_directory(Path("/") / parent, self._upper / parent)
        self._copy_directory(below, cover)
        os.setxattr(cover, "trusted.overlay.opaque", b"y")

    @staticmethod
    def _copy_directory(original: Path, copy: Path) -> None:
        copy.mkdir(exist_ok=True)
        status = original.stat()
        os.chown(copy, status.st_uid, status.st_gid)
        copy.chmod(status.st_mode & 0o7777)

    def _unit(self, unit: str) -> str:
        for directory in (UNITS, "/usr/lib/systemd/system", "/lib/systemd/system"):
            if self.inside(f"{directory}/{unit}").exists():
                return f"{directory}/{unit}"
        raise RuntimeError(f"there is no unit {unit} to enable")

    def _link(self, path: str, target: str) -> None:
        link = self.inside(path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def install_stage(checkout: Path, programs: Path, stage: Path) -> None:
    """Installs the programs as on any Debian machine, but for where."""
    command = ["make", "--silent", "-C", str(checkout), "install"]
    docs = stage.with_name("cli-docs")
    variables = [f"DESTDIR={stage}", "PREFIX=/usr", f"PROGRAMS={programs}", f"CLI_DOCS={docs}"]
    done = subprocess.run(command + variables, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"make install: {done.stderr.strip()}")
