"""Where a task's examples come from: files, hub data sets and registered sources, as checked rows by split."""

from tasks.data.rows import Columns, Row
from tasks.data.sets import NOTHING, DataTask, Examples, Sets
from tasks.data.settings import Data

__all__ = ["NOTHING", "Columns", "Data", "DataTask", "Examples", "Row", "Sets"]
