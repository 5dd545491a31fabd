"""The NixOS test driver's Machine API over systemd-nspawn, for hosts without Nix.

| module     | holds                                                                    |
| ---------- | ------------------------------------------------------------------------ |
| `__main__` | `make e2e`: installs into a stage, runs the scenarios, prints the table  |
| `sandbox`  | one scenario's namespaces: whatever ends it, nothing of it is left       |
| `inside`   | a scenario within its sandbox: the names that its script sees            |
| `machine`  | a machine, with the methods of NixOS' `Machine`                          |
| `root`     | a machine's file system: the host's, the stage over it, files of its own |
| `network`  | the wire between the machines, and how it is cut                         |

What the machines are is said beside this package, in `nodes.py`.

A machine runs the kernel of the host and shares its page cache: `crash()` proves what the loss of
all processes does, not what a torn write does. On NixOS the same scripts run on QEMU machines.
"""
