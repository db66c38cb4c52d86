"""Checks the suite's reports on both roles: check.py DIRECTORY. Reads DIRECTORY/ROLE.log and DIRECTORY/ROLE."""

import json
import pathlib
import re
import sys

# The suite does not judge these cases: data after a close frame, and close codes that are not defined.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


def failures(directory, role):
    """Returns the number of cases, and a line for each case with a wrong result."""
    log = (directory / f"{role}.log").read_text(errors="replace")
    announced = re.search(r"Ok, will run (\d+) test cases", log)
    report = directory / role / "index.json"
    if not announced or not report.exists():
        return 1, [f"no report; the end of the suite's log:\n{log[-2000:]}"]
    count, cases = int(announced[1]), json.loads(report.read_text()).get("wsync", {})
    lines = [f"a case was not run ({len(cases)} of {count} were)"] * (count - len(cases))
    for name, case in cases.items():
        expected = "INFORMATIONAL" if name in INFORMATIONAL else "OK"
        if (case["behavior"], case["behaviorClose"]) != (expected, expected):
            report = directory / role / case["reportfile"]
            lines.append(f"case {name}: {case['behavior']}, close {case['behaviorClose']}: {report}")
    return count, lines


total = failed = 0
for role in ["client", "server"]:
    count, lines = failures(pathlib.Path(sys.argv[1]), role)
    for line in lines:
        print(f"FAILED as {role}: {line}")
    print(f"as {role}: {count} cases")
    total += count
    failed += len(lines)
print(f"{total - failed} passed, {failed} failed")
sys.exit(failed > 0 or total == 0)
