from typing import final

from btfast._plan import Plan

@final
class Reader:
    def __new__(cls, plan: Plan) -> Reader: ...
