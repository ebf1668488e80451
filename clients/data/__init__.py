"""A platform's data: read → validate → clean → sequences → split. One shopper is one example, always.

Whatever these modules compute for one shopper depends on that shopper's rows, on the public catalogue and on
declared constants (seed, `now`, filters), never on another shopper. The one exception is `research_k_core`,
which says so and taints the report.
"""

from clients.data.catalogue import Catalogue, build_catalogue
from clients.data.clean import clean_interactions, research_k_core
from clients.data.columns import InteractionColumns, ItemColumns, split_columns
from clients.data.load import PlatformData, load_platform, load_store
from clients.data.read import read_interactions, read_items
from clients.data.report import CleaningReport
from clients.data.sequences import Sequences, build_sequences
from clients.data.split import Split, leave_one_out
from clients.data.table import Table, interactions_table, items_table

__all__ = [
    "Catalogue",
    "CleaningReport",
    "InteractionColumns",
    "ItemColumns",
    "PlatformData",
    "Sequences",
    "Split",
    "Table",
    "build_catalogue",
    "build_sequences",
    "clean_interactions",
    "interactions_table",
    "items_table",
    "leave_one_out",
    "load_platform",
    "load_store",
    "read_interactions",
    "read_items",
    "research_k_core",
    "split_columns",
]
