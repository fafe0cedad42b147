"""What a failed compilation raises."""

from __future__ import annotations

from typing import Any


class CompileException(Exception):
    def __init__(self, msg: str, source: str, name: str, options: Any, backend: str = "nvrtc"):
        self._msg, self.source, self.name, self.options, self.backend = msg, source, name, options, backend
        super().__init__()

    def __str__(self) -> str:
        return self._msg
