"""The system calls that code of a model may make, with their numbers; whatever is not named here is refused.

    text "name:x86_64:aarch64", `-` where the architecture lacks the call -> numbers() -> seccomp.py

ALLOWED calls work on this process and its files. ARGUMENTS names the calls that work with some arguments only. No call
changes modes, owners, times or attributes: it would reach every file that can be read, and Landlock does not cover it.
"""

from dataclasses import dataclass

MACHINES = ("x86_64", "aarch64")

_READ_WRITE_WAIT = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
preadv2:327:286 pwritev2:328:287 lseek:8:62 close:3:57 close_range:436:436 dup:32:23 dup2:33:- dup3:292:24
pipe:22:- pipe2:293:59 sendfile:40:71 copy_file_range:326:285 poll:7:- ppoll:271:73 select:23:- pselect6:270:72
epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441
eventfd:284:- eventfd2:290:19 timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87
"""
_FILES = """
open:2:- creat:85:- openat:257:56 stat:4:- lstat:6:- fstat:5:80 newfstatat:262:79 statx:332:291 access:21:-
faccessat:269:48 faccessat2:439:439 readlink:89:- readlinkat:267:78 getdents:78:- getdents64:217:61 getcwd:79:17
chdir:80:49 fchdir:81:50 mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38
renameat2:316:276 link:86:- linkat:265:37 symlink:88:- symlinkat:266:36 truncate:76:45 ftruncate:77:46 fallocate:285:47
fsync:74:82 fdatasync:75:83 fadvise64:221:223 readahead:187:213 statfs:137:43 fstatfs:138:44 umask:95:166
"""
_MEMORY = """
munmap:11:215 mremap:25:216 mprotect:10:226 madvise:28:233 brk:12:214 msync:26:227 mincore:27:232 membarrier:324:283
"""
_THREADS_AND_TIME = """
futex:202:98 futex_waitv:449:449 set_robust_list:273:99 rseq:334:293 set_tid_address:218:96 arch_prctl:158:-
sched_yield:24:124 getcpu:309:168 nanosleep:35:101 clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114
gettimeofday:96:169 time:201:- times:100:153 getitimer:36:102 setitimer:38:103 alarm:37:- pause:34:-
restart_syscall:219:128
"""
_SIGNALS_AND_END = """
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136 rt_sigtimedwait:128:137
rt_sigsuspend:130:133 sigaltstack:131:132 exit:60:93 exit_group:231:94 wait4:61:260 waitid:247:95
"""
_ABOUT_ITSELF = """
getpid:39:172 gettid:186:178 getppid:110:173 getpgrp:111:- getpgid:121:155 getsid:124:156 getuid:102:174
geteuid:107:175 getgid:104:176 getegid:108:177 getgroups:115:158 getresuid:118:148 getresgid:120:150 uname:63:160
sysinfo:99:179 getrusage:98:165 getrlimit:97:163 setrlimit:160:164 getrandom:318:278
"""
_SOCKET_PAIRS = """
socketpair:53:199 sendto:44:206 recvfrom:45:207 shutdown:48:210 getsockname:51:204 getpeername:52:205
"""
_FIRST_NAMES_A_PROCESS = """
kill:62:129 tgkill:234:131 tkill:200:130 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 prlimit64:302:261
sched_getaffinity:204:123 sched_setaffinity:203:122 sched_getscheduler:145:120 sched_setscheduler:144:119
sched_getparam:143:121 sched_setparam:142:118 sched_getattr:315:275 sched_setattr:314:274
"""
_SECOND_NAMES_A_PROCESS = "getpriority:140:141 setpriority:141:140 ioprio_get:252:31 ioprio_set:251:30"
_WITH_ARGUMENTS = "mmap:9:222 clone:56:220 fcntl:72:25 ioctl:16:29 prctl:157:167"

ALLOWED = " ".join((
    _READ_WRITE_WAIT, _FILES, _MEMORY, _THREADS_AND_TIME, _SIGNALS_AND_END, _ABOUT_ITSELF, _SOCKET_PAIRS
))  # fmt: skip
CLONE3 = 435  # on both; hidden, for the C library then falls back to clone, whose flags a filter can read


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one argument of a call must be; only its low 32 bits count, as in the kernel.

    Attributes:
        argument: which one, from 0.
        among: allowed values.
        own_process: 0 or the number of the calling process.
        has, lacks: bits that must be set, bits none of which may be set.
    """

    argument: int
    among: tuple[int, ...] = ()
    own_process: bool = False
    has: int = 0
    lacks: int = 0


_CLONE_THREAD, _MAP_HUGETLB = 0x10000, 0x40000
_PRIO_PROCESS, _IOPRIO_WHO_PROCESS = 0, 1
# duplicate, flags of descriptor and file, size of a pipe: neither locks, which reach the host's processes, nor owners,
# whom the kernel sends signals
_FCNTL = (0, 1, 2, 3, 4, 1030, 1032)
# terminal or not, its size, bytes waiting, blocking, inherited
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_PRCTL = (15, 16)  # the thread's name

_OWN_SECOND = Check(argument=1, own_process=True)
ARGUMENTS: dict[str, tuple[Check, ...]] = {
    "mmap": (Check(argument=3, lacks=_MAP_HUGETLB),),  # huge pages come from a store that limits do not count
    "clone": (Check(argument=0, has=_CLONE_THREAD),),  # no process
    "fcntl": (Check(argument=1, among=_FCNTL),),
    "ioctl": (Check(argument=1, among=_IOCTL),),
    "prctl": (Check(argument=0, among=_PRCTL),),
    **dict.fromkeys(("getpriority", "setpriority"), (Check(argument=0, among=(_PRIO_PROCESS,)), _OWN_SECOND)),
    **dict.fromkeys(("ioprio_get", "ioprio_set"), (Check(argument=0, among=(_IOPRIO_WHO_PROCESS,)), _OWN_SECOND)),
} | {word.split(":")[0]: (Check(argument=0, own_process=True),) for word in _FIRST_NAMES_A_PROCESS.split()}
CHECKED = " ".join((_WITH_ARGUMENTS, _FIRST_NAMES_A_PROCESS, _SECOND_NAMES_A_PROCESS))


def numbers(table: str, machine: str) -> dict[str, int]:
    """Name -> number on `machine`, without the calls that it lacks."""
    column = 1 + MACHINES.index(machine)
    rows = [word.split(":") for word in table.split()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
