"""The results of the tables' runs, next to the paper's numbers: as data, as markdown and for the terminal."""

import json
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from .config_files import load_config
from .ledger import FINISHED
from .paper import METRICS, Row, Table
from .protocol import DECISIVE, differences
from .run import Run, read_run
from .verdicts import block_interval, results

TRAINED, CHANGED, SMOKE = 'trained', 'trained with changes', 'smoke-trained'
SIZES = {'APs': 'small', 'APm': 'medium', 'APl': 'large'}  # up to 32, 96 and more pixels of the original image
LEGEND = 'AP in percent, ours / paper'
LEDGER_LEGEND = (
    '{}: mean ± standard deviation of AP (seeds) on that data set alone, on a small model; '
    'NAME@START: from other start weights'
)
BASELINE_LEGEND = 'Δ: AP less that of ATSS, from a box or a point alike, over the seeds that both have [95 % interval]'
STYLES = {
    TRAINED: 'bold green',
    CHANGED: 'yellow',
    SMOKE: 'yellow',
    'running': 'cyan',
    'interrupted': 'magenta',
    'failed': 'red',
    'diverged': 'red',
    'not run': 'dim',
}


def build_report(tables: List[Table], work_dirs: Path, ledger: Sequence[dict] = ()) -> pd.DataFrame:
    """Return one line per row and run (rows without a run have one line as well).

    Args:
        tables: the tables to report on.
        work_dirs: where ``atss-plugin run`` keeps its runs; ``mim train``'s own ``CONFIG_NAME/`` counts too.
        ledger: committed results on other data sets, as :func:`read_ledger` gives them.

    Returns:
        Columns ``table, row, experiment, config, settings, status, changes, seed, progress, length, unit,
        work_dir``; for each metric m ``paper m`` and ``m``, in percent; and ``difference``, AP less the
        paper's, for what was trained as the paper says and measured at the end.  Table 8 has none: its
        numbers are of test-dev, a run's are of val2017.  For each data set d of the ledger (by
        :func:`separate_starts`) and metric m ``d m`` and
        ``d m deviation`` (mean and standard deviation over seeds), and ``d seeds`` and ``d failed`` (runs); for rows
        that have a baseline ``d difference``, ``d low`` and ``d high``: AP less the baseline's, over the seeds that
        both have, and its 95 % interval.
    """
    ledger = separate_starts(ledger)
    runs: Dict[str, List[Run]] = {}
    lines = []
    for table in tables:
        for row in table.rows:
            if row.experiment not in runs:
                runs[row.experiment] = find_runs(row, Path(work_dirs))
            found: Sequence[Optional[Run]] = runs[row.experiment] or [None]
            lines += [_line(row, run) for run in found]
    report = pd.DataFrame(lines)
    report = report.merge(summarise_ledger(ledger), how='left', left_on='experiment', right_index=True)
    return report.merge(compare_with_baselines(tables, ledger), how='left', left_on='row', right_index=True)


def separate_starts(ledger: Sequence[dict]) -> List[dict]:
    """Return a ledger in which only runs from the same start weights have the same data set, such as ``bccd@4556fd``.

    AP, by size above all, depends on the weights. Those with the most runs on a data set keep its name.
    """
    runs = Counter((line['data'], line['start']) for line in ledger)
    most = {data: start for (data, start), _ in reversed(runs.most_common())}
    return [
        line if line['start'] == most[line['data']] else dict(line, data=f'{line["data"]}@{str(line["start"])[:6]}')
        for line in ledger
    ]


def summarise_ledger(ledger: Sequence[dict]) -> pd.DataFrame:
    """Return a line for each experiment of a ledger, with the columns that :func:`build_report` adds."""
    lines = pd.DataFrame(ledger, columns=['data', 'experiment', 'status', *METRICS])
    lines = lines.astype(dict.fromkeys(METRICS, float))
    columns = {}
    for data in lines['data'].unique():
        runs = lines[lines['data'] == data].groupby('experiment')
        for metric in METRICS:
            columns[f'{data} {metric}'], columns[f'{data} {metric} deviation'] = runs[metric].mean(), runs[metric].std()
        columns[f'{data} seeds'] = runs['status'].agg(lambda status: (status == FINISHED).sum())
        columns[f'{data} failed'] = runs['status'].agg(lambda status: (status != FINISHED).sum())
    return pd.DataFrame(columns, index=None if columns else pd.Index([], name='experiment'))


