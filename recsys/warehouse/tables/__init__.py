"""SQLAlchemy Core definitions of the warehouse's tables. A test compares them with the migrations.

The order of arrival, not the clock, decides which window a row belongs to. Every feedback row carries the id
of the transaction that wrote it (`transaction_id`), and a window takes the ids below the oldest open
transaction. `feedback_id` keeps the log order within a transaction.
"""

from recsys.warehouse.tables.base import metadata
from recsys.warehouse.tables.experiments_and_readouts import experiment_readouts, experiments
from recsys.warehouse.tables.models import (
    champion_comparisons,
    model_evaluations,
    model_files,
    model_versions,
    promotion_ledger,
    superiority_tests,
)
from recsys.warehouse.tables.publishing import (
    comment_sentiment,
    item_lists,
    item_phrases,
    item_summaries,
    item_vectors,
    list_summaries,
    publications,
    published_items,
    recommendation_lists,
    shared_lists,
    user_vectors,
)
from recsys.warehouse.tables.searches_of_settings import search_trials, searches
from recsys.warehouse.tables.serving import (
    fresh_feedback,
    item_changes,
    languages,
    placement_rules,
    placements,
)
from recsys.warehouse.tables.upkeep import (
    alerts,
    changed_slate_days,
    dropped_impressions,
    erased_feedback,
    erased_users,
    erasure_requests,
    monitored_figures,
    slates_by_day,
    slates_by_day_progress,
)
from recsys.warehouse.tables.windows_and_snapshots import (
    dropped_feedback,
    judged_impressions,
    noisy_feedback,
    quarantine,
    quarantined_impressions,
    row_violations,
    snapshots,
    validation_results,
    windows,
)
from recsys.warehouse.tables.written_by_applications import (
    event_types,
    feedback,
    impressions,
    items,
    rest_periods,
    users,
)

__all__ = [
    "alerts",
    "champion_comparisons",
    "changed_slate_days",
    "comment_sentiment",
    "dropped_feedback",
    "dropped_impressions",
    "erased_feedback",
    "erased_users",
    "erasure_requests",
    "event_types",
    "experiment_readouts",
    "experiments",
    "feedback",
    "fresh_feedback",
    "impressions",
    "item_changes",
    "item_lists",
    "item_phrases",
    "item_summaries",
    "item_vectors",
    "items",
    "judged_impressions",
    "languages",
    "list_summaries",
    "metadata",
    "model_evaluations",
    "model_files",
    "model_versions",
    "monitored_figures",
    "noisy_feedback",
    "placement_rules",
    "placements",
    "promotion_ledger",
    "publications",
    "published_items",
    "quarantine",
    "quarantined_impressions",
    "recommendation_lists",
    "rest_periods",
    "row_violations",
    "search_trials",
    "searches",
    "shared_lists",
    "slates_by_day",
    "slates_by_day_progress",
    "snapshots",
    "superiority_tests",
    "user_vectors",
    "users",
    "validation_results",
    "windows",
]
