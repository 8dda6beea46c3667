"""The report as one HTML page that needs nothing but itself: tables, curves, examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from clue_baselines.report.published import MEANS, SOURCES, Cell, Row, ranks
from clue_baselines.tasks import TASKS

LONGEST = 300  # characters of an example's texts
COLORS = 6

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fdfdfc; --line: #d5d9de;
  --soft: #5c6672; --ours: #e6f0fa; --mark: #a04a00;
  --c0: #1f6fb2; --c1: #c2571a; --c2: #2e8b57; --c3: #8e44ad; --c4: #b8860b; --c5: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #15191f; --line: #39414b;
  --soft: #9aa5b1; --ours: #1d2d40; --mark: #ffb070;
  --c0: #6db3f2; --c1: #f5a66b; --c2: #7bd6a1; --c3: #c99be3; --c4: #e6c35c; --c5: #ff8d80; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 0 auto; padding: 1rem; max-width: 90rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); }
tr.ours td { background: var(--ours); } td.other { color: var(--soft); }
td small, td sup { color: var(--soft); } td sup { color: var(--mark); }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer; }
th[aria-sort=descending] button::after { content: " ▾"; }
th[aria-sort=ascending] button::after { content: " ▴"; }
td sup { line-height: 0; } select { font: inherit; }
.notes, .sources, figcaption { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
  gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; } svg text { fill: var(--soft); }
.examples th { text-align: left; }
.examples td { white-space: normal; text-align: left; min-width: 8rem; vertical-align: top; }
@media (max-width: 40rem) { body { padding: .6rem; } th:first-child, td:first-child {
  max-width: 9rem; white-space: normal; } }
"""

SCRIPT = """
const number = cell => cell.dataset.value === '' ? null : Number(cell.dataset.value);
function sort(table, column, descending) {
  const body = table.tBodies[0];
  const of = row => row.cells[column];
  const text = column === 0;
  const rows = [...body.rows].sort((a, b) => {
    if (text) return of(a).textContent.localeCompare(of(b).textContent) * (descending ? -1 : 1);
    const [x, y] = [number(of(a)), number(of(b))];
    if (x === null || y === null) return (x === null) - (y === null);
    return descending ? y - x : x - y;
  });
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === column) head.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    else head.removeAttribute('aria-sort');
  });
}
document.querySelectorAll('table.scores').forEach(table => {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector('button').addEventListener('click', () => {
      const now = head.getAttribute('aria-sort');
      const first = column === 0 || head.dataset.rank !== undefined ? 'ascending' : 'descending';
      const next = now === null ? first : now === 'descending' ? 'ascending' : 'descending';
      sort(table, column, next === 'descending');
    });
  });
});
document.querySelector('#mean').addEventListener('change', event => {
  document.querySelectorAll('[data-means]').forEach(cell => {
    const shown = JSON.parse(cell.dataset.means)[event.target.value];
    cell.textContent = shown === null ? '–' : cell.dataset.rank === undefined
      ? shown.toFixed(2) : shown;
    cell.dataset.value = shown === null ? '' : shown;
  });
  document.querySelectorAll('table.scores').forEach(table => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const sorted = head.getAttribute('aria-sort');
      if (sorted) sort(table, column, sorted === 'descending');
    });
  });
});
"""


@dataclass
class Curve:
    """Dev scores in percent by epoch."""

    name: str
    seed: int
    metric: str
    scores: list[float]


