"""The paper's tables: every row with its config, its settings and its numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import yaml

from atss_plugin.errors import UsageError

from .config_files import config_root

METRICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
BEYOND = 'beyond'  # the table of other papers' definitions, which has a file of its own
NOT_SETTINGS = {'id', 'config', 'same_as', 'baseline', *METRICS}


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        id: such as ``t4.k9``.
        table: the number of its table, or ``beyond``.
        config: path of its config below the config root.
        settings: what the table varies, such as ``{'k': 9}``.
        paper: the paper's numbers in percent, by the names in ``METRICS``.
        same_as: id of the row that is the same experiment, if there is one.
        baseline: id of the row of its table that it is compared with, where the paper has no number.
    """

    id: str
    table: Union[int, str]
    config: str
    settings: Dict[str, Any]
    paper: Dict[str, float]
    same_as: Optional[str] = None
    baseline: Optional[str] = None

    @property
    def experiment(self) -> str:
        """The id of the experiment, which rows of the same experiment share."""
        return self.same_as or self.id


@dataclass(frozen=True)
class Table:
    """One table of the paper, or the one beyond it."""

    number: Union[int, str]
    title: str
    rows: List[Row]

    @property
    def heading(self) -> str:
        """The table's name and title."""
        name = 'Beyond the paper' if self.number == BEYOND else f'Table {self.number}'
        return f'{name}. {self.title}'


def load_tables(path: Union[str, Path, None] = None, others: Sequence[Table] = ()) -> List[Table]:
    """Read ``paper_tables.yml`` (that of the config root if no path is given).

    Args:
        path: another file of that format.
        others: tables whose rows may be named in ``same_as`` as well.

    Raises:
        UsageError: a row has no config, or is the same as, or compared with, a row that does not exist.
    """
    path = path or config_root() / 'paper_tables.yml'
    with open(path, encoding='utf-8') as file:
        content = yaml.safe_load(file)['tables']
    tables = [
        Table(number, table['title'], [_read_row(number, row) for row in table['rows']])
        for number, table in content.items()
    ]
    known = {row.id for table in [*others, *tables] for row in table.rows}
    for table in tables:
        ids = {row.id for row in table.rows}
        for row in table.rows:
            if row.experiment not in known:
                raise UsageError(f'{path}: {row.id} is the same as {row.same_as}, which does not exist')
            if row.baseline and row.baseline not in ids:
                raise UsageError(f'{path}: {row.id} is compared with {row.baseline}, which is not a row of its table')
    return tables


def load_beyond() -> List[Table]:
    """Read ``beyond.yml``: definitions of other papers, which are in none of this paper's tables."""
    return load_tables(config_root() / 'beyond.yml', load_tables())


def _read_row(number: Union[int, str], row: dict) -> Row:
    if 'config' not in row:
        raise UsageError(f'row {row["id"]} of the paper tables names no config: add `config: ...` to it')
    return Row(
        id=row['id'],
        table=number,
        config=row['config'],
        settings={key: value for key, value in row.items() if key not in NOT_SETTINGS},
        paper={metric: float(row[metric]) for metric in METRICS if metric in row},
        same_as=row.get('same_as'),
        baseline=row.get('baseline'),
    )


def select_tables(tables: List[Table], wanted: Sequence[str]) -> List[Table]:
    """Return the requested tables and rows, in the paper's order.

    Args:
        tables: all tables of the paper.
        wanted: numbers of tables, ids of rows, or ``all``; nothing means all. ``beyond``, or the id of one of its
            rows, adds the table of other papers' definitions.

    Raises:
        UsageError: a word is neither a table nor a row.
    """
    last = tables[-1].number
    if any(word.split('.')[0] == BEYOND for word in wanted):
        tables = [*tables, *load_beyond()]
    ids = {row.id for table in tables for row in table.rows}
    known = {'all'} | ids | {str(table.number) for table in tables}
    unknown = [word for word in wanted if word not in known]
    if unknown:
        raise UsageError(
            f'{", ".join(unknown)}: no such table or row; tables are 1 to {last} and {BEYOND}, rows have ids '
            f'such as {tables[0].rows[0].id} (`atss-plugin tables` lists them)'
        )
    words = set(wanted) or {'all'}
    selected = []
    for table in tables:
        whole = words & {'all', str(table.number)}
        rows = [row for row in table.rows if whole or row.id in words]
        if rows:
            selected.append(Table(table.number, table.title, rows))
    return selected
