from typing import final

@final
class Events:
    def __sizeof__(self) -> int: ...
