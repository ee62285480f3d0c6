from typing import final

@final
class Message:
    def __sizeof__(self) -> int: ...
