"""Become the program that the arguments say, with the terminal that is its standard input as what
controls the session.

usage: on_terminal.py PROGRAM ARGUMENT...
"""

import fcntl
import os
import sys
import termios

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
