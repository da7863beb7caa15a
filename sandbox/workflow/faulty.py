#!/usr/bin/env python3
"""A workflow that misbehaves as it is told to, for tests of what happens then."""

import argparse
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--infolder", type=Path)
parser.add_argument("--outfolder", type=Path, required=True)
parser.add_argument("--gtfolder", type=Path)
parser.add_argument("--local", action="store_true")
parser.add_argument("-nmc", action="store_true")
parser.add_argument("--exit_code", type=int, default=0)
parser.add_argument("--write", default="True", help="True: leave a file behind")
parser.add_argument("--seconds", type=float, default=0, help="how long to take")
parser.add_argument("--memory_mib", type=int, default=0, help="how much memory to fill")
parser.add_argument("--text", default="", help="is written to the file that is left behind")
given = parser.parse_args()

filled = os.urandom(1 << 20) * given.memory_mib
if given.write.lower() == "true":
    (given.outfolder / "words.txt").write_text(given.text)
time.sleep(given.seconds)
if given.exit_code:
    print(f"faulty: told to end with {given.exit_code}", file=sys.stderr)
sys.exit(given.exit_code)