def html(
    dev: list[Row],
    test: list[Row],
    average: list[str],
    curves: dict[str, list[Curve]],
    mistakes: dict[str, tuple[str, list[dict]]],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = (),
) -> str:
    """The whole page.

    Args:
        dev, test: rows of the two tables.
        average: the tasks that means are over.
        curves: learning curves by task.
        mistakes: by task the name of a run and examples of its mistakes.
        tables: more of them: title, headings and cells.
    """
    options = "".join(f"<option>{name}</option>" for name in MEANS)
    parts = [
        "<h1>CLUE: scores on dev</h1>",
        "<p>Runs made here are on a coloured ground: mean over seeds ± standard deviation, and for "
        "one seed ± standard error over dev; point at one for n and standard error. Letters mark "
        "what cannot be compared with its column, numbers footnotes. Click a heading to sort.</p>",
        f'<p><label>Mean over tasks: <select id="mean">{options}</select></label> '
        f"{escape(average_line(average, dev))}</p>",
        score_table(dev, average),
        *(plain_table(*table) for table in tables),
        "<h2>Published scores on test</h2>",
        "<p>From the leaderboard, for orientation: dev and test are not the same rows.</p>",
        score_table(test, average),
        "<h2>Learning curves</h2>",
        f'<div class="curves">{"".join(figure(t, c) for t, c in curves.items() if c)}</div>',
        "<h2>Mistakes</h2>",
        *(examples(task, *found) for task, found in mistakes.items() if found[1]),
        "<h2>Sources</h2>",
        '<ul class="sources">',
        *(f"<li>{escape(s['what'])} ({escape(s['where'])})</li>" for s in SOURCES.values()),
        "</ul>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>CLUE report</title><style>{STYLE}</style>'
    )
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n'
        f"<script>{SCRIPT}</script>\n</body></html>\n"
    )


def average_line(average: list[str], rows: list[Row]) -> str:
    """What the means are over, in words, and which of our rows have none."""
    if not average:
        return "No means: none of our scores is comparable."
    absent = [
        f"{row.model} (lacks {', '.join(lacking)})"
        for row in rows
        if row.ours and (lacking := row.lacking(average)) and row.lacking(TASKS) != list(TASKS)
    ]
    line = f"Means are over {', '.join(average)}, and ranks among the rows that have all of them."
    return line + (f" Of ours without mean and rank: {'; '.join(absent)}." if absent else "")


def note_marks(rows: list[Row], tasks: Sequence[str] = TASKS) -> dict[str, str]:
    """Letters for all notes and numbers for all footnotes, in the order of their appearance."""
    cells = [row.cells[task] for row in rows for task in tasks if task in row.cells]
    notes = dict.fromkeys(note for cell in cells for note in cell.notes)
    footnotes = dict.fromkeys(note for cell in cells for note in cell.footnotes)
    marks = {note: f"{chr(97 + i % 26)}{i // 26 or ''}" for i, note in enumerate(notes)}
    return marks | {note: str(i) for i, note in enumerate(footnotes, 1)}


def score_table(rows: list[Row], average: list[str]) -> str:
    """A table of scores with means and ranks, and its notes."""
    marks = note_marks(rows)
    means = [row.means(average) for row in rows]
    places = {name: ranks([mean and mean[name] for mean in means]) for name in MEANS}
    heads = [heading(name) for name in ("model", *TASKS, "mean")] + [heading("rank", " data-rank")]
    lines = []
    for i, (row, mean) in enumerate(zip(rows, means, strict=True)):
        cells = [f"<td>{escape(row.model)}<br><small>{escape(row.by)}</small></td>"]
        cells += [score_cell(row.cells.get(task), marks) for task in TASKS]
        cells.append(mean_cell({name: mean and mean[name] for name in MEANS}))
        cells.append(mean_cell({name: places[name][i] for name in MEANS}, " data-rank"))
        lines.append(f"<tr{' class=ours' if row.ours else ''}>{''.join(cells)}</tr>")
    notes = "".join(f"<br><sup>{mark}</sup> {escape(note)}" for note, mark in marks.items())
    return (
        f'<div class="scroll"><table class="scores"><thead><tr>{"".join(heads)}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div><p class="notes">{notes}</p>'
    )


def plain_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts under its title."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<h2>{escape(title)}</h2><div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def heading(name: str, more: str = "") -> str:
    """A column's heading, which sorts."""
    return f'<th scope="col"{more}><button type="button">{name}</button></th>'


def score_cell(cell: Cell | None, marks: dict[str, str]) -> str:
    """A score as a table cell."""
    if cell is None:
        return '<td data-value="">–</td>'
    deviation = f" <small>± {cell.deviation:.2f}</small>" if cell.deviation is not None else ""
    title = f' title="{made_of(cell)}"' if cell.n else ""
    noted = f"<sup>{', '.join(marks[note] for note in cell.marked)}</sup>" if cell.marked else ""
    kind = " class=other" if cell.notes else ""
    return f'<td{kind}{title} data-value="{cell.score:.4f}">{cell.score:.2f}{deviation}{noted}</td>'


