"""Takes away from the child everything it does not need, before it sees a byte of the original.

What remains is memory, time, and the descriptors it was started with. Layers, each enough against most
attacks:

- rlimits: memory, processor time, no files, no core dumps;
- Landlock: every access to the file system is denied, to TCP where the kernel knows how (there are no rules,
  only denials);
- seccomp: no sockets, no programs, no processes, no opening of anything, no reach into other processes, no
  outliving of the parent.

All of it by ctypes on the kernel's own interface (linux/landlock.h, linux/seccomp.h, linux/filter.h): what a
kernel lacks is reported and gone without. Call it once, single-threaded, after the last import.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1

_LANDLOCK_CREATE_RULESET = 444  # the same number on every architecture
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_ACCESS_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many file-system rights each ABI knows, from execute (bit 0) on; later ABIs added none by version 7."""
_LANDLOCK_ABI_NET = 4
_LANDLOCK_ABI_SCOPE = 6

_CPU_GRACE_S = 60


@dataclass(frozen=True, slots=True)
class _Architecture:
    """What a filter must know of an instruction set: its audit number and its syscall numbers."""

    audit_arch: int
    denied: Mapping[str, int]
    clone: int
    clone3: int
    tgkill: int
    prctl: int
    prlimit64: int
    fcntl: int
    ioctl: int
    seccomp: int
    x32_bit: int | None


_X86_64 = _Architecture(
    audit_arch=0xC000003E,
    denied={
        "open": 2, "openat": 257, "openat2": 437, "creat": 85, "open_by_handle_at": 304,
        "execve": 59, "execveat": 322, "fork": 57, "vfork": 58,
        "socket": 41, "socketpair": 53, "connect": 42, "bind": 49, "listen": 50, "accept": 43, "accept4": 288,
        "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "recvmsg": 47,
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "kill": 62, "tkill": 200,
        "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308,
        "mkdir": 83, "mkdirat": 258, "unlink": 87, "unlinkat": 263, "rmdir": 84, "rename": 82,
        "renameat": 264, "renameat2": 316, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266,
        "mknod": 133, "mknodat": 259, "truncate": 76, "chmod": 90, "fchmodat": 268, "chown": 92,
        "fchownat": 260, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "memfd_create": 319, "memfd_secret": 447, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "add_key": 248, "request_key": 249, "keyctl": 250, "init_module": 175, "finit_module": 313,
        "kexec_load": 246, "shmget": 29, "shmat": 30, "msgget": 68, "semget": 64, "mq_open": 240,
        "inotify_init": 253, "inotify_init1": 294, "fanotify_init": 300, "personality": 135,
    },
    clone=56, clone3=435, tgkill=234, prctl=157, prlimit64=302, fcntl=72, ioctl=16, seccomp=317, x32_bit=0x40000000,
)  # fmt: skip

_AARCH64 = _Architecture(
    audit_arch=0xC00000B7,
    denied={
        "openat": 56, "openat2": 437, "open_by_handle_at": 265,
        "execve": 221, "execveat": 281,
        "socket": 198, "socketpair": 199, "connect": 203, "bind": 200, "listen": 201, "accept": 202,
        "accept4": 242, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "recvmsg": 212,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "kill": 129, "tkill": 130,
        "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268,
        "mkdirat": 34, "unlinkat": 35, "renameat": 38, "renameat2": 276, "linkat": 37, "symlinkat": 36,
        "mknodat": 33, "truncate": 45, "fchmodat": 53, "fchownat": 54,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7,
        "memfd_create": 279, "memfd_secret": 447, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "add_key": 217, "request_key": 218, "keyctl": 219, "init_module": 105, "finit_module": 273,
        "kexec_load": 104, "shmget": 194, "shmat": 196, "msgget": 186, "semget": 190, "mq_open": 180,
        "inotify_init1": 26, "fanotify_init": 262, "personality": 92,
    },
    clone=220, clone3=435, tgkill=131, prctl=167, prlimit64=261, fcntl=25, ioctl=29, seccomp=277, x32_bit=None,
)  # fmt: skip

_ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}


