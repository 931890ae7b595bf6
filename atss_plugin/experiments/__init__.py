"""The paper's tables as experiments: their configs, the runs of them, and what they reached."""

from .config_files import config_root, load_config
from .job import Job, plan_jobs
from .machine import divide_machine
from .overlay import apply_overlay
from .paper import METRICS, Row, Table, load_beyond, load_tables, select_tables
from .protocol import differences
from .queue import run_jobs
from .report import build_report
from .run import Run, read_run

__all__ = [
    'METRICS',
    'Job',
    'Row',
    'Run',
    'Table',
    'apply_overlay',
    'build_report',
    'config_root',
    'differences',
    'divide_machine',
    'load_beyond',
    'load_config',
    'load_tables',
    'plan_jobs',
    'read_run',
    'run_jobs',
    'select_tables',
]
