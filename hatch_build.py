"""Put the data and the notebooks into the wheel; an editable install reads the checkout."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = ("published", "photos.csv", "features", "weights")


class DataHook(BuildHookInterface):  # type: ignore[type-arg]
    """Map data/ and notebooks/ to enhancelib/_data/, which `runtime.data` looks into."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to the build, except to an editable one."""
        if version == "editable":
            return
        carried = {f"data/{name}": f"enhancelib/_data/{name}" for name in CARRIED}
        build_data["force_include"].update(carried, notebooks="enhancelib/_data/notebooks")
