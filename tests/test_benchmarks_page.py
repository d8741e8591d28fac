"""The pages that the benchmarks write: what they say of bars, of peers, of a busy machine, and of a run that was a
quick one.

What is kept here is made by the metrics' own functions, so that a row that gets another name is missed here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from benchmarks import commands, every, machine
from benchmarks.fleet import run as fleet
from benchmarks.report import kept, lines, page, picture, short
from benchmarks.supervision import peers, processes
from benchmarks.supervision.figures import Row, broken_off, document, held, row
from benchmarks.supervision.metrics import (
    ALL,
    cpu,
    crash,
    death,
    hung,
    memory,
    planned,
    restarts,
    rotation,
    takeover,
    thousand,
    tree,
)

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
CRASH = [
    row("ours", "ms", [4.0, 5.0, 6.0]),
    row("runit", "ms", [3.0, 4.5, 9.0]),
    row("monit", "ms", []),
    held("ours, median", "ms", 5.0, 7.0),
    held("ours, worst", "ms", 6.0, 5.0),
]
README = f"# A project\n\nBefore.\n\n{short.BEGIN}\nold figures\n{short.END}\n\nAfter.\n"


def keep(folder: Path, rows: list[Row], *, quick: bool = False, load: float = 0.1, key: str = "crash") -> None:
    metrics = {key: {"title": "crash to answering again", "rows": document(rows)}}
    told = {**machine.told(), "cpus": 2, "load": [load, 0.0, 0.0]}
    machine.keep(folder / f"{key}.json", told, {"versions": {"runit": "2.1"}, "quick": quick, "metrics": metrics})


def report(folder: Path, readme: str = README) -> subprocess.CompletedProcess[str]:
    (folder / "README.md").write_text(readme)
    where = ["--results", str(folder), "--docs", str(folder / "docs"), "--readme", str(folder / "README.md")]
    command = [sys.executable, "-m", "benchmarks", "report", *where]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def reported(folder: Path) -> str:
    done = report(folder)
    assert done.returncode == 0, done.stderr
    return (folder / "docs" / "benchmarks.md").read_text()


@pytest.fixture
def written(tmp_path: Path) -> str:
    keep(tmp_path, CRASH)
    (tmp_path / "reasons.yaml").write_text("'crash: ours, worst': a busy machine\n")
    return reported(tmp_path)


def test_a_missed_bar_is_named_with_its_reason(written: str) -> None:
    assert "1 of 2 bars were met." in written
    assert "ours, worst: 6 ms, asked <= 5. Why: a busy machine." in written
    assert "ours, median: 5 ms, asked" not in written


def test_who_is_ahead_is_told(written: str) -> None:
    (medians,) = (line for line in written.splitlines() if line.startswith("| SIGKILL to the next answer"))
    assert medians == "| SIGKILL to the next answer, ms | 5 | 4.50 | never | runit |"
    (worst,) = (line for line in written.splitlines() if line.startswith("| the worst of them"))
    assert worst == "| the worst of them, ms | 6 | 9 | never |  |"


def test_a_missed_bar_without_a_reason_says_so(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    (tmp_path / "reasons.yaml").write_text("'crash: ours, median': it was met, and this waits for the next time\n")
    assert "asked <= 5. Why: not found out yet." in reported(tmp_path)


@pytest.mark.parametrize("reason", ["ours, worst", "crash: worst", "crash: runit", "crush: ours, worst", "crash"])
def test_a_reason_of_no_bar_is_refused_and_nothing_is_written(tmp_path: Path, reason: str) -> None:
    keep(tmp_path, CRASH)
    (tmp_path / "reasons.yaml").write_text(yaml.safe_dump({reason: "a busy machine"}))
    done = report(tmp_path)
    assert done.returncode == 1
    assert f"{reason}: there is no such bar" in done.stderr
    assert not (tmp_path / "docs").exists()
    assert (tmp_path / "README.md").read_text() == README


def test_a_reason_waits_while_its_metric_is_not_kept_or_broke_off(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    keep(tmp_path, [broken_off("CPU", RuntimeError("no"))], key="cpu")
    said = ["thousand: worst", "cpu: ours alone, 5 services"]
    (tmp_path / "reasons.yaml").write_text(yaml.safe_dump(dict.fromkeys(said, "a busy machine")))
    reported(tmp_path)


def test_a_quick_run_is_not_passed_off_as_figures(tmp_path: Path) -> None:
    keep(tmp_path, CRASH, quick=True)
    assert "its figures are not to be quoted" in reported(tmp_path)
    assert "No figures are kept" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("load", "busy"), [(0.5, False), (0.51, True)])
def test_a_machine_that_was_not_quiet_is_named(tmp_path: Path, load: float, busy: bool) -> None:
    keep(tmp_path, CRASH, load=load)
    assert ("Not a quiet machine" in reported(tmp_path)) is busy
    assert ("not quiet" in (tmp_path / "README.md").read_text()) is busy


def test_the_picture_has_a_bar_for_each_figure_and_words_for_none(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    reported(tmp_path)
    drawn = ElementTree.parse(tmp_path / "docs" / "benchmarks.svg").getroot()
    lengths = [float(one.attrib["width"]) for one in drawn.iter(f"{SVG}rect")][1:]  # the first is the ground
    assert len(lengths) == 2
    assert lengths == sorted(lengths)
    assert "never" in [one.text for one in drawn.iter(f"{SVG}text")]


def test_without_runs_it_says_how_to_make_some(tmp_path: Path) -> None:
    done = report(tmp_path)
    assert done.returncode == 1
    assert "no runs" in done.stderr
    assert not (tmp_path / "docs").exists()


def test_the_page_names_what_is_in_none_of_the_runs(tmp_path: Path, everything: list[kept.Kept]) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    keep(alone, CRASH)
    (line,) = (line for line in page.written(kept.read(alone), {}).splitlines() if "Not measured" in line)
    assert set(line.strip("> .").partition(": ")[2].split(", ")) == kept.KNOWN - {"crash"}
    assert "Not measured" not in page.written(everything, {})


def test_a_metric_is_taken_from_the_last_run_in_which_it_did_not_break_off(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    broken = broken_off("crash to answering again", RuntimeError("no answer"))
    for name, day, rows in (("3", 1, [row("runit", "ms", [9.0])]), ("2", 2, CRASH), ("1", 3, [broken])):
        keep(alone, rows)
        said = json.loads((alone / "crash.json").read_text())
        said["machine"]["date"] = f"2026-01-0{day} 00:00 UTC"
        (alone / f"{name}.json").write_text(json.dumps(said))
        (alone / "crash.json").unlink()
    assert [[metric.rows[0].median for metric in run.metrics] for run in kept.read(alone)] == [[5.0]]
    for name in ("2", "3"):
        (alone / f"{name}.json").unlink()
    assert "broke off" in page.written(kept.read(alone), {})


def test_the_picture_has_a_line_at_every_power_of_ten() -> None:
    bars = [picture.Bar(str(value), value, str(value)) for value in (0.0, 4.0, 40.0, 4500.0)]
    drawn = ElementTree.fromstring(picture.draw([picture.Panel("speed", "ms", bars)]))
    named = {text.text: int(text.attrib["x"]) for text in drawn.iter(f"{SVG}text")}
    ends = [int(bar.attrib["x"]) + float(bar.attrib["width"]) for bar in drawn.iter(f"{SVG}rect") if "x" in bar.attrib]
    assert ends[1] < named["10"] < ends[2] < named["100"] < named["1000"] < ends[3]
    assert "1" not in named


# -- the shorter table -------------------------------------------------------------------------------------------------


def test_the_readme_has_what_is_kept_and_loses_what_stood_there(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    reported(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "old figures" not in text
    assert text.startswith("# A project\n\nBefore.\n") and text.endswith("\nAfter.\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert rows == ["| a service is killed: until it answers again | 5, worst 6 ms | **runit 4.50**; monit never |"]
    reported_again = report(tmp_path, text)
    assert reported_again.returncode == 0 and (tmp_path / "README.md").read_text() == text


@pytest.mark.parametrize("text", ["none\n", f"{short.END}\n{short.BEGIN}\n", f"{README}{README}"])
def test_a_readme_without_its_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    keep(tmp_path, CRASH)
    done = report(tmp_path, text)
    assert done.returncode == 1
    assert short.BEGIN in done.stderr
    assert (tmp_path / "README.md").read_text() == text
    assert not (tmp_path / "docs").exists()


# -- every metric ------------------------------------------------------------------------------------------------------

PEERS = tuple(peers.ALL)
TOOLS = ("inv health", "ssh and curl", "ansible playbook, a loop")


def each(start: int) -> dict[str, float]:
    """A figure for each supervisor; those of no two metrics are the same."""
    return {name: float(start + place) for place, name in enumerate(PEERS)}


def of_memory() -> Iterator[Row]:
    for count, start in ((5, 300), (100, 320), (1000, 340)):
        for name, size in each(start).items():
            yield from memory.table(name, count, 2, processes.Memory(int(size * 1e6), int(size * 1e6)))
            yield memory.idle(name, count, size + 10)
    yield from memory.bars({5: 300, 1000: 340})


def loads(lost: float) -> list[planned.Load]:
    return [planned.Load(Counter(refused=int(lost)), [1.0, 2.0], 0.1)]


def of_planned() -> list[Row]:
    found = {name: loads(lost) for name, lost in each(800).items()}
    return planned.table({**found, "pm2, two workers, reload": loads(850), "ours, no restart": loads(0)})


def of_tree(name: str, seconds: float) -> list[Row]:
    return tree.table(name, tree.Left(3, 1), True, seconds)


def of_rotation(name: str, lost: float) -> list[Row]:
    return rotation.table(name, rotation.Found(2_000_000, 50, int(lost), 3, 2, 1e6, 0.01), 1_000_000, 50)


def supervised() -> dict[str, list[Row]]:
    """By metric, made as it makes them."""
    asked = {name: [seconds] for name, seconds in each(200).items() if peers.ALL[name].asks}
    silent = [name for name in PEERS if name not in asked]
    return {
        "crash": crash.table([0.05], {name: [ms / 1000] for name, ms in each(100).items()}, {}),
        "hung": hung.table(asked, silent, 13.0),
        "memory": list(of_memory()),
        "cpu": [*cpu.table(5, each(400), 0.1), *cpu.table(100, each(420), 1.0)],
        "restarts": restarts.table(500, [0.01], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]),
        "thousand": thousand.table(1000, [0.5]),
        "takeover": [*takeover.table(5, [0.5], [0.5], 0), *takeover.table(100, [0.61, 0.62, 0.63], [0.5], 0)],
        "rotation": [row for name, lost in each(600).items() for row in of_rotation(name, lost)],
        "tree": [row for name, seconds in each(700).items() for row in of_tree(name, seconds)],
        "planned": of_planned(),
        "death": [row for name, back in each(900).items() for row in death.table(name, 3, 0, 3, back)],
    }


def asked_of_hosts() -> dict[str, list[Row]]:
    counts = (1, 10, 50)
    found = {(name, count): [1000.0 + count + place] for count in counts for place, name in enumerate(TOOLS)}
    return {
        "fan-out": fleet.table(counts, found, dict.fromkeys(counts, 5e7)),
        "request": fleet.request_table([0.2], [0.05]),
        "whole": fleet.whole_table({"a bare Fabric script": [0.3], "inv --list": [0.1], "inv status": [0.3]}),
    }


def typed() -> list[dict[str, Any]]:
    made = []
    for start, bars in ((1.1, commands.STARTING), (1.2, commands.LOOKING), (1.3, commands.SLOWLY)):
        found = {name: [start + place / 100] for place, name in enumerate(bars)}
        made += [{**asdict(row), "met": row.met} for row in commands.rows(found, bars)]
    return made


@pytest.fixture
def everything(tmp_path: Path) -> list[kept.Kept]:
    """A result that has every metric there is, read back from its files."""
    told = machine.told()
    machine.keep(tmp_path / "1-commands.json", told, {"quick": False, "rows": typed()})
    titles = {**fleet.TITLES, **{name: module.TITLE for name, module in ALL.items()}}
    for file, found in (("2-fleet.json", asked_of_hosts()), ("3-supervision.json", supervised())):
        metrics = {name: {"title": titles[name], "rows": document(rows)} for name, rows in found.items()}
        machine.keep(tmp_path / file, told, {"versions": {}, "quick": False, "metrics": metrics})
    return kept.read(tmp_path)


def test_no_metric_is_left_out_here(everything: list[kept.Kept]) -> None:
    assert {metric.key for metric in lines.metrics(everything)} == kept.KNOWN
    assert all(metric.rows for metric in lines.metrics(everything))


@pytest.mark.parametrize("line", [*lines.LINES, *lines.FANS], ids=lambda line: line.label)
def test_every_line_finds_its_rows(everything: list[kept.Kept], line: lines.Line) -> None:
    who = set(TOOLS) if line in lines.FANS else set(PEERS)
    assert who <= set(line.found(everything))


def test_every_panel_draws_the_figures_of_its_own_metric(everything: list[kept.Kept]) -> None:
    drawn = {panel.title: {bar.name: bar.value for bar in panel.bars} for panel in page.panels(everything)}
    assert drawn == {
        "A service is killed: until it answers again": pytest.approx(each(100)),
        "Memory of the supervisor, 5 services": pytest.approx(each(300)),
        "Requests lost over a planned restart": {**each(800), "pm2, two workers, reload": 850.0},
        "Five health checks on each of ten hosts": {name: 1010.0 + place for place, name in enumerate(TOOLS)},
    }


def test_the_whole_page_and_the_readme_have_a_row_for_everything(everything: list[kept.Kept]) -> None:
    assert len([cells for make in short.ROWS if (cells := make(everything))]) == len(short.ROWS)
    table = short.written(everything)
    for figure in ("0.620, worst 0.630 s", "1220 and 1240 ms", "1110 ms", "605 of 2 million"):
        assert figure in table
    text = page.written(everything, {})
    assert all(f"| {line.label} |" in text for line in lines.LINES)
    assert "## Many hosts, beside other tools" in text


def test_rotation_counts_all_that_went_wrong_by_the_share_of_what_was_written() -> None:
    quick = rotation.table("ours", rotation.Found(40_000_000, 50, 0, 1, 1, 1e6, 0.01), 1_000_000, 50)
    slow = rotation.table("runit", rotation.Found(1_000_000, 50, 1, 0, 0, 1e6, 0.01), 1_000_000, 50)
    none = rotation.table("s6", rotation.Found(1_000_000, 50, 0, 0, 0, 1e6, 0.01), 1_000_000, 50)
    metric = kept.Metric("rotation", rotation.TITLE, [*quick, *slow, *none])
    found = lines.ROTATION.found([kept.Kept("a", "", {}, {}, False, [metric])])
    assert found["ours"].text == "2 of 40 million"
    assert lines.ROTATION.ahead(found) == ["s6"]


def test_the_kept_reasons_name_bars_that_there_are(everything: list[kept.Kept]) -> None:
    reasons = kept.reasons(machine.RESULTS)
    assert reasons
    assert kept.misfits(everything, reasons) == []


# -- in one go ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--only", "fleet,flet"], ["--only", ""]])
def test_what_is_no_part_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert every.main(words) == 1
    assert "--only takes commands, fleet, supervision" in capsys.readouterr().err


def test_what_was_not_measured_weighs_more_than_a_missed_bar() -> None:
    assert every.verdict([0, 0]) == 0
    assert every.verdict([0, 2, 0]) == 2
    assert every.verdict([2, 1, 0]) == 1
    assert every.verdict([2, -9]) == 1


def test_a_metric_that_broke_off_is_seen(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    assert not every.is_broken(json.loads((tmp_path / "crash.json").read_text()))
    keep(tmp_path, [broken_off("a title", RuntimeError("no"))])
    assert every.is_broken(json.loads((tmp_path / "crash.json").read_text()))


# -- what was measured -------------------------------------------------------------------------------------------------


def test_the_page_says_which_commit_was_measured_where_a_result_says_it(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    file = tmp_path / "crash.json"
    said = json.loads(file.read_text())
    assert said["machine"]["commit"] == machine.commit(ROOT)
    del said["machine"]["commit"]
    asked = {"": " UTC: `", "1a2b3c4 with changes": " UTC, commit 1a2b3c4 with changes: `"}
    for commit, shown in {**asked, None: " UTC: `"}.items():
        said["machine"].pop("commit", None)  # as results were kept before
        said["machine"] |= {} if commit is None else {"commit": commit}
        file.write_text(json.dumps(said))
        assert shown in reported(tmp_path)


def test_the_commit_is_that_of_the_folder_itself_and_what_measuring_writes_is_no_change(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.check_output(["git", *who, *words], cwd=tmp_path, text=True).strip()

    assert machine.commit(tmp_path) == ""
    git("init", "-q")
    for name in ("code.py", "README.md", "docs/faults.md", "copy/code.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("as it was")
    git("add", "-A")
    git("commit", "-qm", "all")
    short = git("rev-parse", "--short", "HEAD")
    for name in ("README.md", "docs/faults.md"):
        (tmp_path / name).write_text("measured anew")
    assert machine.commit(tmp_path) == short
    assert machine.commit(tmp_path / "copy") == "", "it is another one's"
    (tmp_path / "code.py").write_text("edited")
    assert machine.commit(tmp_path) == f"{short} with changes"
