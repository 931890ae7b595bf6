"""The version of the plugin, read by ``setup.py`` without importing anything else."""

__version__ = '0.1.0'