def compare_with_baselines(tables: Sequence[Table], ledger: Sequence[dict]) -> pd.DataFrame:
    """Return a line for each row that has a baseline, with the columns that :func:`build_report` adds."""
    rows = {row.id: row for table in tables for row in table.rows}
    lines: Dict[str, Dict[str, float]] = {}
    for data in dict.fromkeys(line['data'] for line in ledger):
        reached = results(ledger, data, 'AP')
        for row in rows.values():
            pair = [row.experiment, rows[row.baseline].experiment] if row.baseline in rows else []
            if pair and set(pair) <= set(reached):
                values = reached[pair].dropna().to_numpy()
                if len(values):
                    ends = zip(('difference', 'low', 'high'), block_interval(values))
                    lines.setdefault(row.id, {}).update({f'{data} {name}': value for name, value in ends})
    return pd.DataFrame.from_dict(lines, orient='index')


def ledger_data(report: pd.DataFrame) -> List[str]:
    """Return the data sets of the ledger that have results for a report's rows."""
    names = [column[: -len(' seeds')] for column in report if column.endswith(' seeds')]
    return [name for name in names if report[f'{name} seeds'].notna().any()]


def is_own(report: pd.DataFrame) -> bool:
    """Return whether a table's report is not of the paper: no row has a number of the paper's."""
    return bool(report['paper AP'].isna().all())


def compared_data(report: pd.DataFrame) -> List[str]:
    """Return those on which at least two experiments of the report were run."""
    return [
        data for data in ledger_data(report) if report.loc[report[f'{data} seeds'].notna(), 'experiment'].nunique() > 1
    ]


def find_runs(row: Row, work_dirs: Path) -> List[Run]:
    """Return the runs of a row's experiment below ``work_dirs``, by name."""
    folders = [*sorted((work_dirs / row.experiment).glob('*/')), work_dirs / Path(row.config).stem]
    runs = [read_run(folder) for folder in folders if folder.is_dir()]
    return [run for run in runs if run is not None]


def _line(row: Row, run: Optional[Run]) -> dict:
    status, changes = judge(row, run)
    line = dict(
        table=row.table,
        row=row.id,
        experiment=row.experiment,
        config=row.config,
        settings=row.settings,
        status=status,
        changes=changes,
        seed=run and run.seed,
        progress=run and run.progress,
        length=run and run.length,
        unit=run and run.unit,
        work_dir=run and str(run.work_dir),
    )
    for metric in METRICS:
        line[f'paper {metric}'] = row.paper.get(metric)
        line[metric] = run.metrics.get(metric) if run else None
    at_the_end = run is not None and run.measured_at == run.length
    comparable = status == TRAINED and row.table != 8 and 'AP' in row.paper and at_the_end
    reached = line['AP'] if comparable else None
    line['difference'] = None if reached is None else reached - row.paper['AP']
    return line


def judge(row: Row, run: Optional[Run]):
    """Return the status of a run and the terms in which it is not the row's experiment.

    Only a finished run that shares all terms with the row's config is called ``trained``.
    """
    if run is None:
        return 'not run', []
    changes = differences(run.config, load_config(row.config), run.processes) if run.config else []
    if run.state != 'finished':
        return run.state, changes
    if not changes:
        return TRAINED, changes
    return (SMOKE if set(changes) & set(DECISIVE) else CHANGED), changes


def report_json(report: pd.DataFrame) -> str:
    """Return the report as a JSON list of lines, missing values null."""
    records = report.astype(object).where(report.notna(), None).to_dict('records')
    return json.dumps(records, indent=1, default=float)


def present(report: pd.DataFrame) -> pd.DataFrame:
    """Return one table's report in words, as a reader sees it, all strings."""
    settings = pd.DataFrame([{key: _setting(value) for key, value in line.items()} for line in report['settings']])
    own = is_own(report)  # nothing to subtract, but by size, too
    columns = {
        'row': report['row'],
        **{name: settings[name] for name in settings},
        'config': report['config'],
        'status': [_status(line) for _, line in report.iterrows()],
        'seed': ['' if pd.isna(seed) else str(int(seed)) for seed in report['seed']],
    }
    for metric in METRICS:
        if report[[f'paper {metric}', metric]].notna().any(axis=None):
            columns[metric] = [
                f'{_number(ours)} / {_number(paper)}' for ours, paper in zip(report[metric], report[f'paper {metric}'])
            ]
        if metric == 'AP' and not own:
            columns['Δ AP'] = ['' if pd.isna(value) else f'{value:+.1f}' for value in report['difference']]
    first = ~report['row'].duplicated()  # of several runs of a row
    for data in compared_data(report) if own else ledger_data(report):
        lines = [line if shown else None for shown, (_, line) in zip(first, report.iterrows())]
        columns[data] = ['' if line is None else _of_ledger(line, data) for line in lines]
        if _has_differences(report, data):
            columns[f'{data} Δ'] = ['' if line is None else _from_baseline(line, data) for line in lines]
        if own:
            for metric in SIZES:
                columns[f'{data} {metric}'] = ['' if line is None else _spread(line, data, metric) for line in lines]
    words = pd.concat([pd.DataFrame(columns), _means(report, columns)], ignore_index=True).fillna('')
    order = {row: place for place, row in enumerate(report['row'].unique())}
    return words.sort_values('row', key=lambda rows: rows.map(order), kind='stable', ignore_index=True)


