"""The wire between the machines: a bridge, and a cable from it to each machine.

A machine's end of its cable is in a network namespace that is set up before the machine boots, so
its address is there from the first moment. Cutting the power takes the cable out first: a machine
that loses its power says goodbye to nobody.
"""

import subprocess
from pathlib import Path

BRIDGE = "lan"
# As the NixOS test driver numbers its first network.
PREFIX = "192.168.1"


def run(*command: str) -> None:
    """Runs a command that has to succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")


def address(number: int) -> str:
    """The address of the machine with this number, counted from 1."""
    return f"{PREFIX}.{number}"


def create_bridge() -> None:
    """Makes the bridge that all cables lead to."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    run("ip", "link", "set", BRIDGE, "up")


class Cable:
    """A machine's network namespace, and its connection to the bridge."""

    def __init__(self, number: int, directory: Path) -> None:
        self.namespace = directory / "net"
        self._number = number
        self._plug = f"port{number}"

    def lay(self) -> None:
        """Makes the namespace, with the machine's address in it, and plugs the cable in."""
        self.namespace.touch()
        run("unshare", f"--net={self.namespace}", "true")
        # The same at each start, or the others would look for it at an address that is no more.
        hardware = f"52:54:00:12:01:{self._number:02x}"
        peer = ("peer", "name", "eth1", "address", hardware, "netns", str(self.namespace))
        run("ip", "link", "add", self._plug, "type", "veth", *peer)
        within = ("nsenter", f"--net={self.namespace}", "ip")
        run(*within, "link", "set", "lo", "up")
        run(*within, "address", "add", f"{address(self._number)}/24", "dev", "eth1")
        run(*within, "link", "set", "eth1", "up")
        run("ip", "link", "set", self._plug, "master", BRIDGE)
        self.plug_in()

    def plug_in(self) -> None:
        """Lets packets through, both ways."""
        run("ip", "link", "set", self._plug, "up")

    def pull_out(self) -> None:
        """Lets nothing through, either way; the machine sees that its cable is out."""
        run("ip", "link", "set", self._plug, "down")

    def remove(self) -> None:
        """Takes the namespace away, with whatever sockets are still open in it."""
        run("ip", "link", "delete", self._plug)
        run("umount", str(self.namespace))
