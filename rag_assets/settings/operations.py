"""Settings of what people see: alerts, the UI and costs."""

from pathlib import Path

from pydantic import Field, SecretStr

from rag_assets.settings.area import Area, LinkUrl


class OperationSettings(Area):
    """Alerts, UI and costs."""

    alert_webhook_url: SecretStr = SecretStr("")
    """URL of a webhook that receives failed runs and checks, as JSON with a `text` (the format of
    Slack and others). Empty: no alerts.
    """

    alert_interval_seconds: float = Field(default=3600, ge=0)
    """Minimum interval between alerts for a job that keeps failing with the same error."""

    previews: bool = True
    """Whether materialisations, checks and messages in the UI show documents: ids, titles, excerpts
    of their texts. If not, none of that gets into Dagster's event log, except that an error of a
    server may name a document.
    """

    metrics_seconds: float = Field(default=30, gt=0)
    """Interval between two collections of the metrics that `rag-assets metrics` serves. Values
    older than four of these are left out.
    """

    webserver_url: LinkUrl = ""
    """URL of the Dagster UI, for links in alerts and on the search page."""

    search_url: LinkUrl = ""
    """URL of the search service, for links in the Dagster UI."""

    owners: list[str] = Field(default_factory=list)
    """Owners of the assets in the UI: e-mail addresses or `team:name`, as a JSON list."""

    cost_assumptions: Path | None = None
    """Path of a YAML or JSON file with your own prices and other inputs of the cost model, by their
    names in `rag-assets cost`.
    """
