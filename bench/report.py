"""Rows of the result: samples by system, medians, the goal and whether it was reached."""

import statistics

OURS = "registry-cache"
ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}


class Goal:
    """What our median must reach: a limit that is known once everything is measured."""

    def __init__(self, text, limit):
        self.text = text
        self.limit = limit  # a function of the row; None: what it refers to was not measured


def at_most(value, text):
    return Goal(text, lambda row: value)


def relative_to(system, text, factor=1.0, plus=0.0):
    def limit(row):
        median = row.median(system)
        return None if median is None else median * factor + plus
    return Goal(text, limit)


class Row:
    """One thing that is measured. `digits` after the point; `better`: a key of ARROWS."""

    def __init__(self, name, unit, digits=2, better="lower", goal=None):
        self.name = name
        self.unit = unit
        self.digits = digits
        self.better = better
        self.goal = goal
        self.samples = {}

    def add(self, system, value):
        self.samples.setdefault(system, []).append(value)

    def median(self, system):
        values = self.samples.get(system)
        return statistics.median(values) if values else None

    def cell(self, system):
        values = self.samples.get(system)
        if not values:
            return "–"
        text = self._number(statistics.median(values))
        low, high = self._number(min(values)), self._number(max(values))
        return text if low == high else f"{text} ({low}…{high})"

    def _number(self, value):
        return f"{value:,.{self.digits}f}".replace(",", " ")

    def ratio(self, system):
        ours, theirs = self.median(OURS), self.median(system)
        if ours is None or not theirs:
            return "–"
        return f"{ours / theirs:.2f}"

    def verdict(self):
        """"reached by 3 %", in percent of the limit."""
        if self.goal is None:
            return ""
        ours, limit = self.median(OURS), self.goal.limit(self)
        if ours is None or limit is None:
            return "not measured"
        room = (ours - limit) if self.better == "higher" else (limit - ours)
        by = f"{abs(room) / limit:.1%}".replace("%", " %")
        limit_text = f"limit {self._number(limit)}"
        if room >= 0:
            return f"reached ({limit_text}, {by} to spare)"
        return f"**missed** by {by} ({limit_text})"


def table(rows, systems):
    """Markdown; one line a row."""
    heads = ["measured", "unit"] + systems + ["ours / nginx", "ours / direct", "goal", "result"]
    lines = ["| " + " | ".join(heads) + " |",
             "| --- | --- |" + " ---: |" * (len(systems) + 2) + " --- | --- |"]
    for row in rows:
        cells = [row.name, f"{row.unit} {ARROWS[row.better]}".strip()]
        cells += [row.cell(s) for s in systems]
        cells += [row.ratio("nginx"), row.ratio("direct")]
        cells += [row.goal.text if row.goal else "", row.verdict()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_data(rows):
    """For --json: every sample."""
    return [{"name": r.name, "unit": r.unit, "better": r.better, "samples": r.samples,
             "goal": r.goal.text if r.goal else None, "result": r.verdict()} for r in rows]
