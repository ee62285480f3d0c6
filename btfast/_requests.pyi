from typing import final

@final
class Requests:
    def __sizeof__(self) -> int: ...
