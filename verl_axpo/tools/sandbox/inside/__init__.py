"""What runs inside the sandbox: standard library, and the scientific packages where they are installed.

This folder is mounted on its own, so its modules import each other relatively and nothing else of verl_axpo.

    zygote.py   pre-imports, then forks a worker per trajectory
    confine.py  what a fresh worker gives up before it runs anybody's code; seccomp.py filters its system calls by the
                table syscalls.py
    worker.py   the worker's loop: request frame -> kernel -> reply frame
    kernel.py   runs cells in one namespace; output.py, figures.py and pixels.py collect what they print and draw
    frames.py   the frames of the reply channel, which the host reads too
"""