def die_with_parent(parent_pid: int) -> None:
    """Asks the kernel to kill this process when its parent ends, and ends now if it already has."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def enter(address_space_bytes: int, cpu_s: float) -> dict[str, str]:
    """Shuts the sandbox behind this process, for good.

    Args:
        address_space_bytes: more than this, and allocations fail.
        cpu_s: processor time, after which (and a minute's grace) the kernel ends the process.

    Returns:
        For each layer its state: "on…", or "missing: …" with the kernel's reason.
    """
    libc = _libc()
    states = {"rlimits": _limit_resources(address_space_bytes, cpu_s)}
    states["no_new_privs"] = _state(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    states["landlock"] = _shut_landlock(libc)
    states["seccomp"] = _filter_syscalls(libc)
    return states


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    libc.syscall.restype = ctypes.c_long
    return libc


def _state(result: int, on: str = "on") -> str:
    return on if result == 0 else f"missing: {os.strerror(ctypes.get_errno())}"


def _limit_resources(address_space_bytes: int, cpu_s: float) -> str:
    cpu_limit_s = int(cpu_s) + _CPU_GRACE_S
    limits = {
        resource.RLIMIT_AS: address_space_bytes,
        resource.RLIMIT_CPU: cpu_limit_s,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        # Nothing can be opened afterwards; RLIMIT_NPROC is left alone, for it counts all of a user's threads.
        resource.RLIMIT_NOFILE: 16,
    }
    for name, limit in limits.items():
        resource.setrlimit(name, (limit, limit))
    return "on"


def _shut_landlock(libc: ctypes.CDLL) -> str:
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return _state(-1)
    bits = _LANDLOCK_ACCESS_FS_BITS[min(version, max(_LANDLOCK_ACCESS_FS_BITS))]
    rights = [(1 << bits) - 1]
    if version >= _LANDLOCK_ABI_NET:
        rights.append(0b11)  # TCP: bind, connect
    if version >= _LANDLOCK_ABI_SCOPE:
        rights.append(0b11)  # out of the sandbox: abstract sockets, signals
    attributes = struct.pack(f"={len(rights)}Q", *rights)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return _state(-1)
    try:
        return _state(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0), f"on (ABI {version})")
    finally:
        os.close(ruleset)


class _SockFprog(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter_syscalls(libc: ctypes.CDLL) -> str:
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return f"missing: no syscall numbers for {platform.machine()}"
    program = _program(architecture, os.getpid())
    fprog = _SockFprog(len(program) // 8, program)
    set_filter = partial(libc.syscall, architecture.seccomp, _SECCOMP_SET_MODE_FILTER)
    # Of all threads: a driver that was opened ahead may have begun some. One that cannot take it over is named.
    result = set_filter(_SECCOMP_FILTER_FLAG_TSYNC, ctypes.byref(fprog))
    return _state(result) if result <= 0 else _state(set_filter(0, ctypes.byref(fprog)), "on (this thread alone)")


# Classic BPF, as much of it as a list of denials needs (linux/bpf_common.h). Offsets are those of
# struct seccomp_data: number 0, architecture 4, arguments from 16 on in 8 bytes each, low half first.
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD = 0x00010000
_SIGNALLING_FCNTL = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
_SIGNALLING_IOCTL = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _program(architecture: _Architecture, own_pid: int) -> bytes:
    ops = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, architecture.audit_arch, 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER),
    ]
    if architecture.x32_bit is not None:
        ops += [_op(_JUMP_AT_LEAST, architecture.x32_bit, 0, 1), _op(_RETURN, _KILL)]
    for number in architecture.denied.values():
        ops += _deny(number, _EPERM)
    # clone3 hides its flags behind a pointer: refused as unknown, and libc falls back to clone.
    ops += _deny(architecture.clone3, _ENOSYS)
    # Threads may be made, processes not; a thread may signal its own process (abort), no other.
    ops += _deny_unless(architecture.clone, _op(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0))
    ops += _deny_unless(architecture.tgkill, _op(_JUMP_EQUAL, own_pid, 1, 0))
    ops += _deny_unless(architecture.prlimit64, _op(_JUMP_EQUAL, 0, 1, 0))
    # Whoever takes a child over must not take back what `die_with_parent` asked for.
    ops += _deny_unless(architecture.prctl, _op(_JUMP_EQUAL, _PR_SET_PDEATHSIG, 0, 1))
    # Nor have the kernel send signals to others when a descriptor becomes ready.
    ops += _deny_commands(architecture.fcntl, _SIGNALLING_FCNTL)
    ops += _deny_commands(architecture.ioctl, _SIGNALLING_IOCTL)
    ops.append(_op(_RETURN, _ALLOW))
    return b"".join(ops)


def _deny(number: int, errno: int) -> Sequence[bytes]:
    return _op(_JUMP_EQUAL, number, 0, 1), _op(_RETURN, _ERRNO | errno)


def _deny_commands(number: int, commands: Sequence[int]) -> Sequence[bytes]:
    """Denies `number` where its second argument is one of these."""
    tests = [_op(_JUMP_EQUAL, command, len(commands) - place, 0) for place, command in enumerate(commands)]
    return (
        _op(_JUMP_EQUAL, number, 0, len(commands) + 3),
        _op(_LOAD, _ARGUMENT_1),
        *tests,
        _op(_RETURN, _ALLOW),
        _op(_RETURN, _ERRNO | _EPERM),
    )


def _deny_unless(number: int, test: bytes) -> Sequence[bytes]:
    """Denies `number` unless `test` of its first argument jumps over the refusal."""
    return (
        _op(_JUMP_EQUAL, number, 0, 4),
        _op(_LOAD, _ARGUMENT_0),
        test,
        _op(_RETURN, _ERRNO | _EPERM),
        _op(_RETURN, _ALLOW),
    )
