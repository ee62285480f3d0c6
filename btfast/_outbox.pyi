from typing import final

@final
class Outbox:
    @property
    def failure(self) -> str | None: ...
    def __sizeof__(self) -> int: ...
