"""Programs that try to reach a network or another process, also by unusual kernel interfaces."""

from tests.unit.tools.attacks.corpus import Attack

NETWORK = {
    "sockets of every family": Attack(
        code="""
import socket
for family in range(64):
    for kind in (1, 2, 3, 4, 5, 10):
        try:
            socket.socket(family, kind)
        except OSError:
            continue
        print("ESCAPED socket", family, kind)
"""
    ),
    "the host's ports": Attack(
        code="""
import socket
must_fail("tcp", socket.create_connection, ("127.0.0.1", host_port), 2)
must_fail("tcp6", socket.create_connection, ("::1", host_port), 2)
"""
    ),
    "the host's unix sockets": Attack(
        code="""
import socket
for address in (host_socket, "\\0axpo-attack"):
    must_fail("unix", lambda: socket.socket(socket.AF_UNIX).connect(address))
"""
    ),
    "a socket pair turned outwards": Attack(
        code="""
import socket
one, other = socket.socketpair()
must_fail("connect", one.connect, host_socket)
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
must_fail("sendto", pair[0].sendto, b"x", host_socket)
"""
    ),
    "names and addresses": Attack(
        code="""
import socket, urllib.request
must_fail("dns", socket.getaddrinfo, "example.com", 80)
must_fail("http", urllib.request.urlopen, f"http://127.0.0.1:{host_port}", timeout=2)
must_fail("metadata", urllib.request.urlopen, "http://169.254.169.254", timeout=2)
"""
    ),
    "listening": Attack(
        code="""
import socket, socketserver
must_fail("listen", socket.create_server, ("127.0.0.1", 0))
must_fail("server", socketserver.TCPServer, ("", 0), None)
"""
    ),
    "kernel interfaces": Attack(
        code="""
buffer = ctypes.create_string_buffer(256)
for name, number in {
    "io_uring": 425, "bpf": 321, "perf": 298, "userfaultfd": 323, "ptrace": 101, "keyctl": 250, "add_key": 248,
    "pidfd_open": 434, "process_vm_readv": 310, "open_by_handle_at": 304, "kexec": 246, "init_module": 175,
    "syslog": 103,
    "modify_ldt": 154, "reboot": 169, "swapon": 167, "acct": 163, "iopl": 172, "fanotify": 300,
}.items():
    syscall_must_fail(name, number, 0, buffer, 0, 0, 0)
"""
    ),
    "the other numbering of system calls": Attack(
        code="""
for number in (41, 57, 56, 59, 165):
    syscall_must_fail("x32", 0x40000000 | number, 17, 1, 0)
""",
        ends=("ok", "died"),
    ),
    "32-bit system calls": Attack(
        code="""
import mmap
code = bytes.fromhex("b802000000cd80c3")  # mov eax, 2 (fork in the 32-bit table); int 0x80; ret
page = mmap.mmap(-1, 4096, prot=7)
page.write(code)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
if ctypes.CFUNCTYPE(ctypes.c_int)(address)() >= 0:
    print("ESCAPED int 0x80")
""",
        ends=("ok", "died"),
    ),
}
