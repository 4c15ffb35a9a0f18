"""The checks of the tree itself find what they are there to find."""
import pathlib
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]


def check(name, *arguments):
    return subprocess.run([TOP / "tests" / name, *arguments], text=True, capture_output=True,
                          timeout=60)


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "tree"
    (top / "tests").mkdir(parents=True)
    shutil.copytree(TOP / "src", top / "src",
                    ignore=shutil.ignore_patterns("*.o", ".deps", "registry-cache"))
    for folder in ("unit", "fuzz", "e2e"):
        shutil.copytree(TOP / "tests" / folder, top / "tests" / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "Makefile.am", top)
    shutil.copy(TOP / "tests" / "wire.tsv", top / "tests")
    for path in [top, *top.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)  # a release's sources may be read-only
    return top


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


@pytest.mark.parametrize("file, line, complaint", [
    ("http.c", '#include "conf.h"', "layer 2 includes"),
    ("buf.h", '# include  "index.h"', "layer 0 includes"),
    ("gc.c", "#include <lmdb.h>", "only index*.c"),
    ("check.h", "#include <curl/curl.h>", "only upstream*.c"),
    ("route.c", '#include "nobody.h"', "in no layer"),
])
def test_an_include_that_points_upward_is_named(tree, file, line, complaint):
    append(tree / "src" / file, line + "\n")
    number = len((tree / "src" / file).read_text().splitlines())
    done = check("check-layers", tree / "src")
    assert done.returncode == 1
    assert f"{file}:{number}: " in done.stdout and complaint in done.stdout


def test_a_module_of_no_layer_is_named(tree):
    (tree / "src" / "nobody.c").write_text('#include "log.h"\n')
    done = check("check-layers", tree / "src")
    assert done.returncode == 1 and "nobody.c:1: " in done.stdout


def test_a_file_that_is_not_in_the_makefile_is_named(tree):
    (tree / "src" / "log_more.c").write_text('#include "log.h"\n')
    done = check("check-lists", tree)
    assert done.returncode == 1 and "src/log_more.c is not in Makefile.am" in done.stdout


def test_a_suite_that_does_not_run_is_named(tree):
    append(tree / "tests" / "unit" / "test_l0.c", "void\nsuite_forgotten(void)\n{\n}\n")
    done = check("check-lists", tree)
    assert done.returncode == 1 and "suite_forgotten is not run" in done.stdout


def test_a_function_that_is_too_long_is_named(tree):
    append(tree / "src" / "clock.c", "void\nlonger(void)\n{\n" + "\t;\n" * 101 + "}\n")
    done = check("check-lists", tree)
    assert done.returncode == 1 and "clock.c:" in done.stdout and "a function of 101 lines" in done.stdout


def test_the_map_of_the_wire_is_true(tree):
    done = check("check-wire", tree)
    assert done.returncode == 0 and done.stdout.startswith("wire: "), done.stdout


@pytest.mark.parametrize("line, complaint", [
    ("x\tsomething\te2e/test_wire.py::test_forgotten", "has no test test_forgotten"),
    ("x\tsomething\te2e/test_nothing.py::test_x", "there is no tests/e2e/test_nothing.py"),
    ("x\tsomething\tunit/test_route.c::nobody", "has no test nobody"),
    ("x\tsomething\te2e/test_wire.py", "is not file::test"),
    ("x\tsomething\t-", "has no test and no reason"),
    ("2.4\tsomething\t-\treason", "item 2.4 was in line"),
    ("x something -", "with tabs between"),
])
def test_a_wrong_line_in_the_map_of_the_wire_is_named(tree, line, complaint):
    append(tree / "tests" / "wire.tsv", line + "\n")
    number = len((tree / "tests" / "wire.tsv").read_text().splitlines())
    done = check("check-wire", tree)
    assert done.returncode == 1
    assert f"wire.tsv:{number}: " in done.stdout and complaint in done.stdout


def test_a_test_that_was_renamed_is_missed_in_the_map_of_the_wire(tree):
    path = tree / "tests" / "e2e" / "test_wire.py"
    path.write_text(path.read_text().replace("def test_a_head_is_never_405", "def test_renamed"))
    done = check("check-wire", tree)
    assert done.returncode == 1 and "has no test test_a_head_is_never_405" in done.stdout


KILLED = "==12==Unable to get registers from thread 11.\n"
OVERFLOW = "==11==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x621000006100\n"
LMDB = "    #1 0x7ff814b2089f  (/lib/x86_64-linux-gnu/liblmdb.so.0+0x389f)\n"
OURS = "    #14 0x55b8dd377640 in index_probe src/index_probe.c:62\n"


@pytest.mark.parametrize("report, status", [
    ("", 0), (KILLED, 0),
    (OVERFLOW + LMDB + OURS, 0),
    (OVERFLOW + LMDB + OURS.replace("index_probe ", "index_open "), 1),
    (OVERFLOW + OURS, 1),
    ("a.c:1:2: runtime error: signed integer overflow\n" + OVERFLOW + LMDB + OURS, 1),
    (KILLED + "==11==ERROR: LeakSanitizer: detected memory leaks\n", 1),
    ("a.c:1:2: runtime error: signed integer overflow\n", 1),
    ("==11==LeakSanitizer has encountered a fatal error.\n", 1),
])
def test_a_sanitizer_s_report_is_shown_unless_it_tells_of_a_kill_or_of_lmdb_on_trial(tmp_path, report, status):
    (tmp_path / "asan.11").write_text(report)
    done = check("check-reports", tmp_path)
    assert (done.returncode, done.stderr) == (status, "")
    assert ("asan.11:\n" + report in done.stdout) == bool(status)


def test_a_folder_without_reports_of_sanitizers_has_none(tmp_path):
    done = check("check-reports", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