def made_of(cell: Cell) -> str:
    """n and standard error of a score of ours, in words.

    >>> made_of(Cell(57.0, 1.41, seeds=2, error=0.5, n=10000))
    '2 seeds, each with n 10,000 and standard error 0.50'
    """
    size = f"n {cell.n:,} and standard error {cell.error:.2f}"
    return f"{cell.seeds} seeds, each with {size}" if cell.seeds > 1 else size


def mean_cell(values: dict[str, float | None], more: str = "") -> str:
    """A mean or rank that the switch changes; the first mean is shown."""
    first = next(iter(values.values()))
    shown = "–" if first is None else f"{first:.2f}" if not more else str(first)
    known = ", ".join(f'"{k}": {"null" if v is None else round(v, 4)}' for k, v in values.items())
    value = "" if first is None else round(first, 4)
    return f"<td{more} data-means='{{{known}}}' data-value=\"{value}\">{shown}</td>"


def figure(task: str, curves: list[Curve]) -> str:
    """The learning curves of a task as an SVG picture with its legend."""
    width, height, left, top, bottom = 320, 180, 40, 10, 24
    scores = [score for curve in curves for score in curve.scores]
    low, high = min(scores), max(scores)
    low, high = (low - 1, high + 1) if high - low < 0.01 else (low, high)
    epochs = max(len(curve.scores) for curve in curves)
    names = list(dict.fromkeys(curve.name for curve in curves))

    def at(epoch: int, score: float) -> str:
        x = left + (width - left - 10) * (epoch / max(epochs - 1, 1))
        y = top + (height - top - bottom) * (high - score) / (high - low)
        return f"{x:.1f},{y:.1f}"

    lines = []
    for curve in curves:
        color = f"var(--c{names.index(curve.name) % COLORS})"
        points = [at(i, score) for i, score in enumerate(curve.scores)]
        dots = "".join(
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2.5" fill="{color}"/>'
            for p in points
        )
        label = f"<title>{escape(curve.name)}, seed {curve.seed}</title>"
        path = f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}"/>'
        lines.append(f'<g stroke-width="1.5">{label}{path}{dots}</g>')
    ticks = [
        f'<text x="{left - 4}" y="{y}" text-anchor="end" font-size="11">{value:.1f}</text>'
        for value, y in ((high, top + 8), (low, height - bottom))
    ]
    ticks += [
        f'<text x="{x}" y="{height - 6}" text-anchor="{side}" font-size="11">{epoch}</text>'
        for epoch, x, side in ((1, left, "start"), (epochs, width - 10, "end"))
        if epoch == 1 or epochs > 1
    ]
    box = (
        f'<path d="M{left},{top}V{height - bottom}H{width - 10}" fill="none" stroke="var(--line)"/>'
    )
    legend = ", ".join(
        f'<span style="color:var(--c{i % COLORS})">●</span> {escape(name)}'
        for i, name in enumerate(names)
    )
    metric = escape(curves[0].metric.replace("_", " "))
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{task}: dev {metric} by epoch">{box}{"".join(ticks)}{"".join(lines)}</svg>'
        f"<figcaption><b>{task}</b>, dev {metric} by epoch<br>{legend}</figcaption></figure>"
    )


def examples(task: str, run: str, found: list[dict]) -> str:
    """Mistakes of a run as a table that opens on demand."""
    lines = []
    for mistake in found:
        cells = [mistake[key] for key in ("text", "said", "right")]
        cells = [c if len(c) <= LONGEST else c[:LONGEST] + " …" for c in cells]
        lines.append("<tr>" + "".join(f'<td lang="zh">{escape(c)}</td>' for c in cells) + "</tr>")
    return (
        f"<details><summary>{task} ({escape(run)})</summary>"
        '<div class="scroll"><table class="examples"><thead><tr><th scope="col">text</th>'
        '<th scope="col">said</th><th scope="col">right</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div></details>"
    )