def _means(report: pd.DataFrame, columns: dict) -> pd.DataFrame:
    """Return a line of mean and standard deviation for each row of which several seeds were trained."""
    lines = []
    for row, group in report[report['difference'].notna()].groupby('row', sort=False):
        if len(group) > 1:
            reached = f'{group["AP"].mean():.1f} ± {group["AP"].std():.1f}'
            lines.append(
                {
                    'row': row,
                    'status': f'mean of {len(group)} seeds',
                    'AP': f'{reached} / {_number(group["paper AP"].iloc[0])}',
                    'Δ AP': f'{group["difference"].mean():+.1f}',
                }
            )
    return pd.DataFrame(lines, columns=list(columns))


def _of_ledger(line: pd.Series, data: str) -> str:
    if pd.isna(line[f'{data} seeds']):
        return '–'
    failed = f', {line[f"{data} failed"]:.0f} failed' if line[f'{data} failed'] else ''
    return f'{_spread(line, data, "AP")} ({line[f"{data} seeds"]:.0f}{failed})'


def _has_differences(report: pd.DataFrame, data: str) -> bool:
    return f'{data} difference' in report and bool(report[f'{data} difference'].notna().any())


def _from_baseline(line: pd.Series, data: str) -> str:
    difference, low, high = (line[f'{data} {name}'] for name in ('difference', 'low', 'high'))
    if pd.isna(difference):
        return ''
    return f'{difference:+.1f}' + ('' if pd.isna(low) else f' [{low:+.1f}, {high:+.1f}]')


def _spread(line: pd.Series, data: str, metric: str) -> str:
    mean, deviation = line[f'{data} {metric}'], line[f'{data} {metric} deviation']
    return _number(mean) + ('' if pd.isna(deviation) else f' ± {deviation:.1f}')


def legend(report: pd.DataFrame) -> str:
    """Return the explanation of a report's numbers."""
    names = ledger_data(report)
    parts = [LEGEND, *([LEDGER_LEGEND.format(', '.join(names))] if names else [])]
    if any(_has_differences(report, name) for name in names):
        parts.append(BASELINE_LEGEND)
    return '; '.join(parts)


def _setting(value) -> str:
    return {True: '✓', False: '–'}[value] if isinstance(value, bool) else str(value)


def _number(value) -> str:
    return '–' if pd.isna(value) else f'{value:.1f}'


def _status(line: pd.Series) -> str:
    status = line['status']
    if pd.isna(line['length']) or not line['length']:  # nothing was started, or it failed before it began
        return status
    if status in (TRAINED, SMOKE, CHANGED):
        detail = f'{line["length"]:.0f} {line["unit"]}s'
    else:
        detail = f'{line["progress"]:.0f} of {line["length"]:.0f} {line["unit"]}s'
    # where the data set, schedule or model differs, the rest needs no mention
    changes = [change for change in line['changes'] if change in DECISIVE] or line['changes']
    detail += f'; other {", ".join(changes)}' if changes else ''
    return f'{status} ({detail})'


def to_terminal(table: Table, report: pd.DataFrame) -> RichTable:
    """Return one table for the terminal."""
    words = present(report)
    rich_table = RichTable(
        title=table.heading,
        title_justify='left',
        caption=legend(report),
        caption_justify='left',
        box=SIMPLE_HEAD,
    )
    for column in words:
        of_ledger = column.split(' ')[0] in ledger_data(report)
        right = of_ledger or column in METRICS or column in ('seed', 'Δ AP')
        header = column.replace(' ', '\n') if of_ledger else column  # data set and metric
        rich_table.add_column(
            header,
            justify='right' if right else 'left',
            no_wrap=column != 'status',
            min_width=len('not run') if column == 'status' else None,
        )
    for line in words.to_dict('records'):
        line['status'] = Text(line['status'], STYLES.get(line['status'].split(' (')[0], ''))
        rich_table.add_row(*line.values())
    return rich_table


def to_markdown(table: Table, report: pd.DataFrame) -> str:
    """Return one table as markdown."""
    words = present(report)
    text = words.to_markdown(index=False, disable_numparse=True)
    return f'### {table.heading}\n\n{text}\n\n{legend(report)}\n'
