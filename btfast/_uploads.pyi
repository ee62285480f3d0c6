from typing import final

@final
class Uploads:
    def __sizeof__(self) -> int: ...
